"""The emulator's call records: shaped as Graph's, the same from the same seed, and believable."""

import copy
import json
import re
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from service.emulator import catalog
from service.emulator.expect import expected_events
from service.emulator.generator import KINDS, CallSpec, generate_call, mixed_specs, next_version

TENANT = "dc368399-474c-4d40-900c-6265431fd81f"
OTHER_TENANT = "3f0c1d52-7a44-4f0e-8d1f-5b2f4bb0a9c1"

Json = dict[str, Any]

# What a property's objects are; the types of graph-contract section 7.
TYPE_OF = {
    "sessions": "session",
    "segments": "segment",
    "media": "media",
    "streams": "stream",
    "callerNetwork": "network",
    "calleeNetwork": "network",
    "callerDevice": "device",
    "calleeDevice": "device",
    "traceRouteHops": "hop",
    "caller": "endpoint",
    "callee": "endpoint",
    "userAgent": "userAgent",
    "feedback": "feedback",
    "tokens": "tokens",
    "associatedIdentity": "identity",
    "identity": "identitySet",
    "organizer": "identitySet",
    "participants": "identitySet",
    "organizer_v2": "participant",
    "participants_v2": "participant",
    "administrativeUnitInfos": "unit",
    "failureInfo": "failure",
}

PROPERTIES = {
    "record": "id version type modalities startDateTime endDateTime lastModifiedDateTime joinWebUrl organizer "
    "participants organizer_v2 participants_v2 sessions",
    "session": "id caller callee failureInfo isTest modalities startDateTime endDateTime segments",
    "segment": "id caller callee failureInfo media startDateTime endDateTime",
    "failure": "reason stage",
    "media": "label calleeDevice calleeNetwork callerDevice callerNetwork streams",
    "stream": "audioCodec averageAudioDegradation averageAudioNetworkJitter averageBandwidthEstimate "
    "averageFreezeDuration averageJitter averagePacketLossRate averageRatioOfConcealedSamples "
    "averageReceivedFrameRate averageRoundTripTime averageVideoFrameLossPercentage averageVideoFrameRate "
    "averageVideoPacketLossRate endDateTime isAudioForwardErrorCorrectionUsed lowFrameRateRatio "
    "lowVideoProcessingCapabilityRatio maxAudioNetworkJitter maxJitter maxPacketLossRate "
    "maxRatioOfConcealedSamples maxRoundTripTime packetUtilization postForwardErrorCorrectionPacketLossRate "
    "rmsFreezeDuration startDateTime streamDirection streamId videoCodec wasMediaBypassed",
    "network": "bandwidthLowEventRatio basicServiceSetIdentifier connectionType delayEventRatio dnsSuffix ipAddress "
    "linkSpeed macAddress networkTransportProtocol port receivedQualityEventRatio reflexiveIPAddress relayIPAddress "
    "relayPort sentQualityEventRatio subnet traceRouteHops wifiBand wifiBatteryCharge wifiChannel "
    "wifiMicrosoftDriver wifiMicrosoftDriverVersion wifiRadioType wifiSignalStrength wifiVendorDriver "
    "wifiVendorDriverVersion",
    "device": "captureDeviceDriver captureDeviceName captureNotFunctioningEventRatio cpuInsufficentEventRatio "
    "deviceClippingEventRatio deviceGlitchEventRatio howlingEventCount initialSignalLevelRootMeanSquare "
    "lowSpeechLevelEventRatio lowSpeechToNoiseEventRatio micGlitchRate receivedNoiseLevel receivedSignalLevel "
    "renderDeviceDriver renderDeviceName renderMuteEventRatio renderNotFunctioningEventRatio "
    "renderZeroVolumeEventRatio sentNoiseLevel sentSignalLevel speakerGlitchRate",
    "hop": "hopCount ipAddress roundTripTime",
    "endpoint": "userAgent associatedIdentity cpuCoresCount cpuName cpuProcessorSpeedInMhz feedback identity name",
    "userAgent": "applicationVersion headerValue azureADAppId communicationServiceId platform productFamily role",
    "feedback": "rating text tokens",
    "tokens": "NoSound Echo DistortedSound",
    "identity": "id displayName tenantId userPrincipalName email azureCommunicationServicesResourceId "
    "applicationType hidden",
    "identitySet": "user guest phone application applicationInstance assertedIdentity azureCommunicationServicesUser "
    "encrypted onPremises device endpointType",
    "participant": "id administrativeUnitInfos identity",
    "unit": "id",
}

