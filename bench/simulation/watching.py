"""What comes out, while it comes: call summaries as any consumer sees them, and samples of the state."""

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.simulation.script import DAY
from bench.simulation.stage import PARTITIONS, Stage
from service.clock import iso
from service.demo.watch import Watch
from service.emulator.judge import Verdict
from service.kafka.topics import Topics

SAMPLE_SECONDS = 3 * 3600.0
QUIET_REAL_SECONDS = 3.0
LOOK_REAL_SECONDS = 0.2


@dataclass(frozen=True)
class Sample:
    """How it stood at one moment, all tenants together."""

    day: float
    made: int
    """Calls whose record exists."""
    open: int
    """Of those: the last version is not published yet."""
    subscribed: int
    """Tenants with a subscription in force."""


@dataclass
class Watching:
    """Follows the calls topic and the keeper's figures."""

    stage: Stage
    servers: str
    topics: Topics
    newest: dict[tuple[str, str], int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    days: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """(tenant, day) → the figures as the keeper last showed them; a day leaves its memory at the age of 31."""
    said: dict[str, list[str]] = field(default_factory=dict)
    """Tenant → what a person should know of it, as last shown."""

    async def follow(self) -> None:
        """Reads the calls topic until cancelled."""
        async with _reading(self.servers) as consumer:
            consumer.assign([TopicPartition(self.topics.calls, number) for number in range(PARTITIONS)])
            while True:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        tenant_id, _, call_id = record.key.decode().partition("/")
                        version = int(dict(record.headers)["version"])
                        key = tenant_id, call_id
                        self.newest[key] = max(version, self.newest.get(key, 0))

    async def look(self) -> None:
        """Takes samples and the keeper's figures until cancelled."""
        due = self.stage.clock.now()
        while True:
            self.stage.deployment.check()
            for tenant, status in self.stage.deployment.figures().items():
                self.said[tenant] = status["say"]
                for day in status["days"]:
                    self.days[tenant, day["day"]] = day
            if self.stage.clock.now() >= due:
                due += SAMPLE_SECONDS
                self.samples.append(self.sample())
            await asyncio.sleep(LOOK_REAL_SECONDS)

    def sample(self) -> Sample:
        """How it stands now."""
        now = self.stage.clock.now()
        calls = [call for call in self.stage.emulator.store.calls() if call.visible_at <= now]
        missing = sum(self.newest.get((call.tenant_id, call.id), 0) != call.current.number for call in calls)
        subscribed = len({one.principal.tenant_id for one in self.stage.emulator.world.subscriptions.live()})
        return Sample(round(self.stage.day, 3), len(calls), missing, subscribed)

    def started(self) -> Counter[tuple[str, str]]:
        """(tenant, UTC day) → calls that started then: what the keeper's figures must come to."""
        names = {tenant.id: tenant.name for tenant in self.stage.emulator.world.options.tenants}
        calls = self.stage.emulator.store.calls()
        return Counter((names[call.tenant_id], iso(call.start)[:10]) for call in calls)

    def is_whole(self) -> bool:
        """Everything is published, and the keeper knows it: listed as many as there are, none missing."""
        started = self.started()
        return not self.sample().open and all(
            (seen := self.days.get(key)) is not None and seen["listed"] == count and not seen["missing"]
            for key, count in started.items()
        )

    async def until_whole(self, settle_days: float) -> None:
        """At the latest after so many days; what is missing then is missing."""
        end = self.stage.clock.now() + settle_days * DAY
        while self.stage.clock.now() < end and not self.is_whole():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_REAL_SECONDS)


async def verdict(stage: Stage, servers: str, topics: Topics) -> Verdict:
    """Every stream event and summary that was ever committed against every version that ever was."""
    watch = Watch(servers, topics, PARTITIONS, lambda _: None)
    reading = asyncio.create_task(watch.run())
    try:
        seen = -1
        while watch.events != seen:
            seen = watch.events
            await asyncio.sleep(QUIET_REAL_SECONDS)
        return watch.verdict(stage.emulator.store)
    finally:
        reading.cancel()
        await asyncio.wait({reading})


def _reading(servers: str) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
    consumer: AbstractAsyncContextManager[AIOKafkaConsumer] = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    return consumer
