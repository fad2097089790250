"""Shell: what a lane reads before it works: the committed offsets, and its ledger up to the end.

Both are read after the lane's producer has started: from then on no earlier owner can add to either.
"""

import asyncio
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.kafka.connect import client_options, close_consumer
from service.kafka.scan import open_reader
from service.kafka.topics import Topics
from service.lanes.ledger import Ledger
from service.settings import Kafka

log = structlog.get_logger()

# Restoring reads some 350,000 entries a second (kafka.md); ten minutes are far beyond any ledger that fits in memory.
RESTORE_SECONDS = 600.0
# Without a single new entry for so long, an open transaction holds the end back: the lane is opened again.
SILENT_SECONDS = 15.0


class OffsetsUnreadableError(KafkaError):  # type: ignore[misc]
    """The group's coordinator did not say where the lane was left: it is loading, or it has moved."""

    retriable = True


class LedgerUnreadableError(KafkaError):  # type: ignore[misc]
    """The ledger's end cannot be reached: an open transaction, or a broker that does not answer."""

    retriable = True


class Sink(Protocol):
    """What is filled from a compacted partition: a lane's ledger, the keeper's memory."""

    next_offset: int

    def load(self, key: bytes | None, value: bytes | None) -> None:
        """Takes one record, in order."""


async def committed_offsets(
    admin: AIOKafkaAdminClient, topics: Topics, lane: int, group: str
) -> dict[TopicPartition, int]:
    """Where each input of the lane was left, under the group `group`; an input never committed is absent.

    aiokafka 0.14 passes over an error that is the group's and gives an empty answer (16 `NotCoordinator`, 14 while it
    loads); an input never committed is in the answer, with -1. Raises `OffsetsUnreadableError`, `KafkaError`.
    """
    partitions = [TopicPartition(name, lane) for name in topics.lane_inputs]
    found = await admin.list_consumer_group_offsets(group, partitions=partitions)
    if missing := set(partitions) - found.keys():
        raise OffsetsUnreadableError(
            f"no answer for {min(missing).topic}: the group's coordinator is loading or has moved"
        )
    return {partition: meta.offset for partition, meta in found.items() if meta.offset >= 0}


async def restore(kafka: Kafka, topics: Topics, lane: int, ledger: Ledger) -> None:
    """Reads the ledger partition from `ledger.next_offset` to its end.

    Reading stops at the last stable offset; only when that is the high watermark has everything been seen (an open
    transaction would otherwise hide entries, and hidden entries mean events published twice).
    Raises `LedgerUnreadableError`, `KafkaError`.
    """
    await read_whole(kafka, TopicPartition(topics.ledger, lane), ledger)


async def read_whole(kafka: Kafka, partition: TopicPartition, sink: Sink) -> None:
    """Gives `sink` everything committed in a partition from its `next_offset` to the end. Raises as `restore` does."""
    end = await _high_watermark(kafka, partition)
    if sink.next_offset >= end:
        return
    try:
        async with open_reader(kafka) as consumer:
            consumer.assign([partition])
            if sink.next_offset:
                consumer.seek(partition, sink.next_offset)
            async with asyncio.timeout(RESTORE_SECONDS):
                await _read_up_to(consumer, partition, end, sink)
    except TimeoutError:
        raise LedgerUnreadableError(
            f"{partition.topic} {partition.partition} was not read within {RESTORE_SECONDS:.0f} s"
        ) from None


async def _read_up_to(consumer: AIOKafkaConsumer, partition: TopicPartition, end: int, sink: Sink) -> None:
    loop = asyncio.get_running_loop()
    moved, position = loop.time(), -1
    while (reached := await consumer.position(partition)) < end:
        if reached != position:
            moved, position = loop.time(), reached
        elif loop.time() - moved > SILENT_SECONDS:
            raise LedgerUnreadableError(f"{partition.topic} stops at {reached} of {end}: a transaction is open")
        polled = await consumer.getmany(partition, timeout_ms=500, max_records=20_000)
        for record in polled.get(partition, ()):
            try:
                sink.load(record.key, record.value)
            except ValueError as error:
                # Somebody else wrote into the ledger; what it says is no reason to stop the calls of this lane.
                log.warning("no ledger entry", topic=record.topic, offset=record.offset, error=str(error))
    sink.next_offset = reached


async def _high_watermark(kafka: Kafka, partition: TopicPartition) -> int:
    """The end for a reader of everything, not only of what is committed."""
    reader = AIOKafkaConsumer(**client_options(kafka), group_id=None, isolation_level="read_uncommitted")
    try:
        await reader.start()
        ends = await reader.end_offsets([partition])
        return int(ends[partition])
    finally:
        await close_consumer(reader)
