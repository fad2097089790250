"""Scripted faults in their time and place: for a while, on a page, before a notification; from a file; on the clock."""

import asyncio
import json
import math
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.cli.emulate import emulate_command
from service.clock import Clock, from_iso, iso
from service.emulator.fault_file import read_faults
from service.emulator.fault_wishes import ACTIONS, FIELDS, KINDS, MOST_SECONDS, RETRY_AFTER_FORMS, STATUSES
from service.emulator.options import EmulatorOptions
from service.emulator.server import open_emulator
from service.errors import UserError
from service.graph.protocol import next_page
from tests.shell.test_emulator_faults import RECORDS, _add
from tests.shell.test_emulator_tools import (
    Client,
    add_record,
    emulated,
    record_path,
    subscriber,
    subscription,
    until,
)

CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
EXPANDED = "?$expand=sessions($expand=segments),participants_v2"


async def statuses(client: Client, path: str, count: int) -> list[int]:
    """What the next answers say."""
    return [(await client.get(path)).status for _ in range(count)]


async def test_a_fault_begins_and_ends_by_the_emulator_s_clock() -> None:
    """`afterSeconds` until it begins, `forSeconds` until it is over."""
    clock = Clock(speed=1000)
    async with emulated(clock, token_seconds=1e9) as client:
        path = record_path(add_record(client))
        await _add(client, status=503, afterSeconds=1500, forSeconds=2000)
        before = await statuses(client, path, 1)
        await clock.sleep(1500)
        within = await statuses(client, path, 1)
        await clock.sleep(2000)
        after = await statuses(client, path, 1)
        [shown] = (await client.get("/emulator/faults")).json["value"]

        assert [before, within, after] == [[200], [503], [200]]
        assert (shown["acted"], shown["inForce"], shown["forSeconds"]) == (1, False, 2000)


async def test_each_record_can_be_late_by_hours_of_its_own() -> None:
    """`not-ready` counts from when the call was made; a newer call waits longer."""
    clock = Clock(speed=4000)
    async with emulated(clock, token_seconds=1e9) as client:
        await _add(client, kind="record", action="not-ready", seconds=7200)
        old = record_path(add_record(client))
        early = [await statuses(client, old, 1)]
        await clock.sleep(7200)
        new = record_path(add_record(client))
        late = [await statuses(client, old, 1), await statuses(client, new, 1)]

        assert early == [[404]]
        assert late == [[200], [404]]


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_a_fault_can_mean_one_page(page: int) -> None:
    """Of sessions, participants and the list alike."""
    async with emulated(list_page=1, participants_page=1) as client:
        call = add_record(client, sessions=150, people=3)
        for _ in range(2):
            add_record(client)
        await _add(client, status=401, page=page)
        for path in (f"{record_path(call)}/sessions", f"{record_path(call)}/participants_v2", RECORDS):
            seen, link = [], f"{client.emulator.url}{path}"
            while link:
                answer = await client.get(link)
                seen.append(answer.status)
                if answer.status != 200:
                    break
                link = answer.json.get("@odata.nextLink", "")

            assert seen == [200] * (page - 1) + [401]


async def test_retry_after_can_be_a_date() -> None:
    """As RFC 9110 allows; it counts from the answer's own `Date`, which is the emulator's and not the machine's."""
    clock = Clock(start=1_800_000_000.0)
    async with emulated(clock) as client:
        path = record_path(add_record(client))
        await _add(client, status=429, retryAfter=90, retryAfterForm="date")
        answer = await client.get(path)
        date, until_date = (parsedate_to_datetime(answer.headers[name]) for name in ("Date", "Retry-After"))

        assert (until_date - date).total_seconds() == pytest.approx(90, abs=2)
        assert date.timestamp() == pytest.approx(clock.now(), abs=30)


