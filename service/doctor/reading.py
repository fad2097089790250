"""Shell: the ends of partitions, and some of their records: read without a group, nothing committed."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from service.settings import Kafka
from service.stream.connect import client_options, close_consumer

SECONDS = 8.0
POLL_MS = 300
AT_ONCE = 500


@dataclass(frozen=True)
class Bounds:
    """Offsets of one partition."""

    first: int
    stable: int
    """Where a read_committed reader stops: below `end` while a transaction is open."""
    end: int


async def bounds(kafka: Kafka, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Bounds]:
    """Of each partition. Raises `KafkaError`."""
    async with _consumer(kafka, committed=True) as committed, _consumer(kafka, committed=False) as everything:
        firsts, stables, ends = await asyncio.gather(
            everything.beginning_offsets(partitions),
            committed.end_offsets(partitions),
            everything.end_offsets(partitions),
        )
    return {one: Bounds(firsts[one], stables[one], ends[one]) for one in partitions}


async def read(
    kafka: Kafka, spans: Mapping[TopicPartition, tuple[int, int]], most: int, *, committed: bool = True
) -> dict[TopicPartition, list[ConsumerRecord]]:
    """Up to `most` records of each span [start, stop), as many as `SECONDS` allow. Raises `KafkaError`."""
    found: dict[TopicPartition, list[ConsumerRecord]] = {one: [] for one in spans}
    waiting = {one for one, (start, stop) in spans.items() if start < stop}
    if not waiting:
        return found
    async with _consumer(kafka, committed=committed) as consumer:
        consumer.assign(list(waiting))
        for one in waiting:
            consumer.seek(one, spans[one][0])
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + SECONDS
        while waiting and loop.time() < ends_at:
            polled = await consumer.getmany(*waiting, timeout_ms=POLL_MS, max_records=AT_ONCE)
            for one, records in polled.items():
                found[one] += [record for record in records if record.offset < spans[one][1]]
            for one in list(waiting):
                if len(found[one]) >= most or await consumer.position(one) >= spans[one][1]:
                    waiting.discard(one)
                    consumer.pause(one)
    return {one: records[:most] for one, records in found.items()}


@asynccontextmanager
async def _consumer(kafka: Kafka, *, committed: bool) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed" if committed else "read_uncommitted",
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await close_consumer(consumer)
