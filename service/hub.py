"""Shell: reads the event hub that Graph writes notifications into, and makes them durable as the receiver does.

Items are judged exactly like those of a POST. A hub's offsets are committed after Kafka has acknowledged everything
that was read up to them, so a death anywhere means that some events are read again; the ledger sees duplicates. What is
no notification (Graph's probe, anything that is not JSON) is counted and passed over.

Source: https://learn.microsoft.com/graph/change-notifications-delivery-event-hubs , graph-contract 5.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from service.clock import Clock, iso
from service.judged import Judged, log_refused, unhurried
from service.kafka.connect import NEVER_MS, client_options, close_consumer
from service.kafka.knock import reason_of
from service.logs import SECONDS_BETWEEN_REPEATS, RateLimit
from service.metrics import Metrics
from service.notification import (
    Gatekeeper,
    NotACollection,
    Refused,
    bounded_collection,
    is_probe,
    judge,
)
from service.settings import EventHub
from service.store import NotificationStore, StoreUnavailable

POLL_MS = 1000
MOST_EVENTS = 200  # of one poll; Graph's are some kilobytes each
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.25, 10.0
# Azure ends connections that are idle for 240 s without a word.
IDLE_MS = 180_000
HUB_SETTING = "CALLSTREAM_EVENT_HUB__HUB"

log = structlog.get_logger()


class HubMissing(KafkaError):  # type: ignore[misc]
    """The namespace answers and has no such hub, or shows none to this account. The text is a whole sentence."""

    def __str__(self) -> str:
        return str(self.args[0])


class HubReader:
    """One member of the hub's consumer group. `run` works until cancelled, whether hub and Kafka are there or not."""

    def __init__(
        self,
        hub: EventHub,
        gatekeeper: Gatekeeper,
        store: NotificationStore,
        metrics: Metrics,
        clock: Clock,
        max_items: int,
    ) -> None:
        """`max_items`: of one event."""
        self._hub = hub
        self._max_items = max_items
        self._gatekeeper = gatekeeper
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._limit = RateLimit(SECONDS_BETWEEN_REPEATS)
        self._trouble: str | None = "The event hub has not been reached yet."

    def trouble(self) -> str | None:
        """Readiness: why the hub is not being read, as one sentence; None while it is."""
        return self._trouble

    async def run(self) -> None:
        """Until cancelled. After each failure everything since the last commit is read again."""
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                async with self._open() as consumer:
                    wait = FIRST_WAIT_SECONDS
                    self._found()
                    await self._read(consumer)
            except (KafkaError, OSError) as error:
                await self._lost(error)
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                # Nobody cancelled this reader: it is the Kafka client's own, come out of one of its awaits.
                await self._lost(KafkaConnectionError("the client broke off"))
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[AIOKafkaConsumer]:
        session_ms = int(self._hub.session_timeout_seconds * 1000)
        consumer = AIOKafkaConsumer(
            self._hub.hub,
            **client_options(self._hub),
            group_id=self._hub.consumer_group,
            enable_auto_commit=False,
            # What was written before the first reader came is as good as what comes after.
            auto_offset_reset="earliest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 4,
            max_poll_interval_ms=NEVER_MS,
            connections_max_idle_ms=IDLE_MS,
        )
        try:
            await consumer.start()
            if self._hub.hub not in await consumer.topics():
                raise HubMissing(
                    f"There is no event hub {self._hub.hub} at {self._hub.bootstrap_servers}: see {HUB_SETTING}."
                )
            yield consumer
        finally:
            await close_consumer(consumer)

    async def _lost(self, error: Exception) -> None:
        self._trouble = why = await self._cause(error)
        if self._limit.admit("lost"):
            log.warning("the event hub cannot be read", hub=self._hub.hub, cause=why)

    async def _cause(self, error: Exception) -> str:
        """aiokafka says only that it could not connect; why is found out by knocking again."""
        if isinstance(error, KafkaConnectionError):
            return await reason_of(self._hub)
        if isinstance(error, HubMissing):
            return str(error)
        return f"The event hub cannot be read: {error or type(error).__name__}."

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        now = asyncio.get_running_loop().time
        heard = now()
        while True:
            polled = await consumer.getmany(timeout_ms=POLL_MS, max_records=MOST_EVENTS)
            records = [record for some in polled.values() for record in some]
            if records:
                await self._take(records)
                # Dying right here means that they are read again.
                await consumer.commit()
                self._metrics.hub_lag.set(_lag(consumer, polled))
            elif now() - heard < self._hub.request_timeout_seconds:
                continue
            elif not await consumer._client.force_metadata_update():
                # A hub that is gone makes no poll fail: the client tries again and again, and is only silent.
                await self._lost(KafkaConnectionError("nobody answers"))
                continue
            heard = now()
            self._found()

    def _found(self) -> None:
        if self._trouble is not None and self._limit.admit("found"):
            log.info("the event hub is read", hub=self._hub.hub)
        self._trouble = None

    async def _take(self, records: list[ConsumerRecord]) -> None:
        """Returns when every good item of these events is durable."""
        received_at = iso(self._clock.now())
        judged = Judged()
        outcomes: Counter[str] = Counter()
        for record in records:
            outcomes[await self._judge(record, received_at, judged)] += 1
            await asyncio.sleep(0)  # a poll may hold hundreds
        await self._keep(judged)
        # Only now: an item that waits for Kafka is neither stored nor refused yet.
        judged.count(self._metrics)
        for outcome, count in outcomes.items():
            self._metrics.hub_events.labels(outcome).inc(count)

    async def _judge(self, record: ConsumerRecord, received_at: str, judged: Judged) -> str:
        """What the event is, as a label; its items go into `judged`."""
        try:
            items = bounded_collection(record.value or b"", self._max_items)
        except NotACollection as exc:
            if is_probe(record.value or b""):
                return "probe"
            if count := self._limit.admit(exc.kind):
                log.warning(
                    "an event of the hub is no notification; it is passed over",
                    reason=exc.kind,
                    count=count,
                    partition=record.partition,
                    offset=record.offset,
                )
            return exc.kind
        if items and all(is_probe(item) for item in items):
            if count := self._limit.admit("probe"):
                log.info("Graph has tried whether it can write into the event hub", hub=record.topic, count=count)
            return "probe"
        async for raw_item in unhurried(items):
            item = judge(raw_item, self._gatekeeper, received_at, source="eventhub")
            judged.add(item)
            if isinstance(item, Refused):
                log_refused(item, self._limit)
        return "notifications"

    async def _keep(self, judged: Judged) -> None:
        """Stores them, again and again until Kafka has them: nobody else will send them again."""
        wait = FIRST_WAIT_SECONDS
        while judged.good:
            try:
                await self._store.store(judged.notifications, judged.events)
                break
            except StoreUnavailable as error:
                self._trouble = f"Kafka does not take notifications: {error}."
                await asyncio.sleep(wait)
                wait = min(wait * 2, LONGEST_WAIT_SECONDS)


def _lag(consumer: AIOKafkaConsumer, polled: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> int:
    """Events behind those of this poll, as far as its answers told."""
    ends = ((consumer.highwater(partition), records[-1].offset + 1) for partition, records in polled.items())
    return sum(max(0, end - following) for end, following in ends if end is not None)
