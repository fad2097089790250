"""What Graph answers in place of a record: refusals, waits, broken bodies; and budgets."""

import asyncio
import gzip
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from aiohttp import web

from service.clock import Clock
from service.errors import GraphUnavailable, NotACallRecord, RecordNotFound, TenantMustWait
from tests.shell.graph_bodies import BASE, graph, page, record, sessions_of, version, world
from tests.shell.graph_fixture import (
    CALL,
    Answer,
    ScriptedGraph,
    World,
    cut,
    fails,
    hangs,
    raw,
    says,
    slams,
    world_of,
    zipped,
)

__all__ = ["graph", "world"]

# Seconds before the second try and the third, the least and the most.
PAUSES = ((0.25, 0.5), (0.75, 1.5))


class NotingClock(Clock):
    """Runs fast, and knows how long was slept on it each time."""

    def __init__(self) -> None:
        super().__init__(speed=200)
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds)

    def slept_within(self, pauses: Sequence[tuple[float, float]]) -> bool:
        """Whether the pauses were these and no others."""
        return len(self.slept) == len(pauses) and all(
            least <= pause <= most for pause, (least, most) in zip(self.slept, pauses, strict=True)
        )


# ---- what Graph answers --------------------------------------------------------------------------------------------


async def test_a_record_that_is_not_there_is_not_found(graph: ScriptedGraph, world: World) -> None:
    """Not ready, or gone: the same answer. Asked once."""
    graph.script("record", fails(404, "NotFound"))

    with pytest.raises(RecordNotFound):
        await world.fetch()
    assert graph.kinds() == ["record"]
    assert world.gates.waiting_seconds("contoso") == 0


async def test_a_refused_token_is_replaced_once(graph: ScriptedGraph, world: World) -> None:
    """The same request with a new one."""
    graph.script("record", fails(401), says(record()))
    await world.fetch()

    assert [seen.headers["Authorization"] for seen in graph.seen if seen.kind == "record"] == [
        "Bearer token-1",
        "Bearer token-2",
    ]
    assert world.outcomes("record") == {"unauthorized": 1, "ok": 1}


async def test_a_new_token_that_is_refused_too_makes_the_tenant_wait(graph: ScriptedGraph, world: World) -> None:
    """No storm of token requests."""
    graph.script("record", fails(401))

    with pytest.raises(TenantMustWait) as raised:
        await world.fetch()
    assert raised.value.cause == "no_token"
    assert raised.value.wait_seconds > 20
    with pytest.raises(TenantMustWait):
        await world.fetch()
    assert len(graph.asked("record")) == 2
    assert len(graph.asked("token")) == 2


async def test_missing_consent_makes_the_tenant_wait_and_is_named(graph: ScriptedGraph, world: World) -> None:
    """A person has to grant it; the record loses no attempt."""
    graph.script("record", fails(403, "Forbidden"))

    with pytest.raises(TenantMustWait, match=r"CallRecords\.Read\.All") as raised:
        await world.fetch()
    assert raised.value.cause == "forbidden"
    assert world.gates.waiting_seconds("contoso") > 20
    assert world.sample("tenant_waiting", tenant="contoso") == 1


async def test_throttling_makes_the_whole_tenant_wait_as_long_as_graph_asks(graph: ScriptedGraph) -> None:
    """Also calls made meanwhile would count."""
    async with world_of(graph.url, Clock()) as world:
        graph.script("record", fails(429, "TooManyRequests", Retry_After="17"))

        with pytest.raises(TenantMustWait) as raised:
            await world.fetch()
        assert (raised.value.cause, round(raised.value.wait_seconds)) == ("throttled", 17)
        with pytest.raises(TenantMustWait):
            await world.fetch("00000000-0000-4000-8000-000000000000")
        assert len(graph.asked("record")) == 1


