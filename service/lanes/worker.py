"""Shell: the role `work`: connects, makes sure of the topics, joins the group, and drains at the end.

Kafka away is no reason to end: connecting is tried again until it succeeds, and lanes come back by themselves.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from service.clock import Clock
from service.graph.budget import TenantGates
from service.graph.room import Room
from service.kafka.connect import client_options, close
from service.kafka.knock import reason_of
from service.kafka.limits import Limits
from service.kafka.topics import TopicReport, Topics, ensure
from service.lanes.batch import Held
from service.lanes.guard import Guard
from service.lanes.lane import Lane, LanePorts
from service.lanes.ledger import Ledger
from service.lanes.looks import InFlight, Looks, Shaper, Slots
from service.lanes.owner import Owner, join_group, stay
from service.lanes.policy import Rules
from service.metrics import Metrics
from service.settings import Kafka, Settings

log = structlog.get_logger()

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 10.0


@asynccontextmanager
async def kafka_admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client; waits, with growing pauses, until a broker answers."""
    wait = FIRST_WAIT_SECONDS
    while True:
        admin = AIOKafkaAdminClient(**client_options(kafka))
        try:
            await admin.start()
            break
        except KafkaError:
            await close(admin.close())
            why = await reason_of(kafka)
            log.warning("Kafka does not answer", servers=kafka.bootstrap_servers, reason=why, wait_seconds=wait)
        await asyncio.sleep(wait)
        wait = min(LONGEST_WAIT_SECONDS, 2 * wait)
    try:
        yield admin
    finally:
        await close(admin.close())


