"""The one clock. Waits, lifetimes and budgets use it, so that a simulated month takes minutes.

Kafka's own timestamps stay real: Kafka refuses records dated more than an hour ahead.
"""

import asyncio
import datetime as dt
import time


class Clock:
    """Wall-clock time, optionally running `speed` times as fast from a chosen start.

    All seconds that go in or come out are seconds of this clock, not of the machine.
    """

    def __init__(self, speed: float = 1.0, start: float | None = None) -> None:
        """`start` is the Unix time this clock shows now (default: the machine's); `speed` is > 0."""
        if speed <= 0:
            raise ValueError("speed must be greater than 0")
        self.speed = speed
        self._origin_real = time.monotonic()
        self._origin = time.time() if start is None else start

    def now(self) -> float:
        """Unix time in seconds. Never goes backwards, whatever the machine's own clock does."""
        return self._origin + (time.monotonic() - self._origin_real) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Waits `seconds` of this clock; cancelling it is harmless."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)

    def real_seconds(self, seconds: float) -> float:
        """How many of the machine's seconds `seconds` of this clock take: for socket and Kafka timeouts."""
        return seconds / self.speed

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """`async with clock.timeout(s)`: TimeoutError after `seconds` of this clock."""
        return asyncio.timeout(seconds / self.speed)


# What `iso` can write: from the beginning of year 1 up to the end of year 9999, Unix seconds.
_FIRST, _END = -62_135_596_800.0, 253_402_300_800.0


def iso(unix_seconds: float) -> str:
    """Unix seconds as UTC text with milliseconds, for instance `2026-11-22T10:00:00.000Z`."""
    return dt.datetime.fromtimestamp(unix_seconds, dt.UTC).isoformat(timespec="milliseconds")[:23] + "Z"


def from_iso(text: str) -> float:
    """Text as `iso` writes it (or any ISO 8601 date-time with an offset) as Unix seconds.

    ValueError if it is none, or one that `iso` could not write: in UTC, or rounded, it may leave the years 1 to 9999.
    """
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a date-time without offset")
    seconds = moment.timestamp()
    if not _FIRST <= seconds < _END:
        raise ValueError("a date-time outside the years 1 to 9999")
    return seconds