async def test_throttling_without_a_time_makes_the_tenant_wait_for_one_of_ours(graph: ScriptedGraph) -> None:
    """5 s at first; the clock is slow, so that nothing of them passes meanwhile."""
    async with world_of(graph.url, Clock(speed=0.01)) as world:
        graph.script("record", fails(429, "TooManyRequests"))

        with pytest.raises(TenantMustWait) as raised:
            await world.fetch()

    assert raised.value.cause == "throttled"
    assert 3.9 < raised.value.wait_seconds <= 5.0
    assert len(graph.asked("record")) == 1


async def test_a_record_under_way_sits_out_a_short_wait(graph: ScriptedGraph, world: World) -> None:
    """Seventy requests are not thrown away for three seconds."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=s")))
    graph.script("sessions", fails(429, Retry_After="3"), says(page("s1")))
    graph.script("version", version(1))

    assert sessions_of(await world.fetch()) == ["first0", "s1"]
    assert world.outcomes("sessions") == {"throttled": 1, "ok": 1}


async def test_a_record_under_way_does_not_sit_out_a_long_wait(graph: ScriptedGraph, world: World) -> None:
    """It would hold its place for others in vain."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=s")))
    graph.script("sessions", fails(429, Retry_After="600"))

    with pytest.raises(TenantMustWait):
        await world.fetch()


async def test_a_login_that_gives_no_token_makes_the_tenant_wait(graph: ScriptedGraph, world: World) -> None:
    """The reason comes through."""
    graph.script("token", says({"error": "x", "error_description": "AADSTS7000222: expired"}, 401))

    with pytest.raises(TenantMustWait, match="AADSTS7000222"):
        await world.fetch()
    assert world.gates.waiting_seconds("contoso") > 20
    assert graph.kinds() == []


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (fails(500), "error"),
        (fails(502), "error"),
        (fails(503), "error"),
        (fails(509), "error"),
        (hangs, "timeout"),
        (cut, "cut"),
        (zipped(record(), 60), "cut"),
        (raw(b"not gzip at all", Content_Encoding="gzip"), "cut"),
        (raw(b"x", Content_Encoding="br"), "cut"),
        (raw(b""), "error"),
        (raw(b"<html>busy</html>", Content_Type="text/html"), "error"),
        (raw(b"not json"), "error"),
        (raw(orjson.dumps(record())[:40]), "cut"),
        (says({"error": {"code": "generalException"}}), "error"),
        (raw(b"", 204), "error"),
    ],
)
async def test_a_broken_answer_is_asked_for_again_in_place(graph: ScriptedGraph, answer: Answer, outcome: str) -> None:
    """With growing waits, and the record comes in the end."""
    graph.script("record", answer, answer, says(record()))
    clock = NotingClock()
    async with world_of(graph.url, clock) as world:
        assert sessions_of(await world.fetch()) == ["first0"]

    assert world.outcomes("record") == {outcome: 2, "ok": 1}
    assert clock.slept_within(PAUSES), clock.slept


async def test_waits_in_place_grow_to_five_seconds_and_differ(graph: ScriptedGraph) -> None:
    """Up to half shorter each, so that records that failed together do not come back together."""
    graph.script("record", fails(502))
    clock = NotingClock()
    async with world_of(graph.url, clock, tries=7) as world:
        with pytest.raises(GraphUnavailable):
            await world.fetch()

    longest = (0.5, 1.5, 4.5, 5.0, 5.0, 5.0)
    assert clock.slept_within([(most / 2, most) for most in longest]), clock.slept
    assert len({pause / most for pause, most in zip(clock.slept, longest, strict=True)}) > 1


async def test_a_short_wait_that_the_server_asks_for_is_kept_in_place(graph: ScriptedGraph) -> None:
    """In place of ours, each time."""
    graph.script("record", fails(503, Retry_After="2"), fails(503, Retry_After="5"), says(record()))
    clock = NotingClock()
    async with world_of(graph.url, clock) as world:
        assert sessions_of(await world.fetch()) == ["first0"]

    assert clock.slept == [2.0, 5.0]