MEMBERS = {
    ("record", "type"): "groupCall peerToPeer unknown",
    ("session", "modalities"): "audio video videoBasedScreenSharing data screenSharing",
    ("failure", "stage"): "unknown callSetup midcall",
    ("stream", "streamDirection"): "callerToCallee calleeToCaller",
    ("stream", "audioCodec"): " ".join(name for name, _ in catalog.AUDIO_CODECS + catalog.PSTN_CODECS),
    ("stream", "videoCodec"): " ".join(name for name, _ in catalog.VIDEO_CODECS + catalog.SHARING_CODECS) + " unknown",
    ("network", "connectionType"): "unknown wired wifi mobile tunnel",
    ("network", "networkTransportProtocol"): "unknown udp tcp",
    ("network", "wifiBand"): "unknown frequency24GHz frequency50GHz frequency60GHz",
    ("network", "wifiRadioType"): "unknown wifi80211a wifi80211b wifi80211g wifi80211n wifi80211ac wifi80211ax",
    ("userAgent", "platform"): "unknown windows macOS iOS android web ipPhone roomSystem surfaceHub holoLens",
    ("userAgent", "productFamily"): "unknown teams skypeForBusiness lync azureCommunicationServices",
    ("userAgent", "role"): " ".join(catalog.SERVICE_ROLES),
    ("feedback", "rating"): "notRated bad poor fair good excellent",
    ("identitySet", "endpointType"): "default voicemail",
    ("media", "label"): "main-audio main-video applicationsharing-video applicationsharing data",
}


def facts(value: Any, kind: str = "record") -> Iterator[tuple[str, str, Any]]:
    """Every property that is not null, with the type it belongs to."""
    for name, inner in value.items():
        if inner is None or "@" in name:
            continue
        yield kind, name, inner
        inner_kind = TYPE_OF.get(name, "identity" if kind == "identitySet" else "")
        for item in inner if isinstance(inner, list) else [inner]:
            if isinstance(item, dict):
                yield from facts(item, inner_kind)


@pytest.fixture(scope="module")
def mix() -> list[tuple[CallSpec, Json]]:
    """A large mix of calls of two tenants."""
    specs = mixed_specs(400, [TENANT, OTHER_TENANT], seed=7)
    specs += [CallSpec(TENANT, 8, n, kind=kind) for kind in ("pstn", "autoAttendant") for n in range(100)]
    return [(spec, generate_call(spec)) for spec in specs]


def streams_of(document: Json) -> list[Json]:
    """Every stream, walked apart from the code under test."""
    return [
        stream
        for session in document["sessions"]
        for segment in session.get("segments") or []
        for media in segment.get("media") or []
        for stream in media.get("streams") or []
    ]


