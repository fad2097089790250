"""Shell: the ends of partitions, and some of their records: read without a group, nothing committed."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from service.doctor.case import Bounds, Case
from service.kafka.connect import client_options, close_consumer
from service.settings import Kafka

SECONDS = 8.0
POLL_MS = 300
AT_ONCE = 500


async def bounds(case: Case) -> dict[TopicPartition, Bounds]:
    """Of every partition of ours, asked for once: what comes while the doctor looks is not waited for.

    Raises `KafkaError`.
    """
    if case.bounds is None:
        partitions = [
            TopicPartition(spec.name, number)
            for spec in case.topics.specs(case.settings.kafka.partitions)
            for number in range(spec.partitions)
        ]
        case.bounds = await _bounds(case.settings.kafka, partitions)
    return case.bounds


async def _bounds(kafka: Kafka, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Bounds]:
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