async def sure_topics(admin: AIOKafkaAdminClient, topics: Topics, kafka: Kafka, *, create: bool) -> TopicReport:
    """What `ensure` reports, asked until the brokers answer. Raises `UserError` when the topics cannot be used."""
    while True:
        try:
            report = await ensure(admin, topics, kafka, create=create)
        except KafkaError as error:
            log.warning("topics cannot be checked yet", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(FIRST_WAIT_SECONDS)
            continue
        if report.created:
            log.info("topics created", topics=list(report.created))
        for difference in report.differences:
            log.warning("topic differs", topic=difference.topic, difference=difference.what)
        report.refuse_fatal()
        return report


class Worker:
    """The lanes of this process. An async context manager: leaving it drains them within `drain_seconds`."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        shape: Shaper,
        gates: TenantGates,
        room: Room,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """`room`: what `shape` takes while it works, and the lanes hold until they have published."""
        self._settings = settings
        self._topics = topics
        self._gates = gates
        self._clock = clock
        self._metrics = metrics
        in_flight = InFlight(settings.lanes.bytes_in_flight, room, metrics)
        slots = Slots(settings.lanes.concurrent_fetches, metrics)
        self._looks = Looks(shape, slots, in_flight, clock, settings.graph.record_deadline_seconds)
        self._rules = Rules.of(settings.retry)
        names = {tenant.id.lower(): name for name, tenant in settings.tenants.items()}
        self._guard = Guard(names, self._rules, clock, metrics)
        self._owner: Owner | None = None
        self._stopping = asyncio.Event()
        self.task: asyncio.Task[None]
        """Ends with an exception when the lanes cannot go on."""

    async def __aenter__(self) -> Self:
        self._metrics.lanes_owned.set_function(lambda: len(self._lanes))
        self._metrics.ledger_entries.set_function(lambda: sum(len(lane.ledger) for lane in self._lanes))
        self._metrics.oldest_due_seconds.set_function(
            lambda: max((lane.lag_seconds() for lane in self._lanes), default=0.0)
        )
        self._metrics.lane_bytes.set_function(lambda: self._most(lambda held: held.batch_bytes))
        self._metrics.fetches_beside.set_function(lambda: self._most(lambda held: held.beside))
        self._metrics.retries_held.set_function(lambda: self._most(lambda held: held.retries))
        self.task = asyncio.create_task(self._run(), name="worker")
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._owner is None:
            self.task.cancel()
        await asyncio.wait({self.task})

    def _most(self, part: Callable[[Held], int]) -> float:
        """Of the lane that has most of it."""
        return max((part(lane.held()) for lane in self._lanes), default=0)

    @property
    def _lanes(self) -> list[Lane]:
        return self._owner.lanes if self._owner else []

    def stalled(self) -> str | None:
        """Liveness: one sentence when a lane that has work has not moved for `lanes.stall_seconds`, else None."""
        for lane in self._lanes:
            if (seconds := lane.stalled_seconds()) > self._settings.lanes.stall_seconds:
                return f"Lane {lane.number} has work and has not moved for {seconds:.0f} s."
        return None

    def outages(self) -> dict[str, Any]:
        """By tenant name: of which most records fail, why, since when, when the next is tried."""
        return self._guard.status()

    def trouble(self) -> str | None:
        """Readiness: one sentence while this process is no member of the group, else None."""
        return None if self._owner is not None else "Not yet connected to Kafka."

    def shown(self) -> list[dict[str, object]]:
        """The lanes of this process, for the status page."""
        return [
            {
                "lane": lane.number,
                "ledgerEntries": len(lane.ledger),
                "lagSeconds": round(lane.lag_seconds(), 1),
                "stalledSeconds": round(lane.stalled_seconds(), 1),
            }
            for lane in sorted(self._lanes, key=lambda lane: lane.number)
        ]

    async def _run(self) -> None:
        kafka = self._settings.kafka
        async with kafka_admin(kafka) as admin:
            report = await sure_topics(admin, self._topics, kafka, create=kafka.create_topics)
            maker = self._maker(admin, report.max_message_bytes)
            while not self._stopping.is_set():
                owner = Owner(maker, self._checker(admin), self._shared)
                try:
                    async with join_group(kafka, self._topics, owner) as consumer:
                        self._owner = owner
                        await self._until_stopped(owner, stay(consumer))
                        return
                except KafkaError as error:
                    self._owner = None
                    log.warning("the group has to be joined again", error=f"{type(error).__name__}: {error}")
                    await asyncio.sleep(FIRST_WAIT_SECONDS)

    async def _until_stopped(self, owner: Owner, staying: Coroutine[Any, Any, None]) -> None:
        """Until told to stop, or until a lane fails for good, which is raised; either way the lanes drain.

        Raises `KafkaError` when this process is in the group no longer.
        """
        stopping = asyncio.create_task(self._stopping.wait())
        polling = asyncio.create_task(staying)
        try:
            watched: list[asyncio.Future[Any]] = [stopping, polling, owner.failed]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            has_left = polling.done()
        finally:
            # A member that fell out of the group must not finish at leisure: others are being given its lanes.
            await owner.drain(self._settings.drain_seconds if self._stopping.is_set() else 0.0)
            for task in (stopping, polling):
                task.cancel()
            await asyncio.wait({stopping, polling})
        if owner.failed.done():
            owner.failed.result()
        if has_left and polling.cancelled():  # the client's own, as `consumer.stop()` lets out while its broker is away
            raise KafkaConnectionError("the Kafka client broke a poll off")
        if not polling.cancelled():
            polling.result()  # it ends by itself only with an error

    def _shared(self, owned: int) -> None:
        self._gates.set_share(owned, self._settings.kafka.partitions)

    def _checker(self, admin: AIOKafkaAdminClient) -> Callable[[], Awaitable[None]]:
        async def check() -> None:
            await sure_topics(admin, self._topics, self._settings.kafka, create=False)

        return check

    def _maker(self, admin: AIOKafkaAdminClient, limits: Mapping[str, int]) -> Callable[[int, Ledger], Lane]:
        ports = LanePorts(
            settings=self._settings,
            topics=self._topics,
            rules=self._rules,
            looks=self._looks,
            gates=self._gates,
            admin=admin,
            clock=self._clock,
            metrics=self._metrics,
            limits=Limits(limits, admin, self._clock),
            guard=self._guard,
        )
        return lambda number, ledger: Lane(number, ports, ledger)
