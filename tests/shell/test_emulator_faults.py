"""Scripted faults, as a client meets them on the wire; and the control site."""

import asyncio
import gzip
import zlib
from typing import Any

import aiohttp
import orjson
import pytest

from service.clock import Clock
from tests.shell.test_emulator_tools import (
    Client,
    add_record,
    emulated,
    make_record,
    record_path,
    subscriber,
    subscription,
    until,
)

RECORDS = "/v1.0/communications/callRecords"


async def _add(client: Client, **fault: Any) -> dict[str, Any]:
    answer = await client.post("/emulator/faults", fault)
    assert answer.status == 201, answer.raw
    rule: dict[str, Any] = answer.json
    return rule


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503, 504])
async def test_a_status_is_answered_as_often_as_asked(status: int) -> None:
    """With Graph's error body, and Retry-After only where the rule has one."""
    async with emulated() as client:
        path = record_path(add_record(client))
        await _add(client, kind="record", status=status, count=2, retryAfter=7)
        await _add(client, kind="record", status=status, count=1)
        answers = [await client.get(path) for _ in range(4)]

        assert [answer.status for answer in answers] == [status] * 3 + [200]
        assert [answer.headers.get("Retry-After") for answer in answers[:3]] == ["7", "7", None]
        assert "message" in answers[0].json["error"]


async def test_a_fault_can_mean_one_call_one_kind_or_one_tenant() -> None:
    """Everything else goes on."""
    async with emulated() as client:
        one, other = add_record(client), add_record(client)
        await _add(client, callId=one.id.upper(), status=503)
        await _add(client, kind="list", status=500)

        assert (await client.get(record_path(one))).status == 503
        assert (await client.get(f"{record_path(one)}/sessions")).status == 503
        assert (await client.get(record_path(other))).status == 200
        assert (await client.get(RECORDS)).status == 500


@pytest.mark.parametrize(("action", "seen"), [("hang", 200), ("hold", 404)])
async def test_a_request_can_stand_before_or_after_its_effect(action: str, seen: int) -> None:
    """`hold`: it is done, and nobody has been told. Taking the rule away lets it go on; other methods never stood."""
    async with emulated() as client, subscriber() as hook:
        created = await client.post("/v1.0/subscriptions", subscription(hook.url, client.emulator.world.clock))
        path = f"/v1.0/subscriptions/{created.json['id']}"
        rule = await _add(client, kind="subscriptions", method="DELETE", action=action, seconds=1e6)
        standing = asyncio.create_task(client.call("DELETE", path))
        await until(lambda: client.emulator.world.faults.rules[0].waiting == 1)

        assert (await client.get(path)).status == seen
        await client.call("DELETE", f"/emulator/faults/{rule['id']}")
        assert (await standing).status == 204
        assert (await client.get(path)).status == 404


async def test_a_request_whose_caller_dies_before_its_effect_has_none() -> None:
    """The connection is gone, and with it the request that stood; the control site shows it."""
    async with emulated() as client, subscriber() as hook:
        created = await client.post("/v1.0/subscriptions", subscription(hook.url, client.emulator.world.clock))
        path = f"/v1.0/subscriptions/{created.json['id']}"
        await _add(client, kind="subscriptions", method="DELETE", action="hang", seconds=1e6)
        standing = asyncio.create_task(client.call("DELETE", path))
        await until(lambda: client.emulator.world.faults.rules[0].waiting == 1)
        standing.cancel()
        await until(lambda: client.emulator.world.faults.rules[0].waiting == 0)

        assert (await client.get(path)).status == 200
        shown = (await client.get("/emulator/faults")).json["value"][0]
        assert (shown["method"], shown["acted"], shown["waiting"]) == ("DELETE", 1, 0)


