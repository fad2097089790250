"""The emulator's other opinion: what must come out of a record, and the verdict on what a consumer saw."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from service.emulator.expect import differences, expected_events, expected_summary
from service.emulator.generator import KINDS, CallSpec, generate_call, mixed_specs, next_version
from service.emulator.judge import Judge, Verdict

TENANT = "dc368399-474c-4d40-900c-6265431fd81f"
SAMPLES = Path(__file__).parent.parent / "samples"

Json = dict[str, Any]

TOPICS = {"audio": "audio", "video": "video", "screenSharing": "screen-sharing", "other": "other"}


class Message:
    """A record on its way to the judge; tests break its parts."""

    def __init__(self, value: Json, kind: str) -> None:
        call = value["call"]
        self.is_summary = kind == "call"
        self.topic = "callrecords.calls" if self.is_summary else f"callrecords.streams.{TOPICS[kind]}"
        self.partition = 3
        self.key: bytes | None = f"{value['tenantId']}/{call['id']}".encode()
        self.value = value
        self.raw: bytes | None = None
        self.headers = {
            "ce_specversion": "1.0",
            "ce_id": value["id"],
            "ce_type": f"callstream.{kind if self.is_summary else 'stream'}.v1",
            "ce_source": f"/tenants/{value['tenantId']}/communications/callRecords",
            "ce_subject": call["id"],
            "ce_time": call["lastModifiedDateTime"],
            "content-type": "application/json",
            "version": str(call["version"]),
        }


def published(document: Json) -> list[Message]:
    """All that a right service publishes for a version."""
    events = expected_events(TENANT, document).values()
    messages = [Message(copy.deepcopy(event), event["media"]["kind"]) for event in events]
    return [*messages, Message(expected_summary(TENANT, document), "call")]


def judged(documents: list[Json], messages: list[Message]) -> Verdict:
    """The verdict on these messages when these versions existed."""
    judge = Judge()
    for document in documents:
        judge.add_truth(TENANT, document)
    show(judge, messages)
    return judge.verdict()


def show(judge: Judge, messages: list[Message]) -> None:
    """Every topic in the order of the list."""
    for offset, message in enumerate(messages):
        see = judge.see_summary if message.is_summary else judge.see_event
        headers = [(name, text.encode()) for name, text in message.headers.items()]
        value = orjson.dumps(message.value) if message.raw is None else message.raw
        see(message.topic, message.partition, offset, message.key, value, headers)


def counts(verdict: Verdict) -> Json:
    """What is not zero of what should be."""
    names = ("lost", "duplicated", "wrong", "half", "older_after_newer")
    return {name: getattr(verdict, name) for name in names if getattr(verdict, name)}


@pytest.fixture
def call() -> Json:
    """A meeting of three with audio, video or a shared screen: 12 streams."""
    return generate_call(CallSpec(TENANT, 11, 0, sessions=3))


def sample(name: str) -> Any:
    """One of the committed samples."""
    return json.loads((SAMPLES / name).read_bytes())


def test_the_published_record_becomes_the_sample_event_and_summary() -> None:
    """Names, nesting and values as written by hand from the design."""
    document = sample("docs_callrecord_sessions_segments.json")
    (event,) = expected_events(TENANT, document).values()

    assert event == sample("docs_callrecord.stream_event.json")
    assert expected_summary(TENANT, document) == sample("docs_callrecord.call_summary.json")


def test_the_expectation_shares_no_code_with_the_service_it_judges() -> None:
    """A mistake that both made would be seen by nobody."""
    code = "import sys, service.emulator.judge, service.emulator.generator; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert "service.emulator.expect" in loaded
    assert not [name for name in loaded if name.startswith("service.record")]


@pytest.mark.parametrize("seed", range(3))
def test_a_right_run_gives_zeros(seed: int) -> None:
    """Calls of every kind, some of them in two versions, one of those overtaken before it was fetched."""
    documents = [generate_call(spec) for spec in mixed_specs(25, [TENANT], seed)]
    later = [next_version(document, seed, 1_790_010_000.0) for document in documents[:10]]
    shown = documents[3:] + later
    verdict = judged(documents + later, [message for document in shown for message in published(document)])

    assert counts(verdict) == {}
    assert verdict.is_right
    assert verdict.problems == []
    assert (verdict.calls, verdict.versions) == (25, 35)
    assert verdict.events == sum(len(expected_events(TENANT, document)) for document in shown)


def test_truth_told_after_the_events_is_as_good(call: Json) -> None:
    """Whoever reads Kafka and whoever knows the calls need not wait for each other."""
    judge = Judge()
    show(judge, published(call))
    assert judge.verdict().wrong == 13

    judge.add_truth(TENANT, call)
    assert judge.verdict().is_right
    assert judge.verdict().events == 12


def test_asking_twice_and_reading_twice_changes_nothing(call: Json) -> None:
    """A consumer that begins again reads the same offsets again."""
    judge = Judge()
    judge.add_truth(TENANT, call)
    show(judge, published(call))
    show(judge, published(call))

    assert judge.verdict() == judge.verdict()
    assert judge.verdict().is_right


def test_a_missing_event_is_lost_and_leaves_a_half_version(call: Json) -> None:
    """One of twelve."""
    verdict = judged([call], published(call)[1:])

    assert counts(verdict) == {"lost": 1, "half": 1}
    assert (verdict.overtaken_lost, verdict.overtaken_half) == (0, 0)
    assert call["id"] in verdict.problems[0]
    assert not verdict.is_right


def test_a_missing_summary_is_lost(call: Json) -> None:
    """It belongs to the version as much as the events do."""
    assert counts(judged([call], published(call)[:-1])) == {"lost": 1, "half": 1}


def test_a_call_of_which_nothing_came_is_lost_whole(call: Json) -> None:
    """12 streams and the summary."""
    assert counts(judged([call], [])) == {"lost": 13}


def test_a_call_without_streams_is_lost_without_its_summary() -> None:
    """No failed call is invisible."""
    session = {"id": "b", "failureInfo": {"stage": "callSetup"}}
    document = {"id": "a", "version": 1, "lastModifiedDateTime": "2026-01-01T00:00:00Z", "sessions": [session]}

    assert counts(judged([document], [])) == {"lost": 1}
    assert judged([document], published(document)).is_right


def test_the_last_version_missing_is_a_loss_although_an_earlier_one_came(call: Json) -> None:
    """Every call's last version is promised."""
    later = next_version(call, 1, 1_790_010_000.0)

    assert judged([call, later], published(call)).lost == len(published(later))