def some(kind: str, count: int = 20, **more: Any) -> list[Json]:
    """Calls of one kind."""
    return [generate_call(CallSpec(TENANT, 3, n, kind=kind, **more)) for n in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_specs_give_equal_records(kind: str) -> None:
    """A seed is enough to have the same call again."""
    spec = CallSpec(TENANT, 5, 9, kind=kind)

    assert generate_call(spec) == generate_call(CallSpec(TENANT, 5, 9, kind=kind))
    assert generate_call(spec) != generate_call(CallSpec(TENANT, 6, 9, kind=kind))


def test_ids_tell_tenant_seed_and_index_apart() -> None:
    """No two calls share an id, and an id is a GUID in lower case."""
    specs = [CallSpec(t, s, n) for t in (TENANT, OTHER_TENANT) for s in range(3) for n in range(20)]
    ids = [generate_call(spec)["id"] for spec in specs]

    assert len(set(ids)) == len(specs)
    assert all(str(uuid.UUID(one)) == one for one in ids)


@pytest.mark.parametrize(
    ("spec", "streams"),
    [
        (CallSpec(TENANT, 1, 1, size="S"), 4),
        (CallSpec(TENANT, 1, 1, size="M"), 80),
        (CallSpec(TENANT, 1, 1, size="L"), 600),
        (CallSpec(TENANT, 1, 1, kind="peerToPeer"), 4),
        (CallSpec(TENANT, 1, 1, sessions=1), 4),
        (CallSpec(TENANT, 1, 1, sessions=3000), 12_000),
    ],
)
def test_a_size_is_an_exact_number_of_streams(spec: CallSpec, streams: int) -> None:
    """Benchmarks may count on it."""
    assert len(streams_of(generate_call(spec))) == streams


@pytest.mark.parametrize("wrong", [{"kind": "fax"}, {"size": "XXL"}, {"sessions": 0}, {"sessions": 3001}])
def test_what_cannot_be_made_is_refused(wrong: Json) -> None:
    """The error says what can be made."""
    with pytest.raises(ValueError, match="is not"):
        CallSpec(TENANT, 1, 1, **wrong)


@pytest.mark.parametrize("seed", range(5))
def test_a_mix_of_twenty_holds_every_kind_and_calls_beyond_a_page(seed: int) -> None:
    """More than 60 sessions, more than 130 participants, and all that goes wrong, in the smallest demo."""
    documents = [generate_call(spec) for spec in mixed_specs(20, [TENANT], seed)]

    assert {spec.kind for spec in mixed_specs(20, [TENANT], seed)} == set(KINDS)
    assert any(60 < len(document["sessions"]) <= 130 for document in documents)
    assert any(len(document["participants_v2"]) > 130 for document in documents)
    assert len({document["id"] for document in documents}) == 20


@pytest.mark.parametrize("kind", PROPERTIES)
def test_every_property_of_the_resource_tree_appears(mix: list[tuple[CallSpec, Json]], kind: str) -> None:
    """What the service must carry is there to be carried."""
    met = {name for _, document in mix for owner, name, _ in facts(document) if owner == kind}

    assert set(PROPERTIES[kind].split()) <= met


@pytest.mark.parametrize("place", MEMBERS, ids=".".join)
def test_every_plausible_enum_member_appears(mix: list[tuple[CallSpec, Json]], place: tuple[str, str]) -> None:
    """Graph-contract 7.6, save for members nobody has seen."""
    met: set[str] = set()
    for _, document in mix:
        for owner, name, value in facts(document):
            if (owner, name) == place:
                met.update(value if isinstance(value, list) else [value])

    assert set(MEMBERS[place].split()) <= met


def test_nulls_absences_and_empty_collections_all_occur(mix: list[tuple[CallSpec, Json]]) -> None:
    """Absent must equal null, so both are sent."""
    texts = [json.dumps(document, ensure_ascii=False) for _, document in mix]

    assert any(": null" not in text for text in texts)
    assert any(": null" in text for text in texts)
    for oddity in ('"media": []', '"streams": []', '"tokens": {}', '"segments": []', '"administrativeUnitInfos": []'):
        assert any(oddity in text for text in texts), oddity


def test_people_keep_their_network_and_machine_from_call_to_call(mix: list[tuple[CallSpec, Json]]) -> None:
    """A user's subnet, access point, adapter and computer are the same every time."""
    seen: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for spec, document in mix:
        for event in expected_events(spec.tenant_id, document).values():
            who, network = event["caller"]["endpoint"].get("identity", {}), event["caller"].get("network", {})
            if who.get("kind") == "user" and "userPrincipalName" in who and "ipAddress" in network:
                place = [network.get(name) for name in ("ipAddress", "subnet", "macAddress", "dnsSuffix")]
                seen[who["id"]].add((*place, event["caller"]["endpoint"].get("name")))

    assert len(seen) > 200
    assert all(len(places) == 1 for places in seen.values())


def test_a_direction_without_telemetry_is_null_with_no_packets(mix: list[tuple[CallSpec, Json]]) -> None:
    """Loss 0 beside packetUtilization 0 means "no data"."""
    idle = [s for _, d in mix for s in streams_of(d) if s["packetUtilization"] == 0]

    assert idle
    for stream in idle:
        told = {name for name, value in stream.items() if value is not None}
        assert told == {
            "streamId",
            "streamDirection",
            "packetUtilization",
            "averagePacketLossRate",
            "maxPacketLossRate",
        }
        assert stream["averagePacketLossRate"] == 0


def test_a_meeting_leg_ends_at_a_media_processor() -> None:
    """Callee of every meeting leg: a service endpoint with an unknown client, port 3480, link speed 0."""
    for document in some("group", size="M", count=3):
        for session in document["sessions"]:
            assert session["callee"]["@odata.type"].endswith("serviceEndpoint")
            assert session["callee"]["userAgent"]["platform"] == "unknown"
            network = session["segments"][0]["media"][0]["calleeNetwork"]
            assert (network["port"], network["linkSpeed"]) == (3480, 0)
            assert network["reflexiveIPAddress"].startswith("52.112.")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_in_ten_judged_audio_streams_is_poor(seed: int) -> None:
    """Between 8 and 12 per cent, as in a large tenant."""
    verdicts: Counter[str] = Counter()
    for spec in mixed_specs(400, [TENANT, OTHER_TENANT], seed):
        for event in expected_events(spec.tenant_id, generate_call(spec)).values():
            if event["media"]["kind"] == "audio":
                verdicts[event["quality"]["verdict"]] += 1

    assert 0.08 <= verdicts["poor"] / (verdicts["poor"] + verdicts["good"]) <= 0.12


def test_poor_audio_has_a_cause_that_the_network_shows() -> None:
    """Somebody who looks at a poor stream finds the weak signal, the tunnel or the narrow uplink beside it."""
    shown = poor = 0
    for document in some("group", size="M", count=20):
        for event in expected_events(TENANT, document).values():
            if event["media"]["kind"] == "audio" and event["quality"]["verdict"] == "poor":
                network = event["caller"]["network"]
                ratios = (
                    "sentQualityEventRatio",
                    "receivedQualityEventRatio",
                    "delayEventRatio",
                    "bandwidthLowEventRatio",
                )
                poor += 1
                shown += any(network.get(name, 0) > 0 for name in ratios)

    assert poor > 30
    assert shown == poor


def test_times_and_durations_are_written_as_graph_writes_them(mix: list[tuple[CallSpec, Json]]) -> None:
    """0 to 7 fraction digits, trailing zeros dropped, UTC with Z; durations in seconds."""
    times = [v for _, d in mix for _, name, v in facts(d) if name.endswith("DateTime")]
    durations = [v for _, d in mix for _, _, v in facts(d) if isinstance(v, str) and v.startswith("PT")]
    digits = {len(time.partition(".")[2].rstrip("Z")) for time in times}

    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,6}[1-9])?Z", time) for time in times)
    assert all(re.fullmatch(r"PT\d+(\.\d{0,6}[1-9])?S", duration) for duration in durations)
    assert {0, 3, 7} <= digits


