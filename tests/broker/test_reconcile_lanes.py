"""What a lane does with ids from the list: the known ones cost no fetch, and each is reported once to the keeper."""

import asyncio
from collections import Counter

from service.errors import NotACallRecord
from service.graph.client import Progress
from service.lanes.inbox import Report, decode_message
from service.lanes.policy import ShapedRecord
from service.notification import Notification
from service.settings import Lanes
from tests.broker.lane_bench import Bench, ScriptedGraph, bench, notice, read_all, settings_for, shaped

HOUR = 497_000


def listed(name: str, version: int | None = 1, look: int = 7, source: str = "reconcile") -> Notification:
    return notice(name, source=source, version=version, listed_hour=HOUR, look=look)


async def reported(running: Bench) -> Counter[str]:
    """Sums over all reports of look 7."""
    sums: Counter[str] = Counter()
    for record in await read_all(running.settings.kafka.bootstrap_servers, running.topics.inbox, 1):
        message = decode_message(record.value)
        assert isinstance(message, Report)
        for one in message.tallies:
            assert (one.hour, one.look) == (HOUR, 7)
            sums.update(known=one.known, healed=one.healed, dead=one.dead)
    return sums


async def until_reported(running: Bench, count: int) -> Counter[str]:
    async def enough() -> bool:
        return (await reported(running)).total() >= count

    await running.eventually(enough, f"{count} listed ids are reported")
    return await reported(running)


async def test_known_ids_are_skipped_without_a_fetch_and_reported(kafka: str, prefix: str) -> None:
    """Published by a notice: known. Not published: healed. Each once, in the transaction that did it."""
    graph = ScriptedGraph()
    for name in "abcd":
        graph.say(name, shaped(name, 1))
    async with bench(settings_for(kafka, prefix), graph) as running:
        await running.put(notice("a"), notice("b"))

        async def both() -> bool:
            return len(await running.versions()) == 2

        await running.eventually(both, "two calls are published")
        await running.put(*(listed(name) for name in "abcd"), topic=running.topics.backfill)

        assert await until_reported(running, 4) == Counter(known=2, healed=2)
        assert [graph.looks_at(name) for name in "abcd"] == [1, 1, 1, 1]
        assert sorted(await running.versions()) == sorted(set(await running.versions()))


async def test_without_a_version_in_the_list_each_is_fetched_and_none_published_twice(kafka: str, prefix: str) -> None:
    """Whether Graph's list has versions is not verified (graph-contract 6.4)."""
    graph = ScriptedGraph()
    graph.say("a", shaped("a", 3))
    async with bench(settings_for(kafka, prefix), graph) as running:
        await running.put(listed("a", version=None), topic=running.topics.backfill)
        await until_reported(running, 1)
        await running.put(listed("a", version=None), topic=running.topics.backfill)

        assert await until_reported(running, 2) == Counter(known=1, healed=1)
        assert graph.looks_at("a") == 2
        assert len(await running.versions()) == 1


async def test_a_dead_version_is_not_tried_again_by_every_look(kafka: str, prefix: str) -> None:
    """One dead letter, after its two fetches, for three looks; a newer version is tried."""
    graph = ScriptedGraph()
    graph.say("a", *[NotACallRecord("no_version", "no call record")] * 2, shaped("a", 2))
    async with bench(settings_for(kafka, prefix), graph) as running:
        for count in (1, 2, 3):
            await running.put(listed("a"), topic=running.topics.backfill)
            await until_reported(running, count)
        assert graph.looks_at("a") == 2
        assert len(await running.read(running.topics.dead_letter)) == 1
        await running.put(listed("a", version=2), topic=running.topics.backfill)

        assert await until_reported(running, 4) == Counter(dead=3, healed=1)


async def test_a_sample_of_the_skips_is_audited(kafka: str, prefix: str) -> None:
    """Every second known one is fetched; a newer version nobody told of is published; a failure changes nothing."""
    graph = ScriptedGraph()
    graph.say("a", shaped("a", 1), shaped("a", 1), shaped("a", 2), NotACallRecord("html", "no call record"))
    async with bench(settings_for(kafka, prefix, lanes=Lanes(audit_every=2)), graph) as running:
        await running.put(listed("a"), topic=running.topics.backfill)
        for count in range(1, 8):
            await until_reported(running, count)
            await running.put(listed("a"), topic=running.topics.backfill)

        sums = await until_reported(running, 8)
        assert sums["dead"] == 0
        assert graph.looks_at("a") == 4
        assert [version for _, version in await running.versions()] == [1, 2]
        audits = {one: running.metrics.audits.labels(one)._value.get() for one in ("same", "newer", "unread")}
        assert audits == {"same": 1, "newer": 1, "unread": 1}
        assert await running.read(running.topics.dead_letter) == []


async def test_a_listed_version_that_a_stale_read_hides_is_published_by_the_second_look(
    kafka: str, prefix: str
) -> None:
    """Graph lists 7 and shows 6 for a moment: both are published, and the id is healed when 7 is."""
    graph = ScriptedGraph()
    graph.say("a", shaped("a", 6), shaped("a", 7))
    async with bench(settings_for(kafka, prefix), graph) as running:
        await running.put(listed("a", version=7), topic=running.topics.backfill)

        async def first() -> bool:
            return len(await running.versions()) >= 1

        await running.eventually(first, "version 6 is published")
        assert await reported(running) == Counter(), "what was listed is not there yet"
        assert await until_reported(running, 1) == Counter(healed=1)
        assert [version for _, version in await running.versions()] == [6, 7]
        assert graph.looks_at("a") == 2
        assert running.metrics.retried.labels("unchanged")._value.get() == 1


async def test_a_listed_version_that_graph_never_shows_is_two_looks_and_one_report(kafka: str, prefix: str) -> None:
    """It comes to an end, and the next listing of its hour asks again."""
    graph = ScriptedGraph()
    graph.say("a", shaped("a", 6))
    async with bench(settings_for(kafka, prefix), graph) as running:
        await running.put(listed("a", version=7), topic=running.topics.backfill)

        assert await until_reported(running, 1) == Counter(known=1)
        assert graph.looks_at("a") == 2
        assert [version for _, version in await running.versions()] == [6]


async def test_a_slow_record_that_shows_less_than_was_listed_is_looked_at_once_more(kafka: str, prefix: str) -> None:
    """Published beside the batches as it was shown; its notification, when it comes back, is not at rest with that."""

    async def slow(progress: Progress) -> ShapedRecord:
        progress.version, progress.pages = 6, 1
        await asyncio.sleep(0.6)
        return shaped("a", 6)

    graph = ScriptedGraph()
    graph.say("a", slow, shaped("a", 7))
    async with bench(settings_for(kafka, prefix, lanes=Lanes(patience_seconds=0.1)), graph) as running:
        await running.put(listed("a", version=7), topic=running.topics.backfill)

        assert await until_reported(running, 1) == Counter(healed=1)
        assert [version for _, version in await running.versions()] == [6, 7]
        assert graph.looks_at("a") == 2
