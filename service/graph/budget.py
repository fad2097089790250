"""How often Graph is asked, and when a tenant is not to be asked at all. Waits on the clock; does no I/O.

Graph counts requests in windows of 20 s, per application and tenant, and per call record (graph-contract 9.1;
https://learn.microsoft.com/graph/throttling-limits). Our budgets are lower, so that throttling stays the exception.
"""

import asyncio
import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from service.clock import Clock
from service.errors import TenantMustWait
from service.metrics import Metrics
from service.settings import Graph

WINDOW_SECONDS: Final = 20.0
# Requests arrive in Graph up to so much later than they start here, and one may be quicker than another. Seconds of the
# machine, since a network does not run faster with a faster clock.
TRANSIT_SECONDS: Final = 0.25
# A share that has shrunk or grown is noticed within this time by those who already wait.
LOOK_AGAIN_SECONDS: Final = 1.0
# A process without lanes may still hold the keeper; what it needs lies far within the distance to Graph's limit.
LEAST_SHARE: Final = 10

# The first wait of each cause; doubled each time the tenant still cannot be asked, up to the longest.
FIRST_WAIT: Final = {"throttled": 5.0, "forbidden": 30.0, "no_token": 30.0, "outage": 30.0}
LONGEST_WAIT: Final = 600.0
# How long a probe may be under way before another is let through.
PROBE_SECONDS: Final = 15.0

LAST_REQUESTS: Final = 20
FEWEST_REQUESTS: Final = 10
# One record that Graph can never give is no outage; so many different ones are.
FEWEST_RECORDS: Final = 3

log = structlog.get_logger()


