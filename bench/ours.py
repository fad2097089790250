"""The service's own worker on real Kafka, with page bodies from memory in place of Graph.

All that `serve` does between a notification and a committed event happens here, and by the same code: lanes read the
notifications topic, decode, flatten, encode, and publish events, summaries, ledger entries and offsets in transactions.
"""

import asyncio
from contextlib import AsyncExitStack

import msgspec
from aiokafka import AIOKafkaProducer
from prometheus_client import Counter, Gauge

from bench.material import Page
from bench.pipeline import Work
from service import memory
from service.clock import Clock, iso
from service.graph.budget import TenantGates
from service.graph.client import Fetched, Progress
from service.graph.room import Room
from service.kafka.topics import Topics, partition_of
from service.lanes.policy import ShapedRecord
from service.lanes.shaping import shape
from service.lanes.worker import Worker
from service.metrics import Metrics
from service.notification import Notification
from service.record.decode import decode_record
from service.settings import Kafka, Settings, Tenant

TENANT_NAME = "contoso"
LOOK_SECONDS = 0.01
OPEN_SECONDS = 60.0
STALL_SECONDS = 60.0


class Ours:
    """A pipeline for `child.py`."""

    def __init__(self, servers: str, prefix: str, tenant_id: str) -> None:
        kafka = Kafka(bootstrap_servers=servers, topic_prefix=prefix)
        self._settings = Settings(kafka=kafka, tenants={TENANT_NAME: Tenant(id=tenant_id, client_id="bench")})
        self._topics = Topics(prefix, self._settings.retry.delays)
        self._tenant_id = tenant_id
        self._clock = Clock()
        self._metrics = Metrics(tenants=[TENANT_NAME])
        self._producer = AIOKafkaProducer(bootstrap_servers=servers)
        self._bodies: dict[str, bytes] = {}
        self._work = Work(0, 0)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Ours":
        gates = TenantGates(self._settings.graph, self._settings.tenants, self._clock, self._metrics)
        room = Room(self._settings.lanes.held_bytes, self._metrics)
        worker = Worker(self._settings, self._topics, self._shape, gates, room, self._clock, self._metrics)
        await self._stack.enter_async_context(worker)
        await _until(self._metrics.lanes_owned, self._settings.kafka.partitions, OPEN_SECONDS)
        await self._stack.enter_async_context(self._producer)
        memory.settle()  # as `serve` does
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def run(self, pages: list[Page]) -> Work:
        """All events of these records, committed. Announcing them is part of it."""
        self._bodies = {page.call_id: page.body for page in pages}
        self._work = Work(0, 0)
        published = _value(self._metrics.published) + len(pages)
        await self._announce(pages)
        await _until(self._metrics.published, published, STALL_SECONDS)
        return self._work

    async def _announce(self, pages: list[Page]) -> None:
        now = iso(self._clock.now())
        for page in pages:
            notification = Notification(
                tenant_id=self._tenant_id, call_id=page.call_id, source="webhook", received_at=now
            )
            lane = partition_of(notification.key, self._settings.kafka.partitions)
            value = msgspec.json.encode(notification)
            await self._producer.send(self._topics.notifications, value, key=notification.key, partition=lane)
        await self._producer.flush()

    async def _shape(self, notification: Notification, progress: Progress) -> ShapedRecord:
        """What `Shaping` does once a body is there."""
        body = self._bodies[notification.call_id]
        record, odd = decode_record(body)
        progress.version, progress.pages, progress.last_page_at = record.version, 1, self._clock.now()
        fetched = Fetched(record, odd, pages=1, body_bytes=len(body))
        shaped = await shape(notification.tenant_id, fetched, iso(self._clock.now()))
        self._work.events += len(shaped.events)
        self._work.event_bytes += shaped.size_bytes - len(shaped.summary)
        return shaped


def _value(series: Counter | Gauge) -> float:
    """What a series reads, over its labels; the others of the registry are not asked, that would cost a millisecond."""
    return sum(sample.value for metric in series.collect() for sample in metric.samples)


async def _until(series: Counter | Gauge, value: float, stall_seconds: float) -> None:
    """Waits until a series reads at least `value`; RuntimeError when it has not moved for so long."""
    loop = asyncio.get_running_loop()
    seen, moved = _value(series), loop.time()
    while (now := _value(series)) < value:
        if now != seen:
            seen, moved = now, loop.time()
        if loop.time() - moved > stall_seconds:
            raise RuntimeError(f"a series stands at {now:.0f} of {value:.0f} for {stall_seconds:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)
