"""What Graph's answers about subscriptions mean, and what follows for a tenant's subscriptions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clock import iso
from service.errors import CallstreamError, GraphUnavailable, TenantMustWait
from service.graph.subscription import (
    ConsentMissing,
    HandshakeFailed,
    Kind,
    QuotaReached,
    Subscription,
    SubscriptionError,
    SubscriptionExists,
    SubscriptionGone,
    describe_error,
    interpret,
)
from service.upkeep import (
    CLOCK_MARGIN_SECONDS,
    Standing,
    expires_at,
    hub_wish,
    is_due,
    judge_conflict,
    next_wait,
    plan,
    wish,
)

NOW = 1_790_000_000.0
ID = "5d0c6f6e-95d4-4d0a-8a55-0f3a7c1b2e90"
WANTED = wish("https://calls.example.com/", "k2.new", 4230)


def answered(
    kind: Kind, status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None
) -> CallstreamError | None:
    body = json.dumps({"error": {"code": code, "message": message, "innerError": {}}}).encode()
    return interpret(kind, status, headers or {}, body, NOW)


def subscription(number: int = 0, lives_seconds: float = 100_000.0, **changes: Any) -> Subscription:
    fields: dict[str, Any] = {
        "id": f"5d0c6f6e-95d4-4d0a-8a55-{number:012x}",
        "resource": "communications/callRecords",
        "change_type": "updated",
        "notification_url": "https://calls.example.com/notifications?k=2",
        "lifecycle_notification_url": "https://calls.example.com/lifecycle?k=2",
        "expiration_date_time": iso(NOW + lives_seconds),
    }
    return Subscription(**(fields | changes))


@pytest.mark.parametrize(
    ("kind", "status", "code", "message", "expected"),
    [
        ("create", 403, "ExtensionError", "Exception: [Status Code: Forbidden; Reason: ...]", ConsentMissing),
        ("create", 400, "ExtensionError", "Operation: Create; [Status Code: Forbidden]", ConsentMissing),
        ("renew", 403, "Forbidden", "The application does not have permission", ConsentMissing),
        ("create", 403, "Forbidden", "The limit of 100 subscriptions has been reached.", QuotaReached),
        ("create", 400, "ValidationError", "Subscription validation request timed out.", HandshakeFailed),
        ("renew", 400, "BadRequest", "expirationDateTime", SubscriptionError),
        ("create", 409, "Conflict", f"Existing subscription id: {ID.upper()}", SubscriptionExists),
        ("renew", 404, "ResourceNotFound", "", SubscriptionGone),
        ("delete", 404, "", "", SubscriptionGone),
        ("create", 404, "", "", GraphUnavailable),
        ("list", 401, "InvalidAuthenticationToken", "", GraphUnavailable),
        ("create", 502, "", "", GraphUnavailable),
        ("create", 500, "ExtensionError", "[Status Code: ServiceUnavailable]", GraphUnavailable),
        ("list", 302, "", "", GraphUnavailable),
        ("list", 429, "TooManyRequests", "", TenantMustWait),
    ],
)
def test_answers_are_told_apart(kind: Kind, status: int, code: str, message: str, expected: type[Exception]) -> None:
    """Each kind of refusal needs another person or another time."""
    error = answered(kind, status, code, message)

    assert type(error) is expected
    assert describe_error(error)["todo"]


@pytest.mark.parametrize(
    ("code", "shown"),
    [("x" * 100_000, ""), ("no code", ""), (f"k2.{'a' * 43}", ""), ("Request_BadRequest", "Request_BadRequest")],
)
def test_what_graph_says_is_cut_in_every_part(code: str, shown: str) -> None:
    """It stands in a log line and on the status page: a code that is none is left out, a long message ends early."""
    error = answered("list", 400, code, "m" * 100_000)

    assert error is not None
    assert describe_error(error)["error"] == f"400 {shown}: {'m' * 300}"


def test_conflict_names_the_existing_subscription() -> None:
    """Its id stands in the message only; without one there is nothing to adopt."""
    named = answered("create", 409, "Conflict", f"Existing subscription id: {ID.upper()}.")
    unnamed = answered("create", 409, "Conflict", "Subscription already exists.")

    assert isinstance(named, SubscriptionExists)
    assert named.existing_id == ID
    assert isinstance(unnamed, SubscriptionExists)
    assert unnamed.existing_id is None


def test_throttling_waits_as_long_as_graph_says() -> None:
    """A made-up minute without Retry-After."""
    for headers, seconds in (({"Retry-After": "17"}, 17.0), ({}, 60.0)):
        error = answered("list", 429, headers=headers)
        assert isinstance(error, TenantMustWait)
        assert error.wait_seconds == seconds


@given(
    st.sampled_from(["create", "renew", "list"]), st.integers(100, 599), st.binary(max_size=60), st.text(max_size=20)
)
def test_no_answer_raises_anything_foreign(kind: Kind, status: int, body: bytes, wait: str) -> None:
    """Gateways answer with HTML, with nothing and with halves."""
    error = interpret(kind, status, {"Retry-After": wait}, body, NOW)

    assert (error is None) == (200 <= status < 300)
    assert error is None or str(error).isprintable()


def test_the_right_one_is_kept_and_nothing_else_is_touched() -> None:
    """Other applications' and other resources' subscriptions are never deleted."""
    strangers = [
        subscription(1, notification_url="https://other.example.com/notifications"),
        subscription(2, resource="users"),
        subscription(3, resource="communications/callRecords?$filter=participants/any(p:p/id eq 'x')"),
    ]
    ours = subscription(4, resource="/Communications/CallRecords", client_state="k2.new")
    found = plan([*strangers, ours], WANTED)

    assert found.keep == ours
    assert found.delete == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"client_state": "k1.old"},
        {"lifecycle_notification_url": None},
        {"lifecycle_notification_url": "https://calls.example.com/other"},
        {"change_type": "created"},
    ],
)
def test_one_of_ours_that_cannot_be_mended_is_deleted(changes: dict[str, Any]) -> None:
    """Graph changes neither clientState nor the lifecycle URL of a subscription."""
    wrong = subscription(1, **changes)

    assert plan([wrong], WANTED).keep is None
    assert plan([wrong], WANTED).delete == (wrong,)


def test_of_duplicates_the_one_that_lives_longest_stays() -> None:
    """More than one would deliver everything twice."""
    short, long = subscription(1, 1000.0), subscription(2, 2000.0, change_type="created, Updated")

    assert plan([long, short], WANTED) == plan([short, long], WANTED)
    assert plan([short, long], WANTED).keep == long
    assert plan([short, long], WANTED).delete == (short,)


def test_renewal_is_due_around_half_of_the_lifetime() -> None:
    """Early enough to try for more than a day, and not for all tenants at once."""
    lifetime = WANTED.lifetime_seconds
    due = [
        next(part for part in range(100) if is_due(subscription(n, lifetime * (100 - part) / 100), WANTED, NOW))
        for n in range(200)
    ]

    assert min(due) >= 45
    assert max(due) <= 56
    assert len(set(due)) > 3
    assert is_due(subscription(expiration_date_time="no date"), WANTED, NOW)


@pytest.mark.parametrize(
    ("expiration", "believed"),
    [
        (iso(NOW + 4230 * 60), NOW + 4230 * 60),
        (iso(NOW - 60), NOW - 60),
        (iso(NOW + 4231 * 60 + CLOCK_MARGIN_SECONDS), 0.0),
        ("9999-12-31T23:59:59Z", 0.0),
        ("9999-12-31T23:59:59.9999999Z", 0.0),
        ("0001-01-01T00:00:00+01:00", 0.0),
        ("no date", 0.0),
    ],
)
def test_an_expiration_that_graph_does_not_give_is_due(expiration: str, believed: float) -> None:
    """It is renewed rather than thought to live for ever, and there is something to show."""
    found = subscription(expiration_date_time=expiration)
    assert expires_at(found, NOW) == believed

    assert is_due(found, WANTED, NOW) == (believed <= NOW)
    assert Standing(found.id, believed).shown()["expires"] == (iso(believed) if believed else None)


def test_lifetime_stays_inside_what_graph_allows() -> None:
    """More than 4,230 minutes by Graph's clock is refused; less than 45 raised."""
    assert 4220 * 60 < WANTED.lifetime_seconds < 4230 * 60
    assert wish("https://x", "k1.a", 45).lifetime_seconds == 45 * 60


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        (subscription(), "adopt"),
        (subscription(client_state="k1.old"), "replace"),
        (subscription(notification_url="https://calls.example.com/notifications?k=1"), "replace"),
        (subscription(notification_url="https://CALLS.example.com/hook"), "replace"),
        (subscription(notification_url="https://elsewhere.example.com/notifications"), "leave"),
        (subscription(notification_url="EventHub:https://x.servicebus.windows.net/eventhubname/y"), "leave"),
    ],
)
def test_what_stands_in_the_way_is_judged_by_its_url(existing: Subscription, expected: str) -> None:
    """Only what posts to our own host may be deleted."""
    assert judge_conflict(existing, WANTED) == expected