async def test_a_connection_closed_without_a_word_is_an_error_like_others(graph: ScriptedGraph, world: World) -> None:
    """aiohttp opens another one by itself where the old one had been used before; we do where it had not."""
    graph.script("record", slams, slams, slams, says(record()))

    assert sessions_of(await world.fetch()) == ["first0"]
    assert world.outcomes("record")["error"] >= 1


async def test_tries_in_place_have_an_end(graph: ScriptedGraph, world: World) -> None:
    """The retry topics have more time than we have."""
    graph.script("record", fails(502, "BadGateway"))

    with pytest.raises(GraphUnavailable, match="502 BadGateway"):
        await world.fetch()
    assert len(graph.asked("record")) == 3


async def test_a_server_that_asks_for_a_long_wait_is_not_tried_again_in_place(
    graph: ScriptedGraph, world: World
) -> None:
    """Its own wait wins over ours."""
    graph.script("record", fails(503, Retry_After="30"))

    with pytest.raises(GraphUnavailable):
        await world.fetch()
    assert len(graph.asked("record")) == 1


async def test_a_status_counts_although_its_body_never_comes(graph: ScriptedGraph) -> None:
    """403 is 403."""

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=403, headers={"Content-Length": "100"})
        await response.prepare(request)
        await asyncio.Event().wait()
        return response

    graph.script("record", half)
    async with world_of(graph.url, Clock(speed=5)) as world:
        with pytest.raises(TenantMustWait) as raised:
            await world.fetch()

    assert raised.value.cause == "forbidden"


@pytest.mark.parametrize("body", [[], 7, {}, {"id": CALL}, {"version": 1}, {"value": []}])
async def test_json_that_is_no_call_record_is_told_apart(graph: ScriptedGraph, world: World, body: Any) -> None:
    """Asking again would not help: the dead letter names it."""
    graph.script("record", says(body))

    with pytest.raises(NotACallRecord):
        await world.fetch()
    assert len(graph.asked("record")) == 1


