"""The lanes' promises, on a real broker, with a scripted Graph."""

import asyncio
import base64
import dataclasses
import os
from collections.abc import Sequence

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from service.clock import Clock, iso
from service.errors import GraphUnavailable, NotACallRecord, RecordNotFound, TenantMustWait, UserError
from service.graph.client import Progress
from service.kafka import limits
from service.kafka.scan import open_admin
from service.kafka.topics import LEDGER_DAYS, Topics, message_limits, partition_of
from service.lanes import worker
from service.lanes.policy import ShapedRecord
from service.lanes.restore import OffsetsUnreadableError, committed_offsets
from service.notification import Notification
from service.settings import Graph, Kafka, Lanes, Retry, Tenant
from tests.broker.lane_bench import (
    PARTITIONS,
    TENANT,
    Bench,
    ScriptedGraph,
    bench,
    call_id,
    eventually,
    header,
    lane_publisher,
    make_topics,
    notice,
    set_limit,
    settings_for,
    shaped,
    text,
)

# The least that a process with all lanes may be given.
BUDGET = 10


async def test_a_notification_becomes_its_events_its_summary_and_its_ledger_entry(kafka: str, prefix: str) -> None:
    """Every event of the version, one summary, in the call's own partition, with CloudEvents headers."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", shaped("a", 1, events=5))
        note = notice("a")
        await lanes.put(note)
        await eventually(lambda: _published(lanes, 1), "the call is published")
        events = await lanes.read(lanes.topics.streams["audio"])
        [summary] = await lanes.read(lanes.topics.calls)
        [entry] = await lanes.read(lanes.topics.ledger)

    assert len(events) == 5
    assert {event.partition for event in events} == {partition_of(note.key, PARTITIONS)} == {summary.partition}
    assert [text(event, "ce_id") for event in events] == [f"{note.tenant_id}/{note.call_id}/1/{i}" for i in range(5)]
    assert text(events[0], "ce_type") == "callstream.stream.v1"
    assert text(summary, "ce_type") == "callstream.call.v1"
    assert text(summary, "ce_subject") == note.call_id
    assert len(entry.key) == 32


async def test_ten_notices_of_one_version_publish_it_once(kafka: str, prefix: str) -> None:
    """Duplicates are normal: they are merged, or found in the ledger, and looked at once more for a stale read."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", shaped("a", 1))
        await lanes.put(*[notice("a") for _ in range(10)])
        await eventually(lambda: _published(lanes, 1), "the call is published")
        await lanes.put(notice("a"))
        await eventually(lambda: _skipped(lanes, "published", 1), "the second look found nothing new")
        versions = await lanes.versions()

    assert versions == [(call_id("a"), 1)]


async def test_a_newer_version_follows_and_an_older_one_never_does(kafka: str, prefix: str) -> None:
    """Graph may show an older version for a moment; what is published stays the newest."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", shaped("a", 2), shaped("a", 1), shaped("a", 3), shaped("a", 3))
        for version in (2, 2, 3):
            await lanes.put(notice("a"))
            looks = lanes.graph.looks_at("a")
            await eventually(lambda looks=looks: _looked(lanes.graph, "a", looks + 1), f"looked for {version}")
        await eventually(lambda: _published(lanes, 2), "versions 2 and 3 are published")
        versions = [version for _, version in await lanes.versions()]

    assert versions == [2, 3]


async def test_a_record_that_is_not_ready_is_published_when_it_is(kafka: str, prefix: str) -> None:
    """404 twice, each followed by a retry tier, then the record."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", RecordNotFound("not yet"), RecordNotFound("not yet"), shaped("a", 1))
        await lanes.put(notice("a"))
        await eventually(lambda: _published(lanes, 1), "the call is published")
        retried = [len(await lanes.read(name)) for name in lanes.topics.retry]

    assert retried == [1, 1]
    assert lanes.metrics.retried.labels("not_found")._value.get() == 2