async def test_answers_go_wrong_in_what_they_hold() -> None:
    """Cut JSON, another type of content, another body, nothing where a collection was asked for."""
    async with emulated() as client:
        call = add_record(client, sessions=70)
        path = record_path(call) + EXPANDED
        whole = await client.get(path)
        for fault in (
            {"action": "cut-json"},
            {"action": "content-type", "contentType": "text/csv"},
            {"action": "body", "body": [1]},
            {"action": "missing"},
        ):
            await _add(client, count=1, **fault)
        cut, typed, other, missing = [await client.get(path) for _ in range(4)]
        await _add(client, action="missing", count=1)
        page = await client.get(f"{record_path(call)}/sessions")

        with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
            json.loads(cut.raw)
        assert typed.headers["Content-Type"] == "text/csv"
        assert typed.json == whole.json
        assert other.json == [1]
        assert not {"sessions", "participants_v2", "sessions@odata.nextLink"} & set(missing.json)
        assert missing.json["version"] == 1
        assert "value" not in page.json


async def test_links_can_lead_astray() -> None:
    """To another host, in a circle, or to an empty page first."""
    async with emulated() as client:
        call = add_record(client, sessions=130)
        path = f"{record_path(call)}/sessions"
        await _add(client, action="foreign-link", host="graph.example.org", count=1)
        foreign = (await client.get(record_path(call) + EXPANDED)).json["sessions@odata.nextLink"]
        await _add(client, action="looping-link", count=1)
        looping = (await client.get(path)).json["@odata.nextLink"]
        await _add(client, action="empty-page", count=2)
        first = (await client.get(path)).json
        second = (await client.get(first["@odata.nextLink"])).json
        third = (await client.get(second["@odata.nextLink"])).json

        assert foreign.startswith("http://graph.example.org/v1.0/communications/")
        assert looping == f"{client.emulator.url}{path}"
        assert (first["value"], second["value"], len(third["value"])) == ([], [], 60)
        assert len({first["@odata.nextLink"], second["@odata.nextLink"]}) == 2
        assert next_page(first["@odata.nextLink"], client.emulator.url, call.id)


async def test_a_new_version_can_come_between_two_pages() -> None:
    """Before the second page is cut, the call has its next version."""
    async with emulated() as client:
        call = add_record(client, sessions=130)
        await _add(client, action="new-version", page=2, count=1)
        first = await client.get(record_path(call) + EXPANDED)
        await client.get(first.json["sessions@odata.nextLink"])

        assert first.json["version"] == 1
        assert (await client.get(record_path(call))).json["version"] == 2


async def test_a_connection_can_close_without_an_answer() -> None:
    """The client is told nothing at all."""
    async with emulated() as client:
        path = record_path(add_record(client))
        rule = await _add(client, action="close")
        with pytest.raises(aiohttp.ClientError):
            await client.get(path)
        await client.call("DELETE", f"/emulator/faults/{rule['id']}")

        assert await statuses(client, path, 1) == [200]


async def test_the_login_can_fail_and_give_short_tokens() -> None:
    """They say how short, and die when they said."""
    clock = Clock(speed=20)
    async with emulated(clock) as client:
        path = record_path(add_record(client))
        await _add(client, action="short-token", seconds=30, count=1)
        await _add(client, kind="token", action="html", status=502, count=1)
        short = await client.ask_token()
        broken = await client.ask_token()
        client.token = short.json["access_token"]
        young = await statuses(client, path, 1)
        await clock.sleep(31)

        assert short.json["expires_in"] == 29
        assert broken.status == 502
        assert young + await statuses(client, path, 1) == [200, 401]


async def test_notifications_are_lost_repeated_delayed_and_disordered_while_it_runs() -> None:
    """Each by a fault that is put and taken away again; by call where one is named."""
    clock = Clock(speed=300)
    async with emulated(clock, token_seconds=1e9) as client, subscriber() as one:
        await client.post("/v1.0/subscriptions", subscription(one.url, clock))
        silence = await _add(client, kind="notifications", action="silence")
        lost = add_record(client)
        await until(lambda: client.emulator.world.delivery.counts["lost_on_purpose"] == 1)
        await client.call("DELETE", f"/emulator/faults/{silence['id']}")
        await _add(client, action="duplicate", seconds=1, count=1)
        twice = add_record(client)
        await until(lambda: one.seen() == [twice.id, twice.id])
        await _add(client, action="delay", seconds=600, count=1)
        began = clock.now()
        late = add_record(client)
        early = add_record(client)
        await until(lambda: len(one.items) == 4)

        assert lost.id not in one.seen()
        assert one.seen()[2:] == [early.id, late.id]
        assert clock.now() - began >= 600


