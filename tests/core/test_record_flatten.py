"""Flattening: one event for each stream, nothing of the record without a place, the same bytes each time."""

import json
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec import inspect

from service.record.decode import decode_record
from service.record.encode import EventEncoder, encode_summary
from service.record.events import DeviceGroup, NetworkGroup, StreamEvent
from service.record.flatten import flatten
from service.record.model import IDENTITY_MEMBERS, CallRecord, DeviceInfo, Identity, NetworkInfo
from tests.strategies import call_records

SAMPLES = Path(__file__).parent.parent / "samples"
TENANT = "dc368399-474c-4d40-900c-6265431fd81f"

slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def compact(name: str) -> bytes:
    return json.dumps(json.loads((SAMPLES / name).read_text()), separators=(",", ":"), ensure_ascii=False).encode()


def published(document: dict[str, Any], tenant: str = TENANT) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Events and summary of a wire record, as a consumer reads them."""
    record, _ = decode_record(json.dumps({"id": "r1", "version": 1, **document}).encode())
    flattened = flatten(tenant, record)
    encoder = EventEncoder()
    events = [json.loads(encoder.encode(event)) for event in flattened.events()]
    assert flattened.event_count == len(events)
    return events, json.loads(encode_summary(flattened.summary))


def one_stream(
    session: dict[str, Any] | None = None, segment: dict[str, Any] | None = None, **media: Any
) -> dict[str, Any]:
    """A record with one media line of one stream."""
    line = {"label": "main-audio", "streams": [{}], **media}
    return {"sessions": [{**(session or {}), "segments": [{**(segment or {}), "media": [line]}]}]}


def test_the_published_sample_becomes_the_written_bytes() -> None:
    """The samples show names, nesting and order; the bytes are exactly theirs."""
    record, _ = decode_record((SAMPLES / "docs_callrecord_sessions_segments.json").read_bytes())
    flattened = flatten(TENANT, record)
    (event,) = flattened.events()

    assert EventEncoder().encode(event) == compact("docs_callrecord.stream_event.json")
    assert encode_summary(flattened.summary) == compact("docs_callrecord.call_summary.json")


@pytest.mark.parametrize("name", ["000_create_segments.request.json", "001_update_segments.response.json"])
def test_a_seed_segment_becomes_an_event_without_its_placeholders(name: str) -> None:
    """Offsets become UTC with all digits, negative durations and placeholders are gone, all else is there."""
    segment = json.loads((SAMPLES / name).read_text())
    (event,), summary = published({"sessions": [{"segments": [segment]}]})

    stream = segment["media"][0]["streams"][0]
    assert event["segment"]["startDateTime"].endswith("Z")
    assert event["segment"]["startDateTime"][20:27] == segment["startDateTime"][20:27]
    assert ("averageJitterMs" in event["stream"]) == (not stream["averageJitter"].startswith("-"))
    assert "averageAudioDegradation" not in event["stream"]
    assert event["caller"]["device"]["sentNoiseLevel"] == 14
    assert event["callee"] == {"endpoint": {"kind": "endpoint"}}
    assert summary["failures"] == [{"sessionIndex": 0, "segmentIndex": 0, "stage": "String", "reason": "Reason value"}]
    assert summary["failureCount"] == 1


def test_numbers_are_exact_and_plain() -> None:
    """Whole numbers have no fraction, durations are exact to the last digit sent."""
    stream = {
        "averageJitter": "PT2M20.6389308S",
        "maxJitter": "PT0.016S",
        "averageRoundTripTime": "P1DT2H3M4.5S",
        "averagePacketLossRate": 0.0,
        "maxPacketLossRate": 1.0,
        "averageVideoFrameRate": 1e22,
        "averageAudioDegradation": 0.1,
    }
    (event,), _ = published(one_stream(streams=[stream]))

    got = json.dumps(event["stream"])
    for part in ('Ms": 140638.9308,', '"maxJitterMs": 16,', 'TimeMs": 93784500', 'LossRate": 0,', 'LossRate": 1,'):
        assert part in got
    assert event["stream"]["averageVideoFrameRate"] == 1e22


@pytest.mark.parametrize(
    ("sent", "published_as"),
    [
        ("2020-02-25T18:52:21.2169889Z", "2020-02-25T18:52:21.2169889Z"),
        ("2016-12-31T23:56:29.9610061+03:00", "2016-12-31T20:56:29.9610061Z"),
        ("2016-12-31T23:56:29.120-01:30", "2017-01-01T01:26:29.120Z"),
        ("2020-02-25T18:52:21+00:00", "2020-02-25T18:52:21Z"),
        ("0001-01-01T00:00:00+03:00", "0001-01-01T00:00:00+03:00"),
        ("9999-12-31T23:59:59.9999999-01:00", "9999-12-31T23:59:59.9999999-01:00"),
        ("2020-02-30T00:00:00+01:00", "2020-02-30T00:00:00+01:00"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("yesterday", "yesterday"),
        ("", ""),
    ],
)
def test_times_keep_their_digits_in_utc(sent: str, published_as: str) -> None:
    """As sent; an offset becomes UTC; what cannot be shifted stays."""
    (event,), _ = published({**one_stream(), "startDateTime": sent})

    assert event["call"]["startDateTime"] == published_as


@pytest.mark.parametrize(
    ("start", "end", "seconds"),
    [
        ("2020-02-25T18:52:21.2169889Z", "2020-02-25T18:52:46.7640013Z", 25.5470124),
        ("2020-02-25T18:52:21Z", "2020-02-25T19:52:21.0Z", 3600),
        ("2020-02-25T18:52:21+01:00", "2020-02-25T17:52:21.5Z", 0.5),
        ("2020-02-25T18:52:21Z", "2020-02-25T18:52:20Z", None),
        ("2020-02-25T18:52:21Z", None, None),
        ("2020-02-30T18:52:21Z", "2020-03-01T18:52:21Z", None),
    ],
)
def test_the_length_of_a_call_is_exact(start: str, end: str | None, seconds: float | None) -> None:
    """From the two texts, without the error of subtracting floats; left out where it means nothing."""
    _, summary = published({"startDateTime": start, "endDateTime": end})

    assert summary["call"].get("durationSeconds") == seconds


@pytest.mark.parametrize(
    ("direction", "sender"),
    [("callerToCallee", "caller"), ("CALLEETOCALLER", "callee"), ("sideways", None), (None, None)],
)
def test_an_event_says_who_sent(direction: str | None, sender: str | None) -> None:
    """Sender and receiver, left out when the direction is unknown."""
    (event,), _ = published(one_stream(streams=[{"streamDirection": direction}]))

    other = {"caller": "callee", "callee": "caller", None: None}[sender]
    assert (event["stream"].get("sender"), event["stream"].get("receiver")) == (sender, other)
    assert event["stream"].get("direction") == direction


def test_ids_are_lower_case_where_they_identify_and_as_sent_where_they_inform() -> None:
    """Graph may change the case of a GUID; the id of an event may not."""
    (event,), summary = published({**one_stream(), "id": "ABC"}, tenant=TENANT.upper())

    assert event["id"] == f"{TENANT}/abc/1/0.0.0.0"
    assert event["tenantId"] == TENANT
    assert event["call"]["id"] == "ABC"
    assert summary["id"] == f"{TENANT}/abc/1"


def test_repeated_session_ids_still_give_unique_event_ids() -> None:
    """A transfer repeats a session id in a record (graph-contract 6.6)."""
    session = {"id": "s", **one_stream(streams=[{}, {}])["sessions"][0]}
    events, _ = published({"sessions": [session, {"id": "s"}, session]})

    assert [event["id"].rpartition("/")[2] for event in events] == ["0.0.0.0", "0.0.0.1", "2.0.0.0", "2.0.0.1"]


SESSION_END = {"name": "of the session"}
SEGMENT_END = {"name": "of the segment"}


def test_the_segments_end_goes_before_the_sessions() -> None:
    """The session's end stands under `session` only where the two differ."""
    (event,), _ = published(one_stream({"caller": SESSION_END, "callee": SESSION_END}, {"caller": SEGMENT_END}))

    assert event["caller"]["endpoint"]["name"] == "of the segment"
    assert event["session"]["caller"]["name"] == "of the session"
    assert event["callee"]["endpoint"]["name"] == "of the session"
    assert "callee" not in event["session"]


