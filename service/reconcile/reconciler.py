"""Shell: looks for what Graph never told. Part of the active keeper; its memory is `{prefix}.state`.

One look lists some hours and queues every id into `{prefix}.backfill`; lanes pass over what they know. Ids go out in
transactions of `CHUNK` records, and the last of them carries the memory that the hours were listed. So a crash neither
loses a look nor forgets one: broken off, it is made again under another number, and what lanes report of the first is
not counted. The producer's transactional id fences whoever was the keeper before.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from service import upkeep
from service.clock import Clock, iso
from service.errors import CallstreamError, TenantMustWait
from service.graph.listing import Listed, Lister
from service.kafka.connect import client_options, close_consumer
from service.kafka.delivery import open_publisher
from service.kafka.forward import Forward
from service.kafka.publisher import Publisher
from service.kafka.records import KafkaRecord
from service.kafka.topics import Topics, partition_of
from service.kafka.whole import read_whole
from service.lanes.inbox import decode_message
from service.metrics import DAY_STATES, Metrics
from service.notification import Notification
from service.reconcile import plan as planning
from service.reconcile.hours import figures, hour_number, hour_start
from service.reconcile.memory import Memory
from service.reconcile.plan import Budget, Look, Plan
from service.reconcile.status import tenant_status
from service.settings import Settings, Tenant

CHUNK = 2000
# Real seconds: how long a report may wait to be written, and how long one transaction may take.
FLUSH_SECONDS = 1.0
COMMIT_SECONDS = 45.0
POLL_MS = 500
LONGEST_WAIT_SECONDS = 600.0
# A listing of several hours that grows beyond this is broken off and made in smaller pieces: nobody knew their size.
MOST_PAGES = 4 * planning.MOST_PAGES_AT_ONCE

log = structlog.get_logger()
_json = msgspec.json.Encoder()


class _TooManyError(Exception):
    """More pages than hours were expected to have."""


@dataclass
class _Tending:
    """What one run remembers of one tenant beside its memory."""

    name: str
    tenant: Tenant
    most_hours: int = planning.MOST_HOURS_AT_ONCE
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    said: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.tenant.id.lower()


@dataclass
class _Open:
    """What there is while this process is the active keeper."""

    memory: Memory
    publisher: Publisher
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Reconciler:
    """Lists, queues, counts. Use it inside `opened()`; one process at a time gets there."""

    def __init__(self, settings: Settings, topics: Topics, lister: Lister, metrics: Metrics, clock: Clock) -> None:
        self._settings = settings
        self._topics = topics
        self._lister = lister
        self._metrics = metrics
        self._clock = clock
        self._tenants = [_Tending(name, tenant) for name, tenant in settings.tenants.items()]
        self._budget = Budget(settings.graph.list_requests_per_20s)
        self._open: _Open | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Fences an earlier keeper, then reads the memory. Raises `KafkaError`."""
        kafka, topics = self._settings.kafka, self._topics
        name = topics.keeper_transactional_id
        async with open_publisher(kafka, topics, name, f"{topics.prefix}.keeper") as publisher:
            memory = Memory(self._clock.now(), (one.id for one in self._tenants))
            await read_whole(kafka, TopicPartition(topics.state, 0), memory)
            self._open = _Open(memory, publisher)
            try:
                yield
            finally:
                self._open = None
                self._clear()

    async def run(self) -> None:
        """Works until cancelled; raises `KafkaError` when Kafka does not take or give what is needed."""
        parts = [self._hear(), self._flush(), *(self._tend(one) for one in self._tenants)]
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def saw_subscription(self, tenant: Tenant, *, after_gap: bool) -> None:
        """A subscription of ours is there; a new one means that notices may have been lost: look for them."""
        if self._open is not None:
            tenant_id = tenant.id.lower()
            self._open.memory.saw_subscription(tenant_id, self._clock.now(), after_gap=after_gap)
            if after_gap:
                self._wake(tenant_id)

    def status(self) -> dict[str, Any] | None:
        """By tenant name, for the status page; None where another process is the keeper."""
        if self._open is None:
            return None
        memory, now = self._open.memory, self._clock.now()
        return {one.name: tenant_status(memory.tenants[one.id], self._plan(one), now) for one in self._tenants}

    # ---- looks ----------------------------------------------------------------------------------------------------

    async def _tend(self, one: _Tending) -> None:
        """Makes what looks are due, one after the other, for ever. Our errors end here, each in one line."""
        failures = 0
        while True:
            one.wake.clear()
            plan = self._plan(one)
            self._tell(one, plan)
            if plan.look is None:
                await self._rest(one)
                continue
            try:
                await self._look(one, plan.look)
                failures, one.most_hours = 0, planning.MOST_HOURS_AT_ONCE
            except _TooManyError:
                one.most_hours = max(1, (plan.look.end - plan.look.first) // 6)
            except CallstreamError as exc:
                failures += 1
                asked = exc.wait_seconds if isinstance(exc, TenantMustWait) else 0.0
                wait = max(asked, min(LONGEST_WAIT_SECONDS, upkeep.next_wait(failures)))
                log.warning("call records cannot be listed", tenant=one.name, error=str(exc), again_in_seconds=wait)
                await self._clock.sleep(wait)

    async def _rest(self, one: _Tending) -> None:
        for tenant_id, day, hours in self._memory.forget(self._clock.now()):
            log.error("hours fell out of Graph's 30 days without being listed", tenant=tenant_id, day=day, hours=hours)
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(self._settings.keeper.reconcile_period_seconds):
                await one.wake.wait()

    def _plan(self, one: _Tending) -> Plan:
        tenant = self._memory.tenants[one.id]
        days = self._settings.keeper.reconcile_days
        return planning.plan(tenant, self._budget, self._clock.now(), days, one.most_hours)

    async def _look(self, one: _Tending, look: Look) -> None:
        """Lists some hours and queues what is there; the last transaction says that they were listed."""
        memory, hours = self._memory, range(look.first, look.end)
        number = memory.next_look(one.id, hours, self._clock.now())
        memory.begin_look(one.id, hours, number)
        try:
            counted, rest = await self._queue(one, look, number)
        except BaseException:
            # Broken off by a failure or a cancellation: it never counted, and is made again.
            memory.end_look(one.id, hours, number, None)
            raise
        await self._commit(rest, lambda: memory.end_look(one.id, hours, number, counted))
        self._metrics.listed.labels(one.name).inc(counted.total())
        log.debug(
            "hours listed", tenant=one.name, first=iso(hour_start(look.first)), hours=len(hours), **_sums(counted)
        )

    async def _queue(self, one: _Tending, look: Look, number: int) -> tuple[Counter[int], list[KafkaRecord]]:
        """Everything listed is queued, but for the last records, which the caller writes with the memory."""
        counted: Counter[int] = Counter()
        seen: set[str] = set()
        rest: list[KafkaRecord] = []
        pages = self._lister.pages(one.name, one.tenant, hour_start(look.first), hour_start(look.end))
        async with contextlib.aclosing(pages) as arriving:
            count = 0
            async for page in arriving:
                count += 1
                if count > MOST_PAGES and look.end - look.first > 1:
                    raise _TooManyError
                for item in page.items:
                    # A page may repeat what a record that appeared meanwhile has pushed on.
                    if item.call_id not in seen:
                        seen.add(item.call_id)
                        hour = _hour_of(item, look)
                        counted[hour] += 1
                        rest.append(self._record(one, item, look.source, hour, number))
                while len(rest) > CHUNK:
                    await self._commit(rest[:CHUNK], with_memory=False)
                    rest = rest[CHUNK:]
        return counted, rest

    def _record(self, one: _Tending, item: Listed, source: str, hour: int, number: int) -> KafkaRecord:
        notification = Notification(
            tenant_id=one.id,
            call_id=item.call_id,
            source=source,
            received_at=iso(self._clock.now()),
            version=item.version,
            listed_hour=hour,
            look=number,
        )
        key = notification.key
        partition = partition_of(key, self._settings.kafka.partitions)
        return KafkaRecord(self._topics.backfill, partition, key, _json.encode(notification), [])

    # ---- Kafka ----------------------------------------------------------------------------------------------------

    @property
    def _memory(self) -> Memory:
        if self._open is None:
            raise RuntimeError("only inside opened()")
        return self._open.memory

    async def _commit(
        self, records: Sequence[KafkaRecord], change: Callable[[], None] | None = None, *, with_memory: bool = True
    ) -> None:
        """One transaction: the records and, unless told otherwise, all of the memory that changed. `change` is made
        to the memory when it is this transaction's turn: another must not say that these records are queued.

        Raises `KafkaError`; what it held is unknown then, so everything is opened and read again.
        """
        now_open = self._open
        if now_open is None:
            raise KafkaConnectionError("the keeper has lost its place")
        async with now_open.turn:
            if change is not None:
                change()
            # What has changed is taken and encoded in one go: counts and the inbox offset belong together.
            changed = now_open.memory.changed() if with_memory else ()
            written = [*records, *(KafkaRecord(self._topics.state, 0, key, value, []) for key, value in changed)]
            try:
                async with asyncio.timeout(COMMIT_SECONDS):
                    # The memory holds the inbox's offset as well; nobody goes on from this one.
                    seal = {TopicPartition(self._topics.inbox, 0): now_open.memory.inbox_offset}
                    await now_open.publisher.commit(written, {}, seal)
            except TimeoutError:
                raise KafkaConnectionError(f"no commit within {COMMIT_SECONDS:g} s") from None

    async def _hear(self) -> None:
        """Counts what lanes report and takes jobs, from where the memory stands; a report counts once."""
        inbox, forward = TopicPartition(self._topics.inbox, 0), Forward()
        consumer = AIOKafkaConsumer(
            **client_options(self._settings.kafka),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
        )
        try:
            await consumer.start()
            consumer.assign([inbox])
            if self._memory.inbox_offset:
                consumer.seek(inbox, self._memory.inbox_offset)
            while True:
                polled = await consumer.getmany(inbox, timeout_ms=POLL_MS, max_records=CHUNK)
                for record in polled.get(inbox, ()):
                    forward.read(inbox, record.offset)
                    self._take(record.value, record.offset)
        finally:
            await close_consumer(consumer)

    def _take(self, value: bytes | None, offset: int) -> None:
        message = decode_message(value)
        if message is None:
            log.warning("a record in the keeper's inbox is no message; it is passed over", offset=offset)
        elif (tenant_id := self._memory.take(message, offset, self._clock.now())) is not None:
            log.info("a backfill was asked for", tenant_id=tenant_id)
            self._wake(tenant_id)

    async def _flush(self) -> None:
        """Writes what reports have changed, and shows it."""
        while True:
            if self._memory.is_changed:
                await self._commit(())
            self._show()
            await asyncio.sleep(FLUSH_SECONDS)

    def _wake(self, tenant_id: str) -> None:
        for one in self._tenants:
            if one.id == tenant_id:
                one.wake.set()

    # ---- showing --------------------------------------------------------------------------------------------------

    def _tell(self, one: _Tending, plan: Plan) -> None:
        """The plan as metrics; what a person should know as one line, when it changes."""
        said = planning.sentences(plan)
        if len(said) != len(one.said):
            write = log.error if plan.backlog.at_risk_calls else log.warning if said else log.info
            write("reconciliation", tenant=one.name, said=said or "everything due can be listed in time")
        one.said = said
        self._metrics.reconcile_fits.labels(one.name).set(plan.fit.fits)
        self._metrics.reconcile_backlog.labels(one.name).set(plan.backlog.seconds)
        self._metrics.at_risk.labels(one.name).set(plan.backlog.at_risk_calls)

    def _show(self) -> None:
        now = self._clock.now()
        self._metrics.day_calls.clear()  # a day's age grows
        for one in self._tenants:
            tenant = self._memory.tenants[one.id]
            self._metrics.last_notice.labels(one.name).set(tenant.seen.notice)
            for day in figures(tenant, now):
                for state in DAY_STATES:
                    self._metrics.day_calls.labels(one.name, str(day.age), state).set(getattr(day, state))

    def _clear(self) -> None:
        """Another process shows them now."""
        for gauge in ("day_calls", "last_notice", "reconcile_fits", "reconcile_backlog", "at_risk"):
            getattr(self._metrics, gauge).clear()


def _hour_of(item: Listed, look: Look) -> int:
    """The asked hour in which the record starts; the first of them when the list shows no usable start."""
    if item.start is None:
        return look.first
    return min(max(hour_number(item.start), look.first), look.end - 1)


def _sums(counted: Counter[int]) -> dict[str, int]:
    return {"listed": counted.total()}
