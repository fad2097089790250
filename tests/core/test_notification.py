"""Which notifications come in: the gatekeeper and the judgement of single items."""

import base64
import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.metrics import REFUSED, REJECTED
from service.notification import (
    Gatekeeper,
    LifecycleEvent,
    NotACollection,
    Notification,
    Refused,
    client_state,
    decode_collection,
    event_label,
    is_guid,
    judge,
)

TENANT = "c0ffee00-1111-4222-8333-444455556666"
OTHER = "c0ffee00-9999-4222-8333-444455556666"
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
SUBSCRIPTION = "5d0c6f6e-95d4-4d0a-8a55-0f3a7c1b2e90"
KEYS = {1: b"an old key, sixteen", 2: b"a newer key, sixteen"}
GATEKEEPER = Gatekeeper({TENANT: "contoso"}, KEYS)
NOW = "2026-11-22T10:00:00.000Z"
ABSENT = object()


def item(**changes: Any) -> dict[str, Any]:
    """The example of graph-contract 3.1 with our clientState; a change to ABSENT takes the field away."""
    fields = {
        "subscriptionId": SUBSCRIPTION,
        "clientState": client_state(2, KEYS[2], TENANT),
        "changeType": "updated",
        "resource": f"communications/callRecords/{CALL}",
        "subscriptionExpirationDateTime": "2026-11-24T07:15:00.000+00:00",
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.callRecord",
            "@odata.id": f"communications/callRecords/{CALL}",
            "id": CALL,
        },
        "tenantId": TENANT,
    }
    return {name: value for name, value in (fields | changes).items() if value is not ABSENT}


def lifecycle(**changes: Any) -> dict[str, Any]:
    """A lifecycle item: no resource, no changeType, no resourceData (graph-contract 4)."""
    bare = {"resource": ABSENT, "changeType": ABSENT, "resourceData": ABSENT}
    return item(**{**bare, "lifecycleEvent": "reauthorizationRequired", **changes})


def judged(value: Any) -> Notification | LifecycleEvent | Refused:
    [raw] = decode_collection(json.dumps({"value": [value]}).encode())
    return judge(raw, GATEKEEPER, NOW)


def test_client_state_is_the_documented_text() -> None:
    """`k{n}.` + base64url of HMAC-SHA256(key, tenant id in lower case), so that anyone can compute it."""
    digest = hmac.new(b"0123456789abcdef", TENANT.encode(), hashlib.sha256).digest()
    expected = "k7." + base64.urlsafe_b64encode(digest).decode().rstrip("=")

    assert client_state(7, b"0123456789abcdef", TENANT.upper()) == expected
    assert len(expected) <= 128


def test_newest_key_is_used_and_every_key_is_accepted() -> None:
    """A key is rotated by adding one: what older subscriptions send stays good."""
    assert GATEKEEPER.newest(TENANT.upper()) == client_state(2, KEYS[2], TENANT)
    assert isinstance(judged(item(clientState=client_state(1, KEYS[1], TENANT))), Notification)
    assert isinstance(judged(item(clientState=client_state(2, KEYS[2], TENANT))), Notification)


def test_newest_without_keys_is_an_error() -> None:
    """A subscription without clientState could not be told from a forgery."""
    with pytest.raises(KeyError):
        Gatekeeper({TENANT: "contoso"}, {}).newest(TENANT)


def test_a_good_item_becomes_a_notification() -> None:
    """Everything a lane needs, ids in lower case."""
    upper = item(tenantId=TENANT.upper(), resource=ABSENT, resourceData={"id": CALL.upper()})

    assert judged(upper) == Notification(
        tenant_id=TENANT,
        call_id=CALL,
        source="webhook",
        received_at=NOW,
        change_type="updated",
        subscription_id=SUBSCRIPTION,
    )


@pytest.mark.parametrize(
    "given_state",
    [
        ABSENT,
        None,
        "",
        7,
        ["k1."],
        "k2.wrong",
        "é",
        "x" * 5000,
        client_state(2, KEYS[2], OTHER),
        client_state(3, b"not a configured key", TENANT),
        client_state(2, KEYS[2], TENANT) + "=",
        " " + client_state(2, KEYS[2], TENANT),
    ],
)
def test_wrong_client_state_is_refused(given_state: Any) -> None:
    """Nothing else authenticates a notification."""
    assert judged(item(clientState=given_state)) == Refused("client_state", TENANT)


def test_without_keys_nothing_comes_in() -> None:
    """An empty key list must not mean that every clientState is right."""
    [raw] = decode_collection(json.dumps({"value": [item(clientState="")]}).encode())

    assert judge(raw, Gatekeeper({TENANT: "contoso"}, {}), NOW) == Refused("client_state", TENANT)


