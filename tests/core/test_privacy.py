"""The privacy policy: nothing personal leaves the process against it, and nothing else depends on it."""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from msgspec import inspect

from service.record.decode import decode_record
from service.record.encode import EventEncoder, encode_summary
from service.record.events import CallSummary, IdentityGroup, StreamEvent
from service.record.flatten import flatten
from service.record.identities import ZERO_GUID
from service.record.model import CallRecord
from service.record.personal import CLASSES, IMPERSONAL, PERSONAL
from service.record.privacy import OPEN, PRESETS, Policy, policy_of
from service.settings import Privacy
from tests.core.test_record_flatten import slow
from tests.strategies import call_records

TENANT = "dc368399-474c-4d40-900c-6265431fd81f"
KEYS = {1: b"k" * 32}
STRICT = policy_of("strict")
HASHED = policy_of("open", dict.fromkeys(CLASSES, "hash"), KEYS)
HASH = re.compile(r"h1\.[A-Za-z0-9_-]{22}")

PHONE = {"id": "+4915112345***", "displayName": "+49 151 12345***", "tenantId": "sentinel-tenant-phone"}


def identity(who: str) -> dict[str, Any]:
    """Every text of an identity, recognisable."""
    return {
        "id": f"sentinel-{who}-id",
        "displayName": f"sentinel-{who}-name",
        "tenantId": f"sentinel-{who}-tenant",
        "userPrincipalName": f"sentinel-{who}@upn.example",
        "email": f"sentinel-{who}@mail.example",
        "azureCommunicationServicesResourceId": f"sentinel-{who}-resource",
    }


def endpoint(who: str) -> dict[str, Any]:
    return {
        "@odata.type": "#microsoft.graph.callRecords.participantEndpoint",
        "name": f"sentinel-{who}-laptop",
        "cpuName": "Xeon",
        "userAgent": {"headerValue": f"bot of sentinel-{who}", "communicationServiceId": f"sentinel-{who}-service"},
        "associatedIdentity": identity(who),
        "identity": {"guest": identity(f"{who}-deprecated"), "phone": PHONE},
        "feedback": {"rating": "poor", "text": f"sentinel-{who} was cut off", "tokens": {"Echo": True}},
    }


def network(number: int) -> dict[str, Any]:
    return {
        "ipAddress": f"203.0.113.{number}",
        "subnet": f"198.51.100.{number}",
        "reflexiveIPAddress": f"2001:db8::{number}",
        "relayIPAddress": f"192.0.2.{number}",
        "macAddress": f"AA-BB-CC-DD-EE-0{number}",
        "basicServiceSetIdentifier": f"aa:bb:cc:dd:ff:0{number}",
        "dnsSuffix": f"sentinel-{number}.example",
        "traceRouteHops": [{"ipAddress": f"198.18.0.{number}"}],
    }


def device(who: str) -> dict[str, Any]:
    return {"captureDeviceName": f"sentinel-{who}'s microphone", "renderDeviceName": f"sentinel-{who}'s headset"}


RECORD: dict[str, Any] = {
    "id": "e523d2ed-2966-4b6b-925b-754a88034cc5",
    "version": 3,
    "type": "groupCall",
    "joinWebUrl": f"https://teams.example/l/meetup/sentinel-meeting?context=%7b{TENANT}%7d",
    "organizer_v2": {
        "id": "sentinel-organizer-participant",
        "identity": {"user": identity("organizer")},
        "administrativeUnitInfos": [{"id": "sentinel-unit"}],
    },
    "organizer": {"user": identity("organizer-deprecated")},
    "participants_v2": [{"id": "sentinel-p", "identity": {"user": identity("p"), "phone": PHONE}}],
    "participants": [{"phone": PHONE}, {"guest": identity("old")}],
    "sessions": [
        {
            "id": "s",
            "caller": endpoint("caller"),
            "callee": endpoint("callee"),
            "failureInfo": {"stage": "midcall", "reason": "MediaConnectivityError"},
            "segments": [
                {
                    "id": "g",
                    "caller": endpoint("segment-caller"),
                    "failureInfo": {"stage": "midcall", "reason": "MediaConnectivityError"},
                    "media": [
                        {
                            "label": "main-audio",
                            "callerNetwork": network(1),
                            "calleeNetwork": network(2),
                            "callerDevice": device("caller"),
                            "calleeDevice": device("callee"),
                            "streams": [{"streamId": "1", "streamDirection": "callerToCallee"}, {"streamId": "2"}],
                        }
                    ],
                }
            ],
        }
    ],
}
SENTINELS = re.compile(
    r"sentinel|203\.0\.113|198\.51\.100|192\.0\.2|198\.18\.0|2001:db8|aa[:-]?bb[:-]?cc|15112345|151 12345|upn\.example",
    re.IGNORECASE,
)


def published(document: dict[str, Any], policy: Policy = OPEN, tenant: str = TENANT) -> list[bytes]:
    """Every event, then the summary."""
    flattened = flatten(tenant, decode_record(json.dumps(document).encode())[0], policy)
    encoder = EventEncoder()
    return [*(encoder.encode(event) for event in flattened.events()), encode_summary(flattened.summary)]


def texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON value with the path to it; keys count too."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield path, name
            yield from texts(part, f"{path}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from texts(part, f"{path}[]")
    elif isinstance(value, str):
        yield path, value


def text_fields(kind: Any, seen: set[type]) -> Iterator[tuple[type, str]]:
    """(struct, JSON name) of every field below a struct that can hold text of its own."""
    if kind.cls in seen:
        return
    seen.add(kind.cls)
    for field in kind.fields:
        leaves, structs = [], []
        _leaves(field.type, leaves, structs)
        if any(isinstance(leaf, inspect.StrType | inspect.LiteralType) for leaf in leaves):
            yield kind.cls, field.encode_name
        for struct in structs:
            yield from text_fields(struct, seen)


def _leaves(kind: Any, leaves: list[Any], structs: list[Any]) -> None:
    if isinstance(kind, inspect.StructType):
        structs.append(kind)
    for name in ("type", "item_type", "key_type", "value_type"):
        if (part := getattr(kind, name, None)) is not None:
            _leaves(part, leaves, structs)
    for part in getattr(kind, "types", ()):
        _leaves(part, leaves, structs)
    leaves.append(kind)


@pytest.mark.parametrize("root", [CallRecord, StreamEvent, CallSummary])
def test_every_text_field_has_exactly_one_class_or_is_impersonal(root: type) -> None:
    """A field that is added must be judged before anybody can publish it."""
    found = set(text_fields(inspect.type_info(root), set()))
    personal = {(cls, name) for cls, names in PERSONAL.items() for name in names}
    impersonal = {(cls, name) for cls, names in IMPERSONAL.items() for name in names}

    assert len(found) > 20
    assert found <= personal | impersonal, sorted(str(one) for one in found - personal - impersonal)
    assert not personal & impersonal


def test_the_table_names_nothing_that_is_gone() -> None:
    """Every entry is a text field of one of the models."""
    found: set[tuple[type, str]] = set()
    for root in (CallRecord, StreamEvent, CallSummary):
        found |= set(text_fields(inspect.type_info(root), set()))

    assert {(cls, name) for cls, names in PERSONAL.items() for name in names} <= found
    assert {(cls, name) for cls, names in IMPERSONAL.items() for name in names} <= found
    assert IdentityGroup.__struct_fields__[-2:] == ("administrative_unit_infos", "other_identities")


def test_settings_classes_and_presets_are_the_same() -> None:
    """One setting a class, and each preset decides on all of them."""
    assert set(Privacy.__struct_fields__) == {"preset", "keys", *CLASSES}
    assert all(set(actions) == set(CLASSES) for actions in PRESETS.values())
    assert Privacy().preset == "open"


def test_the_full_record_fills_every_personal_field() -> None:
    """The record of these tests leaves no personal field of the events out, or they would prove less than they say."""
    filled = {path.rsplit(".", 1)[-1] for message in published(RECORD) for path, _ in texts(json.loads(message))}
    wanted = {name for cls, names in PERSONAL.items() if cls.__name__.endswith("Group") for name in names}

    assert wanted <= filled
    assert all(SENTINELS.search(message.decode()) for message in published(RECORD))


def test_strict_leaves_nothing_personal() -> None:
    """No sentinel stands anywhere, not as a value, not inside one, not as a key."""
    for message in published(RECORD, STRICT):
        assert SENTINELS.findall(message.decode()) == []


def test_strict_changes_no_count_and_no_measurement() -> None:
    """Who is who is decided before it is hidden."""
    shown, hidden = (json.loads(published(RECORD, policy)[-1]) for policy in (OPEN, STRICT))

    assert hidden["call"]["participantCount"] == shown["call"]["participantCount"] == 5
    assert len(hidden["participants"]) == len(shown["participants"])
    for name in ("counts", "eventCount", "failureCount"):
        assert hidden[name] == shown[name]
    event = json.loads(published(RECORD, STRICT)[0])
    assert event["caller"]["endpoint"]["feedback"] == {"rating": "poor", "tokens": {"Echo": True}}
    assert event["caller"]["endpoint"]["cpuName"] == "Xeon"


def test_hashes_have_their_form_and_joins_hold() -> None:
    """The same person, machine and address under one hash in every event and in the summary; nothing readable."""
    messages = published(RECORD, HASHED)
    open_texts = [text for message in published(RECORD) for text in texts(json.loads(message))]
    hashed_texts = [text for message in messages for text in texts(json.loads(message))]
    table = {}
    for (path, was), (same_path, now) in zip(open_texts, hashed_texts, strict=True):
        assert path == same_path
        if now != was:
            assert HASH.fullmatch(now)
            assert table.setdefault(was, now) == now
        else:
            assert not SENTINELS.search(now)

    assert len(table) > 40
    assert len(set(table.values())) == len(table)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("macAddress", "AA-BB-CC-DD-EE-01", "aa:bb:cc:dd:ee:01"),
        ("basicServiceSetIdentifier", "AABBCCDDEE01", "aa-bb-cc-dd-ee-01"),
        ("ipAddress", "2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("dnsSuffix", "Corp.Example", "corp.example"),
    ],
)
def test_spellings_of_one_value_have_one_hash(name: str, one: str, other: str) -> None:
    """Clients write addresses as they like; a join must not depend on it."""
    hashes = {
        json.loads(published(_network({name: value}), HASHED)[0])["caller"]["network"][name] for value in (one, other)
    }

    assert len(hashes) == 1


