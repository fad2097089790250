"""One call record from a Graph that does as it is told: every page, one version, and each way in which it can fail."""

import gzip

import orjson
import pytest

from service.errors import GraphUnavailable, RecordNotFound
from service.graph.client import RecordChanged
from service.graph.exchange import Rejected
from tests.shell.graph_bodies import BASE, EVIL, WHOLE, graph, page, record, sessions_of, version, world
from tests.shell.graph_fixture import (
    CALL,
    ScriptedGraph,
    World,
    fails,
    raw,
    says,
    world_of,
    zipped,
)

__all__ = ["graph", "world"]


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


async def test_of_many_odd_values_a_thousand_are_kept_and_all_are_counted(graph: ScriptedGraph, world: World) -> None:
    """Over all pages; the counter is right however many there are."""
    graph.script("record", says(record(1, 1, f"{graph.url}{BASE}/sessions?$skiptoken=s", modalities=[1] * 700)))
    graph.script("sessions", says({"value": [{"id": "s1", "isTest": 1}, *[7] * 1200]}))
    graph.script("version", version(1))
    fetched = await world.fetch()

    assert sessions_of(fetched) == ["first0", "s1"]
    assert len(fetched.odd) == 1000
    assert world.sample("odd_values_total", field="modalities", kind="wrong_type") == 700
    assert world.sample("odd_values_total", field="value", kind="wrong_type") == 1200
    assert world.sample("odd_values_total", field="value.isTest", kind="wrong_type") == 1


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


async def test_a_token_that_is_repeated_in_a_record_is_kept_nowhere(graph: ScriptedGraph, world: World) -> None:
    """On any page; neither in what is published nor in what is archived, which holds what nobody knows as well."""
    token = "eyJ0eXAi.eyJNQVJL.TUFSSw"
    graph.script("token", says({"access_token": token, "expires_in": 3600}))
    link = f"{graph.url}{BASE}/sessions?$skiptoken=s"
    echo = {"joinWebUrl": f"Bearer {token}", "seen": {"Authorization": f"Bearer {token}"}}
    graph.script("record", says(record(1, 1, link, **echo)))
    graph.script("sessions", says({**page("s1"), "value": [{"id": "s1", "seen": token}]}))
    graph.script("version", version(1))
    fetched = await world.fetch()

    assert fetched.record.join_web_url == "Bearer ***"
    assert fetched.kept is not None
    kept = [fetched.kept.record, *fetched.kept.sessions.pages]
    assert [body.count(b"***") for body in kept] == [2, 1]
    assert not any(token.encode() in body for body in kept)


async def test_redirects_are_not_followed(graph: ScriptedGraph, world: World) -> None:
    """They would carry the token elsewhere."""
    graph.script("record", raw(b"", 307, Location=f"{graph.url}/elsewhere"))

    with pytest.raises(GraphUnavailable, match="307"):
        await world.fetch()
    assert graph.kinds() == ["record"]
    assert world.outcomes("record") == {"refused": 1}