def test_half_of_an_overtaken_version_is_a_loss(call: Json) -> None:
    """It need not appear, but if it does it must be whole."""
    later = next_version(call, 1, 1_790_010_000.0)

    verdict = judged([call, later], published(call)[:5] + published(later))

    assert counts(verdict) == {"lost": 8, "half": 1}
    assert (verdict.overtaken_lost, verdict.overtaken_half, verdict.half_announced) == (8, 1, 0)


def test_half_of_a_version_with_its_summary_passes_for_whole(call: Json) -> None:
    """Without transactions the summary is what tells a consumer that all events are there."""
    *events, summary = published(call)

    assert judged([call], [*events[1:], summary]).half_announced == 1
    assert judged([call], events).half_announced == 0
    assert judged([call], [*events, summary]).half_announced == 0


def test_a_repeated_event_is_a_duplicate(call: Json) -> None:
    """Summaries too."""
    messages = published(call)

    assert counts(judged([call], [*messages, messages[0], messages[-1]])) == {"duplicated": 2}


def test_an_older_version_after_a_newer_one_is_seen(call: Json) -> None:
    """In each topic where it happens, once for every record."""
    later = next_version(call, 1, 1_790_010_000.0)
    verdict = judged([call, later], published(later) + published(call))

    assert counts(verdict) == {"older_after_newer": len(published(call))}


