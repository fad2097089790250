"""Shell: a compacted partition read whole, into whatever remembers what stands there."""

import asyncio
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from service.kafka.connect import client_options, close_consumer
from service.kafka.scan import EndUnreachable, Stretch, open_reader, scan
from service.settings import Kafka

log = structlog.get_logger()

# Some 350,000 records are read a second (kafka.md); ten minutes are far beyond anything that fits in memory.
WHOLE_SECONDS = 600.0
# Without a single new record for so long, an open transaction holds the end back: whoever reads begins again.
SILENT_SECONDS = 15.0
AT_ONCE = 20_000


class Sink(Protocol):
    """What is filled: a lane's ledger, the keeper's memory."""

    next_offset: int

    def load(self, key: bytes | None, value: bytes | None) -> None:
        """Takes one record, in order. ValueError for one that is none of its own."""


async def read_whole(kafka: Kafka, partition: TopicPartition, sink: Sink, least: int = 0) -> None:
    """Gives `sink` everything committed in a partition from its `next_offset` to the end, which is `least` or more.

    Only when the high watermark is reached has everything been seen: an open transaction would otherwise hide records.
    Raises `EndUnreachable`, `KafkaError`.
    """
    end = max(least, await _high_watermark(kafka, partition))
    if sink.next_offset >= end:
        return
    try:
        async with open_reader(kafka) as consumer, asyncio.timeout(WHOLE_SECONDS):
            stretch = Stretch(partition, sink.next_offset, end)
            async for _, records in scan(consumer, stretch, AT_ONCE, SILENT_SECONDS):
                for record in records:
                    try:
                        sink.load(record.key, record.value)
                    except ValueError as error:
                        # Somebody else wrote here; what it says is no reason to stop the calls of a lane.
                        log.warning("no ledger entry", topic=record.topic, offset=record.offset, error=str(error))
    except TimeoutError:
        raise EndUnreachable(
            f"{partition.topic} {partition.partition} was not read within {WHOLE_SECONDS:.0f} s"
        ) from None
    sink.next_offset = end


async def _high_watermark(kafka: Kafka, partition: TopicPartition) -> int:
    """The end for a reader of everything, not only of what is committed."""
    reader = AIOKafkaConsumer(**client_options(kafka), group_id=None, isolation_level="read_uncommitted")
    try:
        await reader.start()
        ends = await reader.end_offsets([partition])
        return int(ends[partition])
    finally:
        await close_consumer(reader)
