"""The archive shaped again under another prefix, on a real broker: the same bytes, once each, also after a kill."""

import asyncio
import gc
import json
import os
import random
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaConnectionError

from service.cli.common import moment
from service.errors import UserError
from service.graph.client import Fetched
from service.kafka.connect import close_consumer
from service.kafka.delivery import open_publisher
from service.kafka.topics import Topics
from service.lanes.archived import Parts
from service.lanes.policy import ShapedRecord
from service.lanes.shaping import policy_in_force, shape
from service.record.archive import Pages
from service.record.decode import decode_record
from service.record.personal import CLASSES
from service.replay import Selection, Tally, replay
from service.settings import Privacy, Raw, Secret, Settings
from tests.broker.lane_bench import (
    PARTITIONS,
    TENANT,
    Bench,
    bench,
    call_id,
    eventually,
    make_topics,
    notice,
    read_all,
    settings_for,
)
from tests.core.test_privacy import RECORD

HASHED = Privacy(preset="open", keys={"1": Secret("k" * 32)}, **dict.fromkeys(CLASSES, "hash"))  # type: ignore[arg-type]
EVERYTHING = Selection()


def raw_settings(servers: str, prefix: str, privacy: Privacy | None = None) -> Settings:
    """Three lanes that archive."""
    return settings_for(servers, prefix, raw=Raw(enabled=True), privacy=privacy or Privacy())


async def version_of(name: str, version: int, settings: Settings, **more: Any) -> ShapedRecord:
    """A full record as the service shapes and archives it."""
    body = json.dumps({**RECORD, "id": call_id(name), "version": version, **more}).encode()
    record, odd = decode_record(body)
    fetched = Fetched(record, odd, 1, len(body), Pages(record=body))
    return await shape(TENANT, fetched, f"2026-11-{version:02}T10:00:00Z", policy_in_force(settings.privacy))


@asynccontextmanager
async def archived(settings: Settings, calls: int, **more: Any) -> AsyncIterator[Bench]:
    """A worker that has published and archived so many calls, the first of them in two versions."""
    async with bench(settings) as lanes:
        for number in range(calls):
            lanes.graph.say(f"c{number}", await version_of(f"c{number}", 1, settings, **more))
        await lanes.put(*[notice(f"c{number}") for number in range(calls)])
        await eventually(lambda: _published(lanes, calls), "the calls are published")
        lanes.graph.say("c0", await version_of("c0", 2, settings))
        await lanes.put(notice("c0"))
        await eventually(lambda: _published(lanes, calls + 1), "the newer version is published")
        yield lanes


async def _published(lanes: Bench, count: int) -> bool:
    return len(await lanes.read(lanes.topics.calls)) >= count


def nothing(_: Tally) -> None:
    """Whoever listens to no progress."""


Told = list[tuple[int, bytes, bytes, tuple[tuple[str, bytes], ...]]]


async def told(servers: str, topics: Topics) -> dict[str, Told]:
    """What a consumer sees of a deployment: partition, key, value and headers by kind of topic, in order."""
    kinds = {**topics.streams, "calls": topics.calls}
    return {kind: [_told(one) for one in await read_all(servers, topic, PARTITIONS)] for kind, topic in kinds.items()}


def _told(record: ConsumerRecord) -> tuple[int, bytes, bytes, tuple[tuple[str, bytes], ...]]:
    return record.partition, record.key, record.value, tuple(record.headers)


@pytest.mark.parametrize("privacy", [Privacy(), Privacy(preset="reduced"), HASHED], ids=["open", "reduced", "hashed"])
async def test_what_is_shaped_again_is_equal_byte_for_byte(kafka: str, prefix: str, privacy: Privacy) -> None:
    """Values, keys, partitions, order and headers; and once more changes nothing."""
    settings = raw_settings(kafka, prefix, privacy)
    async with archived(settings, 5):
        pass
    tally = await replay(settings, f"{prefix}-again", EVERYTHING, nothing)
    first = await told(kafka, Topics(f"{prefix}-again"))
    again = await replay(settings, f"{prefix}-again", EVERYTHING, nothing)

    assert (tally.published, tally.events, tally.known, tally.unreadable) == (6, 12, 0, 0)
    assert (tally.done, tally.lanes_done) == (tally.total, PARTITIONS)
    assert first == await told(kafka, Topics(prefix))
    assert (again.published, again.known) == (0, 6)
    assert first == await told(kafka, Topics(f"{prefix}-again"))