def test_versions_in_order_are_right(call: Json) -> None:
    """The newer supersedes the older."""
    later = next_version(call, 1, 1_790_010_000.0)

    assert judged([call, later], published(call) + published(later)).is_right


def alter(*path: str, to: Any) -> Callable[[Message], None]:
    """Breaks one value of the event; the last name of the path is set."""

    def change(message: Message) -> None:
        inner = message.value
        for name in path[:-1]:
            inner = inner[name]
        assert inner.get(path[-1]) != to
        inner[path[-1]] = to

    return change


def header(name: str, text: str) -> Callable[[Message], None]:
    """Breaks one header."""
    return lambda message: message.headers.update({name: text})


BROKEN_EVENTS: dict[str, Callable[[Message], None]] = {
    "metric": alter("stream", "averageJitterMs", to=12345),
    "a metric too many": alter("stream", "averageJitter", to="PT0.01S"),
    "a metric missing": lambda message: message.value["stream"].pop("streamId"),
    "verdict": alter("quality", "verdict", to="excellent"),
    "reasons": alter("quality", "reasons", to=["luck"]),
    "network of the other side": lambda message: message.value["caller"].update(network={"port": 1}),
    "identity": alter("caller", "endpoint", "identity", to={"kind": "user"}),
    "direction": alter("stream", "sender", to="nobody"),
    "call times": alter("call", "endDateTime", to="2020-01-01T00:00:00Z"),
    "null instead of absent": lambda message: message.value["media"].update(extra=None),
    "index": alter("session", "index", to=77),
    "true for 1": lambda message: message.value["call"].update(version=True),
    "not JSON": lambda message: setattr(message, "raw", b"{"),
    "a list": lambda message: setattr(message, "raw", b"[]"),
    "topic": lambda message: setattr(message, "topic", "callrecords.streams.other"),
    "key": lambda message: setattr(message, "key", b"x"),
    "no key": lambda message: setattr(message, "key", None),
    "partition": lambda message: setattr(message, "partition", 4),
    "ce_id": header("ce_id", "x/y/1/0.0.0.0"),
    "ce_type": header("ce_type", "callstream.call.v1"),
    "ce_source": header("ce_source", "/"),
    "ce_subject": header("ce_subject", ""),
    "ce_time": header("ce_time", "2020-01-01T00:00:00Z"),
    "ce_specversion": header("ce_specversion", "0.3"),
    "content-type": header("content-type", "text/plain"),
    "version": header("version", "2"),
}


@pytest.mark.parametrize("how", BROKEN_EVENTS)
def test_one_broken_event_is_wrong(call: Json, how: str) -> None:
    """Whatever of it is broken; nothing else is blamed."""
    messages = published(call)
    BROKEN_EVENTS[how](messages[4])
    verdict = judged([call], messages)

    assert counts(verdict) == {"wrong": 1}
    assert len(verdict.problems) == 1


BROKEN_SUMMARIES: dict[str, Callable[[Message], None]] = {
    "event count": alter("eventCount", to=3),
    "streams": alter("counts", "streams", "audio", to=1000),
    "poor": alter("counts", "poor", "audio", to=1000),
    "participants": lambda message: message.value["participants"].pop(),
    "participant count": alter("call", "participantCount", to=1000),
    "failures": alter("failures", to=[{"stage": "midcall"}]),
    "topic": lambda message: setattr(message, "topic", "callrecords.ledger"),
}


@pytest.mark.parametrize("how", BROKEN_SUMMARIES)
def test_one_broken_summary_is_wrong(call: Json, how: str) -> None:
    """Counts, lists and topic."""
    messages = published(call)
    BROKEN_SUMMARIES[how](messages[-1])

    assert counts(judged([call], messages)) == {"wrong": 1}


