"""What the lane tests share: a scripted Graph in place of the real one, real Kafka for all the rest."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid5

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from service.clock import Clock, iso
from service.errors import CallstreamError
from service.graph.budget import TenantGates
from service.graph.client import Progress
from service.graph.room import Room
from service.kafka.connect import close_consumer
from service.kafka.delivery import open_publisher
from service.kafka.publisher import Publisher
from service.kafka.topics import Topics, ensure, partition_of
from service.lanes.policy import ShapedRecord
from service.lanes.worker import Worker
from service.metrics import Metrics
from service.notification import Notification
from service.settings import Kafka, Keeper, Lanes, Retry, Settings, Tenant

TENANT = "c0ffee00-1111-4222-8333-444455556666"
PARTITIONS = 3
DEADLINE_SECONDS = 60.0
# A commit reaches its partitions in milliseconds; what takes longer than this is open.
OPEN_SECONDS = 10.0


def call_id(name: str) -> str:
    """A GUID for a readable name."""
    return str(uuid5(UUID(TENANT), name))


def notice(name: str, **fields: object) -> Notification:
    """A live notification for a call, received now."""
    given = {"source": "webhook", "received_at": iso(Clock().now()), **fields}
    return Notification(tenant_id=TENANT, call_id=call_id(name), **given)  # type: ignore[arg-type]


def shaped(name: str, version: int, events: int = 2, size: int = 40) -> ShapedRecord:
    """A version of a call with so many events, each of at least `size` bytes."""
    key = f"{TENANT}/{call_id(name)}/{version}"
    padding = b"x" * size
    messages = [("audio", b'{"id":"%s/%d","x":"%s"}' % (key.encode(), i, padding), f"{key}/{i}") for i in range(events)]
    return ShapedRecord(version, messages, b'{"id":"%s"}' % key.encode(), "2026-11-22T10:00:00Z", events * size, "now")


Answer = ShapedRecord | CallstreamError | Callable[[Progress], Awaitable[ShapedRecord]]


@dataclass
class ScriptedGraph:
    """Answers looks: for each call a list of answers, the last of which is repeated."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    looks: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def say(self, name: str, *answers: Answer) -> None:
        """The next answers for a call."""
        self.answers[call_id(name)] = list(answers)

    def looks_at(self, name: str) -> int:
        """How often a call was asked for."""
        return self.looks[call_id(name)]

    async def __call__(self, notification: Notification, progress: Progress) -> ShapedRecord:
        self.looks[notification.call_id] += 1
        answers = self.answers[notification.call_id]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, CallstreamError):
            raise answer
        return answer if isinstance(answer, ShapedRecord) else await answer(progress)


@dataclass
class Bench:
    """A running worker, and the means to feed and to read its topics."""

    settings: Settings
    topics: Topics
    graph: ScriptedGraph
    metrics: Metrics
    producer: AIOKafkaProducer
    worker: Worker
    room: Room
    gates: TenantGates

    async def put(self, *notifications: Notification, topic: str | None = None, partition: int | None = None) -> None:
        """Appends notifications as the receiver does, or to another topic or partition."""
        for notification in notifications:
            place = partition_of(notification.key, PARTITIONS) if partition is None else partition
            value = msgspec.json.encode(notification)
            await self.producer.send_and_wait(
                topic or self.topics.notifications, value, key=notification.key, partition=place
            )

    async def read(self, topic: str) -> list[ConsumerRecord]:
        """Everything that is committed in a topic now, partition by partition."""
        partitions = 1 if topic == self.topics.dead_letter else PARTITIONS
        return await read_all(self.settings.kafka.bootstrap_servers, topic, partitions)

    async def versions(self) -> list[tuple[str, int]]:
        """(event id without its end, version) of the committed call summaries, in order."""
        records = await self.read(self.topics.calls)
        ids = [msgspec.json.decode(record.value)["id"].split("/")[1] for record in records]
        return [(one, header(record, "version")) for one, record in zip(ids, records, strict=True)]

    async def eventually(self, claim: Callable[[], Awaitable[bool]], what: str) -> None:
        """Waits until a claim holds; fails after a deadline far above what is needed."""
        await eventually(claim, what)