async def test_an_old_notification_of_a_record_that_is_gone_is_a_dead_letter(kafka: str, prefix: str) -> None:
    """404 beyond `not_ready_hours`: gone, not late."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", RecordNotFound("gone"))
        await lanes.put(notice("a", received_at="2020-01-01T00:00:00Z"))
        await eventually(lambda: _dead(lanes, 1), "the dead letter is there")
        [letter] = await lanes.read(lanes.topics.dead_letter)

    assert text(letter, "reason") == "unavailable"
    assert text(letter, "attempts") == "1"


async def test_a_body_that_is_no_call_record_is_looked_at_twice_then_set_aside_and_stops_nobody(
    kafka: str, prefix: str
) -> None:
    """Bad input never stops the rest."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("bad", NotACallRecord("list", "the body is a list"))
        lanes.graph.say("good", shaped("good", 1))
        await lanes.put(notice("bad"), notice("good"))
        await eventually(lambda: _published(lanes, 1), "the good call is published")
        await eventually(lambda: _dead(lanes, 1), "the bad one is set aside")
        [letter] = await lanes.read(lanes.topics.dead_letter)

    assert text(letter, "reason") == "not_a_call_record"
    assert text(letter, "error") == "the body is a list"


async def test_attempts_end_in_a_dead_letter_with_the_last_reason(kafka: str, prefix: str) -> None:
    """After the attempts that `give_up_hours` allows, the notification is set aside, not forgotten."""
    retry = Retry(delays=("1s",), give_up_hours=2 / 3600)
    async with bench(settings_for(kafka, prefix, retry=retry)) as lanes:
        lanes.graph.say("a", GraphUnavailable("503"))
        await lanes.put(notice("a"))
        await eventually(lambda: _dead(lanes, 1), "the dead letter is there")
        [letter] = await lanes.read(lanes.topics.dead_letter)

    assert text(letter, "reason") == "graph_unavailable"
    assert header(letter, "attempts") == 2 == lanes.graph.looks_at("a")


async def test_waiting_for_a_tenant_is_no_attempt(kafka: str, prefix: str) -> None:
    """A tenant that must wait costs its notifications nothing but time."""
    retry = Retry(delays=("1s",), give_up_hours=2 / 3600)
    async with bench(settings_for(kafka, prefix, retry=retry)) as lanes:
        waits = [TenantMustWait("throttled", 1.0) for _ in range(4)]
        lanes.graph.say("a", *waits, shaped("a", 1))
        await lanes.put(notice("a"))
        await eventually(lambda: _published(lanes, 1), "the call is published")

        assert lanes.metrics.retried.labels("tenant_waits")._value.get() == 4


async def test_a_tenant_whose_share_is_spent_lets_others_go_first(kafka: str, prefix: str) -> None:
    """Its notification waits in a retry topic, which is no attempt, and is published when there is room again."""
    other = "c0ffee00-5555-4222-8333-444455556666"
    settings = settings_for(kafka, prefix, graph=Graph(tenant_requests_per_20s=BUDGET))
    settings = msgspec.structs.replace(
        settings, tenants={**settings.tenants, "fabrikam": Tenant(id=other, client_id="app")}
    )
    async with bench(settings, clock=Clock(speed=4)) as lanes:
        for name in ("first", "mine", "theirs"):
            lanes.graph.say(name, shaped(name, 1))
        await lanes.put(notice("first"))
        await eventually(lambda: _published(lanes, 1), "the lanes run")
        for _ in range(BUDGET):
            await lanes.gates.acquire("contoso")
        await lanes.put(notice("mine"), msgspec.structs.replace(notice("theirs"), tenant_id=other))
        await eventually(lambda: _published(lanes, 3), "both are published")
        published = await lanes.read(lanes.topics.calls)
        waited = [msgspec.json.decode(one.value, type=Notification) for one in await lanes.read(lanes.topics.retry[0])]
        counted = lanes.metrics.retried.labels("budget")._value.get()

    _, *both = sorted(published, key=lambda record: record.timestamp)
    assert [record.key.split(b"/")[0].decode() for record in both] == [other, TENANT]
    assert {(one.tenant_id, one.reason, one.attempt) for one in waited} == {(TENANT, "budget", 0)}
    assert counted == len(waited)