async def test_disorder_is_random_and_repeats_with_the_seed() -> None:
    """A dozen notifications leave within the time given, in another order than they came, the same each time."""
    orders = []
    for _ in range(2):
        clock = Clock()
        async with emulated(clock, seed=3) as client, subscriber() as one:
            await client.post("/v1.0/subscriptions", subscription(one.url, clock))
            await _add(client, action="reorder", seconds=3000)
            calls = [add_record(client).id for _ in range(12)]
            delivery = client.emulator.world.delivery
            await until(lambda delivery=delivery: delivery.waiting == 12)
            [channel] = delivery._channels.values()
            due = [(at - clock.now(), parcel.item["resourceData"]["id"]) for at, _, parcel in sorted(channel.waiting)]
            orders.append([calls.index(call) for _, call in due])

            assert all(0 < wait <= 3000 for wait, _ in due)

    assert orders[0] == orders[1] != sorted(orders[0])


async def test_lifecycle_notifications_can_be_silenced() -> None:
    """The reminder to reauthorize never leaves."""
    clock = Clock(speed=6000)
    async with emulated(clock, token_seconds=1e9, authorization_seconds=4000) as client, subscriber() as one:
        await _add(client, kind="lifecycle", action="silence", count=1)
        await client.post("/v1.0/subscriptions", subscription(one.url, clock))
        await until(lambda: client.emulator.world.delivery.counts["lost_on_purpose"] == 1)
        await until(lambda: bool(one.items))

        assert client.emulator.world.delivery.counts["lifecycle"] == 2


@pytest.mark.parametrize("seconds", [-900, 900])
async def test_graph_s_clock_can_be_wrong(seconds: float) -> None:
    """`Date`, the times in records, and what the list and a subscription take for now."""
    clock = Clock()
    async with emulated(clock) as client:
        await _add(client, kind="clock", action="skew", seconds=seconds)
        made = (await client.post("/emulator/calls", {"startedSecondsAgo": 0})).json["value"][0]
        record = await client.get(f"{RECORDS}/{made['id']}")
        near = iso(clock.now() + seconds - 200)[:19] + "Z"
        listed = (await client.get(f"{RECORDS}?$filter=startDateTime%20ge%20{near}")).json["value"]

        assert parsedate_to_datetime(record.headers["Date"]).timestamp() == pytest.approx(clock.now() + seconds, abs=30)
        assert from_iso(record.json["startDateTime"]) == pytest.approx(clock.now() + seconds, abs=200)
        assert [one["id"] for one in listed] == [made["id"]]
        async with subscriber() as one:
            longest = await client.post("/v1.0/subscriptions", subscription(one.url, clock, minutes=4230))
            assert longest.status == (400 if seconds < 0 else 201)


