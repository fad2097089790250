"""The bounds of the lanes, reached on a real broker: what waits, what is counted, and that all of it comes out."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from prometheus_client import Gauge

from service.errors import RecordNotFound
from service.graph.client import Progress
from service.kafka.topics import partition_of
from service.lanes.policy import ShapedRecord
from service.settings import Lanes, Retry
from tests.broker.lane_bench import DEADLINE_SECONDS, PARTITIONS, Bench, bench, eventually, notice, settings_for, shaped

CALLS = 30


def names() -> list[str]:
    """Calls of all three lanes."""
    return [f"c{number}" for number in range(CALLS)]


async def _published(lanes: Bench, count: int) -> bool:
    return sum(one._value.get() for one in lanes.metrics.published._metrics.values()) >= count


def value(gauge: Gauge) -> float:
    """As a scrape would show it."""
    [family] = gauge.collect()
    return family.samples[0].value


async def test_records_wait_for_their_turn_to_be_fetched(kafka: str, prefix: str) -> None:
    """One at a time in the process: a lane starts few more, and what it took goes back until there is room."""
    gate = asyncio.Event()

    def behind(name: str) -> object:
        async def answer(progress: Progress) -> ShapedRecord:
            await gate.wait()
            return shaped(name, 1, events=1, size=1000)

        return answer

    tight = Lanes(concurrent_fetches=1, patience_seconds=60.0)
    async with bench(settings_for(kafka, prefix, lanes=tight)) as lanes:
        for name in names():
            lanes.graph.say(name, behind(name))
        await lanes.put(*[notice(name) for name in names()])
        await eventually(lambda: _waiting(lanes), "the others wait for the one that is being fetched")
        fetching, waiting = value(lanes.metrics.fetches_in_flight), value(lanes.metrics.fetches_waiting)
        gate.set()
        await eventually(lambda: _published(lanes, CALLS), "all are published")
        cut = lanes.metrics.batches_cut.labels("concurrent_fetches")._value.get()

    assert fetching == 1
    assert 1 <= waiting <= 6, "a lane starts no more than that while one is being fetched"
    assert cut > 0


FETCHES, BOUND, SIZE = 3, 1500, 1000
# Looks that may be under way when the bound is reached; what they bring still arrives. So many fetch and so many wait
# for a slot. A batch counts what has arrived a moment after its slot is free, so as many more may fetch already; over
# all lanes the first look of each batch starts however many wait.
BYTES = [("batch_bytes", "lane_bytes", 3 * FETCHES), ("bytes_in_flight", "bytes_in_flight", 2 * FETCHES + PARTITIONS)]


@pytest.mark.parametrize(("bound", "gauge", "under_way"), BYTES, ids=[bound for bound, _, _ in BYTES])
async def test_a_batch_ends_when_enough_bytes_are_held(
    kafka: str, prefix: str, bound: str, gauge: str, under_way: int
) -> None:
    """By its lane, and by all lanes: what has arrived is published before more is fetched."""
    many = [f"c{number}" for number in range(3 * CALLS)]
    tight = msgspec.structs.replace(Lanes(concurrent_fetches=FETCHES), **{bound: BOUND})
    async with bench(settings_for(kafka, prefix, lanes=tight)) as lanes:
        for name in many:
            lanes.graph.say(name, shaped(name, 1, events=1, size=SIZE))
        watching = asyncio.create_task(_most(getattr(lanes.metrics, gauge), lambda: _published(lanes, len(many))))
        # Side by side: one after the other each could make a batch of its own, and none would be cut.
        await asyncio.gather(*(lanes.put(notice(name)) for name in many))
        most = await watching
        cut = lanes.metrics.batches_cut.labels(bound)._value.get()
        await eventually(lambda: _is_empty(lanes), "nothing is held any more")

    assert cut > 0
    assert BOUND <= most < BOUND + under_way * SIZE


async def _most(gauge: Gauge, is_over: Callable[[], Awaitable[bool]]) -> float:
    """The most that a gauge shows until then: it is looked at more often than anything can be published."""
    most = 0.0
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await is_over():
            most = max(most, value(gauge))
            await asyncio.sleep(0.001)
    return most


def _of_one_lane(count: int) -> list[str]:
    """Calls whose notifications pass the same lane."""
    return [name for name in map(str, range(100)) if partition_of(notice(name).key, PARTITIONS) == 0][:count]


async def _waiting(lanes: Bench) -> bool:
    return value(lanes.metrics.fetches_waiting) > 0


async def _is_empty(lanes: Bench) -> bool:
    gauges = (lanes.metrics.bytes_in_flight, lanes.metrics.lane_bytes, lanes.metrics.fetches_in_flight)
    return [value(gauge) for gauge in gauges] == [0, 0, 0]


async def test_records_that_wait_for_room_hold_up_nobody(kafka: str, prefix: str) -> None:
    """Three large ones of a lane, one after the other; the small one beside them does not wait for any."""
    gate, size = asyncio.Event(), 1_000_000
    tight = Lanes(patience_seconds=0.3, beside_fetches=2, held_bytes=size)
    *large, small = _of_one_lane(4)
    async with bench(settings_for(kafka, prefix, lanes=tight)) as lanes:

        def taking(name: str) -> object:
            async def answer(progress: Progress) -> ShapedRecord:
                with lanes.room.stay() as stay:
                    progress.stay = stay
                    await progress.take(size)
                    await progress.take(size)
                    await gate.wait()
                    return shaped(name, 1)

            return answer

        for name in large:
            lanes.graph.say(name, taking(name))
        lanes.graph.say(small, shaped(small, 1))
        await lanes.put(*[notice(name) for name in (*large, small)])
        await eventually(lambda: _published(lanes, 1), "the small one is published")
        waited = lanes.metrics.held_back._value.get()
        gate.set()
        await eventually(lambda: _published(lanes, 4), "the large ones are published, one after the other")
        attempts = lanes.metrics.retried.labels("graph_unavailable")._value.get()
        await eventually(lambda: _is_empty(lanes), "nothing is held any more")

    assert waited > 0
    assert attempts == 0, "that they had to wait was not their failure"
    assert value(lanes.metrics.held_bytes) == 0


async def test_retries_beyond_the_buffer_wait_in_kafka(kafka: str, prefix: str) -> None:
    """A lane holds two of them; the others come in their turn, none is lost and none overtaken for ever."""
    settings = settings_for(kafka, prefix, lanes=Lanes(retry_buffer=2), retry=Retry(delays=("2s",)))
    held: set[float] = set()
    async with bench(settings) as lanes:
        for name in names():
            lanes.graph.say(name, RecordNotFound("not yet"), shaped(name, 1))
        await lanes.put(*[notice(name) for name in names()])

        async def all_out() -> bool:
            held.add(value(lanes.metrics.retries_held))
            return await _published(lanes, CALLS)

        await eventually(all_out, "all are published")

    assert max(held) == 2