def test_nobody_is_there_before_the_call_or_after_it(mix: list[tuple[CallSpec, Json]]) -> None:
    """Sessions lie within the call, and the record was made after it."""
    for _, document in mix:
        begin, end = document["startDateTime"].rstrip("Z"), document["endDateTime"].rstrip("Z")
        assert begin < end < document["lastModifiedDateTime"].rstrip("Z")
        for session in document["sessions"]:
            assert begin <= session["startDateTime"].rstrip("Z") <= session["endDateTime"].rstrip("Z") <= end


def test_a_call_that_grew_keeps_an_empty_session_with_the_records_id() -> None:
    """Graph-contract 6.6: start equals end, media empty, type groupCall."""
    for document in some("escalated"):
        first = document["sessions"][0]
        assert document["type"] == "groupCall"
        assert first["id"] == document["id"]
        assert first["startDateTime"] == first["endDateTime"]
        assert first["segments"][0]["media"] == []
        assert len(document["sessions"]) > 2


def test_an_auto_attendant_leaves_two_sessions_with_one_id() -> None:
    """A session's id is not unique in its record."""
    assert all(len({session["id"] for session in d["sessions"]}) < len(d["sessions"]) for d in some("autoAttendant"))


def test_a_telephone_call_has_several_segments_that_ran_over_sip() -> None:
    """Obfuscated numbers, media bypass, times of streams, endpoints of segments that are not the session's."""
    for document in some("pstn"):
        (session,) = document["sessions"]
        segments = session["segments"]
        assert len(segments) >= 2
        assert any(re.search(r"\+\d+\*{4}", json.dumps(session[side])) for side in ("caller", "callee"))
        assert any(segment["caller"] != session["caller"] for segment in segments)
        assert all(s["startDateTime"] and s["wasMediaBypassed"] is not None for s in streams_of(document))


