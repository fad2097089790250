"""Reading records: expansions, pages, links, preferences, the list, and what is refused."""

import asyncio
import gzip
from typing import Any
from urllib.parse import quote

import pytest

from service.clock import Clock, iso
from service.emulator.options import Limits
from tests.shell.test_emulator_tools import Client, add_record, emulated, make_record, record_path

ALL = "participants_v2,sessions($expand=segments)"


async def test_without_expand_a_record_has_its_own_properties_and_the_organizer() -> None:
    """Neither sessions nor participants come unasked."""
    async with emulated() as client:
        call = add_record(client)
        record = (await client.get(record_path(call))).json

        assert record["id"] == call.id
        assert record["organizer_v2"]["id"] == "1"
        assert not {"sessions", "participants_v2"} & set(record)
        root = client.emulator.url
        assert record["@odata.context"] == f"{root}/v1.0/$metadata#communications/callRecords/$entity"


@pytest.mark.parametrize(
    ("expand", "expected"),
    [
        ("sessions", {"sessions"}),
        ("sessions($expand=segments)", {"sessions", "segments"}),
        ("participants_v2", {"participants_v2"}),
        ("participants_v2,sessions($expand=segments)", {"sessions", "segments", "participants_v2"}),
        ("sessions($expand=segments), participants_v2", {"sessions", "segments", "participants_v2"}),
        ("sessions,participants_v2", {"sessions", "participants_v2"}),
    ],
)
async def test_expand_brings_what_it_names(expand: str, expected: set[str]) -> None:
    """In any order, under both forms of the key and both roots."""
    async with emulated() as client:
        call = add_record(client)
        for path in (record_path(call), f"/beta/communications/callRecords('{call.id}')"):
            record = (await client.get(f"{path}?$expand={quote(expand)}")).json
            found = {name for name in ("sessions", "participants_v2") if name in record}
            found |= {"segments"} if "segments" in (record.get("sessions") or [{}])[0] else set()

            assert found == expected


async def test_a_large_record_is_complete_over_its_pages() -> None:
    """60 sessions and 130 participants a page; links on the expanded collections lead to the rest, in order."""
    async with emulated() as client:
        call = add_record(client, sessions=150, people=300)
        first = (await client.get(f"{record_path(call)}?$expand={quote(ALL)}")).json
        sessions = await _follow(client, first["sessions"], first["sessions@odata.nextLink"])
        people = await _follow(client, first["participants_v2"], first["participants_v2@odata.nextLink"])

        assert (len(first["sessions"]), len(first["participants_v2"])) == (60, 130)
        document = call.current.unpack()
        assert _sessions_match(sessions, document["sessions"])
        assert people == document["participants_v2"]


async def test_the_sessions_call_pages_without_segments_too() -> None:
    """Also `odata.maxpagesize` below the maximum is honoured, and above it is not."""
    async with emulated() as client:
        call = add_record(client, sessions=61)
        small = (await client.get(f"{record_path(call)}/sessions", {"Prefer": "odata.maxpagesize=2"})).json
        large = await client.get(f"{record_path(call)}/sessions", {"Prefer": "odata.maxpagesize=1000"})
        rest = (await client.get(large.json["@odata.nextLink"])).json

        assert len(small["value"]) == 2
        assert "@odata.nextLink" in small
        assert len(large.json["value"]) == 60
        assert "segments" not in large.json["value"][0]
        assert [session["id"] for session in rest["value"]] == ["session-60"]
        assert "@odata.nextLink" not in rest


async def test_the_metadata_form_of_links_is_the_documented_trap() -> None:
    """A client that fetches it literally gets no JSON; with `$metadata#` taken out it gets the page."""
    async with emulated(nextlink_form="metadata") as client:
        call = add_record(client, sessions=61, people=131)
        record = (await client.get(f"{record_path(call)}?$expand={quote(ALL)}")).json
        link = record["sessions@odata.nextLink"]
        literal = await client.get(link.partition("#")[0])
        right = await client.get(link.replace("$metadata#", ""))

        begin = f"{client.emulator.url}/v1.0/$metadata#communications/callRecords('{call.id}')/"
        assert link.startswith(f"{begin}sessions?$expand=segments&$skiptoken=")
        assert record["participants_v2@odata.nextLink"].startswith(f"{begin}participants_v2?$skiptoken=")
        assert literal.headers["Content-Type"].startswith("application/xml")
        assert len(right.json["value"]) == 1


async def test_a_new_version_can_appear_between_two_pages() -> None:
    """A page is cut from the version that is current when it is asked for."""
    async with emulated() as client:
        call = add_record(client, sessions=61)
        first = (await client.get(f"{record_path(call)}?$expand=sessions")).json
        newer = make_record(client.emulator.world.clock, sessions=62, id=call.id, version=2)
        client.emulator.store.add_version(call, newer)
        second = (await client.get(first["sessions@odata.nextLink"])).json
        record = (await client.get(record_path(call))).json

        assert (first["version"], record["version"]) == (1, 2)
        assert len(second["value"]) == 2


