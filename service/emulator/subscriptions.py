"""Subscriptions: who is told of which calls, by the rules of graph-contract section 1.

Choices where Graph's documents are silent: `clientState` comes back in the answer to POST only and is null afterwards
(as Graph does for secrets); a PATCH validates a new `notificationUrl` and nothing else; `reauthorize` shakes no hands.
"""

import ipaddress
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from service.clock import Clock, from_iso, iso
from service.emulator import hubs
from service.emulator.lives import Life, Lives
from service.emulator.options import EmulatorOptions
from service.emulator.refusals import Refusal, bad_request, forbidden, not_found
from service.emulator.statefile import State
from service.emulator.tokens import Principal, Tenants

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


@dataclass
class Subscription:
    """One subscription of an application in a tenant."""

    id: str
    principal: Principal
    resource: str
    """As it was sent: the reply echoes it."""
    people: frozenset[str] | None
    """Only calls with one of these participants; None: every call."""
    change_type: str
    notification_url: str
    lifecycle_url: str | None
    client_state: str | None
    created_at: float
    expires_at: float
    """Unix seconds, as all times here."""
    authorized_until: float
    tls_version: str
    lifecycle_due: float = 0.0

    @property
    def change_types(self) -> frozenset[str]:
        """`created`, `updated` or both."""
        return frozenset(part.strip().lower() for part in self.change_type.split(","))

    def wants(self, tenant_id: str, participant_ids: frozenset[str]) -> bool:
        """Whether a call of this tenant with these people is meant."""
        return self.principal.tenant_id == tenant_id and (self.people is None or bool(self.people & participant_ids))

    def show(self, with_client_state: bool = False) -> dict[str, Any]:
        """As Graph shows it."""
        return {
            "id": self.id,
            "resource": self.resource,
            "applicationId": self.principal.client_id,
            "changeType": self.change_type,
            "clientState": self.client_state if with_client_state else None,
            "notificationUrl": self.notification_url,
            "notificationQueryOptions": None,
            "lifecycleNotificationUrl": self.lifecycle_url,
            "expirationDateTime": iso(self.expires_at),
            "creatorId": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.principal.tenant_id}/{self.principal.client_id}")),
            "includeResourceData": None,
            "latestSupportedTlsVersion": self.tls_version,
            "encryptionCertificate": None,
            "encryptionCertificateId": None,
            "notificationUrlAppId": None,
        }


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