def test_groups_with_nothing_in_them_are_left_out() -> None:
    """Network, device, failure and user agent; `[]` and tokens without content stay."""
    end = {"userAgent": {"@odata.type": "x.clientUserAgent"}, "feedback": {"rating": "bad", "tokens": {"Echo": None}}}
    (event,), summary = published(
        one_stream(
            {"caller": end, "failureInfo": {"stage": None, "reason": None}, "modalities": []},
            callerNetwork={"@odata.type": "x"},
            callerDevice={},
            calleeNetwork={"traceRouteHops": []},
        )
    )

    assert event["caller"] == {"endpoint": {"kind": "participant", "feedback": {"rating": "bad", "tokens": {}}}}
    assert event["callee"] == {"network": {"traceRouteHops": []}}
    assert event["session"] == {"index": 0, "modalities": []}
    assert summary["failures"] == []
    assert "failureCount" not in summary


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ({"@odata.type": "#microsoft.graph.callRecords.participantEndpoint"}, "participant"),
        ({"@odata.type": "MICROSOFT.GRAPH.CALLRECORDS.SERVICEENDPOINT", "identity": {}}, "service"),
        ({"@odata.type": "serviceEndpoint", "userAgent": {"@odata.type": "x.clientUserAgent"}}, "service"),
        ({"@odata.type": "microsoft.graph.callRecords.endpoint"}, "endpoint"),
        ({"@odata.type": "x.endpoint", "associatedIdentity": {"id": "a"}}, "participant"),
        ({"feedback": {}}, "participant"),
        ({"userAgent": {"role": "gateway"}}, "service"),
        ({"userAgent": {"platform": "web"}}, "endpoint"),
        ({}, "endpoint"),
    ],
)
def test_the_kind_of_an_end_survives_missing_and_odd_discriminators(end: dict[str, Any], kind: str) -> None:
    """By type with or without `#` in any case, else by the fields that one kind alone has."""
    (event,), _ = published(one_stream({"caller": end}))

    assert event["caller"]["endpoint"]["kind"] == kind


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        ({"@odata.type": "#microsoft.graph.callRecords.clientUserAgent", "headerValue": "h"}, "client"),
        ({"@odata.type": "serviceUserAgent", "headerValue": "h"}, "service"),
        ({"role": "gateway", "platform": "unknown"}, "service"),
        ({"azureADAppId": "a"}, "client"),
        ({"headerValue": "h"}, "unknown"),
    ],
)
def test_the_kind_of_a_user_agent(agent: dict[str, Any], kind: str) -> None:
    """By type, else by the fields that one kind alone has."""
    (event,), _ = published(one_stream({"caller": {"userAgent": agent}}))

    assert event["caller"]["endpoint"]["userAgent"]["kind"] == kind