def test_what_never_existed_is_wrong(call: Json) -> None:
    """A stream, a version and a call out of nowhere."""
    stream, version, stranger = (copy.deepcopy(published(call)[0]) for _ in range(3))
    for message, identity in (
        (stream, f"{TENANT}/{call['id']}/1/9.0.0.0"),
        (version, f"{TENANT}/{call['id']}/7/0.0.0.0"),
        (stranger, f"{TENANT}/{TENANT}/1/0.0.0.0"),
    ):
        message.value["id"] = message.headers["ce_id"] = identity

    assert counts(judged([call], [*published(call), stream, version, stranger])) == {"wrong": 3}


def test_a_dead_letter_with_its_reason_excuses_a_call_that_never_came(call: Json) -> None:
    """Promise 1: published, or named in a dead letter; without a reason it is wrong."""
    later = next_version(call, 1, 1_790_010_000.0)
    key = f"{TENANT}/{call['id']}".encode()
    value = orjson.dumps({"tenantId": TENANT, "callId": call["id"], "version": 1})
    reason = [("reason", b"unavailable")]
    judge = Judge()
    judge.add_truth(TENANT, call)

    judge.see_dead_letter("callrecords.dead-letter", 0, 0, key, value, reason)
    assert (judge.verdict().dead, judge.verdict().is_right) == (1, True)

    judge.add_truth(TENANT, later)  # a newer version than the dead letter speaks of
    assert judge.verdict().lost == len(published(later))

    judge.see_dead_letter("callrecords.dead-letter", 0, 1, key, orjson.dumps({"callId": "x"}), [])
    assert judge.verdict().wrong == 2  # no reason, and a key of another call


def test_only_the_first_problems_are_told() -> None:
    """A verdict stays readable when everything is broken."""
    documents = [generate_call(CallSpec(TENANT, 1, n)) for n in range(40)]

    assert len(judged(documents, []).problems) == 20


@pytest.mark.parametrize("kind", KINDS)
def test_every_stream_has_an_event_and_every_group_its_place(kind: str) -> None:
    """Counted another way: by the text of the document."""
    for n in range(10):
        document = generate_call(CallSpec(TENANT, 4, n, kind=kind))
        events = expected_events(TENANT, document)
        summary = expected_summary(TENANT, document)
        assert len(events) == summary["eventCount"] == json.dumps(document).count('"streamDirection"')
        assert all(event["id"] == identity for identity, event in events.items())
        assert "null" not in json.dumps([*events.values(), summary])


def one_stream(stream: Json, label: str = "main-audio", call_type: str = "groupCall", **session: Any) -> Json:
    """The only event of a call with this stream."""
    media = [{"label": label, "streams": [{"streamDirection": "calleeToCaller", **stream}]}]
    part = {"id": "g", "media": media, **session.pop("segment", {})}
    document = {"id": "C", "version": 1, "type": call_type, "sessions": [{"id": "s", "segments": [part], **session}]}
    (event,) = expected_events(TENANT.upper(), document).values()
    return event


FINE = {
    "averageJitter": "PT0.03S",
    "averageRoundTripTime": "PT0.5S",
    "averagePacketLossRate": 0.1,
    "packetUtilization": 501,
}
THREE = {"averageJitterMs", "averageRoundTripTimeMs", "averagePacketLossRate"}
LOST, RATE = "averageVideoFrameLossPercentage", "averageVideoFrameRate"
AFTER_FEC = "postForwardErrorCorrectionPacketLossRate"
INBOUND, OUTBOUND = {"streamDirection": "calleeToCaller"}, {"streamDirection": "callerToCallee"}
SHARE = "applicationsharing-video"


