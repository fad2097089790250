"""The documented but unreal write calls, under /beta only: seeds 000, 001, 002 and 004 against seed 003."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from service.clock import Clock
from tests.shell.test_emulator_tools import Client, add_record, emulated, record_path, subscriber, subscription, until

SAMPLES = Path(__file__).parent.parent / "samples"
SESSION = "session-0"


def _sample(name: str) -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads((SAMPLES / name).read_bytes())
    return body


def _segments(client: Client, api: str = "beta", **shape: Any) -> str:
    call = add_record(client, **shape)
    return f"{record_path(call, api)}/sessions/{SESSION}/segments"


async def test_seed_000_creates_a_segment() -> None:
    """POST with every placeholder of the seed: 201 and the whole object with an id made for it."""
    async with emulated(log_in=False) as client:
        answer = await client.post(_segments(client), _sample("000_create_segments.request.json"))
        created = answer.json
        expected = _sample("000_create_segments.response.json")

        assert answer.status == 201
        assert len(created.pop("id")) == len(expected.pop("id"))
        assert created == expected


async def test_seed_001_updates_the_only_segment_on_the_collection() -> None:
    """PATCH without an id: 200 and the whole object, as the seed's response has it."""
    async with emulated() as client:
        path = _segments(client)
        answer = await client.patch(path, _sample("001_update_segments.request.json"))
        read = (await client.get(path)).json["value"]

        assert answer.status == 200
        assert answer.json == _sample("001_update_segments.response.json") | {"id": "segment-0"}
        assert read == [answer.json]


async def test_patch_on_the_collection_needs_to_know_which() -> None:
    """With two segments: the id in the body, else 400; an unknown one is 404."""
    async with emulated() as client:
        path = _segments(client)
        second = (await client.post(path, {"startDateTime": "2026-01-01T00:00:00Z"})).json["id"]
        vague = await client.patch(path, {"endDateTime": "2026-01-01T00:00:00Z"})
        right = await client.patch(path, {"id": second, "endDateTime": "2026-01-01T00:00:00Z"})
        unknown = await client.patch(path, {"id": "nobody"})

        assert (vague.status, vague.code) == (400, "BadRequest")
        assert (right.status, right.json["id"], right.json["endDateTime"]) == (200, second, "2026-01-01T00:00:00Z")
        assert unknown.status == 404


async def test_seed_002_gets_lists_and_updates_one_segment() -> None:
    """The methods table of the beta resource page, in both forms of the keys."""
    async with emulated() as client:
        path = _segments(client)
        one = await client.get(f"{path}/segment-0")
        bracketed = await client.get(path.replace(f"sessions/{SESSION}", f"sessions('{SESSION}')") + "('segment-0')")
        updated = await client.patch(f"{path}/segment-0", {"failureInfo": {"stage": "midcall", "reason": "r"}})
        listed = await client.get(path)

        assert one.json["id"] == "segment-0"
        assert bracketed.json == one.json
        assert updated.json["failureInfo"] == {"stage": "midcall", "reason": "r"}
        assert updated.json["media"] == one.json["media"]
        assert listed.json["value"] == [updated.json]


async def test_seed_003_says_that_v1_has_no_such_methods() -> None:
    """404 or 405 in Graph's error shape for every write and single read under v1.0."""
    async with emulated() as client:
        path = _segments(client, "v1.0")
        body = {"id": "x"}
        answers = [
            await client.post(path, body),
            await client.patch(path, body),
            await client.get(path),
            await client.patch(f"{path}/segment-0", body),
            await client.get(f"{path}/segment-0"),
            await client.post(path.removesuffix(f"/{SESSION}/segments"), body),
            await client.patch(path.removesuffix("/segments"), body),
            await client.get(path.removesuffix("/segments")),
        ]

        assert {answer.status for answer in answers} <= {404, 405}
        assert all(answer.code in ("NotFound", "MethodNotAllowed") for answer in answers)


async def test_seed_004_creates_reads_and_changes_a_session() -> None:
    """A session with segments: ids are made, the segments come with $expand, PATCH merges."""
    async with emulated() as client:
        path = f"{record_path(add_record(client), 'beta')}/sessions"
        segment = _sample("000_create_segments.request.json")
        body = {
            "modalities": ["audio", "String"],
            "isTest": True,
            "segments": [segment | {"id": None}],
            "somethingNew": {"a": [1]},
        }
        made = (await client.post(path, body)).json
        plain = (await client.get(f"{path}/{made['id']}")).json
        whole = (await client.get(f"{path}('{made['id']}')?$expand=segments")).json
        changed = await client.patch(f"{path}/{made['id']}", {"caller": {"name": "laptop"}, "isTest": False})
        listed = (await client.get(f"{path}?$expand=segments")).json["value"]

        assert made["somethingNew"] == {"a": [1]}
        assert len(made["segments"][0]["id"]) == 36
        assert "segments" not in plain
        assert whole["segments"] == made["segments"]
        assert (changed.status, changed.json["isTest"], changed.json["caller"]) == (200, False, {"name": "laptop"})
        assert listed[-1] == changed.json