class Subscriptions:
    """All subscriptions that have not expired."""

    def __init__(self, options: EmulatorOptions, clock: Clock, tenants: Tenants, state: State) -> None:
        self._options = options
        self._clock = clock
        self._tenants = tenants
        self._state = state
        self._all: dict[str, Subscription] = {}
        self.lives = Lives()
        """Of all that ever were."""

    def restore(self, one: Subscription) -> None:
        """As the state file has it; a later frame of the same id replaces an earlier one."""
        self._all[one.id] = one
        self.lives.begin(_life(one))

    def forget(self, subscription_id: str) -> None:
        """It was deleted."""
        self._all.pop(subscription_id, None)
        self.lives.delete(subscription_id, self._clock.now())

    def live(self) -> Iterator[Subscription]:
        """Those in force now; expired ones are forgotten on the way."""
        now = self._clock.now()
        for key in [key for key, one in self._all.items() if one.expires_at <= now]:
            del self._all[key]
        return iter(list(self._all.values()))

    def owned_by(self, principal: Principal) -> list[Subscription]:
        """An application sees only what it created itself."""
        return [one for one in self.live() if one.principal == principal]

    def get(self, principal: Principal, subscription_id: str) -> Subscription:
        """404 when it is not there, has expired, or belongs to another application or tenant."""
        for one in self.owned_by(principal):
            if one.id == subscription_id.lower():
                return one
        raise not_found(f"The object was not found: subscription '{subscription_id}'.")

    def check_new(self, principal: Principal, body: Mapping[str, Any]) -> Wish:
        """What a POST asks for, or the refusal Graph gives before it tries the handshake."""
        if not self._tenants.may_read(principal):
            message = "Operation: Create; Exception: [Status Code: Forbidden; Reason: The application does not have "
            raise Refusal(403, "ExtensionError", message + "permission CallRecords.Read.All for the resource.]")
        wish = read_wish(body, self._clock.now())
        self.check_unique(principal, wish)
        return wish

    def check_unique(self, principal: Principal, wish: Wish) -> None:
        """409 for a twin, 403 above the quota."""
        for one in self.owned_by(principal):
            if _same_resource(one.resource, wish.resource) and one.change_types == _change_types(wish.change_type):
                message = "Subscription already exists for the application, resource and changeType combination. "
                raise Refusal(409, "Conflict", f"{message}Existing subscription id: {one.id}")
        count = sum(1 for one in self.live() if one.principal.tenant_id == principal.tenant_id)
        if count >= self._options.subscription_quota:
            limit = self._options.subscription_quota
            raise forbidden(f"The limit of {limit} callRecord subscriptions per organization has been reached.")

    def add(self, principal: Principal, wish: Wish) -> Subscription:
        """After the handshake: the subscription exists from now on."""
        now = self._clock.now()
        one = Subscription(
            id=str(uuid.uuid4()),
            principal=principal,
            resource=wish.resource,
            people=wish.people,
            change_type=wish.change_type,
            notification_url=wish.notification_url,
            lifecycle_url=wish.lifecycle_url,
            client_state=wish.client_state,
            created_at=now,
            expires_at=wish.expires_at,
            authorized_until=now,
            tls_version=wish.tls_version,
        )
        self._all[one.id] = one
        self._authorize(one)
        self.lives.begin(_life(one))
        return one

    def check_change(self, principal: Principal, subscription_id: str, body: Mapping[str, Any]) -> Subscription:
        """The subscription a PATCH may change, its body being right; nothing is changed yet."""
        one = self.get(principal, subscription_id)
        self._require_consent(principal)
        unknown = sorted(set(body) - {"expirationDateTime", "notificationUrl"} - _annotations(body))
        if unknown:
            raise bad_request(f"Property '{unknown[0]}' of a subscription cannot be updated.")
        if not {"expirationDateTime", "notificationUrl"} & set(body):
            raise bad_request("expirationDateTime or notificationUrl is required to update a subscription.")
        if "notificationUrl" in body:
            read_url(body, "notificationUrl")
        if "expirationDateTime" in body:
            self._require_lifecycle(one, read_expiration(body, self._clock.now()))
        return one

    def change(self, one: Subscription, body: Mapping[str, Any]) -> None:
        """Renews, moves, or both; renewing authorizes again (graph-contract 4)."""
        if "expirationDateTime" in body:
            now = self._clock.now()
            one.expires_at = read_expiration(body, now)
            self._authorize(one)
            self.lives.renew(one.id, now, one.expires_at)
        if "notificationUrl" in body:
            one.notification_url = body["notificationUrl"]
            self._keep(one)

    def reauthorize(self, principal: Principal, subscription_id: str) -> None:
        """Delivery goes on, the expiration stays; 403 while consent is missing."""
        one = self.get(principal, subscription_id)
        self._require_consent(principal)
        self._authorize(one)

    def remove(self, principal: Principal, subscription_id: str) -> None:
        """DELETE."""
        one = self.get(principal, subscription_id)
        del self._all[one.id]
        self._state.append("unsubscribed", {"id": one.id})
        self.lives.delete(one.id, self._clock.now())

    def may_deliver(self, one: Subscription) -> bool:
        """Whether the token behind it still counts; otherwise notices wait (graph-contract 3.4)."""
        return one.authorized_until > self._clock.now() and self._tenants.is_consented(one.principal)

    def exists(self, subscription_id: str) -> bool:
        """Neither deleted nor expired."""
        one = self._all.get(subscription_id)
        return one is not None and one.expires_at > self._clock.now()

    def due_for_lifecycle(self) -> list[Subscription]:
        """Those to be sent `reauthorizationRequired` now; each comes again until it is renewed."""
        now, due = self._clock.now(), []
        for one in self.live():
            is_revoked = not self._tenants.is_consented(one.principal)
            if one.lifecycle_url and now >= one.lifecycle_due and (is_revoked or now >= self._warn_from(one)):
                one.lifecycle_due = now + self._options.reauthorize_repeat_seconds
                due.append(one)
        return due

    def _warn_from(self, one: Subscription) -> float:
        end = min(one.expires_at, one.authorized_until)
        return end - min(self._options.reauthorize_lead_seconds, (end - one.created_at) / 3)

    def _authorize(self, one: Subscription) -> None:
        now, seconds = self._clock.now(), self._options.authorization_seconds
        one.created_at = now
        one.authorized_until = one.expires_at if seconds is None else now + seconds
        one.lifecycle_due = 0.0
        self._keep(one)

    def _keep(self, one: Subscription) -> None:
        principal = {**asdict(one.principal), "roles": sorted(one.principal.roles)}
        people = None if one.people is None else sorted(one.people)
        self._state.append("subscription", {**asdict(one), "principal": principal, "people": people})

    def _require_consent(self, principal: Principal) -> None:
        if not self._tenants.may_read(principal):
            raise forbidden("The application does not have permission CallRecords.Read.All for the resource.")

    def _require_lifecycle(self, one: Subscription, expires_at: float) -> None:
        if one.lifecycle_url is None and expires_at - self._clock.now() > LIFECYCLE_URL_ABOVE_SECONDS:
            raise _no_lifecycle_url()


def _life(one: Subscription) -> Life:
    return Life(one.id, one.principal.tenant_id, one.notification_url, one.created_at, one.expires_at)


def read_wish(body: Mapping[str, Any], now: float) -> Wish:
    """A POST body as Graph reads it; 400 with what is wrong. `now` is Unix seconds."""
    for name in sorted(set(body) - SETTABLE - _annotations(body)):
        raise bad_request(f"The property '{name}' does not exist on type 'microsoft.graph.subscription'.")
    if body.get("includeResourceData"):
        raise bad_request("includeResourceData is not supported for resource 'communications/callRecords'.")
    resource = _text(body, "resource")
    expires_at = read_expiration(body, now)
    lifecycle = read_url(body, "lifecycleNotificationUrl") if body.get("lifecycleNotificationUrl") else None
    if lifecycle is None and expires_at - now > LIFECYCLE_URL_ABOVE_SECONDS:
        raise _no_lifecycle_url()
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


def _no_lifecycle_url() -> Refusal:
    message = "'lifecycleNotificationUrl' is a required property for subscription creation on this resource when the "
    return bad_request(message + "'expirationDateTime' value is set to greater than 1 hour.")


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise bad_request(f"The value of '{name}' is required and must be a string.")
    return value


def _read_change_type(text: str) -> str:
    if not _change_types(text) <= CHANGE_TYPES:
        raise bad_request(f"Invalid 'changeType' attribute: '{text}' is not supported for call records.")
    return text


def _change_types(text: str) -> frozenset[str]:
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


def _same_resource(one: str, other: str) -> bool:
    return one.removeprefix("/").lower() == other.removeprefix("/").lower()


def _annotations(body: Mapping[str, Any]) -> set[str]:
    return {name for name in body if "@" in name}


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
