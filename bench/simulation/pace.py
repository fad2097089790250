"""A clock that runs many times as fast as the machine, for as long as the machine keeps up, and otherwise waits for it.

A month in minutes asks much of two shared cores. On a clock that ran on regardless a busy machine would look like an
outage: processes that get no turn for a second would be hours late. Here time passes in small steps, each of which has
to be earned: everything that was ready to run in this process has had its turn, and Kafka has answered.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from service.clock import Clock

# The machine's seconds. A step that took longer counts as no more than two.
STEP_SECONDS = 0.005
# Time stands still while an answer of Kafka's is out for longer than this.
PATIENCE_SECONDS = 0.1
BETWEEN_QUESTIONS_SECONDS = 0.05


class PacedClock(Clock):
    """At most `speed` times as fast as the machine; it runs inside `running()` alone."""

    def __init__(self, speed: float, start: float) -> None:
        super().__init__(speed, start)
        self._now = start
        self._asked_at: float | None = None

    def now(self) -> float:
        """Unix seconds; the same for a step of the machine's 5 ms."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Until the clock has come so far, however long that takes."""
        end = self._now + seconds
        while (left := end - self._now) > 0:  # noqa: ASYNC110 - time is what is waited for
            await asyncio.sleep(max(self.real_seconds(left), STEP_SECONDS))
        await asyncio.sleep(0)

    def real_seconds(self, seconds: float) -> float:
        """At least so many of the machine's; never so few that who waits for a clock that stands turns in circles."""
        return max(super().real_seconds(seconds), STEP_SECONDS) if seconds > 0 else 0.0

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """May end early by the clock, when it stood: whoever waits with it looks again."""
        return asyncio.timeout(self.real_seconds(seconds))

    @asynccontextmanager
    async def running(self, servers: str) -> AsyncIterator[None]:
        """Time passes until the block is left. Raises `KafkaError` when there is no Kafka."""
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None)
        async with consumer, asyncio.TaskGroup() as tasks:
            mine = [tasks.create_task(self._run()), tasks.create_task(self._ask(consumer))]
            try:
                yield
            finally:
                for task in mine:
                    task.cancel()

    async def _run(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(STEP_SECONDS)
            now = time.monotonic()
            if self._asked_at is None or now - self._asked_at < PATIENCE_SECONDS:
                self._now += min(now - last, 2 * STEP_SECONDS) * self.speed
            last = now

    async def _ask(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            self._asked_at = time.monotonic()
            with contextlib.suppress(KafkaError):  # the clock stands until Kafka answers again
                await consumer.topics()
                self._asked_at = None
            await asyncio.sleep(BETWEEN_QUESTIONS_SECONDS)
