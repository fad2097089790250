"""Decoding: good bodies in one pass, odd ones at the cost of the odd value, NotACallRecord for the rest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from service.errors import NotACallRecord
from service.record import decode, lenient, times
from service.record.decode import decode_participants_page, decode_record, decode_sessions_page
from service.record.encode import EventEncoder, encode_summary
from service.record.flatten import flatten
from service.record.lenient import MOST_KEPT, Walk, read_struct
from service.record.model import IDENTITY_MEMBERS, CallRecord, MediaStream
from tests.strategies import call_records, odd_json

SAMPLES = Path(__file__).parent.parent / "samples"
TENANT = "dc368399-474c-4d40-900c-6265431fd81f"

slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def body_of(document: Any) -> bytes:
    return json.dumps(document).encode()


def record(**properties: Any) -> dict[str, Any]:
    return {"id": "r1", "version": 1, **properties}


def stream_record(**properties: Any) -> dict[str, Any]:
    """A record with one audio stream that has these properties."""
    return record(sessions=[{"segments": [{"media": [{"label": "main-audio", "streams": [properties]}]}]}])


def decoded_stream(**properties: Any) -> tuple[Any, list[Any]]:
    """That stream as decoded, and the odd values as (name, kind)."""
    result, odd = decode_record(body_of(stream_record(**properties)))
    stream = result.sessions[0].segments[0].media[0].streams[0]  # type: ignore[index]
    return stream, [(value.path.rpartition(".")[2], value.kind) for value in odd]


def everything_published(body: bytes) -> list[bytes]:
    """All that comes out for a body, if it is a record."""
    result, _ = decode_record(body)
    flattened = flatten(TENANT, result)
    encoder = EventEncoder()
    return [encode_summary(flattened.summary), *(encoder.encode(event) for event in flattened.events())]


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("name", ["docs_callrecord_sessions_segments.json", "docs_callrecord_participants.json"])
def test_published_samples_have_nothing_odd(name: str, thorough: bool) -> None:
    """The records of Graph's own reference pages decode without a remark, and their links are found."""
    result, odd = decode_record((SAMPLES / name).read_bytes(), thorough=thorough)

    assert odd == []
    assert (result.sessions_next_link or result.participants_next_link or "").startswith("https://graph.microsoft.com/")


SEED_ODD = {
    ("callerNetwork.sentQualityEventRatio", "wrong_type"),
    ("callerDevice.speakerGlitchRate", "wrong_type"),
    ("streams.averageAudioDegradation", "wrong_type"),
    ("streams.maxJitter", "negative_duration"),
}


@pytest.mark.parametrize("name", ["000_create_segments", "001_update_segments"])
@pytest.mark.parametrize("side", ["request", "response"])
def test_seed_segments_decode_with_their_odd_values_named(name: str, side: str) -> None:
    """The placeholders of generated documentation cost those values and nothing else."""
    segment = json.loads((SAMPLES / f"{name}.{side}.json").read_text())
    result, odd = decode_record(body_of(record(sessions=[{"segments": [segment]}])))

    found = {(value.field.removeprefix("sessions.segments.media."), value.kind) for value in odd}
    assert found >= SEED_ODD
    assert {value.found for value in odd if value.kind == "wrong_type"} == {"Single"}
    media: Any = result.sessions[0].segments[0].media[0]  # type: ignore[index]
    assert media.caller_network.wifi_channel == 11
    assert media.streams[0].packet_utilization == 1
    assert media.streams[0].average_audio_degradation is None
    assert all(value.path.startswith("sessions[0].segments[0].media[0].") for value in odd)


