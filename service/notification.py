"""Core: what stands in the notifications, backfill, retry, dead-letter and lifecycle topics, and which notifications of
Graph come in. No I/O, no clock, no logger.

What Graph posts is a collection; each of its items is judged on its own, because one POST can mix tenants and
applications (graph-contract 3.5) and an odd neighbour must not cost a good item. Only what decides is looked at: an
optional field of the wrong type never refuses an item.

Source of the shapes: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks and
https://learn.microsoft.com/graph/change-notifications-lifecycle-events (graph-contract 3 and 4).
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from service.errors import CallstreamError

LONGEST_CLIENT_STATE = 128  # characters that Graph keeps of it on a subscription (graph-contract 1.2)
LONGEST_NAME = 64  # characters kept of a changeType or an event name; Graph's longest is half of it
MOST_NAMES = 100  # in a collection; Graph's has two or three
COMMAS_OF_AN_ITEM = 25  # Graph's have some ten
# What a notification's fields may hold: other tools write notifications too, and a number that fits nowhere would stop
# the lane that reads it. A version is one of Graph's 64 bits; Graph counts from 1, and 0 harms nobody.
Version = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Attempts = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]  # the shortest delay, for eleven days
# Ids, times and names: it stands in the headers of every event, so a long one would be multiplied.
Text = Annotated[str, msgspec.Meta(max_length=256)]
PROBE = "Validation: Testing client application reachability"
LIFECYCLE_EVENTS = ("reauthorizationRequired", "subscriptionRemoved", "missed")
# ASCII, because IGNORECASE over Unicode lets look-alike letters in.
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_CALL_RECORD = re.compile(
    r"/?communications/callrecords(?:/(?P<plain>[^/()?#]+)|\('(?P<quoted>[^/()?#']+)'\))?", re.IGNORECASE | re.ASCII
)
# Escapes from left to right, since what follows a backslash that is text is no escape: a whole surrogate pair, a half
# of one (named), or a stretch of any others and of text, which is one match so that a body full of them costs little.
_ESCAPES = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|(?:\\(?:[^u]|u(?![dD][89a-fA-F]))[^\\]*+)++"
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Notification(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One reason to look at one call record. Times are UTC text as `service.clock.iso` writes it."""

    tenant_id: Text
    """Lower case GUID."""
    call_id: Text
    """Lower case GUID."""
    source: Text
    """webhook, eventhub, reconcile, backfill or replay."""
    received_at: Text
    change_type: Text | None = None
    subscription_id: Text | None = None
    version: Version | None = None
    """The version to be had at least, where the source knows it."""
    known_version: Version | None = None
    """Of notifications merged into one: a version that exists, though what one of them announces may be newer still."""
    etag: Text | None = None
    attempt: Attempts = 0
    """Failed attempts so far; waiting for a tenant or an outage is none."""
    first_seen_at: Text | None = None
    """When it was first received, kept over retries; absent means `received_at`."""
    due_at: Text | None = None
    """In a retry topic: not before this time."""
    reason: Text | None = None
    """Why it is in a retry topic: the reason of the last failure."""
    listed_hour: Count | None = None
    """From the list: the hour of `startDateTime` that was listed, counted from 1970."""
    look: Count | None = None
    """From the list: the number of that listing of the hour; lanes report to it what became of the record."""

    @property
    def key(self) -> bytes:
        """The Kafka key of everything that concerns this call."""
        return call_key(self.tenant_id, self.call_id)


class LifecycleEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One lifecycle notification (graph-contract section 4): reauthorizationRequired, subscriptionRemoved or missed."""

    tenant_id: str
    subscription_id: str
    lifecycle_event: str
    received_at: str
    subscription_expiration_date_time: str | None = None


def call_key(tenant_id: str, call_id: str) -> bytes:
    """`{tenantId}/{callId}` in lower case: one spelling, because murmur2 sees case."""
    return f"{tenant_id}/{call_id}".lower().encode()


class NotACollection(CallstreamError):
    """A body that is no notification collection, or too large a one. `kind` is a metric label."""

    reason = "not_a_collection"

    def __init__(self, kind: Literal["not_json", "not_a_collection", "too_many"], detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class TooManyItems(NotACollection):
    """A body of more items, or more of anything, than are taken at once."""

    def __init__(self, most: int) -> None:
        super().__init__("too_many", f"More than {most} notifications in one request.")


@dataclass(frozen=True)
class Refused:
    """An item that is counted and dropped. `tenant_id` is there only when it is a GUID, so it may be logged."""

    reason: Literal["malformed", "tenant", "client_state", "resource", "call_id"]
    tenant_id: str | None = None


class _Name:
    """Of an object; one for each time it stands there, so that a mapping keeps all of them."""


class _Collection(msgspec.Struct):
    value: list[msgspec.Raw]


class _Item(msgspec.Struct, rename="camel"):
    """Undecoded fields: each is looked into when it is needed, so that an odd one spoils nothing else."""

    tenant_id: msgspec.Raw = msgspec.Raw()
    subscription_id: msgspec.Raw = msgspec.Raw()
    client_state: msgspec.Raw = msgspec.Raw()
    change_type: msgspec.Raw = msgspec.Raw()
    resource: msgspec.Raw = msgspec.Raw()
    resource_data: msgspec.Raw = msgspec.Raw()
    lifecycle_event: msgspec.Raw = msgspec.Raw()
    subscription_expiration_date_time: msgspec.Raw = msgspec.Raw()


class _ResourceData(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()


_collection = msgspec.json.Decoder(_Collection)
_item = msgspec.json.Decoder(_Item)
_resource_data = msgspec.json.Decoder(_ResourceData)
_string = msgspec.json.Decoder(str)
_event = msgspec.json.Decoder(LifecycleEvent)
# What msgspec raises for bytes that are not what was asked for; RecursionError for brackets without end.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Gatekeeper:
    """Knows the configured tenants and what `clientState` their notifications must carry. Values only; no store."""

    def __init__(self, tenants: Mapping[str, str], keys: Mapping[int, bytes]) -> None:
        """`tenants`: lower-case tenant id → configured name; `keys`: key number → key, all accepted."""
        self.tenants = dict(tenants)
        numbers = sorted(keys)
        self._expected = {tenant: [client_state(n, keys[n], tenant) for n in numbers] for tenant in self.tenants}
        # Compared for a tenant that is not configured, so that the time taken says nothing about who is.
        self._nobody = [client_state(n, keys[n], "") for n in numbers]

    def newest(self, tenant_id: str) -> str:
        """The `clientState` for a new subscription of a configured tenant; KeyError without tenant or keys."""
        expected = self._expected[tenant_id.lower()]
        if not expected:
            raise KeyError("no clientState key")
        return expected[-1]

    def accepts(self, tenant_id: str, given: str | None) -> bool:
        """Whether `given` is the tenant's `clientState` under any key. Every key is compared, in constant time."""
        usable = given is not None and len(given) <= LONGEST_CLIENT_STATE
        offered = (given or "").encode("utf-8", "surrogatepass") if usable else b""
        is_right = False
        for expected in self._expected.get(tenant_id.lower(), self._nobody):
            is_right |= hmac.compare_digest(expected.encode(), offered)
        return is_right and tenant_id.lower() in self.tenants


def client_state(key_number: int, key: bytes, tenant_id: str) -> str:
    """`k{n}.` + base64url without padding of HMAC-SHA256(key, lower-case tenant id): 46 to 49 characters."""
    digest = hmac.new(key, tenant_id.lower().encode(), hashlib.sha256).digest()
    return f"k{key_number}." + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def decode_collection(body: bytes) -> list[msgspec.Raw]:
    """The undecoded items of a `changeNotificationCollection`; `NotACollection` for anything else.

    Half a surrogate pair is no text, and no reason to refuse the neighbours: NUL stands in its place, which is in no
    id and in no `clientState`.
    """
    try:
        try:
            return _items(body)
        except msgspec.ValidationError:
            raise
        except UNREADABLE:
            if not _SURROGATE.search(body):
                raise
            return _items(_ESCAPES.sub(lambda found: rb"\u0000" if found["half"] else found[0], body))
    except msgspec.ValidationError:
        raise NotACollection("not_a_collection", "The body is no object whose one `value` is a list.") from None
    except UNREADABLE:
        raise NotACollection("not_json", "The body is not JSON.") from None


def bounded_collection(body: bytes, most: int) -> list[msgspec.Raw]:
    """As `decode_collection`; `TooManyItems` for more than `most` items."""
    # Two million zeros fit into a body; as items they would take 150 MB and half a second before they are counted.
    if body.count(b",") > most * COMMAS_OF_AN_ITEM:
        raise TooManyItems(most)
    items = decode_collection(body)
    if len(items) > most:
        raise TooManyItems(most)
    return items


def _items(body: bytes) -> list[msgspec.Raw]:
    items = _collection.decode(body).value
    # Of two the decoder takes the last and says nothing of the first. Graph's bodies are not looked at again.
    if (body.count(b'"value"') > 1 or b"\\" in body) and _names(body).count("value") > 1:
        raise msgspec.ValidationError
    return items