async def test_a_page_that_is_no_page_never_sets_the_call_aside(graph: ScriptedGraph, world: World) -> None:
    """The record is there; its page will come."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=s")))
    graph.script("sessions", says({"id": "no page"}), says([]), says(page("s1")))
    graph.script("version", says({}), version(1))

    assert sessions_of(await world.fetch()) == ["first0", "s1"]


@pytest.mark.parametrize("is_zipped", [False, True])
async def test_a_body_beyond_the_limit_is_refused_while_it_is_read(graph: ScriptedGraph, is_zipped: bool) -> None:
    """A few kilobytes of gzip can hold gigabytes."""
    bomb = b" " * 20_000_000
    async with world_of(graph.url, max_body_bytes=100_000) as world:
        graph.script("record", raw(gzip.compress(bomb), Content_Encoding="gzip") if is_zipped else raw(bomb))

        with pytest.raises(GraphUnavailable, match="max_body_bytes"):
            await world.fetch()
        assert world.outcomes("record") == {"refused": 1}


async def test_a_body_of_exactly_the_limit_is_taken(graph: ScriptedGraph) -> None:
    """Counted after decompression."""
    size = len(orjson.dumps(record()))
    async with world_of(graph.url, max_body_bytes=size) as world:
        graph.script("record", zipped(record()))

        assert (await world.fetch()).body_bytes == size


async def test_a_graph_that_cannot_be_reached_is_unavailable(graph: ScriptedGraph) -> None:
    """Nothing listens there; the token had been had before."""
    async with world_of(graph.url) as world, world_of("http://127.0.0.1:9") as nowhere:
        graph.script("record", says(record()))
        await world.fetch()
        nowhere.client._exchange._tokens = world.tokens

        with pytest.raises(GraphUnavailable, match="cannot be reached"):
            await nowhere.fetch()


async def test_most_requests_failing_is_an_outage_and_no_attempt(graph: ScriptedGraph, world: World) -> None:
    """After it one probe decides; then all goes on."""
    graph.script("record", fails(503))
    causes = []
    for number in range(5):
        with pytest.raises((GraphUnavailable, TenantMustWait)) as raised:
            await world.fetch(f"00000000-0000-4000-8000-00000000000{number}")
        causes.append(getattr(raised.value, "cause", ""))
    assert causes == ["", "", "", "outage", "outage"]
    asked = len(graph.asked("record"))

    await world.clock.sleep(world.gates.waiting_seconds("contoso"))
    graph.script("record", says(record()))
    await asyncio.gather(world.fetch(), world.fetch(), return_exceptions=True)
    assert len(graph.asked("record")) == asked + 1
    await world.fetch()


# ---- budgets and cancelling ----------------------------------------------------------------------------------------


async def test_one_record_never_asks_more_often_than_its_budget_allows(graph: ScriptedGraph) -> None:
    """Graph allows 40 in 20 s for one record, and a large one needs more."""
    times: list[float] = []
    async with world_of(graph.url, Clock(speed=100), record_requests_per_20s=5) as world:
        last = 23

        async def more(request: web.Request) -> web.StreamResponse:
            times.append(world.clock.now())
            number = int(request.query["$skiptoken"])
            link = f"{graph.url}{BASE}/sessions?$skiptoken={number + 1}" if number < last else None
            return web.json_response(page(f"s{number}", link=link))

        graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=1")))
        graph.script("sessions", more)
        graph.script("version", version(1))
        fetched = await world.fetch()

    assert len(fetched.record.sessions or []) == 1 + last
    assert all(later - earlier > 20 for earlier, later in zip(times, times[5:], strict=False))


async def test_a_tenants_budget_holds_for_all_its_records_together(graph: ScriptedGraph) -> None:
    """Fetches that find it spent wait their turn."""
    times: list[float] = []
    async with world_of(graph.url, Clock(speed=100), tenant_requests_per_20s=10) as world:

        async def one(request: web.Request) -> web.StreamResponse:
            times.append(world.clock.now())
            return web.json_response({**record(), "id": request.path.rpartition("/")[2]})

        graph.script("record", one)
        await asyncio.gather(*(world.fetch(f"00000000-0000-4000-8000-{number:012}") for number in range(25)))

    assert len(times) == 25
    assert all(later - earlier > 20 for earlier, later in zip(times, times[10:], strict=False))


@pytest.mark.parametrize("kind", ["token", "record", "sessions", "version"])
async def test_cancelling_leaves_nothing_behind(graph: ScriptedGraph, world: World, kind: str) -> None:
    """At any await; the next fetch is as if nothing had been."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=s")))
    graph.script("sessions", says(page("s1")))
    graph.script("version", version(1))
    good = list(graph.scripts[kind])
    graph.script(kind, hangs)
    fetching = asyncio.create_task(world.fetch())
    async with asyncio.timeout(10):
        while kind not in [seen.kind for seen in graph.seen]:  # noqa: ASYNC110 - happens in code under test
            await asyncio.sleep(0.001)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching

    graph.script(kind, *good)
    assert sessions_of(await world.fetch()) == ["first0", "s1"]


async def test_a_cancelled_probe_lets_another_one_go(graph: ScriptedGraph, world: World) -> None:
    """Else the tenant would wait for an answer nobody awaits."""
    graph.script("record", fails(403), hangs, says(record()))
    with pytest.raises(TenantMustWait):
        await world.fetch()
    await world.clock.sleep(world.gates.waiting_seconds("contoso"))
    probe = asyncio.create_task(world.fetch())
    await graph.until_seen(2, "record")  # not the token that is asked for anew after a 403
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)

    assert sessions_of(await world.fetch()) == ["first0"]