class SlidingWindow:
    """Never more than `limit` starts in any window of 20 s, whatever instant it begins at; first come, first served."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self.limit = limit
        self._clock = clock
        self._starts: deque[float] = deque()
        self._turn = asyncio.Lock()
        self._length = WINDOW_SECONDS + TRANSIT_SECONDS * clock.speed

    def wait_seconds(self) -> float:
        """Until one more may start; 0 for now."""
        now = self._clock.now()
        while self._starts and self._starts[0] <= now - self._length:
            self._starts.popleft()
        over = len(self._starts) - self.limit
        return 0.0 if over < 0 else max(0.0, self._starts[over] + self._length - now)

    async def acquire(self) -> None:
        """Waits its turn and counts one start. Cancelling it while it waits counts nothing."""
        async with self._turn:
            while (wait := self.wait_seconds()) > 0:
                await self._clock.sleep(min(wait, LOOK_AGAIN_SECONDS))
            self._starts.append(self._clock.now())

    def starts_only_now(self) -> None:
        """The last counted start was held up elsewhere and happens now."""
        if self._starts:
            self._starts.pop()
        self._starts.append(self._clock.now())

    @property
    def is_idle(self) -> bool:
        """Whether forgetting it changes nothing."""
        return self.wait_seconds() == 0.0 and not self._starts and not self._turn.locked()


class RecordBudget:
    """A window per call record; one that is idle is forgotten, so that memory follows what is being read."""

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._windows: dict[str, SlidingWindow] = {}
        self._sweep_at = clock.now() + WINDOW_SECONDS

    def __len__(self) -> int:
        return len(self._windows)

    def window(self, key: str) -> SlidingWindow:
        """The window of one record; `key` is unique over tenants. Use it at once, do not keep it."""
        self._sweep()
        if (window := self._windows.get(key)) is None:
            window = self._windows[key] = SlidingWindow(self._limit, self._clock)
        return window

    def _sweep(self) -> None:
        now = self._clock.now()
        if now >= self._sweep_at:
            self._sweep_at = now + WINDOW_SECONDS
            self._windows = {key: window for key, window in self._windows.items() if not window.is_idle}


@dataclass
class _Gate:
    """One tenant."""

    window: SlidingWindow
    cause: str = ""
    """Why it waits or waited last; empty once a request has succeeded."""
    until: float = 0.0
    detail: str = ""
    level: int = 0
    """Growing waits in a row without a success between."""
    probe_until: float = 0.0
    """After a growing wait one request goes ahead; the others wait for what it brings, at most until then."""
    outcomes: deque[tuple[bool, str]] = field(default_factory=lambda: deque(maxlen=LAST_REQUESTS))
    """The last requests: whether each failed, and for which record."""


class TenantGates:
    """Every tenant's budget, and its waits: throttled, forbidden, no token, outage."""

    def __init__(self, settings: Graph, tenant_names: Iterable[str], clock: Clock, metrics: Metrics | None) -> None:
        """Without `metrics` the waits are not shown: those of a second budget beside the one for records."""
        self._total = settings.tenant_requests_per_20s
        self._clock = clock
        self._gates = {name: _Gate(SlidingWindow(self._total, clock)) for name in tenant_names}
        if metrics is not None:
            for name in self._gates:
                metrics.tenant_waiting.labels(name).set_function(Waiting(self, name))

    def waiting_seconds(self, name: str) -> float:
        """How long the tenant must wait before it is asked anything; 0 when it need not."""
        gate, now = self._gates[name], self._clock.now()
        return max(0.0, gate.until - now, gate.probe_until - now)

    def shown(self, name: str) -> dict[str, object] | None:
        """Why and for how long a tenant waits, fit for JSON; None when it need not."""
        gate, seconds = self._gates[name], self.waiting_seconds(name)
        return {"cause": gate.cause, "seconds": round(seconds, 1), "detail": gate.detail} if seconds > 0 else None

    def budget_seconds(self, name: str) -> float:
        """Until the tenant's budget admits one more request; 0 for now."""
        return self._gates[name].window.wait_seconds()

    def set_share(self, owned_lanes: int, all_lanes: int) -> None:
        """This process spends the share of every tenant's budget that its lanes are of all lanes."""
        share = self._total * owned_lanes // all_lanes
        for gate in self._gates.values():
            gate.window.limit = max(min(LEAST_SHARE, self._total), share)

    async def acquire(self, name: str) -> None:
        """Waits until the budget admits one more request, first come, first served, and counts it."""
        await self._gates[name].window.acquire()

    def check(self, name: str) -> None:
        """Raises TenantMustWait while the tenant must not be asked."""
        if (left := self.waiting_seconds(name)) > 0:
            gate = self._gates[name]
            raise TenantMustWait(gate.cause, left, gate.detail)

    def start(self, name: str) -> bool:
        """A request starts now; gives whether it is the probe after a growing wait. Raises as `check` does."""
        self.check(name)
        gate = self._gates[name]
        if gate.level:
            gate.probe_until = self._clock.now() + PROBE_SECONDS
        return gate.level > 0

    def probe_ended(self, name: str) -> None:
        """The probe is over, whatever came of it (it may have been cancelled): another one may start."""
        self._gates[name].probe_until = 0.0

    def must_wait(self, name: str, cause: str, seconds: float | None = None, detail: str = "") -> float:
        """The tenant waits `seconds` (what a server asked for), or a growing time when nobody said; gives the wait.

        Answers to requests that had started before the wait began do not make it grow.
        """
        gate, now = self._gates[name], self._clock.now()
        if seconds is None and gate.cause == cause and now < gate.until:
            return gate.until - now
        wait = self._growing(gate, cause) if seconds is None else seconds
        if gate.cause != cause:
            log.warning("tenant waits", tenant=name, cause=cause, seconds=round(wait, 1), detail=detail)
        gate.cause, gate.detail, gate.probe_until = cause, detail, 0.0
        gate.until = max(gate.until, now + wait)
        return gate.until - now

    def _growing(self, gate: _Gate, cause: str) -> float:
        gate.level = gate.level + 1 if gate.cause in (cause, "") else 1
        longest = min(LONGEST_WAIT, FIRST_WAIT[cause] * 2.0 ** min(gate.level - 1, 16))
        # Jitter, so that many replicas do not come back in one instant.
        return longest * random.uniform(0.8, 1.0)  # noqa: S311 - no secret

    def succeeded(self, name: str) -> None:
        """Graph answered a request of this tenant as it should (404 included)."""
        gate = self._gates[name]
        gate.outcomes.append((False, ""))
        if gate.cause and self._clock.now() >= gate.until:
            log.info("tenant goes on", tenant=name, cause=gate.cause)
            gate.cause, gate.detail, gate.level, gate.probe_until = "", "", 0, 0.0
            gate.outcomes.clear()

    def failed(self, name: str, record: str = "") -> None:
        """A request of this tenant failed with 5xx, a timeout or a cut body. `record` is any name of what was read.

        A failed probe, or a majority of failures among the last requests, is an outage: the tenant waits.
        """
        gate = self._gates[name]
        gate.outcomes.append((True, record))
        failures = [record for failed, record in gate.outcomes if failed]
        was_probe = gate.level > 0 and gate.probe_until > 0
        is_outage = (
            len(gate.outcomes) >= FEWEST_REQUESTS
            and 2 * len(failures) > len(gate.outcomes)
            and (len(set(failures)) >= FEWEST_RECORDS or "" in failures)
        )
        if was_probe or is_outage:
            self.must_wait(name, "outage", None, "most requests to Graph fail for this tenant")


@dataclass(frozen=True)
class Waiting:
    """The gauge of one tenant, read when it is scraped: a wait that has ended needs no event to read 0."""

    gates: TenantGates
    name: str

    def __call__(self) -> float:
        return 1.0 if self.gates.waiting_seconds(self.name) > 0 else 0.0
