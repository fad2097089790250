"""What was asked of the emulator and answered, request by request: whoever judges a client's waits looks here."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from service.clock import Clock, iso
from service.emulator.refusals import Refusal

KEPT = 50_000


@dataclass
class Visit:
    """One request; filled in as it is understood."""

    at: float
    """Unix seconds of the emulator's own clock, when it came."""
    kind: str
    tenant_id: str = ""
    call_id: str = ""
    page: int = 1
    status: int = 0
    """0 while it is under way, and for one whose client went away."""
    fault: int = 0
    """Number of the scripted fault that befell it; 0: none."""

    def show(self) -> dict[str, Any]:
        """As the control site shows it."""
        return {
            "at": iso(self.at),
            "kind": self.kind,
            "tenantId": self.tenant_id,
            "callId": self.call_id,
            "page": self.page,
            "status": self.status,
            "fault": self.fault,
        }


class Journal:
    """The last requests, in the order they came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.visits: deque[Visit] = deque(maxlen=KEPT)

    @contextmanager
    def noted(self, kind: str) -> Iterator[Visit]:
        """One request while it is served; a refusal's status is noted on its way out."""
        visit = Visit(self._clock.now(), kind)
        self.visits.append(visit)
        try:
            yield visit
        except Refusal as refusal:
            visit.status = refusal.status
            raise

    def of(self, tenant_id: str = "", *kinds: str) -> list[Visit]:
        """Requests of a tenant (empty: all) and of these kinds (none: all)."""
        return [
            visit for visit in self.visits if tenant_id in ("", visit.tenant_id) and (not kinds or visit.kind in kinds)
        ]