HUB_URL = "EventHub:https://calls.servicebus.windows.net/eventhubname/calls?tenantId=contoso.com"


def hub_subscription(**changes: Any) -> Subscription:
    return subscription(**{"notification_url": HUB_URL, "lifecycle_notification_url": HUB_URL, **changes})


def test_a_subscription_to_the_event_hub_is_known_by_its_whole_url() -> None:
    """Ours is kept; of older keys only while nobody can tell, since the URL cannot hold the key's number."""
    one_key = hub_wish(HUB_URL, "", "k1.only", 4230, made=None)
    several = hub_wish(HUB_URL, "", "k2.new", 4230, made="")
    hidden, other = hub_subscription(), hub_subscription(notification_url=HUB_URL.replace("calls?", "other?"))

    assert (one_key.new("x").notification_url, one_key.new("x").lifecycle_notification_url) == (HUB_URL, HUB_URL)
    assert plan([hidden, other], one_key).keep == hidden
    assert plan([hidden, other], one_key).delete == ()
    assert plan([hidden], several).delete == (hidden,)
    assert plan([hidden], hub_wish(HUB_URL, "", "k2.new", 4230, made=hidden.id)).keep == hidden
    assert plan([hub_subscription(client_state="k2.new")], several).delete == ()


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        (hub_subscription(), "adopt"),
        (hub_subscription(lifecycle_notification_url="https://calls.example.com/lifecycle"), "replace"),
        (hub_subscription(notification_url=HUB_URL.replace("calls?", "other?")), "leave"),
        (subscription(), "replace"),
        (subscription(notification_url="https://elsewhere.example.com/notifications"), "leave"),
    ],
)
def test_a_hub_takes_the_place_of_what_was_posted_before(existing: Subscription, expected: str) -> None:
    """A subscription that posts to our public address is ours too; another hub is somebody else's."""
    assert judge_conflict(existing, hub_wish(HUB_URL, "https://calls.example.com/", "k1.only", 4230, None)) == expected


