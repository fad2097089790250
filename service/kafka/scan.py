"""Shell: what commands read: which topics there are, and a stretch of one from end to end, outside any group."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.kafka.connect import client_options, close, close_consumer
from service.kafka.forward import Forward
from service.settings import Connection, Kafka

# Without a record for so long, the brokers are away or a transaction is open.
SILENT_SECONDS = 30.0
POLL_MS = 500


class EndUnreachable(KafkaError):  # type: ignore[misc]
    """A partition cannot be read up to its end: an open transaction, or a broker that does not answer."""

    retriable = True


@dataclass(frozen=True)
class Stretch:
    """The records of a partition from offset `begin` on and before `end`."""

    partition: TopicPartition
    begin: int
    end: int


@asynccontextmanager
async def open_admin(kafka: Connection) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client. Raises `KafkaError` when no broker answers."""
    admin = AIOKafkaAdminClient(**client_options(kafka))
    try:
        await admin.start()
        yield admin
    finally:
        await close(admin.close())


async def partition_counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Topic → how many partitions it has, of all there are."""
    return {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}


@asynccontextmanager
async def open_reader(kafka: Kafka) -> AsyncIterator[AIOKafkaConsumer]:
    """A reader of what is committed, from the earliest on, without a group. Raises `KafkaError`."""
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        # Not `latest` and a seek to the beginning: the consumer's own first reset races that seek and wins (kafka.md).
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await close_consumer(consumer)


async def scan(
    consumer: AIOKafkaConsumer, stretch: Stretch, most: int = 5000, silent_seconds: float = SILENT_SECONDS
) -> AsyncIterator[tuple[int, list[ConsumerRecord]]]:
    """(offset reached, at most `most` records) up to the end.

    Reading stops at the last stable offset. Raises `EndUnreachable` when it has not moved for `silent_seconds`, and
    `WentBackError` when a broker takes it back: what it would give then has been seen.
    """
    partition = stretch.partition
    consumer.assign([partition])
    consumer.seek(partition, stretch.begin)
    loop = asyncio.get_running_loop()
    position, moved, forward = stretch.begin, loop.time(), Forward({partition: stretch.begin})
    while position < stretch.end:
        polled = await consumer.getmany(partition, timeout_ms=POLL_MS, max_records=most)
        records = polled.get(partition, ())
        for record in records:
            forward.read(partition, record.offset)
        reached = await consumer.position(partition)
        forward.stands(partition, reached)
        if reached > position:
            position, moved = reached, loop.time()
        elif loop.time() - moved > silent_seconds:
            raise EndUnreachable(f"{partition.topic} stops at {position} of {stretch.end}: a transaction is open")
        yield position, [record for record in records if record.offset < stretch.end]
