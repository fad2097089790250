"""Most records failing for one reason, on a real broker: nothing is set aside, all of it is published in the end."""

import asyncio

import pytest

from service.clock import Clock
from service.errors import NotACallRecord
from service.graph.client import Progress
from service.kafka.scan import open_admin
from service.lanes.policy import ShapedRecord
from service.settings import Retry
from tests.broker.lane_bench import Bench, bench, call_id, eventually, notice, set_limit, settings_for, shaped, text

CALLS = 40
# Waits of minutes pass in seconds.
SPEED = 40


async def _published(lanes: Bench, count: int) -> bool:
    return sum(one._value.get() for one in lanes.metrics.published._metrics.values()) >= count


async def _is_on(lanes: Bench, reason: str) -> bool:
    return lanes.metrics.outage.labels("contoso", reason)._value.get() == 1


def names(count: int = CALLS) -> list[str]:
    """Calls of one tenant."""
    return [f"c{number}" for number in range(count)]


async def put_at_once(lanes: Bench) -> None:
    """All of them before the first is looked at again: fewer than an outage takes would be poison, each by itself."""
    await asyncio.gather(*[lanes.put(notice(name)) for name in names()])


async def trips(progress: Progress) -> ShapedRecord:
    """A bug of ours."""
    raise ZeroDivisionError


async def _looked(lanes: Bench, count: int) -> bool:
    return sum(lanes.graph.looks.values()) >= count


@pytest.mark.parametrize("reason", ["not_a_call_record", "internal"])
async def test_an_outage_of_one_kind_sets_nothing_aside_and_ends_by_itself(
    kafka: str, prefix: str, reason: str
) -> None:
    """Graph changes its shape for all records, or a release of ours trips over each."""
    bad = NotACallRecord("no_id", "the body has no id") if reason == "not_a_call_record" else trips
    retry = Retry(delays=("1m", "2m"), give_up_hours=6 / 60)
    async with bench(settings_for(kafka, prefix, retry=retry), clock=Clock(speed=SPEED)) as lanes:
        for name in names():
            lanes.graph.say(name, bad)
        await put_at_once(lanes)
        await eventually(lambda: _is_on(lanes, reason), "it is seen to be an outage")
        status = lanes.worker.outages()["contoso"]
        looks = sum(lanes.graph.looks.values())
        await eventually(lambda: _looked(lanes, looks + 1), "a probe goes out")
        for name in names():
            lanes.graph.say(name, shaped(name, 1))
        await eventually(lambda: _published(lanes, CALLS), "all are published")
        letters = await lanes.read(lanes.topics.dead_letter)
        on = await _is_on(lanes, reason)
        waited = lanes.metrics.retried.labels("outage")._value.get()
        versions = await lanes.versions()

    assert [one["reason"] for one in status] == [reason]
    assert looks <= 2 * CALLS, "it slows down"
    assert waited >= 1
    assert letters == []
    assert not on
    assert lanes.worker.outages() == {}
    assert sorted(versions) == sorted((call_id(name), 1) for name in names())


async def test_a_single_poisonous_record_among_good_ones_is_set_aside(kafka: str, prefix: str) -> None:
    """In its own time, while the others are published; so are a few, one after the other, in a quiet tenant."""
    async with bench(settings_for(kafka, prefix)) as lanes:
        for name in ("bad", "bad too"):
            lanes.graph.say(name, NotACallRecord("list", "the body is a list"))
        for name in names(10):
            lanes.graph.say(name, shaped(name, 1))
        await lanes.put(notice("bad"))
        await eventually(lambda: _dead(lanes, 1), "alone it is looked at once more, then set aside")
        await lanes.put(notice("bad too"), *[notice(name) for name in names(10)])
        await eventually(lambda: _published(lanes, 10), "the good ones are published")
        await eventually(lambda: _dead(lanes, 2), "the bad one is set aside")
        letters = await lanes.read(lanes.topics.dead_letter)

    assert [text(letter, "reason") for letter in letters] == ["not_a_call_record"] * 2
    assert lanes.graph.looks_at("bad") == 2
    assert lanes.worker.outages() == {}


async def _dead(lanes: Bench, count: int) -> bool:
    return lanes.metrics.dead.labels("not_a_call_record")._value.get() >= count


async def test_a_message_limit_that_is_lowered_under_way_loses_nothing(kafka: str, prefix: str) -> None:
    """Kafka refuses every version; they wait, and are published when the limit is raised, without a restart."""
    settings = settings_for(kafka, prefix, retry=Retry(delays=("1m", "2m")))
    async with bench(settings, clock=Clock(speed=SPEED)) as lanes, open_admin(settings.kafka) as admin:
        for name in ["first", *names()]:
            lanes.graph.say(name, shaped(name, 1))
        await lanes.put(notice("first"))
        await eventually(lambda: _published(lanes, 1), "one is published while all is well")
        await set_limit(admin, lanes.topics, lanes.topics.calls, 100)
        await put_at_once(lanes)
        await eventually(lambda: _is_on(lanes, "unpublishable"), "it is seen to be an outage")
        await set_limit(admin, lanes.topics, lanes.topics.calls, 1_000_000)
        await eventually(lambda: _published(lanes, 1 + CALLS), "all are published")
        letters = await lanes.read(lanes.topics.dead_letter)
        versions = await lanes.versions()

    assert letters == []
    assert sorted(versions) == sorted((call_id(name), 1) for name in ["first", *names()])