def test_screens_are_shared_between_two_and_in_meetings() -> None:
    """A line beside audio and video, and a session of its own."""
    documents = some("screenSharing")

    assert {document["type"] for document in documents} == {"peerToPeer", "groupCall"}
    assert all("applicationsharing" in json.dumps(document) for document in documents)


def test_a_failed_call_tells_why_in_each_of_the_known_ways() -> None:
    """Sessions without segments, segments without media, media without streams, and null members."""
    documents = some("failed", count=60)
    sessions = [session for document in documents for session in document["sessions"]]
    segments = [segment for session in sessions for segment in session["segments"]]

    assert all('"stage"' in json.dumps(document) for document in documents)
    assert any(not session["segments"] for session in sessions)
    assert any(segment.get("media") == [] for segment in segments)
    assert any("media" not in segment or segment["media"] is None for segment in segments)
    assert any(not media["streams"] for segment in segments for media in segment.get("media") or [])


def test_any_kind_can_be_made_to_fail() -> None:
    """`failed=True` breaks the first leg in the middle of the call."""
    for kind in KINDS:
        document = generate_call(CallSpec(TENANT, 2, 2, kind=kind, failed=True))
        assert document["sessions"][0]["failureInfo"]["stage"] == "midcall"


def test_the_deprecated_list_of_participants_stops_at_130() -> None:
    """`participants_v2` does not."""
    documents = some("group", sessions=150, count=12)
    old = [document["participants"] for document in documents if document.get("participants")]

    assert old
    assert all(len(participants) == 130 for participants in old)
    assert all(len(document["participants_v2"]) > 130 for document in documents)


def test_people_without_a_session_can_be_participants(mix: list[tuple[CallSpec, Json]]) -> None:
    """The full list knows more people than there are sessions."""
    groups = [d for _, d in mix if d["type"] == "groupCall"]

    assert any(len(document["participants_v2"]) > len(document["sessions"]) for document in groups)


def test_sessions_are_as_large_as_real_ones() -> None:
    """8 to 16 KB of JSON for two media lines."""
    for document in some("group", size="M", count=5):
        size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()) / len(document["sessions"])
        assert 6_000 < size < 16_000  # records without nulls are the smaller ones


def is_kept(before: Any, after: Any) -> bool:
    """Nothing that was there is gone; a 0 beside "no data" may become a value."""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(is_kept(value, after.get(name)) for name, value in before.items())
    if isinstance(before, list):
        return isinstance(after, list) and all(map(is_kept, before, after)) and len(after) >= len(before)
    return before in (None, 0, "unknown") or before == after


def test_a_later_version_adds_and_takes_nothing_away(mix: list[tuple[CallSpec, Json]]) -> None:
    """Version by version: one more, modified later, nothing lost, and most often something new to see."""
    grown = 0
    for spec, document in mix[:150]:
        untouched = copy.deepcopy(document)
        later = next_version(document, seed=spec.index, now=spec.start + 9000)
        assert document == untouched
        assert later["version"] == 2
        assert later["lastModifiedDateTime"] > document["lastModifiedDateTime"]
        fixed = {"version": 0, "lastModifiedDateTime": 0}
        assert is_kept(document | fixed, later | fixed)
        grown += later | fixed != document | fixed

    assert grown > 120


def test_later_versions_bring_telemetry_sessions_and_feedback() -> None:
    """All three kinds of what comes late, from the same seeds the same."""
    documents = some("group", size="M", count=12)
    later = [next_version(document, seed=1, now=1_790_100_000.0) for document in documents]

    def filled(document: Json) -> int:
        return sum(stream["packetUtilization"] > 0 for stream in streams_of(document))

    def rated(document: Json) -> int:
        return json.dumps(document).count('"rating"')

    pairs = list(zip(documents, later, strict=True))
    assert any(filled(after) > filled(before) for before, after in pairs)
    assert any(len(after["sessions"]) > len(before["sessions"]) for before, after in pairs)
    assert any(rated(after) > rated(before) for before, after in pairs)
    assert later == [next_version(document, seed=1, now=1_790_100_000.0) for document in documents]


def test_a_later_version_can_follow_a_record_that_the_generator_did_not_make() -> None:
    """Records written by hand have versions too."""
    bare = {"id": "A", "version": 4, "type": "groupCall", "sessions": [{"id": "B", "segments": None, "caller": None}]}

    assert next_version(bare, seed=0, now=1_790_000_000.0)["version"] == 5