async def test_the_token_endpoint_and_subscriptions_fail_when_named() -> None:
    """A rule without a kind leaves both alone."""
    async with emulated() as client:
        await _add(client, status=500)
        assert (await client.ask_token()).status == 200
        await _add(client, kind="token", status=503)
        await _add(client, kind="subscriptions", status=502)

        assert (await client.ask_token()).status == 503
        assert (await client.get("/v1.0/subscriptions")).status == 502


async def test_a_body_can_be_cut_off() -> None:
    """The connection closes before the announced length."""
    async with emulated() as client:
        path = f"{record_path(add_record(client, sessions=20))}?$expand=sessions"
        await _add(client, action="cut", count=1)
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.get(path)

        assert (await client.get(path)).status == 200


async def test_a_gzip_stream_can_end_in_the_middle() -> None:
    """The HTTP answer is whole, its content is not."""
    async with emulated() as client:
        path = f"{record_path(add_record(client, sessions=20))}?$expand=sessions"
        await _add(client, action="cut-gzip", count=1)
        client.session._auto_decompress = False  # the bytes on the wire are wanted
        answer = await client.get(path)

        assert answer.headers["Content-Encoding"] == "gzip"
        assert int(answer.headers["Content-Length"]) == len(answer.raw)
        with pytest.raises(EOFError):
            gzip.decompress(answer.raw)
        assert zlib.decompressobj(31).decompress(answer.raw)


async def test_a_gateway_can_answer_html() -> None:
    """With 200, or with the rule's status."""
    async with emulated() as client:
        path = record_path(add_record(client))
        await _add(client, action="html", count=1)
        await _add(client, action="html", status=502, count=1)
        answers = [await client.get(path) for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 502]
        assert answers[0].raw.startswith(b"<!DOCTYPE html>")


async def test_silence_and_dripping_last_as_long_as_told() -> None:
    """On the clock: `hang` answers rightly in the end, `drip` byte by byte."""
    clock = Clock(speed=1000)
    async with emulated(clock, token_seconds=1e9) as client:
        path = f"{record_path(add_record(client, sessions=5))}?$expand=sessions"
        whole = await client.get(path)
        for action in ("hang", "drip"):
            began = clock.now()
            await _add(client, action=action, seconds=100, count=1)
            answer = await client.get(path)

            assert clock.now() - began >= 100
            assert answer.json == whole.json


async def test_closing_ends_a_silent_answer() -> None:
    """Nobody waits an hour for the emulator."""
    async with emulated() as client:
        await _add(client, action="hang")
        waiting = asyncio.create_task(client.get(record_path(add_record(client))))
        await until(lambda: client.emulator.world.faults.rules[0].acted == 1)
    with pytest.raises(aiohttp.ClientError):
        await waiting


async def test_probabilities_repeat_with_the_seed() -> None:
    """The same seed strikes the same requests."""
    runs = []
    for _ in range(2):
        async with emulated(seed=7) as client:
            path = record_path(add_record(client))
            await _add(client, status=500, probability=0.5)
            runs.append([(await client.get(path)).status for _ in range(30)])

    assert runs[0] == runs[1]
    assert set(runs[0]) == {200, 500}


async def test_faults_are_listed_and_removed() -> None:
    """One, or all."""
    async with emulated() as client:
        first, second = await _add(client, status=500), await _add(client, status=503)
        listed = (await client.get("/emulator/faults")).json["value"]
        removed = await client.call("DELETE", f"/emulator/faults/{first['id']}")
        again = await client.call("DELETE", f"/emulator/faults/{first['id']}")
        left = (await client.get("/emulator/faults")).json["value"]
        await client.call("DELETE", "/emulator/faults")

        assert [rule["id"] for rule in listed] == [first["id"], second["id"]]
        assert (removed.status, again.status) == (204, 404)
        assert [rule["id"] for rule in left] == [second["id"]]
        assert (await client.get("/emulator/faults")).json["value"] == []


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"status": 418},
        {"action": "explode"},
        {"status": 500, "kind": "users"},
        {"status": 500, "count": 0},
        {"status": 500, "count": "two"},
        {"status": 500, "probability": 2},
        {"action": "hang", "seconds": "long"},
        {"status": 429, "retryAfter": -1},
        {"status": 500, "colour": "red"},
    ],
)
async def test_a_fault_that_makes_no_sense_is_400(fault: dict[str, Any]) -> None:
    """With what is wrong."""
    async with emulated() as client:
        assert (await client.post("/emulator/faults", fault)).status == 400