@pytest.mark.parametrize(
    ("stream", "label", "call_type", "verdict", "reasons"),
    [
        (FINE, "main-audio", "groupCall", "good", THREE),
        (FINE | {"averageJitter": "PT0.0300001S"}, "main-audio", "groupCall", "poor", {"averageJitterMs"}),
        (
            FINE | {"averageRoundTripTime": "PT0.501S", "averagePacketLossRate": 0.11},
            "main-audio",
            "groupCall",
            "poor",
            {"averageRoundTripTimeMs", "averagePacketLossRate"},
        ),
        (FINE | {"packetUtilization": 500}, "main-audio", "groupCall", "unclassified", {"packetUtilization"}),
        ({"packetUtilization": 0}, "main-audio", "groupCall", "unclassified", THREE | {"packetUtilization"}),
        ({"packetUtilization": 900}, "main-audio", "groupCall", "unclassified", THREE),
        (
            {"packetUtilization": 900, "averageJitter": "-PT1S", "averagePacketLossRate": "NaN"},
            "main-audio",
            "groupCall",
            "unclassified",
            THREE,
        ),
        ({LOST: 50.1, RATE: 30}, "main-video", "groupCall", "poor", {LOST}),
        ({LOST: 50, RATE: 1}, "main-video", "groupCall", "good", {LOST}),
        ({RATE: 6.9}, "main-video", "groupCall", "poor", {RATE}),
        ({AFTER_FEC: 0.15}, "main-video", "groupCall", "good", {AFTER_FEC}),
        ({}, "main-video", "groupCall", "unclassified", {LOST, RATE, AFTER_FEC}),
        ({LOST: 60, RATE: 4, "videoCodec": "h264"} | INBOUND, SHARE, "groupCall", "poor", {LOST}),
        ({LOST: 60, RATE: 4, "videoCodec": "h264"} | OUTBOUND, SHARE, "groupCall", "good", {RATE}),
        ({LOST: 60, RATE: 0.9, "videoCodec": "H264S"} | INBOUND, SHARE, "groupCall", "poor", {RATE}),
        ({LOST: 60, RATE: 4} | OUTBOUND, SHARE, "peerToPeer", "poor", {LOST}),
        ({RATE: 4} | INBOUND, SHARE, "groupCall", "unclassified", {LOST}),
        (FINE, "data", "groupCall", "unclassified", set()),
    ],
)
def test_the_verdict_is_that_of_the_quality_dashboard(
    stream: Json, label: str, call_type: str, verdict: str, reasons: set[str]
) -> None:
    """Graph-contract 8, at the limits, which count as good."""
    quality = one_stream(stream, label, call_type)["quality"]

    assert (quality["verdict"], set(quality["reasons"])) == (verdict, reasons)


def test_odd_values_are_left_out_and_offsets_become_utc() -> None:
    """Placeholders of the documentation generator do no harm (graph-contract 7.8)."""
    event = one_stream(
        {
            "averageJitter": "PT2M20.6389308S",
            "maxJitter": "-PT2M58.3390431S",
            "averagePacketLossRate": "Single",
            "packetUtilization": 1,
            "startDateTime": "2016-12-31T23:56:29.9610061+03:00",
            "endDateTime": "2016-12-31T23:56:29.5+00:00",
            "streamId": "",
            "madeUp": 1,
        }
    )

    assert event["id"] == f"{TENANT}/c/1/0.0.0.0"
    assert event["tenantId"] == TENANT
    assert event["stream"] == {
        "streamId": "",
        "index": 0,
        "direction": "calleeToCaller",
        "sender": "callee",
        "receiver": "caller",
        "averageJitterMs": 140638.9308,
        "packetUtilization": 1,
        "startDateTime": "2016-12-31T20:56:29.9610061Z",
        "endDateTime": "2016-12-31T23:56:29.5Z",
    }


