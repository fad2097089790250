"""Requests that are handled after their sender has given them up: none of them touches the transaction that came next.

A client whose connection ends asks again, and so do brokers among themselves; the first request may be handled all the
same, later (KIP-890). Without an epoch for each transaction both show what the suite's chaos run had once shown: events
twice, their summaries and ledger entries once. The last parameter of these tests is that build.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from service.embedded import embedded_kafka
from service.kafka import publisher as publishing
from service.kafka.epochs import EpochRequest, NoEpochError, take_next_epoch
from service.kafka.publisher import Publisher
from service.kafka.records import KafkaRecord
from service.kafka.topics import Topics
from service.settings import Settings
from tests.broker.lane_bench import lane_publisher, make_topics, read_all, settings_for
from tests.chaos.late_frames import END_TXN, INIT_PRODUCER_ID, PRODUCE, WRITE_TXN_MARKERS, Late

SECONDS = 60.0
INVALID_PRODUCER_EPOCH = 47
LAST_EPOCH = 2**15 - 2  # org.apache.kafka: isEpochExhausted


@dataclass
class Play:
    """Brokers behind a proxy that can keep a request back."""

    late: Late
    settings: Settings
    topics: Topics

    @property
    def events(self) -> str:
        """The topic that is written to."""
        return self.topics.streams["audio"]

    def publisher(self) -> AbstractAsyncContextManager[Publisher]:
        """That of lane 0."""
        return lane_publisher(self.settings.kafka, self.topics)

    async def published(self) -> list[bytes]:
        """What readers see."""
        records = await read_all(self.settings.kafka.bootstrap_servers, self.events, 1)
        return [record.value for record in records]

    def records(self, *values: bytes) -> list[KafkaRecord]:
        """Events for lane 0."""
        return [KafkaRecord(self.events, 0, b"key", value, []) for value in values]


@asynccontextmanager
async def played(brokers: int, prefix: str) -> AsyncIterator[Play]:
    """New brokers, because the proxy stands before every listener; topics are made."""
    late = Late()
    try:
        async with embedded_kafka(brokers, advertise=late.front) as cluster, asyncio.timeout(SECONDS):
            settings, topics = settings_for(cluster.bootstrap_servers, prefix), Topics(prefix)
            play = Play(late, settings, topics)
            await make_topics(settings.kafka, topics)
            yield play
    finally:
        await late.close()


async def shared(producer: AIOKafkaProducer) -> None:
    """A build in which the epoch stays what it was."""


@pytest.mark.parametrize("build", [take_next_epoch, shared])
@pytest.mark.parametrize(("what", "brokers"), [(END_TXN, 1), (WRITE_TXN_MARKERS, 3)], ids=["commit", "marker"])
async def test_the_end_of_the_transaction_before_comes_during_the_next(
    kafka_packages: None, prefix: str, monkeypatch: pytest.MonkeyPatch, what: int, brokers: int, build: object
) -> None:
    """From the client to the coordinator, or from the coordinator to a partition; it would commit what is half done."""
    monkeypatch.setattr(publishing, "take_next_epoch", build)
    async with played(brokers, prefix) as play:
        async with play.publisher() as publisher:
            play.late.keep_next(what, holding=prefix.encode())
            await publisher.commit(play.records(b"before"), {})
            await play.late.kept()
            await publisher._begin()
            await publisher._send_all(play.records(b"half"))
            answer = await play.late.deliver()
            # The process dies here.
        async with play.publisher() as publisher:
            await publisher.commit(play.records(b"half", b"whole"), {})
        published = await play.published()

    if build is shared:
        assert published == [b"before", b"half", b"half", b"whole"]
    else:
        assert published == [b"before", b"half", b"whole"]
        assert INVALID_PRODUCER_EPOCH.to_bytes(2, "big") in answer


async def test_the_transaction_goes_on_when_the_end_of_the_one_before_comes_late(
    kafka_packages: None, prefix: str
) -> None:
    """The lane notices nothing."""
    async with played(1, prefix) as play, play.publisher() as publisher:
        play.late.keep_next(END_TXN)
        await publisher.commit(play.records(b"before"), {})
        await publisher._begin()
        await publisher._send_all(play.records(b"half"))
        await play.late.deliver()
        await publisher._send_all(play.records(b"whole"))
        await publisher._producer.commit_transaction()
        await publisher.commit(play.records(b"after"), {TopicPartition(play.topics.notifications, 0): 0})

        assert await play.published() == [b"before", b"half", b"whole", b"after"]


@pytest.mark.parametrize("whose", ["the same producer's", "the next owner's"])
async def test_records_of_the_transaction_before_come_during_the_next(
    kafka_packages: None, prefix: str, whose: str
) -> None:
    """They have been sent again and are there; the copy is taken neither into the transaction nor after it."""
    async with played(1, prefix) as play, play.publisher() as first:
        play.late.keep_next(PRODUCE, holding=play.events.encode())
        await first.commit(play.records(b"before"), {})
        await play.late.kept()
        # Asked for later than the next owner begins, on a busy machine, it would end what that one has begun.
        assert first._next_epoch is not None
        await first._next_epoch
        async with AsyncExitStack() as stack:
            publisher = first if whose == "the same producer's" else await stack.enter_async_context(play.publisher())
            await publisher._begin()
            await publisher._send_all(play.records(b"half"))
            await play.late.deliver()
            await publisher._send_all(play.records(b"whole"))
            await publisher._producer.commit_transaction()

        assert await play.published() == [b"before", b"half", b"whole"]


async def test_an_epoch_whose_answer_was_lost_is_asked_for_again(kafka_packages: None, prefix: str) -> None:
    """And when the first request is handled during the transaction, that ends, as a whole."""
    async with played(1, prefix) as play:
        async with play.publisher() as publisher:
            await publisher.commit(play.records(b"before"), {})
            play.late.keep_next(INIT_PRODUCER_ID)
            await publisher.commit(play.records(b"asked again"), {})
            play.late.keep_next(INIT_PRODUCER_ID)
            await publisher._begin()
            await publisher._send_all(play.records(b"aborted"))
            await play.late.deliver()
            with pytest.raises(KafkaError):
                await publisher._producer.commit_transaction()
        async with play.publisher() as publisher:
            await publisher.commit(play.records(b"after"), {})

        assert await play.published() == [b"before", b"asked again", b"after"]


async def test_epochs_that_run_out_go_on_under_another_producer_id(kafka: str, prefix: str) -> None:
    """There are 32,767 of them, and a lane uses one for each transaction: a few hours' worth."""
    play = Play(Late(), settings_for(kafka, prefix), Topics(prefix))
    await make_topics(play.settings.kafka, play.topics)
    written = []
    async with play.publisher() as publisher:
        held = publisher._producer._txn_manager
        first = held.producer_id
        while held.producer_epoch < LAST_EPOCH - 2:  # each takes a third of a millisecond
            await take_next_epoch(publisher._producer)
        for number in range(6):
            written.append(b"%d" % number)
            await publisher.commit(play.records(written[-1]), {})

        assert held.producer_id != first
    assert await play.published() == written