async def test_a_page_mark_only_works_where_it_was_made() -> None:
    """400 for an invented mark and for one of another collection."""
    async with emulated() as client:
        one, other = add_record(client, sessions=61), add_record(client, sessions=61)
        link = (await client.get(f"{record_path(one)}/sessions")).json["@odata.nextLink"]
        token = link.partition("$skiptoken=")[2]

        assert (await client.get(f"{record_path(other)}/sessions?$skiptoken={token}")).status == 400
        assert (await client.get(f"{record_path(one)}/sessions?$expand=segments&$skiptoken={token}")).status == 400
        assert (await client.get(f"{record_path(one)}/sessions?$skiptoken=invented")).status == 400


async def test_preferences_change_the_body() -> None:
    """Nulls can be left out; members after unknownFutureValue need asking for; both are confirmed."""
    async with emulated() as client:
        path = f"{record_path(add_record(client))}?$expand=sessions"
        plain = (await client.get(path)).json
        both = await client.get(path, {"Prefer": "omit-values=nulls, include-unknown-enum-members"})
        bare = (await client.get(path, {"Accept": "application/json;odata.metadata=none"})).json

        assert plain["joinWebUrl"] is None
        assert plain["sessions"][0]["caller"]["userAgent"]["productFamily"] == "unknownFutureValue"
        assert "joinWebUrl" not in both.json
        assert "name" not in both.json["sessions"][0]["caller"]
        assert both.json["sessions"][0]["caller"]["userAgent"]["productFamily"] == "azureCommunicationServices"
        assert both.headers["Preference-Applied"] == "omit-values=nulls,include-unknown-enum-members"
        assert "@odata.type" not in bare["sessions"][0]["caller"]


async def test_select_names_properties() -> None:
    """Only those come; an unknown one is refused."""
    async with emulated() as client:
        call = add_record(client)
        record = (await client.get(f"{record_path(call)}?$select=id,version&$expand=participants_v2")).json
        session = (await client.get(f"{record_path(call)}/sessions?$select=id")).json["value"][0]
        person = (await client.get(f"{record_path(call)}/participants_v2?$select=id")).json["value"][0]

        assert {name for name in record if "@" not in name} == {"id", "version", "participants_v2"}
        assert (set(session), set(person)) == ({"id"}, {"id"})
        assert (await client.get(f"{record_path(call)}?$select=colour")).status == 400


@pytest.mark.parametrize(
    "query",
    [
        "$expand=segments",
        "$expand=sessions($expand=media)",
        "$expand=sessions($select=id)",
        "$top=5",
        "$filter=version%20eq%201",
        "$orderby=id",
    ],
)
async def test_what_graph_does_not_offer_on_a_record_is_400(query: str) -> None:
    """Options that are not documented for the call."""
    async with emulated() as client:
        answer = await client.get(f"{record_path(add_record(client))}?{query}")

        assert (answer.status, answer.code) == (400, "BadRequest")


async def test_bodies_are_compressed_where_that_was_asked_for() -> None:
    """Same JSON either way; small bodies stay plain."""
    async with emulated() as client:
        call = add_record(client, sessions=10)
        path = f"{record_path(call)}?$expand=sessions"
        plain = await client.get(path, {"Accept-Encoding": "identity"})
        client.session._auto_decompress = False  # the bytes on the wire are wanted
        packed = await client.get(path, {"Accept-Encoding": "gzip, deflate"})
        small = await client.get(f"{record_path(call)}?$select=id", {"Accept-Encoding": "gzip"})

        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed.raw) == plain.raw
        assert "Content-Encoding" not in small.headers


async def test_a_record_is_404_before_it_is_ready_and_after_thirty_days() -> None:
    """The same status for both; a bad id is 400."""
    clock = Clock(speed=20_000)
    async with emulated(clock, token_seconds=1e9) as client:
        store = client.emulator.store
        late = store.add_call(
            "c0ffee00-1111-4222-8333-444455556666", make_record(clock), visible_at=clock.now() + 60_000
        )
        early = await client.get(record_path(late))
        await clock.sleep(60_001)
        ready = await client.get(record_path(late))
        old = add_record(client, ended_ago=30 * 86400 + 60)
        gone = await client.get(record_path(old))

        assert (early.status, early.code, early.message) == (404, "NotFound", "")
        assert ready.status == 200
        assert gone.status == 404
        assert "30 days" in gone.message
        assert (await client.get("/v1.0/communications/callRecords/not-a-guid")).status == 400