@pytest.mark.parametrize(
    ("name", "sent", "kept", "kind"),
    [
        ("averagePacketLossRate", "Single", None, "wrong_type"),
        ("averagePacketLossRate", "0.5", None, "wrong_type"),
        ("averagePacketLossRate", "NaN", None, "wrong_type"),
        ("averagePacketLossRate", "-INF", None, "wrong_type"),
        ("averagePacketLossRate", True, None, "wrong_type"),
        ("averagePacketLossRate", float("nan"), None, "out_of_range"),
        ("averagePacketLossRate", float("-inf"), None, "out_of_range"),
        ("averagePacketLossRate", 1.7, 1.7, None),
        ("averagePacketLossRate", 0, 0, None),
        ("averagePacketLossRate", 10**30, 1e30, None),
        ("packetUtilization", 1.0, 1, None),
        ("packetUtilization", 1.5, None, "wrong_type"),
        ("packetUtilization", False, None, "wrong_type"),
        ("packetUtilization", 10**400, None, "out_of_range"),
        ("packetUtilization", {}, None, "wrong_type"),
        ("wasMediaBypassed", "true", None, "wrong_type"),
        ("wasMediaBypassed", 1, None, "wrong_type"),
        ("streamId", 1504545584, "1504545584", "wrong_type"),
        ("streamId", True, "true", "wrong_type"),
        ("streamId", ["1"], None, "wrong_type"),
        ("streamId", "", "", None),
        ("streamId", "a\ud800b", "a\ufffdb", "bad_format"),
        ("audioCodec", "codecOfTomorrow", "codecOfTomorrow", None),
        ("averageJitter", "P1Y", None, "bad_format"),
        ("averageJitter", "P2W", None, "bad_format"),
        ("averageJitter", "PT-3S", None, "negative_duration"),
        ("averageJitter", "-PT3S", None, "negative_duration"),
        ("averageJitter", "", None, "bad_format"),
        ("averageJitter", 3, None, "wrong_type"),
        ("averageJitter", "PT0.1234567891S", "PT0.1234567891S", None),
        ("averageJitter", "P1DT2H3M4.5S", "P1DT2H3M4.5S", None),
        ("startDateTime", "yesterday", "yesterday", "bad_format"),
        ("startDateTime", "2020-02-25T18:52:21", "2020-02-25T18:52:21", "bad_format"),
        ("startDateTime", 5, "5", "wrong_type"),
        ("startDateTime", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", None),
        ("startDateTime", "9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z", None),
        ("startDateTime", "2016-12-31T23:56:29.9610061+03:00", "2016-12-31T23:56:29.9610061+03:00", None),
    ],
)
def test_an_odd_value_costs_that_value_only(name: str, sent: object, kept: object, kind: str | None) -> None:
    """What is kept of one property, and what is said about it, while its neighbour stays."""
    stream, odd = decoded_stream(**{name: sent, "videoCodec": "h264"})

    attribute = {field.encode_name: field.name for field in msgspec.structs.fields(stream)}[name]
    assert getattr(stream, attribute) == kept
    assert type(getattr(stream, attribute)) is type(kept)
    assert odd == ([(name, kind)] if kind else [])
    assert stream.video_codec == "h264"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 5000])
def test_numbers_that_no_double_holds_are_out_of_range(number: str) -> None:
    """JSON readers differ over these; here they cost the value."""
    body = body_of(stream_record(averagePacketLossRate="@", streamId="s")).replace(b'"@"', number.encode())
    result, odd = decode_record(body)

    assert [(value.field, value.kind) for value in odd] == [
        ("sessions.segments.media.streams.averagePacketLossRate", "out_of_range")
    ]
    assert result.sessions[0].segments[0].media[0].streams[0].stream_id == "s"  # type: ignore[index]


def test_items_that_are_nothing_are_left_out_of_collections() -> None:
    """A null in a collection, or something that is no object, is odd and gone."""
    result, odd = decode_record(body_of(record(sessions=[None, {"id": "a"}, 5], modalities=["audio", None])))

    assert [session.id for session in result.sessions or ()] == ["a"]
    assert result.modalities == ["audio"]
    assert [value.path for value in odd] == ["sessions[0]", "sessions[2]", "modalities[1]"]


def test_a_single_object_is_a_collection_of_one() -> None:
    """An object where a collection belongs is odd, but it is not lost."""
    result, odd = decode_record(body_of(record(sessions={"id": "a", "segments": {"id": "b"}})))

    assert result.sessions[0].segments[0].id == "b"  # type: ignore[index]
    assert [(value.path, value.kind) for value in odd] == [
        ("sessions", "wrong_type"),
        ("sessions.segments", "wrong_type"),
    ]