def test_bytes_joined_from_parts_equal_the_bytes_of_the_whole() -> None:
    """The encoder's shortcut is invisible, also for events out of order and of different records."""
    bodies = [(SAMPLES / "docs_callrecord_sessions_segments.json").read_bytes()]
    segment = json.loads((SAMPLES / "000_create_segments.response.json").read_text())
    document = {"id": 'a\u2028"', "version": 2, "sessions": [{"segments": [segment, segment]}, {"segments": [segment]}]}
    bodies.append(json.dumps(document).encode())
    events = [event for body in bodies for event in flatten(TENANT, decode_record(body)[0]).events()]
    encoder = EventEncoder()

    for event in [*events, *reversed(events), *events[::2]]:
        assert encoder.encode(event) == msgspec.json.encode(event)


def count_streams(value: Any) -> int:
    """Streams counted by nothing but the shape of the JSON."""
    if isinstance(value, list):
        return sum(map(count_streams, value))
    if not isinstance(value, dict):
        return 0
    return len(value.get("streams") or ()) + sum(map(count_streams, value.values()))


@slow
@given(call_records())
def test_every_media_stream_becomes_exactly_one_event(document: dict[str, Any]) -> None:
    """Events equal streams counted another way, under distinct ids, and the summary's counts agree."""
    events, summary = published(document)

    streams = count_streams(document.get("sessions"))
    assert len({event["id"] for event in events}) == len(events) == streams == summary["eventCount"]
    assert sum(summary["counts"]["streams"].values()) == streams
    for verdict in ("poor", "unclassified"):
        assert sum(summary["counts"][verdict].values()) == sum(e["quality"]["verdict"] == verdict for e in events)