def test_waits_grow_and_respect_what_was_asked() -> None:
    """From seconds to ten minutes."""
    waits = [next_wait(failures) for failures in range(1, 40)]

    assert waits == sorted(waits)
    assert waits[0] <= 5
    assert waits[-1] == 600
    assert next_wait(1, 120.0) == 120.0


@pytest.mark.parametrize(
    ("message", "cause", "todo"),
    [
        ("Subscription validation request timed out.", "unreachable", "firewall"),
        ("Subscription validation request failed: ClientConnectorError.", "unreachable", "DNS"),
        ("The remote name could not be resolved: 'calls.example.com'", "unreachable", "DNS"),
        ("Subscription validation request failed: ClientConnectorCertificateError.", "tls", "certificate"),
        ("Could not establish trust relationship for the SSL/TLS secure channel", "tls", "intermediate"),
        ("Subscription validation request failed. HTTP status code is '404', must be 200.", "answer", "proxy"),
        ("Notification endpoint must respond with 200 OK to validation request.", "answer", "proxy"),
        ("The response body is not the decoded validation token.", "answer", "proxy"),
        ("Something else", "unknown", "publicly trusted"),
    ],
)
def test_a_failed_handshake_says_which_link_broke(message: str, cause: str, todo: str) -> None:
    """Unreachable, TLS, a wrong answer: three different people mend them."""
    error = answered("create", 400, "ValidationError", message)

    assert isinstance(error, HandshakeFailed)
    assert error.cause == cause
    assert todo in describe_error(error)["todo"]
    assert describe_error(error)["reason"] == f"handshake_failed: {cause}"


def test_a_subscription_of_an_older_key_is_known_by_its_url() -> None:
    """Graph may hide `clientState`; the key's number in the URL says enough: delete it, create anew."""
    old = subscription(notification_url="https://calls.example.com/notifications?k=1", client_state=None)
    found = plan([old], WANTED)

    assert (found.keep, found.delete) == (None, (old,))