@pytest.mark.parametrize(
    "document",
    [
        record(),
        record(sessions=None, participants_v2=None, modalities=None),
        record(sessions=[]),
        record(sessions=[{}, {"segments": None}, {"segments": [{}]}]),
        record(sessions=[{"id": "a"}, {"id": "a"}]),
        record(sessions=[{"segments": [{"media": [{}, {"streams": []}]}], "failureInfo": {"stage": None}}]),
        record(organizer={"user": None, "application": {}, "@odata.type": "#x", "endpointType": "voicemail"}),
        record(organizer_v2={"identity": {"somethingNew": {"id": "a"}}}),
    ],
)
def test_what_is_missing_is_not_odd(document: dict[str, Any]) -> None:
    """Absent, null and empty are the same good news."""
    _, odd = decode_record(body_of(document))

    assert odd == []
    assert everything_published(body_of(document))


def test_a_thorough_look_names_unknown_fields_and_members_but_no_annotations() -> None:
    """Unknown fields count at their parent, so that no text from the input becomes a label."""
    document = record(
        type="conferenceCall",
        modalities=["AUDIO", "smell"],
        newThing=1,
        sessions=[{"caller": {"@odata.type": "x", "newer\nThing": {"a": 1}, "name@odata.count": 1}}],
        organizer={"neverSeen": {"id": "a"}, "endpointType": "mars"},
    )
    _, quick = decode_record(body_of(document))
    _, odd = decode_record(body_of(document), thorough=True)

    assert quick == []
    assert {(value.path, value.field, value.kind) for value in odd} == {
        ("type", "type", "unknown_member"),
        ("modalities[1]", "modalities", "unknown_member"),
        ("newThing", "$", "unknown_field"),
        ("sessions[0].caller.newer\\nThing", "sessions.caller", "unknown_field"),
        ("organizer.neverSeen", "organizer", "unknown_field"),
        ("organizer.endpointType", "organizer.endpointType", "unknown_member"),
    }


def test_what_was_found_is_short_and_printable() -> None:
    """An odd value can go into a log line as it is."""
    _, odd = decode_record(body_of(stream_record(averageJitter="\x00\n\u202e" + "x" * 1000)))

    assert odd[0].found.startswith("\\u0000\\n\\u202e")
    assert odd[0].found.isprintable()
    assert len(odd[0].found) <= 61


@pytest.mark.parametrize("spelling", ["nextLink", "nextlink", "NEXTLINK", "NextLink", "nExTlInK"])
@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("thorough", [False, True])
def test_a_link_is_found_in_any_spelling(spelling: str, position: str, thorough: bool) -> None:
    """A link that is missed would be a record published without its tail."""
    link = {f"sessions@Odata.{spelling}": "https://graph.microsoft.com/x?$skiptoken=a"}
    rest = {"sessions": [{"id": "a"}]}
    document = record(**(link | rest if position == "before" else rest | link))
    page = {f"@odata.{spelling}": "L", "value": [{"id": "a"}]}

    assert decode_record(body_of(document), thorough=thorough)[0].sessions_next_link
    assert decode_sessions_page(body_of(page), thorough=thorough)[0].next_link == "L"
    assert decode_participants_page(body_of(page), thorough=thorough)[0].next_link == "L"


def test_pages_hold_sessions_and_participants() -> None:
    """Pages decode as records do, odd values and all."""
    sessions, odd = decode_sessions_page(body_of({"value": [{"id": "a", "isTest": "no"}], "@odata.nextLink": "L"}))
    participants, none = decode_participants_page(body_of({"value": [{"id": "p"}, None]}))

    assert (sessions.value or [])[0].id == "a"
    assert [(value.path, value.field) for value in odd] == [("value[0].isTest", "value.isTest")]
    assert [participant.id for participant in participants.value or ()] == ["p"]
    assert len(none) == 1