def test_a_segments_own_endpoint_goes_before_the_sessions() -> None:
    """The session's stands beside it only where it differs."""
    phone = {
        "@odata.type": "#microsoft.graph.callRecords.participantEndpoint",
        "associatedIdentity": {"id": "+1425****"},
    }
    same = one_stream({}, caller=phone, segment={"caller": {**phone, "name": None}})
    other = one_stream(
        {}, caller=phone, segment={"caller": {"@odata.type": "microsoft.graph.callRecords.serviceEndpoint"}}
    )

    assert same["caller"]["endpoint"] == {"kind": "participant", "identity": {"kind": "phone", "id": "+1425****"}}
    assert "caller" not in same["session"]
    assert other["caller"] == {"endpoint": {"kind": "service"}}
    assert other["session"]["caller"] == same["caller"]["endpoint"]


def test_the_first_member_of_a_set_is_the_identity_and_the_rest_stand_beside_it() -> None:
    """By the priority of graph-contract 7.5; unknown members are kept."""
    identity = {"device": {"id": "d"}, "futureMember": {"id": "f"}, "phone": {"id": "+1"}, "user": None}
    endpoint = {"@odata.type": "#microsoft.graph.callRecords.participantEndpoint", "identity": identity}

    assert one_stream({}, caller=endpoint)["caller"]["endpoint"]["identity"] == {
        "kind": "phone",
        "id": "+1",
        "otherIdentities": [{"kind": "device", "id": "d"}, {"kind": "futureMember", "id": "f"}],
    }


def test_everybody_is_a_participant_once() -> None:
    """From sessions, the new list and the old one; those without an id are told apart by name."""

    def entry(kind: str, **identity: Any) -> Json:
        return {"identity": {kind: identity}}

    zero = "00000000-0000-0000-0000-000000000000"
    document = {
        "id": "c",
        "version": 1,
        "sessions": [{"caller": {"associatedIdentity": {"id": "A", "displayName": "Ann"}}}],
        "participants_v2": [
            entry("user", id="a", userPrincipalName="ann@contoso.com"),
            entry("guest", id="a"),
            entry("user", id=zero, displayName="Bo"),
        ],
        "participants": [{"user": {"id": zero, "displayName": "Cy"}}, {"user": {"id": zero, "displayName": "Bo"}}],
    }

    assert expected_summary(TENANT, document)["participants"] == [
        {"kind": "user", "id": "A", "displayName": "Ann", "userPrincipalName": "ann@contoso.com"},
        {"kind": "guest", "id": "a"},
        {"kind": "user", "id": zero, "displayName": "Bo"},
        {"kind": "user", "id": zero, "displayName": "Cy"},
    ]


def test_lists_stop_at_500_and_counts_do_not() -> None:
    """A summary must fit a Kafka record."""
    failure = {"failureInfo": {"stage": "callSetup", "reason": None}}
    sessions = [failure | {"caller": {"associatedIdentity": {"id": str(n)}}} for n in range(700)]
    summary = expected_summary(TENANT, {"id": "c", "version": 1, "sessions": sessions})

    assert (len(summary["failures"]), summary["failureCount"]) == (500, 700)
    assert (len(summary["participants"]), summary["call"]["participantCount"]) == (500, 700)


def test_differences_names_the_path_and_both_values() -> None:
    """Numbers by value, reasons without order, of failures only stage and reason."""
    one = {"a": {"b": [1, 2.0]}, "reasons": ["x", "y"], "failures": [{"stage": "midcall"}], "gone": "x"}
    same = {"a": {"b": [1.0, 2]}, "reasons": ["y", "x"], "failures": [{"stage": "midcall", "session": 4}], "gone": "x"}

    assert differences(one, same) == []
    assert differences(one, {**same, "a": {"b": [1, 3]}, "new": 1, "gone": 1}) == [
        "a.b[1]: expected 2.0, got 3",
        'gone: expected "x", got 1',
        "new: expected nothing, got 1",
    ]
    assert differences([1, 2], [1]) == [": expected 2 entries, got 1"]
    assert differences({"a": 1}, {"a": True}) == ["a: expected 1, got true"]
