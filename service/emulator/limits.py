"""Graph's request limits, counted strictly in sliding windows (graph-contract 9.1): who goes over gets 429.

Refused requests count too, as Graph says: a client that does not wait stays throttled. On a clock so fast that a
machine could not fill a window the window is longer (`Limits.least_real_seconds`): that is stricter, never milder.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from service.clock import Clock
from service.emulator.options import Limits
from service.emulator.refusals import too_many_requests


@dataclass
class Scope:
    """One published limit and what was seen of it."""

    limit: int
    windows: dict[str, deque[float]] = field(default_factory=dict)
    highest: int = 0
    highest_key: str = ""
    requests: int = 0
    throttled: int = 0

    def count(self, key: str, now: float, window_seconds: float) -> float:
        """Counts a request; seconds until one would be admitted again, 0 when this one is."""
        window = self.windows.setdefault(key, deque(maxlen=self.limit * 4))
        while window and window[0] <= now - window_seconds:
            window.popleft()
        window.append(now)
        self.requests += 1
        if len(window) > self.highest:
            self.highest, self.highest_key = len(window), key
        if len(window) <= self.limit:
            return 0.0
        self.throttled += 1
        return window[len(window) - self.limit] + window_seconds - now


class Counters:
    """All limits of all apps, tenants and records."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self.window_seconds = max(limits.window_seconds, limits.least_real_seconds * clock.speed)
        self._last_sweep = clock.now()
        self.scopes = {
            "app": Scope(limits.app),
            "tenant": Scope(limits.tenant),
            "appAndTenant": Scope(limits.app_and_tenant),
            "record": Scope(limits.record),
            "list": Scope(limits.list),
        }

    def admit(self, client_id: str, tenant_id: str, record_id: str | None, is_list: bool) -> None:
        """Counts one request everywhere it belongs; 429 with the longest wait when any limit is passed."""
        now = self._clock.now()
        both = f"{client_id}/{tenant_id}"
        keys = {"app": client_id, "tenant": tenant_id, "appAndTenant": both}
        if record_id is not None:
            keys["record"] = f"{tenant_id}/{record_id.lower()}"
        if is_list:
            keys["list"] = both
        waits = [self.scopes[name].count(key, now, self.window_seconds) for name, key in keys.items()]
        self._sweep(now)
        if max(waits) > 0 and self._limits.enforced:
            raise too_many_requests(max(1, math.ceil(max(waits))))

    def report(self) -> dict[str, Any]:
        """Highest use of each limit in any window, who it was, and how many requests were over it."""
        return {
            name: {
                "limit": scope.limit,
                "windowSeconds": self.window_seconds,
                "requests": scope.requests,
                "highest": scope.highest,
                "highestKey": scope.highest_key,
                "throttled": scope.throttled,
            }
            for name, scope in self.scopes.items()
        }

    @property
    def is_kept(self) -> bool:
        """Whether nobody ever went above any limit, or limits are only counted."""
        return not self._limits.enforced or not any(scope.throttled for scope in self.scopes.values())

    def _sweep(self, now: float) -> None:
        """Forgets records nobody asked for lately, so that a long run does not grow."""
        if now - self._last_sweep < 3 * self.window_seconds:
            return
        self._last_sweep = now
        oldest = now - self.window_seconds
        for scope in self.scopes.values():
            scope.windows = {key: seen for key, seen in scope.windows.items() if seen and seen[-1] > oldest}