async def test_the_journal_names_every_request() -> None:
    """When, whose, what, which page, the answer, the fault; by tenant and kind where wished."""
    async with emulated() as client:
        call = add_record(client, sessions=70)
        rule = await _add(client, status=429, page=2, count=1)
        first = await client.get(record_path(call) + EXPANDED)
        await client.get(first.json["sessions@odata.nextLink"])
        await client.call("GET", record_path(call), headers={"Authorization": "Bearer nothing"})
        all_of_them = (await client.get("/emulator/requests")).json["value"]
        pages = (await client.get(f"/emulator/requests?kind=sessions&tenant={call.tenant_id}")).json["value"]

        assert [(one["kind"], one["page"], one["status"]) for one in all_of_them] == [
            ("token", 1, 200),
            ("record", 1, 200),
            ("sessions", 2, 429),
            ("record", 1, 401),
        ]
        assert [(one["fault"], one["callId"]) for one in pages] == [(rule["id"], call.id)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("faults.json", '[{"status": 503, "count": 2}, {"kind": "clock", "action": "skew", "seconds": 60}]'),
        ("faults.json", '{"faults": [{"status": 503, "count": 2}, {"action": "skew", "seconds": 60}]}'),
        (
            "faults.toml",
            '[[faults]]\nstatus = 503\ncount = 2\n\n[[faults]]\nkind = "clock"\naction = "skew"\nseconds = 60\n',
        ),
    ],
)
async def test_faults_come_from_a_file(tmp_path: Path, name: str, text: str) -> None:
    """JSON or TOML; the same fields as over HTTP."""
    file = tmp_path / name
    file.write_text(text)
    async with emulated(faults=read_faults(file)) as client:
        answers = await statuses(client, record_path(add_record(client)), 3)

        assert answers == [503, 503, 200]
        assert client.emulator.world.faults.skew_seconds() == 60


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none.json", None, "cannot be read"),
        ("a.json", "[{", "are not JSON"),
        ("a.toml", "[[faults", "are not TOML"),
        ("a.json", '{"fault": []}', "must hold a list of faults"),
        ("a.json", "[7]", "must hold a list of faults"),
        ("a.toml", "a = " + "[" * 5000, "nested too deep"),
        ("a.toml", "a = " + "9" * 5000, "are not TOML"),
        ("a.toml", "[[faults]]\nstatus = 500\ncount = inf", "count must be 1 or more"),
        ("a.toml", "[[faults]]\nstatus = 500\nprobability = nan", "probability must be above 0"),
        ("a.toml", '[[faults]]\naction = "hang"\nseconds = 1' + "0" * 400, "seconds must be at most"),
        ("a.toml", '[[faults]]\naction = "skew"\nseconds = nan', "seconds must be at most"),
        ("a.toml", '[[faults]]\naction = "skew"\nseconds = inf', "seconds must be at most"),
        ("a.toml", '[[faults]]\naction = "body"\nbody = ' + "9" * 40, "body must be the JSON"),
        ("a.json", '[{"status": 500}, {"status": 418}]', "Scripted fault number 2: status must be one of 400"),
    ],
)
async def test_a_wrong_file_is_one_sentence(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    """Exit code 2, before anything listens."""
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        async with asyncio.timeout(10):
            await emulate_command(port=0, calls=0, faults=file)

    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"action": "silence", "kind": "record"}, "can befall notifications, lifecycle, not 'record'"),
        ({"action": "skew"}, "seconds must say how far"),
        ({"action": "skew", "seconds": 5, "count": 1}, "count means nothing for the clock"),
        ({"action": "close", "status": 500}, "status means nothing with action 'close'"),
        ({"action": "silence", "page": 2}, "page means nothing"),
        ({"action": "body"}, "body must be the JSON"),
        ({"action": "hang", "seconds": -1}, "seconds must not be below 0"),
        ({"status": 500, "forSeconds": "long"}, "forSeconds must be a number"),
        ({"status": 429, "retryAfterForm": "words"}, "retryAfterForm must be one of"),
        ({"status": 500, "page": 0}, "page must be 1 or more"),
        ({"action": ["status"]}, "action must be one of"),
        ({"status": 500, "callId": 7}, "callId must be text"),
        ({"status": 500, "callId": "no-guid"}, "callId must be a GUID"),
        ({"status": 500, "tenantId": "contoso"}, "tenantId must be a GUID"),
        ({"kind": "token", "status": 500, "callId": CALL}, "callId means nothing for token"),
        ({"kind": "list", "status": 500, "callId": CALL}, "callId means nothing for list"),
        ({"kind": "lifecycle", "action": "delay", "callId": CALL}, "callId means nothing for lifecycle"),
        ({"kind": "token", "status": 500, "page": 1}, "page means nothing for token"),
        ({"kind": "record", "status": 500, "page": 2}, "page of record can only be 1"),
        ({"kind": "record", "status": 500, "method": "POST"}, "method of record can only be GET"),
        ({"kind": "token", "status": 500, "method": "GET"}, "method of token can only be POST"),
        ({"status": 500, "page": 1.5}, "page must be 1 or more, a whole number"),
        ({"status": 500, "count": 1.5}, "count must be 1 or more, a whole number"),
        ({"status": 500, "count": 10**12}, "count must be 1 or more, a whole number up to"),
        ({"status": 500.0}, "status must be one of"),
        ({"status": 429, "retryAfterForm": "date"}, "retryAfterForm needs retryAfter"),
        ({"status": 429, "retryAfter": 1e300, "retryAfterForm": "date"}, "retryAfter must be at most"),
        ({"status": 500, "forSeconds": 1e15}, "forSeconds must be at most"),
        ({"action": "skew", "seconds": 1e15}, "seconds must be at most"),
        ({"action": "skew", "seconds": -1e15}, "seconds must not be below"),
        ({"action": "content-type", "contentType": "a\r\nX: y"}, "contentType must be one line"),
        ({"action": "content-type", "contentType": "\u00fc"}, "contentType must be one line"),
        ({"action": "foreign-link", "host": "a b/\r\n"}, "host must be a host"),
    ],
)
async def test_what_a_fault_cannot_mean_is_refused_with_the_reason(fault: dict[str, Any], says: str) -> None:
    """The same sentence over HTTP and at the start."""
    async with emulated() as client:
        answer = await client.post("/emulator/faults", fault)

        assert answer.status == 400
        assert says in answer.message
    with pytest.raises(UserError, match=says.split("'")[0]):
        async with open_emulator(EmulatorOptions(port=0, faults=(fault,)), Clock()):
            raise AssertionError