async def test_calls_are_made_on_request() -> None:
    """Of a kind and size, several at once; the answer names their sessions."""
    async with emulated() as client:
        answer = await client.post("/emulator/calls", {"kind": "group", "size": "S", "count": 3, "tenant": "contoso"})
        made = answer.json["value"]
        listed = (await client.get("/emulator/calls")).json["value"]

        assert answer.status == 201
        assert len({call["id"] for call in made}) == 3
        assert all(call["sessions"] for call in made)
        assert [call["id"] for call in listed] == [call["id"] for call in made]
        assert (await client.get(f"{RECORDS}/{made[0]['id']}")).status == 200


@pytest.mark.parametrize(
    "wish",
    [{"kind": "séance"}, {"size": "XXXL"}, {"tenant": "nobody"}, {"count": 0}, {"colour": "red"}, {"sessions": "two"}],
)
async def test_a_call_that_cannot_be_made_is_400(wish: dict[str, Any]) -> None:
    """Nothing is made."""
    async with emulated() as client:
        answer = await client.post("/emulator/calls", wish)

        assert answer.status == 400
        assert (await client.get("/emulator/calls")).json["value"] == []


async def test_the_truth_can_be_read_by_another_process() -> None:
    """Every version of every call, whole, one a line."""
    async with emulated() as client:
        call = add_record(client)
        second = make_record(client.emulator.world.clock, id=call.id, version=2)
        client.emulator.store.add_version(call, second)
        lines = [orjson.loads(line) for line in (await client.get("/emulator/truth")).raw.splitlines()]

        assert [(line["callId"], line["version"]) for line in lines] == [(call.id, 1), (call.id, 2)]
        assert lines[1]["document"] == second
        assert (await client.get("/emulator/calls/nothing")).status == 404


async def test_a_call_is_announced_again_on_request() -> None:
    """Subscribers hear of the version that is there."""
    clock = Clock(speed=100)
    async with emulated(clock, token_seconds=1e9) as client, subscriber() as one:
        await client.post("/v1.0/subscriptions", subscription(one.url, clock))
        call = add_record(client)
        await until(lambda: one.seen() == [call.id])
        again = await client.post(f"/emulator/calls/{call.id}/announcements", {})
        await until(lambda: one.seen() == [call.id] * 2)

        assert again.status == 201
        assert (await client.post("/emulator/calls/nothing/announcements", {})).status == 404


async def test_a_later_version_is_made_on_request() -> None:
    """Now, or after some seconds."""
    clock = Clock(speed=100)
    async with emulated(clock, token_seconds=1e9, calls=1) as client:
        call = next(client.emulator.store.calls())
        now = await client.post(f"/emulator/calls/{call.id}/versions", {})
        await client.post(f"/emulator/calls/{call.id}/versions", {"afterSeconds": 50})
        await clock.sleep(51)
        shown = (await client.get(f"/emulator/calls/{call.id}")).json

        assert [version["version"] for version in now.json["versions"]] == [1, 2]
        assert [document["version"] for document in shown["documents"]] == [1, 2, 3]


async def test_new_calls_come_at_a_rate_with_later_versions() -> None:
    """For as long as the emulator runs."""
    clock = Clock(speed=50)
    async with emulated(clock, rate=1.0, later_version_share=1.0, later_version_seconds=5.0) as client:
        await until(lambda: sum(len(call.versions) for call in client.emulator.store.calls()) > 20)
        status = (await client.get("/emulator/status")).json

        assert status["calls"] > 5
        assert status["versions"] > status["calls"]
