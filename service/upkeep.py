"""Core: what a tenant's subscription must look like, and what to do about those that are there. No I/O, no clock."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from service.clock import iso
from service.graph.subscription import RESOURCE, NewSubscription, Subscription

SHORTEST_SECONDS = 45 * 60.0  # Graph raises anything shorter, silently (graph-contract 1.4)
# Asked for at most this much less than the setting, so that a clock some minutes ahead of Graph's asks for no more than
# the 4,230 minutes that Graph allows. Seconds.
CLOCK_MARGIN_SECONDS = 300.0
# No subscription lives longer (graph-contract 1.4), whichever of the two clocks is behind.
LONGEST_SECONDS = 4230 * 60.0 + CLOCK_MARGIN_SECONDS
FIRST_WAIT_SECONDS = 2.0  # a receiver that is still starting cannot answer the first handshake
# A consent that was granted shows soon, and a look costs a token and a page.
LONGEST_WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class Standing:
    """How one tenant's subscription stands, as the active keeper saw it last. For the status page."""

    id: str = ""
    """Empty: there is none of ours."""
    expires_at: float = 0.0
    """Unix seconds; 0 without one."""
    failures: int = 0
    """Looks that failed in a row."""
    error: str = ""
    todo: str = ""

    def failed(self, error: str, todo: str) -> "Standing":
        """The same after a look that failed; what was there may be there still."""
        return replace(self, failures=self.failures + 1, error=error, todo=todo)

    def shown(self) -> dict[str, object]:
        """Fit for JSON."""
        expires = iso(self.expires_at) if self.expires_at else None
        shown = {"id": self.id or None, "expires": expires, "failures": self.failures}
        return {**shown, "error": self.error or None, "todo": self.todo or None}


@dataclass(frozen=True)
class Wish:
    """The one subscription that a tenant should have."""

    notification_url: str
    lifecycle_url: str
    client_state: str
    lifetime_seconds: float
    former: str = ""
    """Begins the URLs that we used before: where notifications went when they were still posted."""
    made: str | None = None
    """Id of the one that is known to have the newest key, where the URL cannot say it; None where any may be right."""

    def new(self, expiration: str) -> NewSubscription:
        """The body that creates it; `expiration` as `service.clock.iso` writes it."""
        return NewSubscription(
            notification_url=self.notification_url,
            lifecycle_notification_url=self.lifecycle_url,
            client_state=self.client_state,
            expiration_date_time=expiration,
        )


@dataclass(frozen=True)
class Plan:
    """What to do with the subscriptions that were found. All of `delete` are ours; others are never touched."""

    keep: Subscription | None
    delete: tuple[Subscription, ...]


def wish(public_url: str, client_state: str, subscription_minutes: int) -> Wish:
    """`public_url` with or without a slash at its end; `client_state` as `notification.client_state` makes it.

    The number of its key stands in the URLs, whose query Graph keeps (graph-contract 1.2): Graph may hide the
    `clientState` of a subscription, and a new keeper must still know under which key the one it finds was made.
    """
    base = public_url.rstrip("/")
    key = client_state.partition(".")[0].removeprefix("k")
    seconds = subscription_minutes * 60.0
    margin = min(CLOCK_MARGIN_SECONDS, seconds - SHORTEST_SECONDS)
    return Wish(f"{base}/notifications?k={key}", f"{base}/lifecycle?k={key}", client_state, seconds - margin)


def hub_wish(hub_url: str, public_url: str, client_state: str, minutes: int, made: str | None) -> Wish:
    """As `wish`, with an event hub in place of both URLs (graph-contract 5).

    Its URL has a fixed form, so the number of the key cannot stand there: while there are several keys (`made` is not
    None) only the one that this keeper has made is right, and any other is made anew.
    """
    return replace(
        wish(public_url, client_state, minutes),
        notification_url=hub_url,
        lifecycle_url=hub_url,
        former=public_url.rstrip("/"),
        made=made,
    )


def plan(found: Iterable[Subscription], wanted: Wish) -> Plan:
    """Keeps the one that lives longest of those that are right; deletes what else points to our very URL.

    Ours are those for call records that post to our notification URL, whatever its query. One is right when it is told
    of updates, when lifecycle events come to us, and when its `clientState` is of the newest key: neither of the last
    two can be changed on a subscription (graph-contract 1.2), so a new key means delete, create, reconcile the gap.
    """
    address = _address(wanted.notification_url)
    ours = [one for one in found if is_for_call_records(one) and _address(one.notification_url) == address]
    right = sorted((one for one in ours if _is_right(one, wanted)), key=lambda one: (one.expires_at, one.id))
    keep = right[-1] if right else None
    return Plan(keep, tuple(one for one in ours if one is not keep))


def is_for_call_records(subscription: Subscription) -> bool:
    """Whether it is for every call record of the tenant; a leading slash is optional."""
    return subscription.resource.removeprefix("/").lower() == RESOURCE.lower()


def expires_at(subscription: Subscription, now: float) -> float:
    """Unix seconds; 0 for a date that Graph gives no subscription, so that it counts as due."""
    return subscription.expires_at if subscription.expires_at <= now + LONGEST_SECONDS else 0.0


def is_due(subscription: Subscription, wanted: Wish, now: float) -> bool:
    """Half of the lifetime is over, give or take a tenth that the id decides, so that tenants do not come together."""
    jitter = (sum(subscription.id.encode()) % 101) / 100.0
    return expires_at(subscription, now) - now < wanted.lifetime_seconds * (0.45 + 0.1 * jitter)


def judge_conflict(existing: Subscription, wanted: Wish) -> Literal["adopt", "replace", "leave"]:
    """What to do with the one that a 409 named.

    Ours is adopted. One that posts to an older URL of our host is replaced, because its `clientState` cannot be known
    and its lifecycle URL cannot be changed. Anything else belongs to somebody: leave it, and say so.
    """
    if plan([existing], wanted).keep is not None:
        return "adopt"
    place = _host(existing.notification_url)
    return "replace" if place and place in (_host(wanted.notification_url), _host(wanted.former)) else "leave"


def next_wait(failures: int, asked_seconds: float = 0.0) -> float:
    """Seconds after the `failures`-th failure in a row: doubling, up to 10 minutes, never below what was asked."""
    return max(asked_seconds, min(FIRST_WAIT_SECONDS * 2.0 ** min(failures - 1, 20), LONGEST_WAIT_SECONDS))


def _is_right(one: Subscription, wanted: Wish) -> bool:
    change_types = {part.strip().lower() for part in one.change_type.split(",")}
    return (
        "updated" in change_types
        and one.notification_url == wanted.notification_url
        and one.lifecycle_notification_url == wanted.lifecycle_url
        and (one.client_state == wanted.client_state or (one.client_state is None and wanted.made in (None, one.id)))
    )


def _address(url: str) -> str:
    """Without the query."""
    return url.partition("?")[0]


def _host(url: str) -> str:
    """Host and port in lower case, of an event hub all but the query; empty when there is none."""
    if url.startswith("EventHub:"):
        return _address(url).lower()
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