def _names(body: bytes) -> list[str]:
    """The names in an object, each as often as it stands there. Raises `ValidationError` beyond `MOST_NAMES`."""
    names: list[str] = []

    def take(_: type, name: str) -> _Name:
        names.append(name)
        if len(names) > MOST_NAMES:
            raise msgspec.ValidationError
        return _Name()

    msgspec.json.decode(body, type=dict[_Name, msgspec.Raw], dec_hook=take)
    return names


def judge(
    raw_item: msgspec.Raw, gatekeeper: Gatekeeper, received_at: str, source: str = "webhook"
) -> Notification | LifecycleEvent | Refused:
    """What one item is, or why it is refused. Never raises. `received_at` is UTC text as `service.clock.iso` writes it.

    The order of the checks: an object; a configured tenant; the right `clientState`; then what it is about.
    """
    try:
        item = _item.decode(raw_item)
    except UNREADABLE:
        return Refused("malformed")
    tenant_id = _text(item.tenant_id).lower()
    is_authentic = gatekeeper.accepts(tenant_id, _text(item.client_state))
    if tenant_id not in gatekeeper.tenants:
        return Refused("tenant", tenant_id if is_guid(tenant_id) else None)
    if not is_authentic:
        return Refused("client_state", tenant_id)
    if _text(item.lifecycle_event):
        return _lifecycle_event(item, tenant_id, received_at)
    call_id = _call_id(item)
    if isinstance(call_id, Refused):
        return Refused(call_id.reason, tenant_id)
    return Notification(
        tenant_id=tenant_id,
        call_id=call_id,
        source=source,
        received_at=received_at,
        change_type=_label(item.change_type),
        subscription_id=_guid(item.subscription_id),
    )


def read_event(value: bytes | None) -> LifecycleEvent | None:
    """A record of the lifecycle topic; None for anything that is no lifecycle event."""
    try:
        return _event.decode(value or b"")
    except UNREADABLE:
        return None


def is_probe(raw: msgspec.Raw | bytes) -> bool:
    """Whether this is what Graph writes to see whether it can write into an event hub (graph-contract 5)."""
    try:
        return _text(_item.decode(raw).change_type).startswith(PROBE)
    except UNREADABLE:
        return False


def is_guid(text: str) -> bool:
    """Whether `text` is a GUID in its 36 characters, in any case."""
    return _GUID.fullmatch(text) is not None


def event_label(lifecycle_event: str) -> str:
    """The metric label of a lifecycle event: its name where it is a known one, else `other`."""
    return lifecycle_event if lifecycle_event in LIFECYCLE_EVENTS else "other"


def _lifecycle_event(item: _Item, tenant_id: str, received_at: str) -> LifecycleEvent | Refused:
    subscription_id = _guid(item.subscription_id)
    if subscription_id is None:
        return Refused("malformed", tenant_id)
    return LifecycleEvent(
        tenant_id=tenant_id,
        subscription_id=subscription_id,
        lifecycle_event=_label(item.lifecycle_event) or "other",
        received_at=received_at,
        subscription_expiration_date_time=_label(item.subscription_expiration_date_time),
    )


def _call_id(item: _Item) -> str | Refused:
    """The lower-case id of the call record: `resourceData.id`, else the last segment of `resource`.

    A `resource` that points elsewhere, or at another record than `resourceData`, is no slip but a forgery or another
    product's notification: refused. The bare collection names no record and contradicts nothing.
    """
    stated = _text(_resource_id(item.resource_data))
    resource = _text(item.resource)
    in_path = ""
    if resource:
        match = _CALL_RECORD.fullmatch(resource)
        if match is None:
            return Refused("resource")
        in_path = match["plain"] or match["quoted"] or ""
    if stated and in_path and stated.lower() != in_path.lower():
        return Refused("resource")
    call_id = stated or in_path
    return call_id.lower() if is_guid(call_id) else Refused("call_id")


def _resource_id(resource_data: msgspec.Raw) -> msgspec.Raw:
    try:
        return _resource_data.decode(resource_data).id
    except UNREADABLE:
        return msgspec.Raw()


def _text(raw: msgspec.Raw) -> str:
    """The text in a field; empty when it is absent, null or of another type."""
    try:
        return _string.decode(raw)
    except UNREADABLE:
        return ""


def _guid(raw: msgspec.Raw) -> str | None:
    text = _text(raw)
    return text.lower() if is_guid(text) else None


def _label(raw: msgspec.Raw) -> str | None:
    """A name as it was sent, cut to `LONGEST_NAME`; None when it is absent or holds what cannot be printed."""
    text = _text(raw)[:LONGEST_NAME]
    return text if text and text.isprintable() else None