async def test_what_is_no_notification_and_what_is_not_ours_is_set_aside(kafka: str, prefix: str) -> None:
    """Garbage, a foreign tenant and an id that is no GUID each become a dead letter; the lane goes on."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("good", shaped("good", 1))
        await lanes.producer.send_and_wait(lanes.topics.notifications, b"\x00garbage", partition=0)
        stranger = Notification(
            tenant_id="00000000-0000-4000-8000-000000000000", call_id=call_id("x"), source="webhook", received_at="x"
        )
        crooked = Notification(tenant_id=stranger.tenant_id, call_id="../me", source="webhook", received_at="x")
        await lanes.put(stranger, crooked, notice("good"))
        await eventually(lambda: _dead(lanes, 3), "three dead letters")
        await eventually(lambda: _published(lanes, 1), "the good one is published")
        reasons = sorted(text(letter, "reason") for letter in await lanes.read(lanes.topics.dead_letter))

    assert reasons == ["malformed", "malformed", "unknown_tenant"]


ODD_FIELDS = (
    b'"version":-1',
    b'"version":9223372036854775808',
    b'"version":18446744073709551616',
    b'"attempt":-5',
    b'"attempt":18446744073709551615',
    b'"look":-1,"listedHour":1',
    b'"look":1,"listedHour":1000000000000000000000000000000',
)


async def _put_values(lanes: Bench, name: str, values: Sequence[bytes], partition: int | None = None) -> None:
    """Values of a call's key, as another tool may write them."""
    key = notice(name).key
    place = partition_of(key, PARTITIONS) if partition is None else partition
    for value in values:
        await lanes.producer.send_and_wait(lanes.topics.notifications, value, key=key, partition=place)


@pytest.mark.parametrize("tenant", [TENANT, "00000000-0000-4000-8000-000000000000"])
async def test_a_notification_with_an_odd_number_is_set_aside_and_stops_nobody(
    kafka: str, prefix: str, tenant: str
) -> None:
    """Another tool's, of a tenant of ours or not, in its own partition or in another: the lane goes on."""
    ids = b'"tenantId":"%s","callId":"%s"' % (tenant.encode(), call_id("a").encode())
    values = [b'{%s,"source":"x","receivedAt":"x",%s}' % (ids, odd) for odd in ODD_FIELDS]
    own = partition_of(notice("a").key, PARTITIONS)
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", RecordNotFound("not yet"), shaped("a", 1))
        await _put_values(lanes, "a", values)
        await _put_values(lanes, "a", values, (own + 1) % PARTITIONS)
        await lanes.put(notice("a"))
        await eventually(lambda: _dead(lanes, 2 * len(values)), "all of them are set aside")
        await eventually(lambda: _published(lanes, 1), "the good one is published")
        letters = await lanes.read(lanes.topics.dead_letter)

    assert {text(letter, "reason") for letter in letters} == {"malformed"}
    assert sorted(letter.value for letter in letters) == sorted(2 * values)
    assert lanes.metrics.lane_reopened.labels("kafka")._value.get() == 0


async def test_what_is_too_long_for_a_dead_letter_is_set_aside_cut(kafka: str, prefix: str) -> None:
    """A record as large as Kafka takes leaves no room for a letter's headers; the letter says what it was cut from."""
    noise = os.urandom(1_048_400)
    known = msgspec.json.encode(notice("a", subscription_id="x" * 900_000))
    unknown = known.replace(TENANT.encode(), b"00000000-0000-4000-8000-000000000000")
    values = [noise, known, unknown]
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", shaped("a", 1))
        await _put_values(lanes, "a", values)
        await lanes.producer.send_and_wait(
            lanes.topics.notifications, b"x", key=noise, partition=partition_of(notice("a").key, PARTITIONS)
        )
        await lanes.put(notice("a"))
        await eventually(lambda: _published(lanes, 1), "the good one is published")
        letters = await lanes.read(lanes.topics.dead_letter)

    assert [text(letter, "reason") for letter in letters] == 4 * ["malformed"]
    sizes = [*(len(notice("a").key) + len(value) for value in values), len(noise) + 1]
    assert [header(letter, "cut-from") for letter in letters] == sizes
    assert all(value.startswith(letter.value) for letter, value in zip(letters, [*values, b"x"], strict=True))
    assert noise.startswith(letters[-1].key)
    assert lanes.metrics.lane_reopened.labels("kafka")._value.get() == 0