async def test_skews_never_leave_the_calendar() -> None:
    """However many add up: the emulator answers, and takes them away again."""
    async with emulated() as client:
        for _ in range(40):
            added = await client.post("/emulator/faults", {"action": "skew", "seconds": MOST_SECONDS})
            assert added.status == 201
        assert client.emulator.world.faults.skew_seconds() == MOST_SECONDS
        await client.log_in()
        assert await statuses(client, record_path(add_record(client)), 1) == [200]


@pytest.mark.parametrize("number", ["%C2%B2", "x", "9" * 5000, "7"])
async def test_a_fault_that_is_not_there_cannot_be_deleted(number: str) -> None:
    """404, whatever stands for its number."""
    async with emulated() as client:
        assert (await client.call("DELETE", f"/emulator/faults/{number}")).status == 404


@pytest.mark.parametrize("action", ["cut-gzip", "cut-json", "content-type", "cut"])
async def test_an_answer_without_a_body_cannot_be_spoilt(action: str) -> None:
    """A subscription's deletion, 204: it passes, or its connection ends."""
    async with emulated() as client, subscriber() as hook:
        created = await client.post("/v1.0/subscriptions", subscription(hook.url, client.emulator.world.clock))
        await _add(client, kind="subscriptions", method="DELETE", action=action)
        answer = await client.call("DELETE", f"/v1.0/subscriptions/{created.json['id']}")

        assert answer.status == 204


@pytest.mark.parametrize(
    "option", [{"speed": math.inf}, {"speed": math.nan}, {"rate": math.inf}, {"token_seconds": math.inf}]
)
async def test_what_is_no_number_of_the_emulator_s_is_one_sentence(option: dict[str, float]) -> None:
    """Exit code 2, before anything listens."""
    with pytest.raises(UserError, match="--speed must be above 0 and at most") as caught:
        await emulate_command(port=0, calls=0, **option)  # type: ignore[arg-type]

    assert caught.value.exit_code == 2


def test_the_page_on_the_emulator_names_every_kind_action_and_field() -> None:
    """And none that is not there."""
    page = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
    part = page.partition("## Scripted faults")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    named = {word.strip(" `") for row in rows for word in row.split(",")}

    assert named == {*ACTIONS, *KINDS, *FIELDS}
    assert all(f"{status}" in part for status in STATUSES)
    assert all(f"`{form}`" in part for form in RETRY_AFTER_FORMS)
