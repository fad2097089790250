"""All subscriptions: who may create, change and see them, and which count now, by graph-contract sections 1 and 4.

Choices where Graph's documents are silent: `clientState` comes back in the answer to POST only and is null afterwards
(as Graph does for secrets); a PATCH validates a new `notificationUrl` and nothing else; `reauthorize` shakes no hands.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from service.clock import Clock
from service.emulator.lives import Life, Lives
from service.emulator.options import EmulatorOptions
from service.emulator.refusals import Refusal, bad_request, forbidden, not_found
from service.emulator.statefile import State
from service.emulator.subscription import Subscription
from service.emulator.subscription_wishes import (
    Wish,
    annotations,
    change_types,
    read_expiration,
    read_url,
    read_wish,
    require_lifecycle,
)
from service.emulator.tokens import Principal, Tenants


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
            if _same_resource(one.resource, wish.resource) and one.change_types == change_types(wish.change_type):
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
        unknown = sorted(set(body) - {"expirationDateTime", "notificationUrl"} - annotations(body))
        if unknown:
            raise bad_request(f"Property '{unknown[0]}' of a subscription cannot be updated.")
        if not {"expirationDateTime", "notificationUrl"} & set(body):
            raise bad_request("expirationDateTime or notificationUrl is required to update a subscription.")
        if "notificationUrl" in body:
            read_url(body, "notificationUrl")
        if "expirationDateTime" in body:
            now = self._clock.now()
            require_lifecycle(one.lifecycle_url, read_expiration(body, now) - now)
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


def _life(one: Subscription) -> Life:
    return Life(one.id, one.principal.tenant_id, one.notification_url, one.created_at, one.expires_at)


def _same_resource(one: str, other: str) -> bool:
    return one.removeprefix("/").lower() == other.removeprefix("/").lower()
