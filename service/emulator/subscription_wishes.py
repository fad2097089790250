"""What a body about a subscription asks for, as Graph reads it, or the 400 that says why not (graph-contract 1)."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from service.clock import from_iso
from service.emulator import hubs
from service.emulator.refusals import bad_request

LONGEST_SECONDS = 4_230 * 60.0  # graph-contract 1.4
SHORTEST_SECONDS = 45 * 60.0
LIFECYCLE_URL_ABOVE_SECONDS = 3600.0
LONGEST_CLIENT_STATE = 128
CHANGE_TYPES = frozenset({"created", "updated"})
TLS_VERSIONS = ("v1_0", "v1_1", "v1_2", "v1_3")
RESOURCE = "communications/callrecords"
SETTABLE = frozenset(
    (
        *("changeType", "resource", "notificationUrl", "lifecycleNotificationUrl", "expirationDateTime"),
        *("clientState", "latestSupportedTlsVersion", "includeResourceData", "encryptionCertificate"),
        *("encryptionCertificateId", "notificationUrlAppId", "notificationQueryOptions"),
    )
)
_PERSON = re.compile(r"p/id\s+eq\s+'([^']+)'|p/id\s+in\s*\(([^)]*)\)", re.IGNORECASE)
_PEOPLE = re.compile(r"\$filter=participants/any\(p:(.+)\)", re.IGNORECASE)


@dataclass(frozen=True)
class Wish:
    """A checked POST body."""

    resource: str
    people: frozenset[str] | None
    change_type: str
    notification_url: str
    lifecycle_url: str | None
    client_state: str | None
    expires_at: float
    tls_version: str


def read_wish(body: Mapping[str, Any], now: float) -> Wish:
    """A POST body as Graph reads it; 400 with what is wrong. `now` is Unix seconds."""
    for name in sorted(set(body) - SETTABLE - annotations(body)):
        raise bad_request(f"The property '{name}' does not exist on type 'microsoft.graph.subscription'.")
    if body.get("includeResourceData"):
        raise bad_request("includeResourceData is not supported for resource 'communications/callRecords'.")
    resource = _text(body, "resource")
    expires_at = read_expiration(body, now)
    lifecycle = read_url(body, "lifecycleNotificationUrl") if body.get("lifecycleNotificationUrl") else None
    require_lifecycle(lifecycle, expires_at - now)
    return Wish(
        resource=resource,
        people=read_resource(resource),
        change_type=_read_change_type(_text(body, "changeType")),
        notification_url=read_url(body, "notificationUrl"),
        lifecycle_url=lifecycle,
        client_state=_read_client_state(body.get("clientState")),
        expires_at=expires_at,
        tls_version=_read_tls_version(body.get("latestSupportedTlsVersion")),
    )


def read_resource(resource: str) -> frozenset[str] | None:
    """Participants the resource is filtered to, None for all calls; 400 for any other resource (graph-contract 1.3)."""
    path, question, query = resource.removeprefix("/").partition("?")
    if path.lower() != RESOURCE:
        raise bad_request(f"Invalid 'resource' attribute: '{resource}' cannot be subscribed to here.")
    if not question:
        return None
    people = _PEOPLE.fullmatch(query)
    clauses = re.split(r"\s+or\s+", people[1], flags=re.IGNORECASE) if people else [""]
    ids: set[str] = set()
    for clause in clauses:
        match = _PERSON.fullmatch(clause.strip())
        if match is None:
            raise bad_request(f"Invalid 'resource' attribute: the filter '{query}' is not supported.")
        ids.update([match[1]] if match[1] else re.findall(r"'([^']+)'", match[2]))
    return frozenset(name.lower() for name in ids)


def read_url(body: Mapping[str, Any], name: str) -> str:
    """https anywhere, http on loopback only (this is a stand-in on somebody's machine), or an event hub."""
    text = _text(body, name)
    if text.startswith(hubs.SCHEME):
        return hubs.check_url(text, name)
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        host = ""
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        raise bad_request(f"The '{name}' must be an https URL (http is accepted on loopback only).")
    return text


def read_expiration(body: Mapping[str, Any], now: float) -> float:
    """Unix seconds; too long is refused, too short is raised without a word (graph-contract 1.4)."""
    try:
        expires_at = from_iso(_text(body, "expirationDateTime"))
    except (ValueError, OverflowError):
        raise bad_request("The 'expirationDateTime' is not a DateTimeOffset.") from None
    if expires_at <= now:
        raise bad_request("Subscription expirationDateTime must be in the future.")
    if expires_at > now + LONGEST_SECONDS:
        minutes = LONGEST_SECONDS / 60
        raise bad_request(f"Subscription expiration can only be {minutes:.0f} minutes in the future.")
    return max(expires_at, now + SHORTEST_SECONDS)


def require_lifecycle(lifecycle_url: str | None, seconds: float) -> None:
    """400 for a subscription that lives so long and has no lifecycle URL."""
    if lifecycle_url is None and seconds > LIFECYCLE_URL_ABOVE_SECONDS:
        message = "'lifecycleNotificationUrl' is a required property for subscription creation on this resource when "
        raise bad_request(message + "the 'expirationDateTime' value is set to greater than 1 hour.")


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise bad_request(f"The value of '{name}' is required and must be a string.")
    return value


def _read_change_type(text: str) -> str:
    if not change_types(text) <= CHANGE_TYPES:
        raise bad_request(f"Invalid 'changeType' attribute: '{text}' is not supported for call records.")
    return text


def change_types(text: str) -> frozenset[str]:
    """`created`, `updated` or both, of a `changeType`."""
    return frozenset(part.strip().lower() for part in text.split(","))


def _read_client_state(value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > LONGEST_CLIENT_STATE):
        raise bad_request(f"The 'clientState' must be a string of at most {LONGEST_CLIENT_STATE} characters.")
    return value


def _read_tls_version(value: object) -> str:
    if value is None:
        return "v1_2"
    if value not in TLS_VERSIONS:
        raise bad_request(f"The 'latestSupportedTlsVersion' must be one of {', '.join(TLS_VERSIONS)}.")
    return str(value)


def annotations(body: Mapping[str, Any]) -> set[str]:
    """OData's own properties, which are passed over."""
    return {name for name in body if "@" in name}


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
