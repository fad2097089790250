"""One call record from a Graph that does as it is told: every page, one version, and each way in which it can fail."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from service.clock import Clock
from service.errors import GraphUnavailable, NotACallRecord, RecordNotFound, TenantMustWait
from service.graph.client import RecordChanged
from service.graph.exchange import Rejected
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
    scripted,
    slams,
    world_of,
    zipped,
)

BASE = f"/v1.0/communications/callRecords/{CALL}"
WHOLE = f"{BASE}?$expand=participants_v2,sessions($expand=segments)"
EVIL = f"https://evil.example.com/v1.0/communications/callRecords/{CALL}/sessions?$skiptoken=a"


@pytest_asyncio.fixture
async def graph() -> AsyncIterator[ScriptedGraph]:
    async with scripted() as graph:
        yield graph


@pytest_asyncio.fixture
async def world(graph: ScriptedGraph) -> AsyncIterator[World]:
    async with world_of(graph.url) as world:
        yield world


def record(version: int = 1, sessions: int | None = 1, link: str | None = None, **more: Any) -> dict[str, Any]:
    """A record; `link` leads to more sessions."""
    body: dict[str, Any] = {"id": CALL, "version": version, "type": "groupCall", "participants_v2": [{"id": "p0"}]}
    if sessions is not None:
        body["sessions"] = [{"id": f"first{number}"} for number in range(sessions)]
    if link is not None:
        body["sessions@odata.nextLink"] = link
    return {**body, **more}


def page(*names: str, link: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"value": [{"id": name} for name in names]}
    return body if link is None else {**body, "@odata.nextLink": link}


def version(number: int) -> Answer:
    return says({"id": CALL, "version": number})


def sessions_of(fetched: Any) -> list[str]:
    return [session.id for session in fetched.record.sessions]


# ---- reading -------------------------------------------------------------------------------------------------------


async def test_a_small_record_is_one_request(graph: ScriptedGraph, world: World) -> None:
    """Record, sessions, segments and participants together, with the preferences of the contract."""
    body = record(3)
    graph.script("record", says(body))
    fetched = await world.fetch()

    assert graph.asked() == [WHOLE]
    headers = graph.seen[-1].headers
    assert headers["Authorization"] == "Bearer token-1"
    assert headers["Prefer"] == "include-unknown-enum-members, omit-values=nulls"
    assert headers["Accept-Encoding"] == "gzip"
    assert len(headers["client-request-id"]) == 36
    assert (fetched.record.version, sessions_of(fetched), fetched.odd) == (3, ["first0"], [])
    assert (fetched.pages, fetched.body_bytes) == (1, len(orjson.dumps(body)))
    assert (world.progress.version, world.progress.pages) == (3, 1)
    assert world.progress.last_page_at is not None
    assert world.outcomes("record") == {"ok": 1}


async def test_every_request_has_an_id_of_its_own(graph: ScriptedGraph, world: World) -> None:
    """Graph's support finds a request by it."""
    graph.script("record", says(record()))
    await world.fetch()
    await world.fetch()

    ids = [seen.headers["client-request-id"] for seen in graph.seen if seen.kind == "record"]
    assert len(set(ids)) == 2


async def test_all_pages_of_both_collections_are_read_to_the_end(graph: ScriptedGraph, world: World) -> None:
    """Then the version is looked at once more: it is still the same."""
    people = f"{graph.url}{BASE}/participants_v2?$skiptoken=p"
    graph.script(
        "record",
        says(
            record(
                1,
                1,
                f"{graph.url}{BASE}/sessions?$expand=segments&$skiptoken=s1",
                **{"participants_v2@odata.nextLink": people},
            )
        ),
    )
    graph.script("sessions", says(page("s1", link=f"{graph.url}{BASE}/sessions?$skiptoken=s2")), says(page("s2")))
    graph.script("participants", says(page("p1", "p2")))
    graph.script("version", version(1))
    fetched = await world.fetch()

    assert sessions_of(fetched) == ["first0", "s1", "s2"]
    assert [person.id for person in fetched.record.participants_v2 or []] == ["p0", "p1", "p2"]
    assert fetched.record.sessions_next_link is None
    assert fetched.record.participants_next_link is None
    assert graph.kinds() == ["record", "sessions", "sessions", "participants", "version"]
    assert fetched.pages == world.progress.pages == 4


