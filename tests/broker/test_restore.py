"""What a lane reads before it works: all of its ledger, whatever a broker takes for the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from service.kafka.publisher import Publisher
from service.kafka.records import KafkaRecord
from service.kafka.topics import Topics
from service.kafka.whole import read_whole
from service.lanes.ledger import Entry, Ledger, ledger_key
from service.lanes.restore import restore
from service.settings import Settings
from tests.broker.lane_bench import (
    TENANT,
    call_id,
    eventually,
    high_watermarks,
    lane_publisher,
    make_topics,
    read_all,
    settings_for,
)


@asynccontextmanager
async def opened(settings: Settings, topics: Topics) -> AsyncIterator[Publisher]:
    """The publisher of lane 0, with its topics made."""
    await make_topics(settings.kafka, topics)
    async with lane_publisher(settings.kafka, topics) as publisher:
        yield publisher


def entry(topics: Topics, name: str) -> KafkaRecord:
    """Version 1 of a call is published; whichever lane that is by right."""
    return KafkaRecord(topics.ledger, 0, ledger_key(TENANT, call_id(name)), Entry(1).encode(), [])


async def test_the_ledger_is_read_up_to_the_mark_though_a_broker_names_an_earlier_end(kafka: str, prefix: str) -> None:
    """As one does that was frozen and has just woken up; to read less would publish events twice."""
    settings, topics, ledger = settings_for(kafka, prefix), Topics(prefix), Ledger()
    async with opened(settings, topics) as publisher:
        await publisher.commit([entry(topics, "first")], {})
        # An entry and the end of its transaction each; what is wanted stands two further.
        reading = asyncio.create_task(read_whole(settings.kafka, TopicPartition(topics.ledger, 0), ledger, least=4))

        async def has_read_the_first() -> bool:
            return len(ledger) == 1

        await eventually(has_read_the_first, "everything up to the end that the broker names is read")
        assert not reading.done()
        await publisher.commit([entry(topics, "second")], {})
        await reading

    assert len(ledger) == 2
    assert ledger.next_offset == 4


async def test_a_mark_is_read_past_and_seen_by_nobody(kafka: str, prefix: str) -> None:
    """Each time that a lane opens, in each partition that it writes; the ledger holds what it held."""
    settings, topics = settings_for(kafka, prefix), Topics(prefix)
    async with opened(settings, topics) as publisher:
        await publisher.commit([entry(topics, "call")], {})
        ledgers = [Ledger(), Ledger()]
        for ledger in ledgers:
            await restore(settings.kafka, topics, 0, ledger, publisher)
        await publisher.commit([entry(topics, "another")], {})
        found = await read_all(kafka, topics.ledger, 1)
        beside = [len(await read_all(kafka, topic, 1)) for topic in topics.lane_outputs if topic != topics.ledger]
        marked = [TopicPartition(topic, 0) for topic in topics.lane_outputs if topic != topics.ledger]

        async def two_marks_have_ended() -> bool:
            return set((await high_watermarks(kafka, marked)).values()) == {4}

        await eventually(two_marks_have_ended, "two marks and the ends of their transactions")

    assert [len(ledger) for ledger in ledgers] == [1, 1]
    assert ledgers[0].next_offset < ledgers[1].next_offset
    assert [record.key for record in found] == [entry(topics, name).key for name in ("call", "another")]
    assert beside == [0] * 8


async def test_what_an_earlier_owner_still_has_under_way_is_refused_after_a_mark(kafka: str, prefix: str) -> None:
    """It would be taken into the next transaction, and committed with it."""
    settings, topics = settings_for(kafka, prefix), Topics(prefix)
    async with opened(settings, topics) as earlier:
        await earlier._producer.begin_transaction()
        await earlier._producer.send_and_wait(topics.calls, b"late", key=b"k", partition=0)
        async with opened(settings, topics) as publisher:
            await restore(settings.kafka, topics, 0, Ledger(), publisher)
            with pytest.raises(KafkaError):
                await earlier._producer.send_and_wait(topics.streams["audio"], b"late", key=b"k", partition=0)
            await publisher.commit(
                [KafkaRecord(topics.streams["audio"], 0, b"k", b"event", []), entry(topics, "call")], {}
            )
        found = [
            record.value
            for topic in (topics.calls, topics.streams["audio"])
            for record in await read_all(kafka, topic, 1)
        ]

    assert found == [b"event"]
