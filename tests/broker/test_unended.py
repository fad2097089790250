"""What becomes of a transaction whose owner has not lived to end it."""

from contextlib import AbstractAsyncContextManager

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ProducerFenced

from service.kafka import unended
from service.kafka.publisher import Publisher
from service.kafka.records import KafkaRecord
from service.kafka.topics import Topics
from service.lanes.restore import committed_offsets
from service.settings import Settings
from tests.broker.lane_bench import lane_publisher, make_topics, read_all, settings_for
from tests.chaos.torn import AT_ONCE, opened


class Lane:
    """Lane 0 of new topics."""

    def __init__(self, settings: Settings, topics: Topics) -> None:
        self.settings, self.topics = settings, topics
        self.input = TopicPartition(topics.notifications, 0)

    @classmethod
    async def made(cls, kafka: str, prefix: str) -> "Lane":
        """With its topics."""
        lane = cls(settings_for(kafka, prefix), Topics(prefix))
        await make_topics(lane.settings.kafka, lane.topics)
        return lane

    async def left_open(self, value: bytes, offset: int | None) -> None:
        """An owner dies when its records, and perhaps its offsets, are in Kafka and it has not asked for the commit."""
        async with self.owner() as owner:
            await owner._begin()
            await owner._send_all([KafkaRecord(self.topics.calls, 0, b"key", value, [])])
            if offset is not None:
                await owner._producer.send_offsets_to_transaction({self.input: offset}, owner.offsets_group)

    def owner(self) -> AbstractAsyncContextManager[Publisher]:
        """The next one."""
        return lane_publisher(self.settings.kafka, self.topics)

    async def published(self) -> list[bytes | None]:
        """What readers see."""
        return [one.value for one in await read_all(self.settings.kafka.bootstrap_servers, self.topics.calls, 1)]

    async def offset(self) -> int | None:
        """Where the lane goes on."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka.bootstrap_servers)
        await admin.start()
        try:
            found = await committed_offsets(admin, self.topics, 0, self.topics.lane_group)
        finally:
            await admin.close()
        return found.get(self.input)


async def test_what_was_left_complete_is_committed_by_the_next_owner(kafka: str, prefix: str) -> None:
    """Records and offsets together; nothing of it has to be done again."""
    lane = await Lane.made(kafka, prefix)
    await lane.left_open(b"complete", offset=7)
    async with lane.owner() as owner:
        assert await lane.published() == [b"complete"]
        assert await lane.offset() == 7
        await owner.commit([KafkaRecord(lane.topics.calls, 0, b"key", b"next", [])], {lane.input: 8})

    assert await lane.published() == [b"complete", b"next"]
    assert await lane.offset() == 8


async def test_what_was_left_incomplete_is_aborted(kafka: str, prefix: str) -> None:
    """No offsets in it: records may be missing."""
    lane = await Lane.made(kafka, prefix)
    await lane.left_open(b"half", offset=None)
    async with lane.owner() as owner:
        await owner.commit([KafkaRecord(lane.topics.calls, 0, b"key", b"next", [])], {lane.input: 1})

    assert await lane.published() == [b"next"]


@pytest.mark.parametrize("known", [{}, {65: (9, 9)}], ids=["no such request", "no such version"])
async def test_brokers_that_do_not_tell_abort_all_that_was_left(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch, known: dict[int, tuple[int, int]]
) -> None:
    """Kafka before 3.0 does not name the request among those that it knows."""
    prepare = unended._DescribeRequest.prepare
    monkeypatch.setattr(unended._DescribeRequest, "prepare", lambda self, _: prepare(self, known))
    lane = await Lane.made(kafka, prefix)
    await lane.left_open(b"complete", offset=7)
    async with lane.owner() as owner:
        await owner.commit([KafkaRecord(lane.topics.calls, 0, b"key", b"next", [])], {lane.input: 1})

    assert await lane.published() == [b"next"]


async def test_an_owner_that_sleeps_through_it_is_fenced_all_the_same(kafka: str, prefix: str) -> None:
    """It asks for its commit when another has had it, and for more after that."""
    lane = await Lane.made(kafka, prefix)
    async with lane.owner() as sleeper:
        await sleeper._begin()
        await sleeper._send_all([KafkaRecord(lane.topics.calls, 0, b"key", b"complete", [])])
        await sleeper._producer.send_offsets_to_transaction({lane.input: 1}, sleeper.offsets_group)
        async with lane.owner() as owner:
            with pytest.raises(ProducerFenced):
                await sleeper._producer.commit_transaction()
            await owner.commit([KafkaRecord(lane.topics.calls, 0, b"key", b"next", [])], {lane.input: 2})

    assert await lane.published() == [b"complete", b"next"]


async def test_a_coordinator_that_is_killed_and_back_at_once_tears_nothing(kafka_packages: None) -> None:
    """The commit was in its own log alone; aborted by the next owner it would be in some partitions only."""
    async with opened() as torn:
        found = await torn.round("complete", AT_ONCE, has_offsets=True)

    assert set(found) == {True}