def test_a_version_in_text_is_taken_and_named() -> None:
    """Digits are a version, whatever they are wrapped in."""
    result, odd = decode_record(b'{"id":"r1","version":"12"}')

    assert result.version == 12
    assert [(value.field, value.kind) for value in odd] == [("version", "wrong_type")]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"<!DOCTYPE html><html>", "html"),
        (b"\n <html>", "html"),
        (b"Bad gateway", "not_json"),
        (b'{"id":"a"}}', "not_json"),
        (b"\x00\x01\x02", "not_json"),
        (b'{"id":"a","version":1', "cut_json"),
        (b'{"id":"a","version', "cut_json"),
        (b'{"id":"a","version":1,"sessions":[{"isTest":tr', "cut_json"),
        (b'{"id":"a\\u00', "cut_json"),
        (b'{"id":"a\\u001f', "cut_json"),
        (b'{"id":"a\\', "cut_json"),
        (b'{"version":1.', "cut_json"),
        (b'{"version":1e+', "cut_json"),
        (b'{"version":-', "cut_json"),
        (b'{"version":1.x}', "not_json"),
        (b'{"error":{"code":"NotFound","message":""}}', "odata_error"),
        (b'{"error":"nope"}', "odata_error"),
        (b'[{"id":"a","version":1}]', "list"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"NaN", "not_an_object"),
        (b"{}", "no_id"),
        (b'{"version":1}', "no_id"),
        (b'{"id":"","version":1}', "no_id"),
        (b'{"id":[],"version":1}', "no_id"),
        (b'{"id":"a"}', "no_version"),
        (b'{"id":"a","version":null}', "no_version"),
        (b'{"id":"a","version":"one"}', "no_version"),
        (b'{"id":"a","version":true}', "no_version"),
        (b'{"id":"a","version":1.5}', "no_version"),
        (b'{"id":"a","version":-1}', "no_version"),
        (b'{"id":"a","version":-1.0}', "no_version"),
        (b'{"id":"a","version":9223372036854775808}', "no_version"),
        (b'{"id":"a","version":NaN}', "no_version"),
        (b'{"id":"a","version":1e300}', "no_version"),
        (b"[" * 100_000, "too_deep"),
        (b'{"id":"a","version":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
        (b'{"a":' * 100_000, "too_deep"),
    ],
)
def test_what_is_no_call_record_says_why(body: bytes, kind: str) -> None:
    """Each way of being no call record has its name, and a sentence of one line."""
    for thorough in (False, True):
        with pytest.raises(NotACallRecord) as caught:
            decode_record(body, thorough=thorough)

        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thorough", [False, True])
def test_every_odd_value_is_counted_and_the_first_thousand_are_kept(thorough: bool) -> None:
    """A body in which everything is odd costs its size, not seventy times that."""
    document = record(type=7, sessions=[{"segments": index, "isTest": "no"} for index in range(2000)] + [1] * 3000)
    result, odd = decode_record(body_of(document), thorough=thorough)

    assert len(result.sessions or ()) == 2000
    assert odd.counts == {
        ("type", "wrong_type"): 1,
        ("sessions.isTest", "wrong_type"): 2000,
        ("sessions.segments", "wrong_type"): 4000,
        ("sessions", "wrong_type"): 3000,
    }
    assert len(odd) == MOST_KEPT == 1000
    assert [value.path for value in odd[:3]] == ["type", "sessions[0].segments", "sessions[0].segments"]


def test_a_record_of_3000_sessions_with_hundreds_of_odd_values_in_each_is_published() -> None:
    """No meeting that there can be is refused for what is odd in it, though it came in one body."""
    stream = dict.fromkeys((field.encode_name for field in msgspec.structs.fields(MediaStream)), True)
    session = {"segments": [{"media": [{"streams": [stream] * 10}]}]}
    _, odd_of_one = decode_record(body_of(record(sessions=[session])))
    result, odd = decode_record(body_of(record(sessions=[session] * 3000)))

    assert len(odd_of_one) > 200
    assert len(result.sessions or ()) == 3000
    assert odd.counts.total() == 3000 * len(odd_of_one)