@pytest.mark.parametrize(
    ("tenant", "loggable"), [(OTHER, OTHER), ("evil\nlog line", None), (ABSENT, None), (None, None), (5, None)]
)
def test_unknown_tenant_is_refused(tenant: Any, loggable: str | None) -> None:
    """Only a GUID is handed on, because it may be logged."""
    assert judged(item(tenantId=tenant)) == Refused("tenant", loggable)


@pytest.mark.parametrize(
    "resource",
    [
        f"communications/callRecords/{CALL}",
        f"/communications/callRecords/{CALL}",
        f"communications/callRecords('{CALL}')",
        f"/Communications/CALLRECORDS('{CALL.upper()}')",
        "communications/callRecords",
        ABSENT,
        None,
        "",
        17,
    ],
)
def test_resource_may_be_written_in_every_known_form(resource: Any) -> None:
    """OData knows two forms of a key; Microsoft's own consumer compares without case."""
    found = judged(item(resource=resource))

    assert isinstance(found, Notification)
    assert found.call_id == CALL


@pytest.mark.parametrize("resource_data", [ABSENT, None, {}, {"id": None}, {"id": 3}, "NA", [], {"id": ""}])
def test_id_is_taken_from_resource_when_resource_data_has_none(resource_data: Any) -> None:
    """graph-contract 3.1: `resourceData.id`, else the last segment of `resource`."""
    found = judged(item(resourceData=resource_data))

    assert isinstance(found, Notification)
    assert found.call_id == CALL


@pytest.mark.parametrize(
    "resource",
    [
        f"https://evil.example/communications/callRecords/{CALL}",
        f"communications/callRecords/../users/{CALL}",
        f"../communications/callRecords/{CALL}",
        f"users/{CALL}",
        f"communications/callRecords/{CALL}/sessions",
        f"communications/callRecords/{CALL}?$expand=sessions",
        f"communications/callRecords/{OTHER}",
        "NA",
        f"communications/callRecords/{CALL}\n",
        f"communications/callRecord\u017f/{CALL}",
    ],
)
def test_resource_that_points_elsewhere_is_refused(resource: str) -> None:
    """An id is fetched from one collection alone; a contradiction is a forgery or another product's notification."""
    assert judged(item(resource=resource)) == Refused("resource", TENANT)


@pytest.mark.parametrize("call", ["", "not-a-guid", CALL + "0", "{" + CALL + "}", CALL.replace("-", "")])
def test_id_that_is_no_guid_is_refused(call: str) -> None:
    """The id becomes part of a URL and of a Kafka key."""
    found = judged(item(resource=f"communications/callRecords/{call}" if call else ABSENT, resourceData={"id": call}))

    assert found == Refused("call_id", TENANT)


@pytest.mark.parametrize(
    "odd",
    [
        {"subscriptionExpirationDateTime": "garbage"},
        {"subscriptionExpirationDateTime": {"a": []}},
        {"changeType": ABSENT},
        {"changeType": 4},
        {"changeType": "new\x1b[31m"},
        {"subscriptionId": "NA"},
        {"subscriptionId": ABSENT},
        {"id": [1]},
        {"lifecycleEvent": None},
        {"lifecycleEvent": ""},
        {"encryptedContent": None, "unknownField": {"deep": [[[]]]}},
    ],
)
def test_odd_optional_field_never_refuses_a_good_item(odd: dict[str, Any]) -> None:
    """Complete means: a call is not lost because Graph wrote a date in a new way."""
    found = judged(item(**odd))

    assert isinstance(found, Notification)
    assert found.call_id == CALL


@pytest.mark.parametrize("value", [1, "text", None, [], True])
def test_item_that_is_no_object_is_malformed(value: Any) -> None:
    """Its neighbours are judged all the same."""
    raw_items = decode_collection(json.dumps({"value": [value, item()]}).encode())
    first, second = (judge(raw, GATEKEEPER, NOW) for raw in raw_items)

    assert first == Refused("malformed")
    assert isinstance(second, Notification)


@pytest.mark.parametrize("name", ["reauthorizationRequired", "subscriptionRemoved", "missed"])
def test_lifecycle_item_becomes_an_event(name: str) -> None:
    """It is told by `lifecycleEvent` alone, whatever path it came by."""
    assert judged(lifecycle(lifecycleEvent=name)) == LifecycleEvent(
        tenant_id=TENANT,
        subscription_id=SUBSCRIPTION,
        lifecycle_event=name,
        received_at=NOW,
        subscription_expiration_date_time="2026-11-24T07:15:00.000+00:00",
    )
    assert event_label(name) == name


