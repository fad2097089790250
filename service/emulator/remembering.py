"""A state file's frames back into a store and its subscriptions: an emulator that was ended goes on where it was."""

from collections.abc import Iterable
from typing import Any

from service.emulator.statefile import Head
from service.emulator.store import Change, Store
from service.emulator.subscription import Subscription
from service.emulator.subscriptions import Subscriptions
from service.emulator.tokens import Principal

Place = tuple[str, str, int]


def remember(frames: Iterable[tuple[Head, bytes]], store: Store, subscriptions: Subscriptions, change: Change) -> int:
    """Puts everything back and gives the number of calls. `change` makes the versions that were still to come.

    An announcement of which nothing says that it was delivered or given up is due again: who was told of it just
    before the end is told twice.
    """
    to_come = _ToCome()
    for head, packed in frames:
        to_come.note(head)
        match head["kind"]:
            case "version":
                store.restore(head, packed)
            case "subscription":
                subscriptions.restore(_subscription(head))
            case "unsubscribed":
                subscriptions.forget(head["id"])
    for (tenant_id, call_id, version), at in to_come.announcements.items():
        store.announce_again(tenant_id, call_id, version, at)
    for at, tenant_id, call_id in to_come.versions:
        store.schedule_again(tenant_id, call_id, at, change)
    return len(store)


class _ToCome:
    """Announcements and versions that were still to come when the process ended."""

    def __init__(self) -> None:
        self.announcements: dict[Place, float] = {}
        self.versions: list[tuple[float, str, str]] = []

    def note(self, head: Head) -> None:
        """Takes one frame, in order."""
        match head["kind"]:
            case "version":
                self.announcements[_place(head)] = head["notifyAt"]
                if head["scheduledAt"] is not None:
                    self.versions.remove((head["scheduledAt"], head["tenantId"], head["callId"]))
            case "scheduled":
                self.versions.append((head["at"], head["tenantId"], head["callId"]))
            case "announced":
                self.announcements[_place(head)] = head["at"]
            case "settled":
                self.announcements.pop(_place(head), None)


def _place(head: Head) -> Place:
    return head["tenantId"], head["callId"], head["version"]


def _subscription(head: Head) -> Subscription:
    fields: dict[str, Any] = {name: value for name, value in head.items() if name != "kind"}
    people = fields.pop("people")
    owner = fields.pop("principal")
    principal = Principal(**{**owner, "roles": frozenset(owner["roles"])})
    return Subscription(**fields, principal=principal, people=None if people is None else frozenset(people))