@pytest.mark.parametrize("function", [decode_record, decode_sessions_page])
@pytest.mark.parametrize("thorough", [False, True])
def test_more_odd_values_than_any_record_has_end_the_walk(
    function: Any, thorough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than allowed, and nothing further of the body is looked at."""
    monkeypatch.setattr(lenient, "MOST_ODD", 2500)
    name = "sessions" if function is decode_record else "value"
    _, odd = function(body_of(record(**{name: [1] * 2500})), thorough=thorough)
    assert odd.counts[name, "wrong_type"] == 2500

    with pytest.raises(NotACallRecord, match=r"^the body has more than 2,500 odd values, .* no call record$") as caught:
        function(body_of(record(**{name: [1] * 2501})), thorough=thorough)
    assert caught.value.kind == "too_many"


def test_what_only_a_thorough_look_finds_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two looks a record gets is chance; beyond the bound it gets the other."""
    monkeypatch.setattr(lenient, "MOST_ODD", 100)
    result, odd = decode_record(body_of(record(sessions=[{"id": "a", "newer": 1}] * 300)), thorough=True)

    assert len(result.sessions or ()) == 300
    assert odd.counts == {("sessions", "unknown_field"): 100}


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        (b'"sessions":[', b"]"),
        (b'"sessions":[{"segments":[{"media":[{"streams":[', b"]}]}]}]"),
        (b'"newer":[', b"]"),
    ],
)
@pytest.mark.parametrize("item", [b"{}", b"[]"])
@pytest.mark.parametrize("thorough", [False, True])
def test_a_crowd_of_empty_objects_is_refused_before_it_is_read(
    head: bytes, tail: bytes, item: bytes, thorough: bool
) -> None:
    """Each is 2 bytes, and takes hundreds in memory."""
    body = b'{"id":"a","version":1,%s%s%s}' % (head, b",".join([item] * 110_000), tail)
    with pytest.raises(NotACallRecord, match="too many objects and lists for its size") as caught:
        decode_record(body, thorough=thorough)

    assert caught.value.kind == "too_many"


def test_the_largest_event_is_no_crowd() -> None:
    """20,000 participants of whom nothing may be shown."""
    people = [{"identity": {"user": {}}}] * 20_000
    page, odd = decode_participants_page(body_of({"value": people}))

    assert (len(page.value or ()), odd) == (20_000, [])


def test_an_error_of_graph_carries_its_code() -> None:
    """The code is what decides about an error, and it is safe to show."""
    with pytest.raises(NotACallRecord) as caught:
        decode_record(b'{"error":{"code":"TooMany","message":"text for people"}}')

    assert caught.value.code == "TooMany"


@pytest.mark.parametrize(
    ("body", "word"),
    [(b'{"id":"a","media":[]}', "segment"), (b'{"id":"a","segments":[]}', "session"), (b'{"value":[]}', "page")],
)
def test_a_part_of_a_record_is_recognised(body: bytes, word: str) -> None:
    """Whoever saved the wrong answer of Graph is told which it was."""
    with pytest.raises(NotACallRecord, match=word):
        decode_record(body)


def test_byte_order_mark_control_characters_and_duplicate_keys_are_survived() -> None:
    """What a strict JSON reader refuses is no reason to lose a call."""
    result, _ = decode_record(b'\xef\xbb\xbf{"id":"a","id":"b","version":1,"joinWebUrl":"x\ny","type":"\xff"}')

    assert result.id == "b"
    assert result.join_web_url == "x\ny"
    assert result.type == "\ufffd"


@slow
@given(call_records())
def test_the_lenient_pass_equals_the_typed_pass_on_good_bodies(document: dict[str, Any]) -> None:
    """Two readers, one meaning: what is good comes out the same, and nothing of it is called odd."""
    body = body_of(document)
    walk = Walk(thorough=False)

    assert decode._RECORD.decode(body) == read_struct(CallRecord, json.loads(body), walk)
    assert walk.odd == []
    assert decode_record(body) == (read_struct(CallRecord, json.loads(body), Walk(thorough=False)), [])


@slow
@given(call_records(), st.data())
def test_unknown_fields_change_nothing(document: dict[str, Any], data: st.DataObject) -> None:
    """Graph may add properties at every level without a consumer noticing."""
    before = everything_published(body_of(document))
    target = data.draw(st.sampled_from(list(_objects(document))))
    target["propertyOfTomorrow"] = data.draw(odd_json)

    assert everything_published(body_of(document)) == before


@slow
@given(call_records(), st.data())
def test_a_mutated_record_is_published_in_strict_json(document: dict[str, Any], data: st.DataObject) -> None:
    """Whatever stands in whatever field below the top level, the record is published, in JSON that any reader takes."""
    targets = [(target, name) for target in _objects(document) for name in target if target is not document]
    if targets:
        target, name = data.draw(st.sampled_from(targets))
        target[name] = data.draw(odd_json)

    for published in everything_published(body_of(document)):
        json.loads(published, parse_constant=pytest.fail)
    for value in decode_record(body_of(document), thorough=True)[1]:
        assert value.field in FIELDS
        assert (value.path + value.found).isprintable()


