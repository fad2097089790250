"""Reads what the pipelines published: a benchmark of a pipeline that drops or repeats work would be worth nothing."""

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

Position = str
"""`{call}/{version}/{session}.{segment}.{media}.{stream}`, by index."""


class _NaiveEvent(msgspec.Struct):
    """What the position of a naive event takes."""

    call_id: str = msgspec.field(name="callId")
    version: int
    session: int = msgspec.field(name="session.index")
    segment: int = msgspec.field(name="segment.index")
    media: int = msgspec.field(name="media.index")
    stream: int = msgspec.field(name="stream.index")


_naive = msgspec.json.Decoder(_NaiveEvent)


def position_of_ours(record: ConsumerRecord) -> Position:
    """From the CloudEvents id, `{tenant}/{call}/{version}/…`."""
    event_id: bytes = dict(record.headers)["ce_id"]
    return event_id.decode().partition("/")[2]


def position_of_naive(record: ConsumerRecord) -> Position:
    """From the event itself."""
    event = _naive.decode(record.value)
    places = (event.session, event.segment, event.media, event.stream)
    return f"{event.call_id.lower()}/{event.version}/{'.'.join(map(str, places))}"


async def positions(
    servers: str, topics: Iterable[str], partitions: int, position: Callable[[ConsumerRecord], Position]
) -> Counter[Position]:
    """How often each position is committed in these topics, of `partitions` partitions each."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=None, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    found: Counter[Position] = Counter()
    async with consumer:
        left = {TopicPartition(topic, number) for topic in topics for number in range(partitions)}
        consumer.assign(list(left))
        ends = await consumer.end_offsets(list(left))
        while left:
            polled = await consumer.getmany(*left, timeout_ms=200, max_records=5000)
            for records in polled.values():
                found.update(map(position, records))
            # A transaction's marker takes an offset too, so the position tells, not the last record.
            left = {partition for partition in left if await consumer.position(partition) < ends[partition]}
    return found


def difference(expected: Counter[Position], found: Counter[Position]) -> str | None:
    """What is missing, too much or there twice, in words; None when the two hold the same positions, each once."""
    missing = expected.keys() - found.keys()
    extra = found.keys() - expected.keys()
    repeated = [position for position, count in found.items() if count > 1]
    parts = [
        f"{len(group)} {what} (for instance {min(group)})"
        for what, group in (("missing", missing), ("not expected", extra), ("more than once", repeated))
        if group
    ]
    return ", ".join(parts) or None
