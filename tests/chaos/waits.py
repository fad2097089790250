"""Core: which calls wait for their last version, for how long, and the longest silence while something was due."""

import heapq
from dataclasses import dataclass, field

Call = tuple[str, str]
"""Tenant id and call id."""


@dataclass
class Calls:
    """What is due, what is published, and how long that took. Times are Unix seconds."""

    newest: dict[Call, int] = field(default_factory=dict)
    """The last version that exists."""
    published: dict[Call, int] = field(default_factory=dict)
    dead: set[Call] = field(default_factory=set)
    due: dict[Call, float] = field(default_factory=dict)
    """Of calls whose last version is not published: since when it could be."""
    waits: list[float] = field(default_factory=list)
    longest_wait: tuple[float, str] = (0.0, "")
    longest_silence: float = 0.0
    _heard_at: float = 0.0
    _by_due: list[tuple[float, Call]] = field(default_factory=list)

    def exists(self, call: Call, version: int, due: float) -> None:
        """A version appeared."""
        self.newest[call] = max(version, self.newest.get(call, 0))
        if self.published.get(call, 0) < self.newest[call]:
            self.due[call] = due
            heapq.heappush(self._by_due, (due, call))

    def appeared(self, call: Call, version: int, at: float) -> None:
        """Its summary was read; `at` is when the service wrote it."""
        self.published[call] = max(version, self.published.get(call, 0))
        if version >= self.newest.get(call, 0) and call in self.due:
            wait = at - self.due.pop(call)
            self.waits.append(wait)
            self.longest_wait = max(self.longest_wait, (wait, f"{'/'.join(call)} version {version}"))

    def heard(self, now: float) -> None:
        """Something that a consumer sees was read: how long nothing was, although something was due."""
        if (since := self.oldest_due(now)) is not None:
            self.longest_silence = max(self.longest_silence, now - max(since, self._heard_at))
        self._heard_at = now

    def oldest_due(self, now: float) -> float | None:
        """Since when the longest-waiting version could be published; None when nothing is due."""
        while self._by_due and self.due.get(self._by_due[0][1]) != self._by_due[0][0]:
            heapq.heappop(self._by_due)
        return self._by_due[0][0] if self._by_due and self._by_due[0][0] <= now else None