@pytest.mark.parametrize("asleep", ["between transactions", "before it had its next epoch"])
async def test_who_has_lost_the_lane_cannot_have_it_back(kafka: str, prefix: str, asleep: str) -> None:
    """Woken, it goes on as if nothing had been and is fenced; the new owner's transaction is whole, or not there."""
    play = Play(Late(), settings_for(kafka, prefix), Topics(prefix))
    await make_topics(play.settings.kafka, play.topics)
    async with play.publisher() as sleeper:
        await sleeper.commit(play.records(b"its own"), {})
        assert sleeper._next_epoch is not None
        if asleep == "between transactions":
            await sleeper._next_epoch
        else:
            await sleeper.close()
        async with play.publisher() as owner:
            await owner.commit(play.records(b"one"), {})
            await owner._begin()
            await owner._send_all(play.records(b"two"))
            if asleep == "between transactions":
                with pytest.raises(ProducerFenced):
                    await sleeper.commit(play.records(b"stolen"), {})
                await owner._producer.commit_transaction()
            else:
                with pytest.raises(ProducerFenced):
                    await take_next_epoch(sleeper._producer)
                with pytest.raises(ProducerFenced):
                    await owner._producer.commit_transaction()

    assert await play.published() == [b"its own", b"one", *([b"two"] if asleep == "between transactions" else [])]


async def test_brokers_that_know_no_such_request_are_told_apart(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka before 2.5; the sentence names the way out."""
    play = Play(Late(), settings_for(kafka, prefix), Topics(prefix))
    prepare = EpochRequest.prepare
    monkeypatch.setattr(EpochRequest, "prepare", lambda self, _: prepare(self, {22: (0, 2)}))
    async with play.publisher() as publisher:
        await publisher.commit([], {})
        with pytest.raises(NoEpochError, match=r"Kafka 2\.5 or later.*at-least-once"):
            await publisher.commit([], {})


async def test_a_producer_is_closed_though_its_lane_is_stopped_a_second_time(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While what goes on beside it is being ended; a sender that nobody watches would go on for ever."""

    async def reluctant(_: AIOKafkaProducer) -> None:
        try:
            await asyncio.sleep(SECONDS)
        finally:
            await asyncio.sleep(0.3)

    monkeypatch.setattr(publishing, "take_next_epoch", reluctant)
    play = Play(Late(), settings_for(kafka, prefix), Topics(prefix))
    opened: list[Publisher] = []

    async def work() -> None:
        async with play.publisher() as publisher:
            opened.append(publisher)
            await publisher.commit([], {})
            await asyncio.sleep(0)  # it goes on beside

    lane = asyncio.create_task(work())
    async with asyncio.timeout(SECONDS):
        while not (opened and opened[0]._next_epoch and opened[0]._next_epoch.cancelling()):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
    lane.cancel()
    await asyncio.wait({lane})

    assert lane.cancelled()
    assert opened[0]._producer._closed