@slow
@given(call_records())
def test_the_same_record_gives_the_same_bytes_and_is_left_as_it_was(document: dict[str, Any]) -> None:
    """Flattening is a function: of nothing but its arguments, and without a trace on them."""
    body = json.dumps(document).encode()
    record, _ = decode_record(body)
    flattened = flatten(TENANT, record)
    first = [msgspec.json.encode(event) for event in flattened.events()]
    encoder = EventEncoder()

    assert [encoder.encode(event) for event in flattened.events()] == first
    assert record == decode_record(body)[0]
    assert encode_summary(flatten(TENANT, record).summary) == encode_summary(flattened.summary)


@slow
@given(call_records())
def test_every_event_fits_the_type_it_is_published_under(document: dict[str, Any]) -> None:
    """What is written can be read back into the struct that the schema is made from."""
    record, _ = decode_record(json.dumps(document).encode())

    for event in flatten(TENANT, record).events():
        assert msgspec.json.decode(msgspec.json.encode(event), type=StreamEvent) == event


@pytest.mark.parametrize(("ours", "graphs"), [(NetworkGroup, NetworkInfo), (DeviceGroup, DeviceInfo)])
def test_groups_that_are_filled_by_position_have_the_models_fields(ours: Any, graphs: Any) -> None:
    """Networks and devices are copied field by field in order, so the two orders must be one."""
    wire = [field.encode_name for field in msgspec.structs.fields(graphs)]

    assert [field.encode_name for field in msgspec.structs.fields(ours)] == wire


class Sentinels:
    """A record with every property of the model filled, each with a value that occurs nowhere else."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self.expected: dict[str, str] = {}

    def struct(self, kind: Any, path: str) -> dict[str, Any]:
        return {
            field.encode_name: self.value(field.type, f"{path}.{field.encode_name}")
            for field in kind.fields
            if "@odata" not in field.encode_name
        }

    def value(self, kind: Any, path: str) -> Any:
        members = [m for m in getattr(kind, "types", [kind]) if not isinstance(m, inspect.NoneType)]
        first = members[0]
        if len(members) == 1:
            if isinstance(first, inspect.StructType):
                return self.struct(first, path)
            if isinstance(first, inspect.ListType):
                return [self.value(first.item_type, path)]
            if isinstance(first, inspect.DictType):
                return self.dictionary(first, path)
        if isinstance(first, inspect.BoolType):
            return True
        return self.scalar(first, path)

    def dictionary(self, kind: Any, path: str) -> dict[str, Any]:
        if any(isinstance(member, inspect.BoolType) for member in kind.value_type.types):
            self.expected[path] = f"token{next(self._numbers)}"
            return {self.expected[path]: True}
        identity = inspect.type_info(Identity)
        names = (*IDENTITY_MEMBERS, "neverSeen")
        members: dict[str, Any] = {name: self.struct(identity, f"{path}.{name}") for name in names}
        self.expected[f"{path}.endpointType"] = f"type{next(self._numbers)}"
        return {**members, "endpointType": self.expected[f"{path}.endpointType"]}

    def scalar(self, kind: Any, path: str) -> Any:
        number = next(self._numbers)
        form = (getattr(kind, "extra", None) or {}).get("format")
        if form == "duration":
            self.expected[path] = f"{number}000654"
            return f"PT{number}000.654S"
        if form == "date-time":
            self.expected[path] = f"2020-01-01T00:00:00.{number:07d}Z"
            return self.expected[path]
        if isinstance(kind, inspect.IntType):
            self.expected[path] = str(7_000_000 + number)
            return 7_000_000 + number
        self.expected[path] = f"text{number}x"
        return self.expected[path]


def test_every_property_of_the_model_has_a_place_in_what_is_published() -> None:
    """Each property is filled with a value of its own, and found in the events or the summary."""
    sentinels = Sentinels()
    document = sentinels.struct(inspect.type_info(CallRecord), "callRecord")
    document["sessions"][0]["segments"][0]["media"][0]["label"] = label = "text-label-audio"
    sentinels.expected["callRecord.sessions.segments.media.label"] = label
    record, odd = decode_record(json.dumps(document).encode())
    flattened = flatten(TENANT, record)
    output = b"\n".join([encode_summary(flattened.summary), *map(msgspec.json.encode, flattened.events())]).decode()

    assert odd == []
    assert len(sentinels.expected) > 500
    assert [path for path, value in sentinels.expected.items() if value not in output] == []
    for flag in ("isTest", "hidden", "wasMediaBypassed", "isAudioForwardErrorCorrectionUsed"):
        assert f'"{flag}":true' in output