async def test_a_retry_that_is_due_in_the_far_future_holds_up_none_behind_it(kafka: str, prefix: str) -> None:
    """The head of a retry topic decides for all; no lane writes one that waits much longer than the topic's delay."""
    other = _neighbours("a", 1)[0]
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", shaped("a", 1))
        lanes.graph.say(other, RecordNotFound("not yet"), shaped(other, 1))
        await lanes.put(notice("a", due_at="9999-12-31T23:59:59Z"), topic=lanes.topics.retry[0])
        await lanes.put(notice(other))
        await eventually(lambda: _published(lanes, 2), "both are published")

    assert len(await lanes.read(lanes.topics.retry[0])) == 2


async def test_a_notification_in_the_wrong_partition_is_sent_to_its_own(kafka: str, prefix: str) -> None:
    """Another tool's partitioner must not let two lanes work on one call."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", shaped("a", 1))
        note = notice("a")
        own = partition_of(note.key, PARTITIONS)
        await lanes.put(note, partition=(own + 1) % PARTITIONS)
        await eventually(lambda: _published(lanes, 1), "the call is published")
        [summary] = await lanes.read(lanes.topics.calls)

    assert summary.partition == own
    assert lanes.metrics.rerouted._value.get() == 1


async def test_a_version_with_a_message_too_large_for_kafka_is_a_dead_letter(kafka: str, prefix: str) -> None:
    """All events of a version or none: one that cannot be published takes its version aside, not the lane."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("large", shaped("large", 1, events=2, size=2_000_000))
        lanes.graph.say("good", shaped("good", 1))
        await lanes.put(notice("large"), notice("good"))
        await eventually(lambda: _dead(lanes, 1), "the large one is set aside")
        await eventually(lambda: _published(lanes, 1), "the good one is published")
        [letter] = await lanes.read(lanes.topics.dead_letter)
        events = await lanes.read(lanes.topics.streams["audio"])

    assert text(letter, "reason") == "unpublishable"
    assert len(events) == 2


@pytest.mark.parametrize("delivery", ["exactly-once", "at-least-once"])
async def test_messages_that_fit_one_by_one_are_published_whatever_they_weigh_together(
    kafka: str, prefix: str, delivery: str
) -> None:
    """Kafka holds a topic's limit against whole batches of a producer."""
    settings = settings_for(kafka, prefix)
    settings = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, delivery=delivery))
    topics, heavy = Topics.of(settings), shaped("heavy", 1)
    messages = [("audio", base64.b64encode(os.urandom(180_000)), str(number)) for number in range(3)]
    await make_topics(settings.kafka, topics)
    async with open_admin(settings.kafka) as admin:
        await set_limit(admin, topics, topics.streams["audio"], 256 * 1024)
        await eventually(lambda: _takes(admin, topics.streams["audio"], 256 * 1024), "the brokers say so")
    async with bench(settings) as lanes:
        lanes.graph.say("heavy", dataclasses.replace(heavy, events=messages))
        await lanes.put(notice("heavy"))
        await eventually(lambda: _published(lanes, 1), "the call is published")
        events = await lanes.read(topics.streams["audio"])

    assert [event.value for event in events] == [value for _, value, _ in messages]
    assert lanes.metrics.lane_reopened.labels("kafka")._value.get() == 0


