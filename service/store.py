"""Shell: makes received notifications durable in Kafka. `store` returns when every one is acknowledged by all in-sync
replicas, or raises. A death between Kafka's acknowledgement and our answer makes Graph repeat; a duplicate is harmless.

The producer is not idempotent on purpose: after one rejected record aiokafka's idempotent producer answers
`OutOfOrderSequenceNumber` on that partition for ever (design section 4).
"""

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from service.errors import Retriable
from service.kafka.connect import client_options, close_producer
from service.kafka.knock import reason_of
from service.kafka.topics import Topics, partition_of
from service.logs import SECONDS_BETWEEN_REPEATS, RateLimit
from service.notification import LifecycleEvent, Notification
from service.settings import Kafka

# One batch for each partition even when a POST carries thousands of items: a full one would wait for its round trip.
BATCH_BYTES = 512 * 1024
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0
PROBE_SECONDS = 1.0

log = structlog.get_logger()
_json = msgspec.json.Encoder()


class StoreUnavailable(Retriable):
    """Not acknowledged in time: whether Kafka has it is unknown, so whoever sent it must send it again."""

    reason = "not_stored"


class NotificationStore(Protocol):
    """Where accepted notifications become durable."""

    async def store(self, notifications: Sequence[Notification], events: Sequence[LifecycleEvent]) -> None:
        """Returns when all are durable; raises `StoreUnavailable` otherwise; some may be stored all the same."""


class KafkaStore:
    """Appends to `{prefix}.notifications` and `{prefix}.lifecycle`. Opening never fails and never waits: without a
    broker it connects in the background, and `store` raises `StoreUnavailable` until then.
    """

    def __init__(self, kafka: Kafka, topics: Topics, timeout_seconds: float) -> None:
        """`timeout_seconds` of real time bound one `store`."""
        self._kafka = kafka
        self._topics = topics
        self._timeout_seconds = timeout_seconds
        self._producer: AIOKafkaProducer | None = None
        self._trouble: str | None = "Kafka has not been reached yet."
        self._failed = asyncio.Event()
        self._attendant: asyncio.Task[None] | None = None
        # A cluster that answers metadata but refuses records (too few replicas) comes and goes every second.
        self._limit = RateLimit(SECONDS_BETWEEN_REPEATS)

    async def __aenter__(self) -> Self:
        self._attendant = asyncio.create_task(self._attend(), name="notification store")
        self._attendant.add_done_callback(self._report_end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._attendant is not None:
            self._attendant.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._attendant
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer)

    def trouble(self) -> str | None:
        """Why notifications cannot be stored now, as one sentence for readiness; None when they can."""
        return self._trouble

    async def store(self, notifications: Sequence[Notification], events: Sequence[LifecycleEvent]) -> None:
        """See `NotificationStore`. Cancelling it withdraws nothing that was already sent."""
        if self._producer is None:
            raise StoreUnavailable("Kafka has not been reached yet.")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._append(self._producer, notifications, events)
        except TimeoutError:
            raise self._unavailable(f"no acknowledgement within {self._timeout_seconds:g} s") from None
        except KafkaError as exc:
            raise self._unavailable(str(exc) or type(exc).__name__) from exc
        self._recovered()

    async def _append(
        self, producer: AIOKafkaProducer, notifications: Sequence[Notification], events: Sequence[LifecycleEvent]
    ) -> None:
        """Sends everything, then waits for every future; a timeout comes as a cancellation."""
        sent: list[asyncio.Future[Any]] = []
        try:
            if notifications:
                topic = self._topics.notifications
                partitions = len(await producer.partitions_for(topic))
                for item in notifications:
                    place = partition_of(item.key, partitions)
                    sent.append(await producer.send(topic, _json.encode(item), key=item.key, partition=place))
            for event in events:
                value, key = _json.encode(event), event.tenant_id.encode()
                sent.append(await producer.send(self._topics.lifecycle, value, key=key, partition=0))
            await asyncio.gather(*sent)
        finally:
            for future in sent:
                # One that fails after we stopped waiting must not be reported as an error that nobody retrieved.
                future.add_done_callback(_look_at)

    def _unavailable(self, cause: str) -> StoreUnavailable:
        if self._trouble is None and self._limit.admit("lost"):
            log.error(
                "Kafka does not take notifications; Graph is asked to repeat them for up to 4 hours",
                cause=cause,
                bootstrap_servers=self._kafka.bootstrap_servers,
            )
        self._trouble = f"Kafka does not take notifications: {cause}."
        self._failed.set()
        return StoreUnavailable(cause)

    def _recovered(self) -> None:
        if self._trouble is not None and self._limit.admit("found"):
            log.info("notifications can be stored", topic=self._topics.notifications)
        self._trouble = None
        self._failed.clear()

    def _report_end(self, attendant: asyncio.Task[None]) -> None:
        """The attendant ends only by being cancelled; anything else is a bug that must not stay unseen."""
        if not attendant.cancelled() and (error := attendant.exception()):
            self._trouble = "The connection to Kafka ended with an internal error."
            log.error("the connection to Kafka ended with an internal error", exc_info=error)

    async def _attend(self) -> None:
        """Connects, then after each failure probes until Kafka answers, so that readiness returns without traffic."""
        self._producer = producer = await self._connect()
        self._failed.set()
        while True:
            await self._failed.wait()
            if await self._has_leaders(producer):
                self._recovered()
            else:
                await asyncio.sleep(PROBE_SECONDS)

    async def _connect(self) -> AIOKafkaProducer:
        wait = FIRST_WAIT_SECONDS
        while True:
            producer = self._new_producer()
            try:
                await producer.start()
            except KafkaError:
                await close_producer(producer)
                self._trouble = why = await reason_of(self._kafka)
                if wait == FIRST_WAIT_SECONDS:
                    log.warning(
                        "Kafka cannot be reached; notifications are answered 503 until it can",
                        bootstrap_servers=self._kafka.bootstrap_servers,
                        cause=why,
                    )
            except asyncio.CancelledError:
                await close_producer(producer)
                raise
            else:
                return producer
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)

    def _new_producer(self) -> AIOKafkaProducer:
        # A request that outlives the caller's wait would only deliver a duplicate of what Graph sends again.
        options = client_options(self._kafka) | {"request_timeout_ms": int(self._timeout_seconds * 1000)}
        return AIOKafkaProducer(**options, acks="all", enable_idempotence=False, max_batch_size=BATCH_BYTES)

    async def _has_leaders(self, producer: AIOKafkaProducer) -> bool:
        """Asks a broker for fresh metadata: true when every partition of the notifications topic has a leader."""
        topic = self._topics.notifications
        try:
            partitions = await producer.partitions_for(topic)
            if not await producer.client.force_metadata_update():
                return False
        except KafkaError as exc:
            self._trouble = f"Kafka does not take notifications: {exc}."
            return False
        return len(producer.client.cluster.available_partitions_for_topic(topic) or ()) == len(partitions)


def _look_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