async def test_the_list_is_filtered_by_start_and_person_and_paged() -> None:
    """60 a page by start; items have top-level properties, type unknown and times without fraction."""
    async with emulated() as client:
        calls = [add_record(client, ended_ago=1000 + 10 * number) for number in range(130)]
        add_record(client, ended_ago=90_000)
        calls.sort(key=lambda call: (call.start, call.id))
        begin, end = iso(calls[0].start), iso(calls[-1].start)
        window = f"startDateTime ge {begin} and startDateTime lt {end}"
        first = (await client.get(_list(window))).json
        found = await _follow(client, first["value"], first["@odata.nextLink"])

        assert len(first["value"]) == 60
        assert [item["id"] for item in found] == [call.id for call in calls[:-1]]
        item = found[0]
        assert (item["type"], item["version"]) == ("unknown", 1)
        assert len(item["startDateTime"]) == len("2026-11-22T10:00:00Z")
        assert not {"sessions", "participants_v2", "organizer_v2"} & set(item)


async def test_the_list_finds_a_person() -> None:
    """By the participant's id, together with a window."""
    async with emulated() as client:
        add_record(client, people=1)
        wanted = add_record(client, people=3)
        person = "participants_v2/any(p:p/id eq '00000000-0000-4000-8000-000000000002')"
        both = f"{person} and startDateTime ge {iso(wanted.start - 10)}"

        assert [item["id"] for item in (await client.get(_list(person))).json["value"]] == [wanted.id]
        assert [item["id"] for item in (await client.get(_list(both))).json["value"]] == [wanted.id]


@pytest.mark.parametrize(
    "query",
    [
        "$filter=" + quote("endDateTime ge 2026-01-01T00:00:00Z"),
        "$filter=" + quote("version eq 1"),
        "$filter=" + quote("startDateTime ge 2026-01-01T00:00:00Z or startDateTime lt 2026-01-01T00:00:00Z"),
        "$filter=" + quote("startDateTime ge yesterday"),
        "$filter=" + quote("startDateTime eq 2026-01-01T00:00:00Z"),
        "$filter=" + quote("participants_v2/any(p:q/id eq 'x')"),
        "$orderby=startDateTime",
        "$expand=sessions",
        "$top=1",
        "$count=true",
    ],
)
async def test_the_list_refuses_everything_else(query: str) -> None:
    """graph-contract 6.4: nothing but the start and participants."""
    async with emulated() as client:
        answer = await client.get(f"/v1.0/communications/callRecords?{query}")

        assert (answer.status, answer.code) == (400, "BadRequest")


async def test_a_record_not_ready_is_not_listed() -> None:
    """Neither is one past its 30 days."""
    async with emulated() as client:
        clock = client.emulator.world.clock
        tenant = "c0ffee00-1111-4222-8333-444455556666"
        client.emulator.store.add_call(tenant, make_record(clock), visible_at=clock.now() + 9000)
        add_record(client, ended_ago=31 * 86400)
        shown = add_record(client)

        assert [item["id"] for item in (await client.get(_list(""))).json["value"]] == [shown.id]


@pytest.mark.passes_limits
async def test_limits_are_counted_and_enforced() -> None:
    """The 41st request for one record in 20 s is 429 with Retry-After; others go on; the counters show it."""
    async with emulated() as client:
        one, other = add_record(client), add_record(client)
        answers = [await client.get(record_path(one)) for _ in range(41)]
        limits = (await client.get("/emulator/limits")).json

        assert [answer.status for answer in answers] == [200] * 40 + [429]
        assert answers[-1].code == "TooManyRequests"
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 20
        assert (await client.get(record_path(other))).status == 200
        assert (limits["record"]["highest"], limits["record"]["throttled"]) == (41, 1)
        assert limits["appAndTenant"]["limit"] == 1500


@pytest.mark.passes_limits
async def test_a_throttled_record_opens_again_after_retry_after() -> None:
    """On the clock."""
    clock = Clock(speed=20)
    async with emulated(clock, token_seconds=1e6, limits=Limits(record=2)) as client:
        path = record_path(add_record(client))
        answers = await asyncio.gather(*(client.get(path) for _ in range(5)))
        waits = [int(answer.headers["Retry-After"]) for answer in answers if answer.status == 429]
        await clock.sleep(max(waits))
        again = await client.get(path)

        assert len(waits) == 3
        assert again.status == 200


async def test_simultaneous_readers_share_one_prepared_body() -> None:
    """The same page of a version is written once."""
    async with emulated() as client:
        path = f"{record_path(add_record(client, sessions=20))}?$expand=sessions"
        answers = await asyncio.gather(*(client.get(path) for _ in range(10)))

        assert len({answer.raw for answer in answers}) == 1
        assert len(client.emulator.world.bodies._bodies) == 1


def _list(text: str) -> str:
    return "/v1.0/communications/callRecords" + (f"?$filter={quote(text)}" if text else "")


async def _follow(client: Client, items: list[Any], link: str | None) -> list[Any]:
    """All pages."""
    found = list(items)
    while link:
        page = (await client.get(link)).json
        found += page["value"]
        link = page.get("@odata.nextLink")
    return found


def _sessions_match(got: list[Any], truth: list[Any]) -> bool:
    """Equal but for the enum member that needs asking for."""
    for session in got:
        session["caller"]["userAgent"]["productFamily"] = "azureCommunicationServices"
    return got == truth