async def test_a_record_beside_that_kafka_refuses_is_set_aside_whatever_succeeds_between(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does its one more look, beside the batches again, begin it all anew."""
    monkeypatch.setattr(limits, "LOOK_AGAIN_SECONDS", 1e9)  # that it would be too large we do not know
    settings, other = settings_for(kafka, prefix, lanes=Lanes(patience_seconds=0.2)), _neighbours("slow", 1)[0]

    async def slowly(progress: Progress) -> ShapedRecord:
        await asyncio.sleep(1.0)
        return large

    large = shaped("slow", 1, events=1)
    large = dataclasses.replace(large, events=[("video", base64.b64encode(os.urandom(60_000)), "1")])
    async with bench(settings) as lanes, open_admin(settings.kafka) as admin:
        await set_limit(admin, lanes.topics, lanes.topics.streams["video"], 10_000)
        lanes.graph.say("slow", slowly)
        lanes.graph.say(other, *[shaped(other, version) for version in range(1, 100)])
        await lanes.put(notice("slow"))
        for reopened in (1, 2, 3):
            await eventually(lambda reopened=reopened: _reopened(lanes, reopened), "Kafka refuses it")
            await lanes.put(notice(other))
            await eventually(lambda reopened=reopened: _published(lanes, reopened), "the other is published")
        await eventually(lambda: _dead(lanes, 1), "it is set aside")
        [letter] = await lanes.read(lanes.topics.dead_letter)

    assert text(letter, "reason") == "unpublishable"
    assert "MessageSizeTooLarge" in text(letter, "error")
    assert lanes.metrics.lane_reopened.labels("kafka")._value.get() == 3


async def _takes(admin: AIOKafkaAdminClient, topic: str, size: int) -> bool:
    return await message_limits(admin, [topic]) == {topic: size}


async def _reopened(lanes: Bench, count: int) -> bool:
    return bool(lanes.metrics.lane_reopened.labels("kafka")._value.get() >= count)


async def test_a_slow_record_holds_nobody_and_is_published_beside_the_batches(kafka: str, prefix: str) -> None:
    """After a batch's patience the record goes on by itself; its notification then finds it in the ledger."""
    release = asyncio.Event()

    async def slow(progress: Progress) -> ShapedRecord:
        progress.version, progress.pages = 1, 1
        await release.wait()
        return shaped("slow", 1)

    lanes_settings = Lanes(patience_seconds=0.2)
    async with bench(settings_for(kafka, prefix, lanes=lanes_settings)) as lanes:
        lanes.graph.say("slow", slow)
        lanes.graph.say("quick", shaped("quick", 1))
        await lanes.put(notice("slow"))
        await eventually(lambda: _looked(lanes.graph, "slow", 1), "the slow one is being fetched")
        await lanes.put(notice("quick"))
        await eventually(lambda: _published(lanes, 1), "the quick one is published")
        release.set()
        await eventually(lambda: _published(lanes, 2), "the slow one is published")
        await eventually(lambda: _skipped(lanes, "published", 1), "its notification found it")

    assert lanes.graph.looks_at("slow") == 1


async def test_a_notice_that_comes_while_its_record_is_fetched_slowly_is_not_answered_by_that_fetch(
    kafka: str, prefix: str
) -> None:
    """The pages may have been read before the version that it announces."""
    release = asyncio.Event()

    async def slow(progress: Progress) -> ShapedRecord:
        await release.wait()
        return shaped("a", 1)

    async with bench(settings_for(kafka, prefix, lanes=Lanes(patience_seconds=0.2))) as lanes:
        lanes.graph.say("a", slow, shaped("a", 2))
        await lanes.put(notice("a"))
        await eventually(lambda: _retried(lanes, "long_fetch", 1), "the first goes beside")
        await lanes.put(notice("a"))
        await eventually(lambda: _retried(lanes, "joined_fetch", 1), "the second waits")
        await eventually(lambda: _retried(lanes, "long_fetch", 2), "the first waits on, behind it")
        release.set()
        await eventually(lambda: _published(lanes, 2), "both versions are published")
        versions = await lanes.versions()

    assert versions == [(call_id("a"), 1), (call_id("a"), 2)]


async def test_a_second_notice_of_a_slow_record_is_one_more_look_and_no_more(kafka: str, prefix: str) -> None:
    """A live notice of what is published is looked at twice, beside the batches too; then it is at rest."""

    async def slow(progress: Progress) -> ShapedRecord:
        progress.version, progress.pages = 1, 1
        await asyncio.sleep(0.6)
        return shaped("a", 1)

    async with bench(settings_for(kafka, prefix, lanes=Lanes(patience_seconds=0.1))) as lanes:
        lanes.graph.say("a", slow)
        await lanes.put(notice("a"))
        await eventually(lambda: _skipped(lanes, "published", 1), "the first finds what was published beside")
        assert lanes.graph.looks_at("a") == 1
        await lanes.put(notice("a"))
        await eventually(lambda: _retried(lanes, "unchanged", 1), "the second is told to look once more")
        await eventually(lambda: _skipped(lanes, "published", 2), "and is at rest")
        versions = await lanes.versions()

    assert versions == [(call_id("a"), 1)]
    assert lanes.graph.looks_at("a") == 3


async def test_backfill_skips_what_the_ledger_has_without_asking_graph(kafka: str, prefix: str) -> None:
    """A listed version that is published costs no request."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", shaped("a", 3))
        await lanes.put(notice("a", source="reconcile", version=3), topic=lanes.topics.backfill)
        await eventually(lambda: _published(lanes, 1), "the missing call is published")
        await lanes.put(notice("a", source="reconcile", version=2), topic=lanes.topics.backfill)
        await eventually(lambda: _skipped(lanes, "published", 1), "the known one is skipped")

    assert lanes.graph.looks_at("a") == 1


async def test_a_new_worker_knows_from_the_ledger_what_is_published(kafka: str, prefix: str) -> None:
    """Nothing is remembered in a process that Kafka does not hold."""
    graph = ScriptedGraph()
    graph.say("a", shaped("a", 7))
    async with bench(settings_for(kafka, prefix), graph) as lanes:
        await lanes.put(notice("a"))
        await eventually(lambda: _published(lanes, 1), "the call is published")
    async with bench(settings_for(kafka, prefix), graph) as lanes:
        await lanes.put(notice("a", source="backfill"), topic=lanes.topics.backfill)
        await eventually(lambda: _skipped(lanes, "published", 1), "the version is known")
        versions = await lanes.versions()

    assert versions == [(call_id("a"), 7)]


class Leaping(Clock):
    """A clock that can be put forward."""

    ahead_seconds = 0.0

    def now(self) -> float:
        return super().now() + self.ahead_seconds


async def test_a_lane_forgets_what_the_ledger_topic_has_dropped(kafka: str, prefix: str) -> None:
    """Calls of 45 to 90 days are in memory, however long the process runs; the gauge counts all of them."""
    clock, names = Leaping(), ["a", *_neighbours("a", 3)]
    async with bench(settings_for(kafka, prefix), clock=clock) as lanes:
        counted = []
        for count, name in enumerate(names, 1):
            lanes.graph.say(name, shaped(name, 1))
            await lanes.put(notice(name))
            await eventually(lambda count=count: _published(lanes, count), f"call {count} is published")
            clock.ahead_seconds += LEDGER_DAYS * 24 * 3600
            counted.append(lanes.metrics.registry.get_sample_value("callstream_ledger_entries"))

    assert counted == [1, 2, 2, 2]


async def test_topics_with_different_partition_counts_stop_the_lanes_with_a_sentence(kafka: str, prefix: str) -> None:
    """Growing the partitions would split calls between lanes; it is refused, not guessed at."""
    async with bench(settings_for(kafka, prefix)):
        pass
    settings = settings_for(kafka, prefix)
    more = Kafka(bootstrap_servers=kafka, topic_prefix=prefix, partitions=PARTITIONS + 1)
    async with bench(msgspec.structs.replace(settings, kafka=more)) as lanes:
        with pytest.raises(UserError, match=f"{prefix}.notifications has 3 partitions where 4 are needed"):
            await lanes.worker.task


async def _published(lanes, count: int) -> bool:
    return len(await lanes.read(lanes.topics.calls)) >= count


async def _dead(lanes, count: int) -> bool:
    return len(await lanes.read(lanes.topics.dead_letter)) >= count


async def _retried(lanes, reason: str, count: int) -> bool:
    return lanes.metrics.retried.labels(reason)._value.get() >= count


async def _skipped(lanes, reason: str, count: int) -> bool:
    return lanes.metrics.skipped.labels(reason)._value.get() >= count


async def _looked(graph: ScriptedGraph, name: str, count: int) -> bool:
    return graph.looks_at(name) >= count


async def test_a_record_beside_that_fills_the_bounds_does_not_stop_its_lane(kafka: str, prefix: str) -> None:
    """Bytes that only the lane itself can give back, by publishing, must not be waited for."""
    release = asyncio.Event()

    async def slow(progress: Progress) -> ShapedRecord:
        progress.version, progress.pages = 1, 1
        await release.wait()
        return shaped("slow", 1, events=4, size=100)

    tight = Lanes(patience_seconds=0.2, bytes_in_flight=100)
    async with bench(settings_for(kafka, prefix, lanes=tight)) as lanes:
        lanes.graph.say("slow", slow)
        for name in ("a", "b", "c", "d", "e", "f"):
            lanes.graph.say(name, shaped(name, 1))
        await lanes.put(notice("slow"))
        await eventually(lambda: _looked(lanes.graph, "slow", 1), "the slow one is being fetched")
        release.set()
        await lanes.put(*[notice(name) for name in ("a", "b", "c", "d", "e", "f")])
        await eventually(lambda: _published(lanes, 7), "all are published")

        assert lanes.metrics.bytes_in_flight._value.get() == 0


async def _put_copies(lanes: Bench, name: str, count: int) -> None:
    """All at once, as somebody who repeats a notice does."""
    one = notice(name)
    place, value = partition_of(one.key, PARTITIONS), msgspec.json.encode(one)
    sent = [await lanes.producer.send(lanes.topics.notifications, value, one.key, place) for _ in range(count)]
    await asyncio.gather(*sent)


def _neighbours(name: str, count: int) -> list[str]:
    """Other calls of the same lane."""
    lane = partition_of(notice(name).key, PARTITIONS)
    return [other for other in map(str, range(100)) if partition_of(notice(other).key, PARTITIONS) == lane][:count]


async def test_a_notice_repeated_thousands_of_times_is_a_few_looks(kafka: str, prefix: str) -> None:
    """And the next call of its lane does not wait until each hundred of them has had one."""
    copies, other = 6000, _neighbours("same", 1)[0]
    async with bench(settings_for(kafka, prefix, retry=Retry(delays=("1s", "100s")))) as lanes:
        lanes.graph.say("same", shaped("same", 1))
        lanes.graph.say(other, shaped(other, 1))
        await _put_copies(lanes, "same", copies)
        await lanes.put(notice(other))
        await eventually(lambda: _published(lanes, 2), "both are published")
        await eventually(lambda: _skipped(lanes, "merged", copies - 100), "nearly all were merged")

        assert lanes.graph.looks_at("same") < copies / 100 / 2
        assert len(await lanes.read(lanes.topics.calls)) == 2


async def test_copies_that_come_while_the_record_is_fetched_wait_as_one(kafka: str, prefix: str) -> None:
    """Not one record in a retry topic for each of them; and what they announced is looked for once more."""
    release, copies = asyncio.Event(), 3000

    async def slow(progress: Progress) -> ShapedRecord:
        await release.wait()
        return shaped("slow", 1)

    settings = settings_for(kafka, prefix, lanes=Lanes(patience_seconds=0.2), retry=Retry(delays=("2s", "100s")))
    async with bench(settings) as lanes:
        lanes.graph.say("slow", slow, shaped("slow", 2))
        await lanes.put(notice("slow"))
        await eventually(lambda: _retried(lanes, "long_fetch", 1), "it goes on beside the batches")
        await _put_copies(lanes, "slow", copies)
        await eventually(lambda: _skipped(lanes, "merged", copies - 100), "nearly all were merged")
        joined = lanes.metrics.retried.labels("joined_fetch")._value.get()
        release.set()
        await eventually(lambda: _published(lanes, 2), "the version they announced is published too")

        assert 1 <= joined < copies / 100 / 2
        assert await lanes.versions() == [(call_id("slow"), 1), (call_id("slow"), 2)]


async def test_foreign_records_in_the_ledger_stop_nobody(kafka: str, prefix: str) -> None:
    """The ledger is ours alone, but a stray record in it is no reason to stop a lane."""
    graph = ScriptedGraph()
    graph.say("a", shaped("a", 1))
    async with bench(settings_for(kafka, prefix), graph) as lanes:
        for partition in range(PARTITIONS):
            await lanes.producer.send_and_wait(lanes.topics.ledger, b"stray", key=b"stray", partition=partition)
    async with bench(settings_for(kafka, prefix), graph) as lanes:
        await lanes.put(notice("a"))
        await eventually(lambda: _published(lanes, 1), "the call is published")

        assert len(await lanes.read(lanes.topics.ledger)) == PARTITIONS + 1


async def test_a_bug_that_one_record_brings_to_light_sets_that_record_aside_alone(kafka: str, prefix: str) -> None:
    """The process goes on; the record is tried again, then it is a dead letter with the reason `internal`."""

    async def trips(progress: Progress) -> ShapedRecord:
        raise ZeroDivisionError

    retry = Retry(delays=("1s",), give_up_hours=2 / 3600)
    async with bench(settings_for(kafka, prefix, retry=retry)) as lanes:
        lanes.graph.say("bad", trips)
        lanes.graph.say("good", shaped("good", 1))
        await lanes.put(notice("bad"), notice("good"))
        await eventually(lambda: _published(lanes, 1), "the good one is published")
        await eventually(lambda: _dead(lanes, 1), "the bad one is set aside")
        [letter] = await lanes.read(lanes.topics.dead_letter)

    assert text(letter, "reason") == "internal"
    assert lanes.graph.looks_at("bad") == 2


async def test_a_lane_that_is_fenced_is_counted_so_and_goes_on(kafka: str, prefix: str) -> None:
    """Whatever else makes a lane open again is Kafka's; a bug takes the process down and is not counted here."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        name = next(name for name in "abcdefgh" if partition_of(notice(name).key, PARTITIONS) == 0)
        lanes.graph.say(name, shaped(name, 1))
        await eventually(lambda: _no_lag(lanes), "the lanes are open")
        async with lane_publisher(lanes.settings.kafka, lanes.topics):
            pass
        await lanes.put(notice(name))
        await eventually(lambda: _published(lanes, 1), "the call is published")
        [metric] = lanes.metrics.lane_reopened.collect()
        counted = {sample.labels["reason"]: sample.value for sample in metric.samples}

    assert counted.keys() == {"fenced", "kafka"}
    assert counted["fenced"] == 1


async def test_a_worker_whose_client_breaks_a_poll_off_joins_the_group_again(
    kafka: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As aiokafka does without being asked; a worker that ended so would stand by for ever and look well."""
    stays, stay = [0], worker.stay

    async def broken_off(consumer: AIOKafkaConsumer) -> None:
        stays[0] += 1
        if stays[0] == 1:
            raise asyncio.CancelledError
        await stay(consumer)

    monkeypatch.setattr(worker, "stay", broken_off)
    async with bench(settings_for(kafka, prefix)) as lanes:
        lanes.graph.say("a", shaped("a", 1))
        await lanes.put(notice("a"))
        await eventually(lambda: _published(lanes, 1), "the call is published")

    assert stays[0] == 2


async def test_offsets_that_the_coordinator_cannot_tell_are_not_taken_for_none(kafka: str, prefix: str) -> None:
    """An empty answer comes from a coordinator that is loading; a lane that believed it would begin at offset 0."""

    class Loading:
        async def list_consumer_group_offsets(self, group: str, partitions: object) -> dict[object, object]:
            return {}

    with pytest.raises(OffsetsUnreadableError):
        await committed_offsets(Loading(), Topics(prefix), 0, "x")


async def test_the_lag_is_the_age_of_the_oldest_notification_that_waits(kafka: str, prefix: str) -> None:
    """A notification under way counts by when it was received; 0 when there is none."""
    release = asyncio.Event()

    async def slow(progress: Progress) -> ShapedRecord:
        await release.wait()
        return shaped("slow", 1)

    async with bench(settings_for(kafka, prefix, lanes=Lanes(patience_seconds=10.0))) as lanes:
        lanes.graph.say("slow", slow)
        await lanes.put(notice("slow", received_at=iso(Clock().now() - 100)))
        await eventually(lambda: _looked(lanes.graph, "slow", 1), "it is being fetched")
        await eventually(lambda: _lags(lanes, 100), "the one that waits counts by its receipt")
        assert not await _lags(lanes, 200)
        release.set()
        await eventually(lambda: _published(lanes, 1), "it is published")
        await eventually(lambda: _no_lag(lanes), "nothing waits")


async def _lags(lanes: Bench, seconds: float) -> bool:
    """Lanes may be moving at this moment; then there are none."""
    return max((lane.lag_seconds() for lane in lanes.worker._lanes), default=0.0) >= seconds


async def _no_lag(lanes: Bench) -> bool:
    return max((lane.lag_seconds() for lane in lanes.worker._lanes), default=1.0) == 0