def _network(values: dict[str, Any]) -> dict[str, Any]:
    media = {"label": "main-audio", "callerNetwork": values, "streams": [{}]}
    return {"id": "r", "version": 1, "sessions": [{"segments": [{"media": [media]}]}]}


def test_ids_and_sign_in_names_are_one_without_case_and_names_are_not() -> None:
    """GUIDs and UPNs come in either case; two people may differ by it in their names only."""
    steps = HASHED.hidden(TENANT)
    one, other = (
        steps.identity(_user(id=user, user_principal_name=user, display_name=user)) for user in ("Anna", "ANNA")
    )

    assert one is not None
    assert other is not None
    assert (one.id, one.user_principal_name) == (other.id, other.user_principal_name)
    assert one.display_name != other.display_name


def _user(**fields: Any) -> Any:
    return IdentityGroup("user", **fields)


def test_who_is_nobody_stays_nobody_under_a_hash() -> None:
    """The nil id, the hidden MAC and empty text would look like one busy person."""
    hidden = HASHED.hidden(TENANT)
    nobody = hidden.identity(_user(id=ZERO_GUID, display_name=""))

    assert nobody == _user(id=ZERO_GUID, display_name="")
    network = json.loads(published(_network({"macAddress": "02:00:00:00:00:00"}), HASHED)[0])["caller"]["network"]
    assert network["macAddress"] == "02:00:00:00:00:00"


def test_the_own_tenant_s_id_stays_and_others_do_not() -> None:
    """Every event names its tenant anyway."""
    hidden = STRICT.hidden(TENANT.upper())

    assert hidden.identity(_user(tenant_id=TENANT.upper())).tenant_id == TENANT.upper()  # type: ignore[union-attr]
    assert hidden.identity(_user(tenant_id=ZERO_GUID)).tenant_id is None  # type: ignore[union-attr]


def test_a_telephone_number_is_one_wherever_it_stands() -> None:
    """As the name or id of whoever has it, phone or not; the name of a phone that is no number is a name."""
    policy = policy_of("open", {"phone_numbers": "drop"})
    hidden = policy.hidden(TENANT)
    caller = hidden.identity(_user(id="+4915112345***", display_name="+49 151 12345***", participant_id="+49151"))
    assert caller == _user()
    names = policy_of("open", {"names": "drop"}).hidden(TENANT)
    phone = msgspec.structs.replace(_user(id="4:+49151", display_name="Front desk"), kind="phone")
    kept = names.identity(phone)
    assert kept is not None
    assert (kept.id, kept.display_name) == ("4:+49151", None)


def test_a_new_key_gives_new_hashes_that_name_it() -> None:
    """The highest number hashes; values of the old key stay recognisable."""
    rotated = policy_of("open", dict.fromkeys(CLASSES, "hash"), {**KEYS, 2: b"n" * 32})
    before, after = (json.loads(published(RECORD, policy)[0])["caller"]["network"] for policy in (HASHED, rotated))

    assert before["ipAddress"].startswith("h1.")
    assert after["ipAddress"].startswith("h2.")
    assert before["ipAddress"][3:] != after["ipAddress"][3:]


def test_hashing_needs_a_key() -> None:
    """Without one anybody could try out names."""
    with pytest.raises(ValueError, match="no key"):
        policy_of("open", {"names": "hash"})


def test_reduced_leaves_out_join_links_and_feedback_text_alone() -> None:
    """What `docs/privacy.md` says of it."""
    event = json.loads(published(RECORD, policy_of("reduced"))[0])
    shown = json.loads(published(RECORD)[0])
    assert "joinWebUrl" not in event["call"]
    del shown["call"]["joinWebUrl"]
    for end in (shown["caller"], shown["callee"], {"endpoint": shown["session"]["caller"]}):
        del end["endpoint"]["feedback"]["text"]

    assert event == shown


@slow
@given(call_records())
def test_events_are_a_pure_function_of_tenant_record_and_policy(document: dict[str, Any]) -> None:
    """The same bytes each time, also with another policy object of the same settings; open changes nothing at all."""
    again = policy_of("open", dict.fromkeys(CLASSES, "hash"), KEYS)

    assert published(document, HASHED) == published(document, again) == published(document, HASHED)
    assert published(document, policy_of("open")) == published(document)


@slow
@given(call_records())
def test_no_policy_raises_or_changes_how_many_events_there_are(document: dict[str, Any]) -> None:
    """Whatever Graph sends."""
    shown = published(document)
    for policy in (STRICT, HASHED, policy_of("reduced")):
        hidden = published(document, policy)
        assert len(hidden) == len(shown)
        assert json.loads(hidden[-1])["call"]["participantCount"] == json.loads(shown[-1])["call"]["participantCount"]