async def test_a_large_record_travels_in_parts(kafka: str, prefix: str) -> None:
    """More than one Kafka record takes, also for an archive whose topic takes less than usual."""
    settings = raw_settings(kafka, prefix, Privacy(preset="open"))
    noise = random.Random(1).randbytes(1_500_000).hex()
    async with archived(settings, 2, newProperty=noise) as lanes:
        raw = await lanes.read(f"{prefix}.raw")
        counts = {int(dict(record.headers)["parts"]) for record in raw}
        size = max(len(record.value) for record in raw)
    tally = await replay(settings, f"{prefix}-again", EVERYTHING, nothing)

    assert max(counts) > 3
    assert size <= 400 * 1024
    assert tally.published == 3
    assert await told(kafka, Topics(f"{prefix}-again")) == await told(kafka, Topics(prefix))


async def test_a_replay_that_was_killed_goes_on_and_publishes_each_once(kafka: str, prefix: str) -> None:
    """SIGKILL between its first transaction and its last."""
    settings = raw_settings(kafka, prefix)
    target = f"{prefix}-again"
    async with archived(settings, 60):
        pass
    await make_topics(settings.kafka, Topics(target, settings.retry.delays))
    environment = {
        **os.environ,
        "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix,
        "CALLSTREAM_LANES__BATCH_NOTIFICATIONS": "1",
        "CALLSTREAM_RETRY__DELAYS": "1s,2s",
    }
    command = (sys.executable, "-m", "service", "replay", "--from-raw", "--prefix", target)
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    await _seen(kafka, Topics(target).calls)
    process.kill()
    await process.wait()
    before = len(await read_all(kafka, Topics(target).calls, PARTITIONS))
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()

    assert 0 < before < 61
    assert process.returncode == 0
    assert out.decode() == (
        f"{61 - before:,} versions with {2 * (61 - before):,} events are published under {target}; "
        f"{before:,} were there already.\n"
    )
    assert await told(kafka, Topics(target)) == await told(kafka, Topics(prefix))