def _schema_paths(kind: Any, path: str) -> Iterator[str]:
    """Every path of schema names below a type, as `OddValue.field` writes it."""
    yield path or "$"
    for member in getattr(kind, "types", ()):
        yield from _schema_paths(member, path)
    if isinstance(kind, inspect.ListType):
        yield from _schema_paths(kind.item_type, path)
    elif isinstance(kind, inspect.DictType):
        names = ("*", *IDENTITY_MEMBERS, "endpointType", "@odata.type")
        for name in names if len(getattr(kind.value_type, "types", ())) > 2 else ("*",):
            yield from _schema_paths(kind.value_type, f"{path}.{name}")
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield from _schema_paths(field.type, f"{path}.{field.encode_name}".lstrip("."))


FIELDS = frozenset(_schema_paths(inspect.type_info(CallRecord), ""))


@slow
@given(call_records(max_items=1), st.data())
def test_a_cut_or_damaged_body_is_a_record_or_is_refused(document: dict[str, Any], data: st.DataObject) -> None:
    """No bytes raise anything but NotACallRecord."""
    body = body_of(document)
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    _survives(body[:start] + data.draw(st.binary(max_size=4)) + body[end:])
    cut = body[: data.draw(st.integers(1, len(body) - 1))]
    with pytest.raises(NotACallRecord) as caught:
        decode_record(cut)

    assert caught.value.kind == "cut_json"


@given(st.binary() | st.text().map(str.encode))
@example(b"\xff\xfe{\x00}\x00")
@example(b'{"id":"\\ud800","version":1}')
@example(b'{"id":1e999,"version":1}')
def test_any_bytes_are_a_record_or_refused(body: bytes) -> None:
    """No bytes raise anything but NotACallRecord."""
    _survives(body)


@given(odd_json)
def test_any_json_is_a_record_or_refused(document: object) -> None:
    """Nor does any JSON, at the top or in the fields that a record must have."""
    _survives(body_of(document))
    _survives(body_of({"id": document, "version": 1}))
    _survives(body_of({"id": "a", "version": document}))
    _survives(body_of(record(sessions=document, organizer=document, participants=document, organizer_v2=document)))


def _survives(body: bytes) -> None:
    for function in (decode_record, decode_sessions_page, decode_participants_page):
        for thorough in (False, True):
            try:
                function(body, thorough=thorough)
            except NotACallRecord:
                continue
    try:
        everything_published(body)
    except NotACallRecord:
        return


def _objects(value: Any) -> Any:
    """Every object in a document that holds declared properties."""
    if isinstance(value, dict):
        if not {"user", "neverSeen", "guest", "phone", "application", "acsUser", "endpointType"} & value.keys():
            yield value
        for name, inner in value.items():
            if name != "tokens" and not (name in ("organizer", "identity") or name == "participants"):
                yield from _objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


@pytest.mark.parametrize("name", ["averageJitter", "startDateTime"])
@pytest.mark.parametrize(
    "text", ["PT1S\nPT1S", "PT1S\n", "\nPT1S", "2026-01-02T03:04:05Z\n2026-01-02T03:04:05Z", "\n", ""]
)
def test_a_text_of_two_good_lines_is_odd(name: str, text: str) -> None:
    """Texts are checked many at once, one a line; a text with a line break in it must not pass for two."""
    _, odd = decoded_stream(**{name: text, "maxJitter": "PT2S"})

    assert odd == [(name, "bad_format")]


@given(st.lists(st.from_regex(r"PT[0-9]{1,5}(\.[0-9]{1,9})?S", fullmatch=True), min_size=1, unique=True))
def test_durations_read_together_are_those_read_alone(texts: list[str]) -> None:
    """Leading zeros, many digits: the way over JSON numbers gives the same milliseconds, ints where they are whole."""
    alone = [(value, type(value)) for value in map(times._milliseconds, texts)]

    assert times.are_durations(texts)
    assert [(value, type(value)) for value in map(times.milliseconds, texts)] == alone
