"""All bodies of Graph's together: who waits, who goes on, and that everybody comes to an end."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from service.clock import Clock
from service.errors import GraphUnavailable
from service.graph.client import Progress
from service.graph.room import SMALL_BYTES, Room
from service.metrics import Metrics
from tests.shell.graph_fixture import TENANT, Answer, ScriptedGraph, World, fails, says, scripted, world_of

MB = 1024 * 1024
CALLS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(4)]


def room_of(most: int) -> Room:
    """An empty one."""
    return Room(most, Metrics())


def held(room: Room) -> float:
    """As a scrape would show it."""
    return float(room._metrics.held_bytes._value.get())


async def settled(task: "asyncio.Task[None]") -> bool:
    """Whether the task is done once all that can move has moved."""
    for _ in range(10):
        await asyncio.sleep(0)
    return task.done()


async def test_of_those_that_find_it_full_one_goes_on() -> None:
    """Alone: the next when there is room again, or when nothing is left of what was made of that one."""
    room = room_of(MB)
    with room.stay() as full, room.stay() as first, room.stay() as second:
        await full.take(MB)
        await first.take(MB)
        waiting = asyncio.create_task(second.take(MB))
        assert not await settled(waiting)
        assert second.is_waiting
        assert held(room) == 2 * MB

        first.end()
        assert await settled(waiting)
        assert not second.is_waiting
        third = asyncio.create_task(first.take(MB))
        assert not await settled(third), "now the second is the one that may go on"
        full.give_back(0)
        assert not await settled(third), "what the two others hold fills it"
        second.end()
        assert await settled(third)


async def test_what_is_made_of_a_record_counts_until_it_is_gone() -> None:
    """The one that may go on keeps others waiting while its events are not published; one that failed does not."""
    room = room_of(MB)
    with room.stay() as full, room.stay() as second:
        await full.take(MB)
        with room.stay() as first:
            await first.take(MB)
        room.count(2 * MB)  # its events, as the lanes count them
        full.give_back(0)
        waiting = asyncio.create_task(second.take(MB))
        assert not await settled(waiting)
        first.end()
        assert await settled(waiting)
        room.count(-2 * MB)
        second.give_back(0)
        second.end()
        with suppress(ValueError), room.stay() as failing:
            await full.take(MB)
            await failing.take(MB)
            raise ValueError
        last = asyncio.create_task(full.take(MB))
        assert await settled(last)


async def test_small_records_never_wait_for_large_ones() -> None:
    """A call between two people is a few kilobytes."""
    room = room_of(MB)
    with room.stay() as full, room.stay() as large, room.stay() as small:
        await full.take(3 * MB)
        waiting = asyncio.create_task(large.take(MB // 2))
        assert not await settled(waiting)
        assert small.takes(SMALL_BYTES)
        assert not small.takes(1)
        full.give_back(0)
        assert await settled(waiting)


async def test_who_is_cancelled_while_it_waits_leaves_nothing_behind() -> None:
    """Neither bytes nor a place in the queue."""
    room = room_of(MB)
    with room.stay() as full, room.stay() as first, room.stay() as third:
        await full.take(MB)
        await first.take(MB)

        async def broken_off() -> None:
            with room.stay() as second:
                await second.take(MB)

        waiting, last = asyncio.create_task(broken_off()), asyncio.create_task(third.take(MB))
        assert not await settled(waiting)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        full.give_back(0)
        first.give_back(0)
        assert await settled(last)
        assert third.held == held(room) == MB


@given(
    st.integers(SMALL_BYTES, 4 * SMALL_BYTES),
    st.lists(st.lists(st.integers(1, 2 * SMALL_BYTES), min_size=1, max_size=6), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_whatever_is_taken_everybody_ends_and_the_bound_holds(
    most: int, readers: list[list[int]], random: random.Random
) -> None:
    """One record above the bound, and the small ones; never more."""

    async def run() -> None:
        room = room_of(most)
        largest = max(map(sum, readers))

        async def read(sizes: list[int]) -> None:
            with room.stay() as stay:
                for size in sizes:
                    await stay.take(size)
                    assert held(room) <= most + largest + len(readers) * SMALL_BYTES
                    for _ in range(random.randint(0, 3)):
                        await asyncio.sleep(0)
            stay.end()

        async with asyncio.timeout(10):
            await asyncio.gather(*map(read, readers))
        assert held(room) == 0

    asyncio.run(run())


# ---- reading from Graph ---------------------------------------------------------------------------------------------


@pytest.fixture
async def graph() -> AsyncIterator[ScriptedGraph]:
    async with scripted() as graph:
        yield graph


def large(megabytes: int) -> Answer:
    """The record that is asked for, padded with what nobody knows."""

    async def answer(request: web.Request) -> web.StreamResponse:
        call_id = request.path.rpartition("/")[2]
        body = b'{"id":"%s","version":1,"sessions":[],"participants_v2":[],"padding":"%s"}'
        text = body % (call_id.encode(), b"x" * (megabytes * MB))
        return web.Response(body=text, headers={"Content-Type": "application/json"})

    return answer


@asynccontextmanager
async def full_world(graph: ScriptedGraph, **settings: object) -> AsyncIterator[World]:
    """One that holds 1 MB, on a clock on which a second is a second."""
    async with world_of(graph.url, clock=Clock(), held_bytes=MB, **settings) as world:
        yield world


async def test_records_beyond_the_room_are_read_one_after_the_other(graph: ScriptedGraph) -> None:
    """All of them come; and no more than two are ever held: the one that filled it and the one that may go on."""
    graph.script("record", large(3))
    async with full_world(graph) as world:
        most = 0.0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, world.sample("held_bytes"))
                await asyncio.sleep(0)

        async def read(call_id: str) -> str | None:
            progress = Progress()
            async with world.client.fetched("contoso", TENANT, call_id, progress) as fetched:
                found = fetched.record.id
            progress.let_go()
            return found

        watching = asyncio.create_task(watch())
        found = await asyncio.gather(*(read(call_id) for call_id in CALLS))
        watching.cancel()

        assert found == CALLS
        assert 3 * MB < most < 6 * MB + 4 * SMALL_BYTES
        assert world.sample("held_bytes") == 0
        assert world.sample("held_back_total") > 0


async def test_waiting_for_room_is_no_silence_of_graphs(graph: ScriptedGraph) -> None:
    """A request may wait longer than its time-out, and is not made again for it."""
    graph.script("record", large(2))
    async with full_world(graph, request_timeout_seconds=1.0) as world:
        async with world.client.fetched("contoso", TENANT, CALLS[0], first := Progress()):
            waiting = asyncio.create_task(world.fetch(CALLS[1]))
            await graph.until_seen(2, "record")
            # Longer than the request's time-out: that this passes is what is tested.
            await asyncio.sleep(1.5)
            assert not waiting.done()
            assert world.progress.is_held_back
        first.let_go()
        assert (await waiting).record.id == CALLS[1]
        assert world.outcomes("record") == {"ok": 2}


async def test_a_connection_that_ends_while_nobody_reads_it_is_no_failure_of_graphs(graph: ScriptedGraph) -> None:
    """A server may close on who takes nothing for long; the page is asked for again, though one try is all there is."""
    is_closed = asyncio.Event()

    async def gives_up(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while True:
                    await response.write(b" " * MB)
        assert request.transport is not None
        request.transport.abort()
        is_closed.set()
        return response

    graph.script("record", large(2), gives_up, large(2))
    async with full_world(graph, tries=1) as world:
        async with world.client.fetched("contoso", TENANT, CALLS[0], first := Progress()):
            waiting = asyncio.create_task(world.fetch(CALLS[1]))
            async with asyncio.timeout(10):
                await is_closed.wait()
        first.let_go()

        assert (await waiting).record.id == CALLS[1]
        assert world.outcomes("record") == {"ok": 2, "cut": 1}


async def test_a_record_beyond_its_own_bound_is_refused(graph: ScriptedGraph) -> None:
    """And lets go what it held."""
    graph.script("record", large(3))
    async with full_world(graph, max_record_bytes=2 * MB) as world:
        with pytest.raises(GraphUnavailable, match=r"graph\.max_record_bytes"):
            await world.fetch(CALLS[0])
        assert world.sample("held_bytes") == 0


async def test_pages_that_are_walked_again_are_not_counted_twice(graph: ScriptedGraph) -> None:
    """A link that goes bad on the way: what was read of the collection is forgotten, and so are its bytes."""
    sessions = f"{graph.url}/v1.0/communications/callRecords/{CALLS[0]}/sessions"
    page = {"value": [], "padding": "x" * (3 * MB)}
    record = {"id": CALLS[0], "version": 1, "sessions": [], "participants_v2": []}
    graph.script("record", says({**record, "sessions@odata.nextLink": f"{sessions}?$skiptoken=1"}))
    graph.script("version", says({"id": CALLS[0], "version": 1}))
    graph.script(
        "sessions",
        says({**page, "@odata.nextLink": f"{sessions}?$skiptoken=2"}),
        fails(410),
        says({**page, "@odata.nextLink": f"{sessions}?$skiptoken=3"}),
        says({"value": []}),
    )
    async with world_of(graph.url, max_record_bytes=5 * MB) as world:
        async with world.client.fetched("contoso", TENANT, CALLS[0], Progress()) as fetched:
            assert 3 * MB < fetched.body_bytes < 4 * MB
            # And what the version's answer held beside, which is let go with the rest.
            assert fetched.body_bytes <= world.sample("held_bytes") < fetched.body_bytes + 1000
        assert world.sample("held_bytes") == 0