async def eventually(claim: Callable[[], Awaitable[bool]], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Waits until a claim holds; fails with `what` after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not await claim():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:.0f} s: {what}") from None


def header(record: ConsumerRecord, name: str) -> int:
    """A numeric header."""
    return int(dict(record.headers)[name])


def text(record: ConsumerRecord, name: str) -> str:
    """A text header."""
    return dict(record.headers)[name].decode()


async def read_all(servers: str, topic: str, count: int) -> list[ConsumerRecord]:
    """Everything committed in a topic, from the beginning to the end as it is now.

    A commit is answered before the partitions hear of it, so the end is that of a reader of everything; where a
    transaction stays open, reading stops in front of it.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    partitions = [TopicPartition(topic, number) for number in range(count)]
    ends = await high_watermarks(servers, partitions)
    await consumer.start()
    try:
        consumer.assign(partitions)
        found: list[ConsumerRecord] = []
        for partition in partitions:
            found += await _read_to(consumer, partition, ends[partition])
        return found
    finally:
        await close_consumer(consumer)


async def _read_to(consumer: AIOKafkaConsumer, partition: TopicPartition, end: int) -> list[ConsumerRecord]:
    """Up to `end`, or to a transaction that stays open."""
    loop, found = asyncio.get_running_loop(), list[ConsumerRecord]()
    position, moved = await consumer.position(partition), loop.time()
    while position < end and loop.time() - moved < OPEN_SECONDS:
        polled = await consumer.getmany(partition, timeout_ms=200)
        found += polled.get(partition, [])
        if (reached := await consumer.position(partition)) > position:
            position, moved = reached, loop.time()
    return found


async def high_watermarks(servers: str, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
    """Where each ends, open transactions and all."""
    reader = AIOKafkaConsumer(bootstrap_servers=servers, group_id=None)
    await reader.start()
    try:
        return dict(await reader.end_offsets(partitions))
    finally:
        await close_consumer(reader)


async def set_limit(admin: AIOKafkaAdminClient, topics: Topics, topic: str, size: int) -> None:
    """`max.message.bytes` of a topic while it is in use; the rest of its configuration as it was made."""
    made = {spec.name: spec.config for spec in topics.specs(PARTITIONS)}[topic]
    configs = {**made, "max.message.bytes": str(size)}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)])


def settings_for(servers: str, prefix: str, **groups: msgspec.Struct) -> Settings:
    """Settings for a test: three lanes, retry delays of a second or less."""
    kafka = Kafka(bootstrap_servers=servers, topic_prefix=prefix, partitions=PARTITIONS, session_timeout_seconds=6)
    given = {"retry": Retry(delays=("1s", "2s")), "lanes": Lanes(), "keeper": Keeper()} | groups
    tenants = {"contoso": Tenant(id=TENANT, client_id="app")}
    return Settings(kafka=kafka, tenants=tenants, **given)  # type: ignore[arg-type]


async def make_topics(kafka: Kafka, topics: Topics) -> None:
    """All topics of a service."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        await ensure(admin, topics, kafka, create=True)
    finally:
        await admin.close()


def lane_publisher(kafka: Kafka, topics: Topics) -> AbstractAsyncContextManager[Publisher]:
    """The next owner of lane 0, as far as Kafka sees it."""
    return open_publisher(kafka, topics, topics.transactional_id(0), topics.lane_group)


@asynccontextmanager
async def bench(
    settings: Settings, graph: ScriptedGraph | None = None, clock: Clock | None = None
) -> AsyncIterator[Bench]:
    """A worker on real Kafka with a scripted Graph."""
    graph, clock, metrics = graph or ScriptedGraph(), clock or Clock(), Metrics(tenants=settings.tenants)
    topics = Topics.of(settings)
    await make_topics(settings.kafka, topics)
    gates = TenantGates(settings.graph, settings.tenants, clock, metrics)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, acks="all")
    room = Room(settings.lanes.held_bytes, metrics)
    async with producer, Worker(settings, topics, graph, gates, room, clock, metrics) as worker:
        yield Bench(settings, topics, graph, metrics, producer, worker, room, gates)
