"""A broker that takes its readers back, as one does that was frozen and has not heard yet that another leads."""

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition

from service.clock import Clock
from service.kafka.forward import Forward, WentBackError
from service.kafka.scan import Stretch, open_reader, scan
from service.kafka.topics import Topics
from service.lanes.intake import Intake, open_intake
from tests.broker.lane_bench import make_topics, settings_for

RECORDS = 6
DELAYS = (60.0, 600.0, 3600.0)
PLACE = TopicPartition("topic", 0)


def test_what_has_been_read_is_not_read_again() -> None:
    """Gaps are nothing: compaction and the ends of transactions leave them. Each partition stands by itself."""
    forward = Forward()
    for offset in (3, 4, 9):
        forward.read(PLACE, offset)
    forward.stands(PLACE, 10)
    forward.read(TopicPartition("topic", 1), 0)

    for offset in (0, 9):
        with pytest.raises(WentBackError, match=f"topic 0 went back from 10 to {offset}"):
            forward.stands(PLACE, offset)
        with pytest.raises(WentBackError):
            forward.read(PLACE, offset)


async def filled(kafka: str, topic: str) -> None:
    """A few records in partition 0."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        for number in range(RECORDS):
            await producer.send_and_wait(topic, b"%d" % number, key=b"%d" % number, partition=0)


@pytest.mark.parametrize("begin", [0, 3])
async def test_a_scan_that_is_taken_back_gives_nothing_twice(kafka: str, prefix: str, begin: int) -> None:
    """From its beginning too: what lies before that is none of its own. A ledger would believe what was once."""
    settings, topics, seen = settings_for(kafka, prefix), Topics(prefix), []
    await make_topics(settings.kafka, topics)
    await filled(kafka, topics.ledger)
    place = TopicPartition(topics.ledger, 0)
    async with open_reader(settings.kafka) as consumer:

        async def read() -> None:
            async for _, records in scan(consumer, Stretch(place, begin, RECORDS), most=2):
                seen.extend(record.offset for record in records)
                if len(seen) >= 2:
                    consumer.seek(place, 0)

        with pytest.raises(WentBackError):
            await read()

    assert seen == [begin, begin + 1]


async def test_a_lane_that_is_taken_back_takes_nothing_twice(kafka: str, prefix: str) -> None:
    """Neither an item nor a position to commit: it is opened again where it was committed."""
    settings, topics = settings_for(kafka, prefix), Topics(prefix)
    await make_topics(settings.kafka, topics)
    await filled(kafka, topics.notifications)
    place = TopicPartition(topics.notifications, 0)
    async with open_intake(settings.kafka, topics, 0, {place: 2}, Clock(), 10, DELAYS) as intake:
        taken: list[int] = []
        while len(taken) < RECORDS - 2:
            await intake.wait(1.0)
            taken += [item.offset for item in await intake.take(10)]
        positions = await intake.positions()
        intake._consumer.seek(place, 0)
        with pytest.raises(WentBackError):
            await intake.positions()
        with pytest.raises(WentBackError):
            await polled(intake)

    assert taken == [2, 3, 4, 5]
    assert positions[place] == RECORDS


async def polled(intake: Intake) -> None:
    """Until something comes of it."""
    while True:
        await intake.wait(1.0)