async def test_a_complex_value_is_merged_and_another_type_replaces_it() -> None:
    """OData's PATCH."""
    async with emulated() as client:
        path = _segments(client) + "/segment-0"
        first = {"@odata.type": "#microsoft.graph.callRecords.participantEndpoint", "name": "a", "cpuName": "b"}
        await client.patch(path, {"caller": first})
        merged = (await client.patch(path, {"caller": {"name": "c"}})).json["caller"]
        service = {"@odata.type": "#microsoft.graph.callRecords.serviceEndpoint"}
        replaced = (await client.patch(path, {"caller": service, "media": None})).json

        assert merged == first | {"name": "c"}
        assert (replaced["caller"], replaced["media"]) == (service, None)


async def test_a_write_is_a_new_version_with_a_notification() -> None:
    """version + 1, a new lastModifiedDateTime, and subscribers hear of it; the old version is kept for judging."""
    async with subscriber() as hook, emulated() as client:
        call = add_record(client)
        before = call.current.top["lastModifiedDateTime"]
        await client.post("/v1.0/subscriptions", subscription(hook.url, client.emulator.world.clock))
        await client.post(f"{record_path(call, 'beta')}/sessions", {"modalities": []})
        await until(lambda: call.id in hook.seen())
        record = (await client.get(f"{record_path(call)}?$expand=sessions")).json
        truth = (await client.get(f"/emulator/calls/{call.id}")).json

        assert record["version"] == 2
        assert record["lastModifiedDateTime"] > before
        assert len(record["sessions"]) == 2
        assert [len(document["sessions"]) for document in truth["documents"]] == [1, 2]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"media": {}}, "media"),
        ({"media": ["x"]}, "media[0]"),
        ({"media": [{"streams": {}}]}, "media[0].streams"),
        ({"media": [{"streams": [{"streamId": {}}]}]}, "media[0].streams[0].streamId"),
        ({"media": [{}, {"callerNetwork": {"traceRouteHops": "x"}}]}, "media[1].callerNetwork.traceRouteHops"),
        ({"caller": "x"}, "caller"),
        ({"caller": {"userAgent": []}}, "caller.userAgent"),
        ({"failureInfo": {"stage": []}}, "failureInfo.stage"),
        ({"startDateTime": {}}, "startDateTime"),
        ({"id": []}, "id"),
    ],
)
async def test_wrong_structure_is_refused_with_its_path(body: dict[str, Any], path: str) -> None:
    """400; nothing is written."""
    async with emulated() as client:
        segments = _segments(client)
        answer = await client.post(segments, body)

        assert (answer.status, answer.code) == (400, "BadRequest")
        assert f"'{path}'" in answer.message
        assert len((await client.get(segments)).json["value"]) == 1


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'"x"', b'{"a":' * 600 + b"1" + b"}" * 600])
async def test_a_body_that_is_no_object_is_refused(raw: bytes) -> None:
    """Also one that is nested without end."""
    async with emulated() as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.call("POST", _segments(client), data=raw, headers=headers)
        untyped = await client.call("POST", _segments(client), data=b"{}", headers={"Content-Type": "text/plain"})

        assert (answer.status, untyped.status) == (400, 400)


async def test_unknown_ids_are_404_and_taken_ones_409() -> None:
    """Record, session and segment; with Graph's error body."""
    async with emulated() as client:
        path = _segments(client)
        nowhere = path.replace("communications/callRecords/", "communications/callRecords/00000000")
        for wrong in (path.replace(SESSION, "nobody"), f"{path}/nobody"):
            assert (await client.patch(wrong, {})).code == "NotFound"
        assert (await client.post(path.replace(SESSION, "nobody"), {})).status == 404
        assert (await client.post(nowhere, {})).status == 400
        assert (await client.post(path, {"id": "segment-0"})).status == 409
        assert (await client.patch(f"{path}/segment-0", {"id": "segment-1"})).status == 400


async def test_what_the_seeds_do_not_have_is_405() -> None:
    """DELETE of anything, PUT, and writing the record itself."""
    async with emulated() as client:
        path = _segments(client)
        record = path.partition("/sessions")[0]
        for method, target in (("DELETE", f"{path}/segment-0"), ("PUT", path), ("PATCH", record), ("DELETE", record)):
            assert (await client.call(method, target, json={})).status == 405


async def test_writing_needs_no_token_but_a_wrong_one_is_refused() -> None:
    """A plain curl works."""
    async with emulated(log_in=False) as client:
        path = _segments(client)
        wrong = await client.call("POST", path, json={}, headers={"Authorization": "Bearer invented"})

        assert (await client.post(path, {})).status == 201
        assert wrong.status == 401
        assert (await client.get(path)).status == 401


async def test_a_record_not_ready_cannot_be_written() -> None:
    """404, as it cannot be read."""
    clock = Clock()
    async with emulated(clock) as client:
        made = await client.post("/emulator/calls", {"kind": "group", "notReadySeconds": 600})
        path = f"/beta/communications/callRecords/{made.json['value'][0]['id']}/sessions"

        assert (await client.post(path, {})).status == 404