async def test_the_metadata_trap_is_walked_around(graph: ScriptedGraph, world: World) -> None:
    """Graph-contract 6.3."""
    tail = f"communications/callRecords('{CALL}')/sessions?$expand=segments&$skiptoken=s"
    graph.script("record", says(record(1, 1, f"{graph.url}/v1.0/$metadata#{tail}")))
    graph.script("sessions", says(page("s1")))
    graph.script("version", version(1))

    assert sessions_of(await world.fetch()) == ["first0", "s1"]
    assert graph.asked("sessions") == [f"/v1.0/{tail}"]


async def test_missing_sessions_are_not_taken_for_none(graph: ScriptedGraph, world: World) -> None:
    """An expansion that was not made would publish an empty call."""
    graph.script("record", says(record(1, None)))
    graph.script("sessions", says(page("s1")))
    graph.script("version", version(1))

    assert sessions_of(await world.fetch()) == ["s1"]


async def test_where_both_expansions_are_refused_the_documented_forms_are_used(
    graph: ScriptedGraph, world: World
) -> None:
    """The combined form is used in the field but not documented; what was learnt is remembered."""
    graph.script("record", fails(400), says(record(1, 2)))
    graph.script("participants", says(page("p1")))
    graph.script("version", version(1))
    for _ in range(2):
        fetched = await world.fetch()
        assert [person.id for person in fetched.record.participants_v2 or []] == ["p1"]

    apart = f"{BASE}?$expand=sessions($expand=segments)"
    assert graph.asked("record") == [WHOLE, apart, apart]


async def test_a_refused_id_teaches_nothing_about_expansions(graph: ScriptedGraph, world: World) -> None:
    """Both forms are refused then."""
    graph.script("record", fails(400), fails(400), says(record()))
    with pytest.raises(Rejected):
        await world.fetch()
    await world.fetch()

    assert graph.asked("record")[2] == WHOLE


async def test_a_gzip_body_is_read(graph: ScriptedGraph, world: World) -> None:
    """In one member or in several."""
    whole = orjson.dumps(record())
    graph.script(
        "record", zipped(record()), raw(gzip.compress(whole[:50]) + gzip.compress(whole[50:]), Content_Encoding="gzip")
    )

    assert sessions_of(await world.fetch()) == sessions_of(await world.fetch()) == ["first0"]


async def test_odd_values_of_every_page_are_told_and_counted(graph: ScriptedGraph, world: World) -> None:
    """By field and kind; the record comes all the same."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=s", type=7)))
    graph.script("sessions", says({"value": [{"id": "s1", "startDateTime": "yesterday"}]}))
    graph.script("version", version(1))
    fetched = await world.fetch()

    assert len(fetched.odd) == 2
    for odd in fetched.odd:
        assert world.sample("odd_values_total", field=odd.field, kind=odd.kind) == 1


async def test_every_so_many_records_one_is_searched_thoroughly(graph: ScriptedGraph) -> None:
    """Unknown fields are passed silently otherwise."""
    async with world_of(graph.url, thorough_every=3) as world:
        graph.script("record", says(record(newField=1)))

        assert [len((await world.fetch()).odd) for _ in range(6)] == [0, 0, 1, 0, 0, 1]


# ---- one version ---------------------------------------------------------------------------------------------------


async def test_a_version_that_appears_between_pages_begins_the_record_again(graph: ScriptedGraph, world: World) -> None:
    """Never half of one version and half of another."""
    link = f"{graph.url}{BASE}/sessions?$skiptoken=s"
    graph.script("record", says(record(1, 1, link)), says(record(2, 2, link)))
    graph.script("sessions", says(page("old")), says(page("new")))
    graph.script("version", version(2))
    fetched = await world.fetch()

    assert (fetched.record.version, sessions_of(fetched)) == (2, ["first0", "first1", "new"])
    assert (fetched.pages, world.progress.pages, world.progress.version) == (2, 4, 2)


async def test_a_record_that_keeps_changing_is_left_for_later(graph: ScriptedGraph, world: World) -> None:
    """With a reason of its own."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=s")))
    graph.script("sessions", says(page("s")))
    graph.script("version", version(2))

    with pytest.raises(RecordChanged) as raised:
        await world.fetch()
    assert raised.value.reason == "changed"
    assert len(graph.asked("record")) == 4