def test_unknown_lifecycle_event_is_kept_as_sent() -> None:
    """Graph may announce new ones; as a metric label it is `other`, and no length or character can do harm."""
    long = judged(lifecycle(lifecycleEvent="x" * 500))
    unprintable = judged(lifecycle(lifecycleEvent="a\nb"))
    new = judged(lifecycle(lifecycleEvent="subscriptionPaused"))

    assert isinstance(long, LifecycleEvent)
    assert long.lifecycle_event == "x" * 64
    assert isinstance(unprintable, LifecycleEvent)
    assert unprintable.lifecycle_event == "other"
    assert isinstance(new, LifecycleEvent)
    assert new.lifecycle_event == "subscriptionPaused"
    assert event_label("subscriptionPaused") == "other"


def test_lifecycle_item_needs_client_state_and_subscription() -> None:
    """It starts calls to Graph, so it is checked like any other."""
    assert judged(lifecycle(clientState="k1.no")) == Refused("client_state", TENANT)
    assert judged(lifecycle(subscriptionId="NA")) == Refused("malformed", TENANT)


def test_event_hubs_probe_is_dropped() -> None:
    """Graph writes one event full of `NA` when it is given a hub (graph-contract 5)."""
    probe = {
        "value": [
            {
                "subscriptionId": "NA",
                "subscriptionExpirationDateTime": "NA",
                "clientState": "NA",
                "resource": "NA",
                "resourceData": "NA",
                "changeType": "Validation: Testing client application reachability for subscription Request-Id: 1",
            }
        ]
    }
    [raw] = decode_collection(json.dumps(probe).encode())

    assert judge(raw, GATEKEEPER, NOW, source="eventhub") == Refused("tenant")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "not_json"),
        (b"hello", "not_json"),
        (b'{"value": [', "not_json"),
        (b"\xff\xfe{}", "not_json"),
        (b'{"value":' + b"[" * 100_000, "not_json"),
        (b"[]", "not_a_collection"),
        (b"null", "not_a_collection"),
        (b"{}", "not_a_collection"),
        (b'{"value": null}', "not_a_collection"),
        (b'{"value": {}}', "not_a_collection"),
    ],
)
def test_body_that_is_no_collection_is_told_apart(body: bytes, kind: str) -> None:
    """Two kinds, because one is a broken sender and the other a wrong URL."""
    with pytest.raises(NotACollection) as caught:
        decode_collection(body)

    assert caught.value.kind == kind
    assert kind in REJECTED


@pytest.mark.parametrize("name", ["value", "v\\u0061lue", "\\u0076\\u0061\\u006c\\u0075\\u0065"])
@pytest.mark.parametrize("other", ["[]", "null", json.dumps([item()])])
def test_value_that_stands_twice_is_no_collection(name: str, other: str) -> None:
    """Whichever of the two were taken, the other would vanish uncounted."""
    genuine = json.dumps([item()])
    for first, second in ((genuine, other), (other, genuine)):
        body = f'{{"value":{first},"more":{{"value":1}}, "{name}" : {second}}}'.encode()
        with pytest.raises(NotACollection) as caught:
            decode_collection(body)

        assert caught.value.kind == "not_a_collection"


@pytest.mark.parametrize("name", ["tenantId", "clientState", "resource"])
def test_of_two_names_in_an_item_the_last_is_judged_and_used(name: str) -> None:
    """What is judged is what is stored, so the other is nothing."""
    good = json.dumps(item())
    last_is_good = judge(msgspec.Raw(f'{{"{name}":"forged",{good[1:]}'.encode()), GATEKEEPER, NOW)
    last_is_bad = judge(msgspec.Raw(f'{good[:-1]},"{name}":"forged"}}'.encode()), GATEKEEPER, NOW)

    assert last_is_good == judge(msgspec.Raw(good.encode()), GATEKEEPER, NOW)
    assert isinstance(last_is_bad, Refused)


def test_value_may_stand_elsewhere_too() -> None:
    """Only the collection's own names must differ."""
    body = json.dumps({"a\\": '"value"', "value": [{"value": 1, "x": "value"}], "more": {"value": []}}).encode()

    assert [bytes(raw) for raw in decode_collection(body)] == [b'{"value": 1, "x": "value"}']