async def _seen(servers: str, topic: str) -> None:
    """Returns at the first committed record."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        await consumer.getone()
    finally:
        await close_consumer(consumer)


async def test_only_what_was_selected_is_shaped(kafka: str, prefix: str) -> None:
    """By the time of the fetch, from inclusive, to exclusive, and by tenant."""
    settings = raw_settings(kafka, prefix)
    async with archived(settings, 3):
        pass
    second = Selection(since=moment("2026-11-02T10:00:00Z", "--from"), until=moment("2026-11-03", "--to"))
    stranger = Selection(tenant_id="00000000-0000-4000-8000-000000000000")
    tally = await replay(settings, f"{prefix}-b", second, nothing)
    nobody = await replay(settings, f"{prefix}-c", stranger, nothing)

    assert (tally.published, tally.passed_over) == (1, 3)
    assert (nobody.published, nobody.passed_over) == (0, 4)


async def test_the_policy_in_force_holds_for_what_is_shaped_again(kafka: str, prefix: str) -> None:
    """What the archive has is hidden as it would be today; what it lacks cannot come back."""
    settings = raw_settings(kafka, prefix, Privacy(preset="open"))
    async with archived(settings, 1):
        pass
    stricter = msgspec.structs.replace(settings, privacy=Privacy(preset="strict"))
    await replay(stricter, f"{prefix}-again", EVERYTHING, nothing)

    everything = json.dumps([str(one) for one in (await told(kafka, Topics(f"{prefix}-again"))).values()])
    assert "sentinel" not in everything
    assert TENANT in everything


async def test_mistakes_are_one_sentence(kafka: str, prefix: str) -> None:
    """The same prefix, no archive, an empty one, topics that do not fit."""
    settings = raw_settings(kafka, prefix)
    with pytest.raises(UserError, match="must be another one"):
        await replay(settings, prefix, EVERYTHING, nothing)
    with pytest.raises(UserError, match=f"topic {prefix}.raw does not exist"):
        await replay(settings, f"{prefix}-again", EVERYTHING, nothing)
    await make_topics(settings.kafka, Topics.of(settings))
    with pytest.raises(UserError, match="There is nothing"):
        await replay(settings, f"{prefix}-again", EVERYTHING, nothing)
    async with archived(settings, 1):
        pass
    more = msgspec.structs.replace(settings.kafka, topic_prefix=f"{prefix}-other", partitions=PARTITIONS + 1)
    await make_topics(more, Topics(f"{prefix}-other", settings.retry.delays))
    with pytest.raises(UserError, match="has 4 partitions where 3 are needed"):
        await replay(settings, f"{prefix}-other", EVERYTHING, nothing)


async def test_a_replay_that_is_fenced_says_who_may_be_the_other(kafka: str, prefix: str) -> None:
    """A service with the new prefix owns its lanes; the two must not take turns."""
    settings, target = raw_settings(kafka, prefix), Topics(f"{prefix}-again")
    async with archived(settings, 3):
        pass

    async def fence(lane: int) -> None:
        async with open_publisher(settings.kafka, target, target.transactional_id(lane), target.lane_group):
            pass

    def tell(tally: Tally) -> None:
        """Told before the lane's commit, and waited for: the other opens the lane just then."""
        other = threading.Thread(target=lambda: asyncio.run(fence(tally.lanes_done)))
        other.start()
        other.join()

    with pytest.raises(UserError, match="Somebody else works lane"):
        await replay(settings, target.prefix, EVERYTHING, tell)
    # aiokafka leaves a future that nobody awaits; it reports itself when it is collected, so not in another test.
    gc.collect()


async def test_what_a_replay_left_complete_is_committed_by_the_next(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aborted, it might be there in some partitions all the same: in the ledger, say, and not among the events."""
    settings = raw_settings(kafka, prefix)
    async with archived(settings, 3):
        pass

    async def dies(_: AIOKafkaProducer) -> None:
        raise KafkaConnectionError("the process has died")

    with monkeypatch.context() as dying:
        dying.setattr(AIOKafkaProducer, "commit_transaction", dies)
        with pytest.raises(KafkaConnectionError):
            await replay(settings, f"{prefix}-again", EVERYTHING, nothing)
    tally = await replay(settings, f"{prefix}-again", EVERYTHING, nothing)

    assert tally.known >= 1
    assert tally.known + tally.published == 4
    assert await told(kafka, Topics(f"{prefix}-again")) == await told(kafka, Topics(prefix))


def test_parts_that_retention_has_taken_are_counted_not_guessed_at() -> None:
    """The first part gone, another version begun, a record without headers."""
    parts = Parts()

    def part(number: int, of: int, version: int = 1, key: bytes = f"{TENANT}/{call_id('a')}".encode()) -> Any:
        numbers = {"part": number, "parts": of, "version": version}
        headers = [(name, b"%d" % value) for name, value in numbers.items()]
        return _Record(key, b"x", [*headers, ("notified", b"n"), ("fetched", b"f")])

    assert parts.add(part(2, 3)) is None
    assert parts.add(part(3, 3)) is None
    assert parts.broken == 1
    assert parts.add(part(1, 2, version=2)) is None
    whole = parts.add(part(2, 2, version=2))
    assert whole is not None
    assert (whole.version, whole.value, whole.call_id) == (2, b"xx", call_id("a"))
    assert parts.add(_Record(b"k", b"v", [])) is None
    assert parts.broken == 2


class _Record:
    def __init__(self, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        self.key, self.value, self.headers = key, value, headers
