"""Shell: which lanes this process owns. The group subscribes to one topic, only to learn that (design section 4).

The rebalance listener starts tasks and returns: no heartbeats are sent while it runs. Revocation cancels polls and
fetches and gives a begun transaction a few seconds. The consumer itself never fetches: its partitions are paused.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from service.kafka.connect import NEVER_MS, client_options, close_consumer
from service.kafka.topics import Topics
from service.lanes.lane import Lane
from service.lanes.ledger import Ledger
from service.settings import Kafka

log = structlog.get_logger()

# What revocation may need; the group waits for it, also for members that have died.
REBALANCE_SECONDS = 10.0

MakeLane = Callable[[int, Ledger], Lane]


class Owner(ConsumerRebalanceListener):  # type: ignore[misc]
    """Starts and stops lanes as the group gives and takes them."""

    def __init__(
        self,
        make_lane: MakeLane,
        check_topics: Callable[[], Awaitable[None]],
        on_share: Callable[[int], None],
    ) -> None:
        """`check_topics` compares the topics before lanes start; `on_share` is told how many lanes are owned."""
        self._make_lane = make_lane
        self._check_topics = check_topics
        self._on_share = on_share
        self._lanes: dict[int, tuple[Lane, asyncio.Task[None]]] = {}
        # A lane that comes back keeps its map and reads only what was added meanwhile.
        self._ledgers: dict[int, Ledger] = {}
        self._starting: asyncio.Task[None] | None = None
        self._draining = False
        self._consumer: AIOKafkaConsumer | None = None
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception of a lane that ended for a reason nobody foresaw."""

    @property
    def lanes(self) -> list[Lane]:
        """The lanes at work now."""
        return [lane for lane, _ in self._lanes.values()]

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The group gave these lanes. Starts them in a task and returns."""
        numbers = sorted(partition.partition for partition in assigned)
        if self._consumer is not None and numbers:
            self._consumer.pause(*assigned)
        if self._draining:
            return
        self._on_share(len(numbers))
        log.info("lanes assigned", lanes=numbers)
        self._starting = asyncio.create_task(self._start(numbers))
        self._starting.add_done_callback(self._ended)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The group takes these lanes: milliseconds, or what a begun transaction needs."""
        await self._cancel_starting()
        await self._stop({partition.partition for partition in revoked})

    async def _start(self, numbers: list[int]) -> None:
        await self._check_topics()
        # Maps of lanes that went to others are let go; those that came back read only what was added.
        self._ledgers = {number: self._ledgers.get(number, Ledger()) for number in numbers}
        for number in numbers:
            lane = self._make_lane(number, self._ledgers[number])
            task = asyncio.create_task(lane.run(), name=f"lane {number}")
            task.add_done_callback(self._ended)
            self._lanes[number] = (lane, task)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A task that ends with an error nobody foresaw takes the process down, loudly.

        So does a lane that ends although nobody stopped it: its partition would stand still without a word.
        """
        if self.failed.done():
            return
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed.set_exception(error)
        elif not self._draining and any(task is working for _, working in self._lanes.values()):
            self.failed.set_exception(RuntimeError(f"{task.get_name()} ended, and nobody had stopped it"))

    async def _cancel_starting(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait({self._starting})
            self._starting = None

    async def _stop(self, numbers: Iterable[int]) -> None:
        going = [self._lanes.pop(number) for number in numbers if number in self._lanes]
        await asyncio.gather(*(lane.stop(task) for lane, task in going))

    async def drain(self, seconds: float) -> None:
        """Lets every lane end its batch, at most `seconds` of the machine's time, then stops what is left. For good."""
        self._draining = True
        await self._cancel_starting()
        for lane in self.lanes:
            lane.drain()
        tasks = {task for _, task in self._lanes.values()}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        await self._stop(list(self._lanes))

    def attach(self, consumer: AIOKafkaConsumer) -> None:
        """The group's consumer, so that its partitions can be paused."""
        self._consumer = consumer


@asynccontextmanager
async def join_group(kafka: Kafka, topics: Topics, owner: Owner) -> AsyncIterator[AIOKafkaConsumer]:
    """A member of the group that shares the lanes out. Raises `KafkaError` when the brokers do not answer."""
    session_ms = int(kafka.session_timeout_seconds * 1000)
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=topics.lane_group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=session_ms,
        heartbeat_interval_ms=session_ms // 4,
        rebalance_timeout_ms=int(REBALANCE_SECONDS * 1000),
        max_poll_interval_ms=NEVER_MS,
    )
    owner.attach(consumer)
    consumer.subscribe([topics.notifications], listener=owner)
    try:
        await consumer.start()
        yield consumer
    finally:
        # stop() calls no listener: the lanes must have been drained before.
        await close_consumer(consumer)


async def stay(consumer: AIOKafkaConsumer) -> None:
    """Polls the (paused) consumer until cancelled. Raises what the group refuses.

    After an error that it did not foresee aiokafka sends no heartbeat and joins no more, but says so at every poll: the
    lanes would go on here while somebody else is given them. Only another consumer joins again.
    """
    while True:
        await consumer.getmany(timeout_ms=1000)