@pytest.mark.parametrize(
    "half",
    [
        "\\ud800",
        "\\uDFFF",
        "\\udc00\\ud800",
        "\\ud83d\\ude00\\ud83d",
        "\\\\\\ud800",
        "\\udbff\\n",
        "\\ud800\\u0041",
        # Text that reads like a first half, behind a backslash that is text.
        "\\\\uD800\\uDC00",
        "\\\\uD83d\\uDE00",
        "\\\\\\\\ud83d\\ude00",
        "\\ud83d\\\\ude00",
    ],
)
def test_half_a_surrogate_pair_costs_no_neighbour(half: str) -> None:
    """It is no text: what decides with it is refused, and elsewhere it decides nothing."""
    odd = [item(clientState="@"), item(tenantId="@"), item(resource="@"), item(changeType="@"), {"@": 1}]
    body = json.dumps({"value": [item(), *odd, item()]}).replace("@", half, 1000).encode()
    verdicts = [judge(raw, GATEKEEPER, NOW) for raw in decode_collection(body)]

    first, *others, last = verdicts
    assert isinstance(first, Notification)
    assert first == last
    assert [other.reason for other in others if isinstance(other, Refused)] == [
        "client_state",
        "tenant",
        "resource",
        "tenant",
    ]
    [beside] = [other for other in others if isinstance(other, Notification)]
    assert beside.change_type is None


@pytest.mark.parametrize("text", ["\\\\ud800", "\\ud83d\\ude00", "\\\\ud83d\\\\ude00", "\\\\\\ud83d\\ude00"])
def test_what_only_looks_like_half_a_pair_stays(text: str) -> None:
    """A backslash that is text, and a whole pair."""
    body = json.dumps({"value": ["@", "#"]}).replace("@", text).replace("#", "\\udc00").encode()

    assert json.loads(bytes(decode_collection(body)[0])) == json.loads(f'"{text}"')


pieces = st.sampled_from(["\\\\", "\\n", "\\ud83d", "\\uDE00", "\\u0041", "ud83d", "uDE00", "u", "d83d", "x"])


@given(st.lists(pieces).map("".join))
@example("\\\\uD800\\uDC00")
def test_only_lone_halves_are_replaced_whatever_stands_before_them(text: str) -> None:
    """The text as the standard library reads it, which lets halves be, with NUL in the place of each."""
    body = f'{{"value":["{text}","good"]}}'.encode()
    read = [msgspec.json.decode(raw) for raw in decode_collection(body)]

    wanted = "".join("\0" if "\ud800" <= one <= "\udfff" else one for one in json.loads(f'"{text}"'))
    assert read == [wanted, "good"]


def test_empty_collection_holds_nothing() -> None:
    """It is no error: nothing was sent, nothing is lost."""
    assert decode_collection(b'{"value": [], "validationTokens": null, "more": 1}') == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner),
    max_leaves=5,
)
field_values = json_values | st.sampled_from(
    [TENANT, OTHER, CALL, SUBSCRIPTION, client_state(2, KEYS[2], TENANT), f"communications/callRecords/{CALL}"]
)
wild_items = st.dictionaries(
    st.sampled_from(
        ["tenantId", "clientState", "resource", "resourceData", "subscriptionId", "changeType", "lifecycleEvent", "x"]
    ),
    field_values | st.dictionaries(st.sampled_from(["id", "@odata.id"]), field_values),
)


@given(st.binary(max_size=200) | st.builds(lambda value: json.dumps({"value": value}).encode(), json_values))
@example(b'{"value":[{"tenantId":"\xff"}]}')
@example(b'{"value":["\\ud800"]}')
def test_no_body_raises_anything_but_our_error(body: bytes) -> None:
    """Anyone on the internet can post to the receiver."""
    try:
        items = decode_collection(body)
    except NotACollection:
        return

    for raw in items:
        assert isinstance(judge(raw, GATEKEEPER, NOW), Refused)


@given(wild_items)
def test_nothing_comes_in_without_tenant_client_state_and_guid(value: dict[str, Any]) -> None:
    """Whatever the fields hold: what is let in is authentic and names a record by a GUID."""
    found = judged(value)

    if isinstance(found, Refused):
        assert found.reason in REFUSED
    else:
        assert value["tenantId"] == TENANT
        assert value["clientState"] == client_state(2, KEYS[2], TENANT)
        assert is_guid(found.call_id if isinstance(found, Notification) else found.subscription_id)


@given(st.dictionaries(st.text(), json_values))
def test_unknown_fields_change_nothing(extra: dict[str, Any]) -> None:
    """Graph adds properties without notice."""
    assert judged(extra | item()) == judged(item())


def test_what_is_queued_is_compact_json() -> None:
    """Absent values are left out, so a notification takes some 300 bytes."""
    found = judged(item(changeType=ABSENT, subscriptionId=ABSENT))

    assert msgspec.json.decode(msgspec.json.encode(found)) == {
        "tenantId": TENANT,
        "callId": CALL,
        "source": "webhook",
        "receivedAt": NOW,
    }