async def test_another_record_than_the_one_asked_for_is_not_taken(graph: ScriptedGraph, world: World) -> None:
    """It would be published under the wrong call."""
    graph.script("record", says({**record(), "id": "00000000-0000-4000-8000-000000000000"}))

    with pytest.raises(GraphUnavailable, match="another call record"):
        await world.fetch()


# ---- links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_link_that_has_grown_old_restarts_its_collection(
    graph: ScriptedGraph, world: World, status: int
) -> None:
    """Graph-contract 6.3: from the collection's own address, with nothing of the first page kept twice."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=old")))
    graph.script(
        "sessions", fails(status), says(page("a", link=f"{graph.url}{BASE}/sessions?$skiptoken=new")), says(page("b"))
    )
    graph.script("version", version(1))

    assert sessions_of(await world.fetch()) == ["a", "b"]
    assert graph.asked("sessions")[1] == f"{BASE}/sessions?$expand=segments"


async def test_links_that_always_grow_old_end_the_fetch(graph: ScriptedGraph, world: World) -> None:
    """Bounded: two walks from the start."""
    link = f"{graph.url}{BASE}/sessions?$skiptoken=old"
    graph.script("record", says(record(1, 1, link)))
    graph.script("sessions", fails(410), says(page("a", link=link)), fails(410), says(page("a", link=link)), fails(410))

    with pytest.raises(GraphUnavailable, match="go bad"):
        await world.fetch()
    assert len(graph.asked("sessions")) == 5


async def test_a_record_that_vanishes_between_pages_is_not_found(graph: ScriptedGraph, world: World) -> None:
    """Its age decides what that means."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=s")))
    graph.script("sessions", fails(404))

    with pytest.raises(RecordNotFound):
        await world.fetch()


async def test_a_foreign_link_is_not_followed_and_the_collection_is_walked(graph: ScriptedGraph, world: World) -> None:
    """The token never leaves for another host."""
    graph.script("record", says(record(1, 1, EVIL)))
    graph.script("sessions", says(page("a", link=f"{graph.url}{BASE}/sessions?$skiptoken=b")), says(page("b")))
    graph.script("version", version(1))

    assert sessions_of(await world.fetch()) == ["a", "b"]
    assert world.outcomes("sessions") == {"refused": 1, "ok": 2}


async def test_foreign_links_everywhere_end_the_fetch(graph: ScriptedGraph, world: World) -> None:
    """Nothing of the record is published, and the reason is told."""
    graph.script("record", says(record(1, 1, EVIL)))
    graph.script("sessions", says(page("a", link=EVIL)))

    with pytest.raises(GraphUnavailable, match="another host"):
        await world.fetch()
    assert world.outcomes("sessions") == {"refused": 2, "ok": 1}


async def test_links_that_lead_in_circles_end_the_fetch(graph: ScriptedGraph, world: World) -> None:
    """The same link twice has no end."""
    link = f"{graph.url}{BASE}/sessions?$skiptoken=s"
    graph.script("record", says(record(1, 1, link)))
    graph.script("sessions", says(page("a", link=link)))

    with pytest.raises(GraphUnavailable, match="circles"):
        await world.fetch()
    assert len(graph.asked("sessions")) == 3


async def test_redirects_are_not_followed(graph: ScriptedGraph, world: World) -> None:
    """They would carry the token elsewhere."""
    graph.script("record", raw(b"", 307, Location=f"{graph.url}/elsewhere"))

    with pytest.raises(GraphUnavailable, match="307"):
        await world.fetch()
    assert graph.kinds() == ["record"]
    assert world.outcomes("record") == {"refused": 1}


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
        (fails(503, Retry_After="2"), "error"),
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
async def test_a_broken_answer_is_asked_for_again_in_place(
    graph: ScriptedGraph, world: World, answer: Answer, outcome: str
) -> None:
    """With growing waits, and the record comes in the end."""
    graph.script("record", answer, answer, says(record()))

    assert sessions_of(await world.fetch()) == ["first0"]
    assert world.outcomes("record") == {outcome: 2, "ok": 1}


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
