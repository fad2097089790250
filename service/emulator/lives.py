"""What became of every subscription there ever was: from when to when it was in force. For those who judge a run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from service.clock import iso


@dataclass
class Life:
    """One subscription. Unix seconds of the emulator's clock."""

    id: str
    tenant_id: str
    notification_url: str
    began_at: float
    expires_at: float
    deleted_at: float | None = None
    renewed_at: list[float] = field(default_factory=list)

    @property
    def ends_at(self) -> float:
        """When it was deleted, or else when it expires or has expired."""
        return self.expires_at if self.deleted_at is None else min(self.deleted_at, self.expires_at)

    def show(self) -> dict[str, Any]:
        """As the control site shows it."""
        return {
            "id": self.id,
            "tenantId": self.tenant_id,
            "notificationUrl": self.notification_url,
            "from": iso(self.began_at),
            "until": iso(self.ends_at),
            "deleted": self.deleted_at is not None,
            "renewed": [iso(moment) for moment in self.renewed_at],
        }


class Lives:
    """In the order in which they began."""

    def __init__(self) -> None:
        self._lives: dict[str, Life] = {}

    def __iter__(self) -> Iterator[Life]:
        return iter(self._lives.values())

    def begin(self, life: Life) -> None:
        """A new one is in force, or one that is known is as `life` has it now."""
        self._lives.setdefault(life.id, life).expires_at = life.expires_at

    def renew(self, subscription_id: str, now: float, expires_at: float) -> None:
        """Its expiration was moved."""
        life = self._lives[subscription_id]
        life.renewed_at.append(now)
        life.expires_at = expires_at

    def delete(self, subscription_id: str, now: float) -> None:
        """It is gone before its time."""
        if (life := self._lives.get(subscription_id)) is not None:
            life.deleted_at = now

    def gaps(self, tenant_id: str, until: float) -> list[tuple[float, float]]:
        """(from, to) of the times between the tenant's first subscription and `until` in which it had none."""
        mine = sorted((life.began_at, life.ends_at) for life in self if life.tenant_id == tenant_id.lower())
        found, covered = [], mine[0][0] if mine else until
        for began, ended in [*mine, (until, until)]:
            if began > covered:
                found.append((covered, began))
            covered = max(covered, ended)
        return found
