"""How Graph writes times, durations and numbers (graph-contract 7.8)."""

import time
from random import Random

TICKS = 10_000_000
"""A tick is 100 ns, the seventh fraction digit."""


def ticks_of(unix_seconds: float) -> int:
    """Unix seconds as whole ticks since 1970; a float holds no seventh digit of today's time anyway."""
    whole = int(unix_seconds)
    return whole * TICKS + round((unix_seconds - whole) * 1_000_000) * 10


def date_time(ticks: int) -> str:
    """UTC text with up to 7 fraction digits, trailing zeros dropped."""
    seconds, fraction = divmod(ticks, TICKS)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:07d}".rstrip("0").rstrip(".") + "Z"


def duration(milliseconds: float) -> str:
    """ISO 8601 text of seconds with up to 7 fraction digits: `PT0.036S`."""
    return f"PT{milliseconds / 1000:.7f}".rstrip("0").rstrip(".") + "S"


def single(value: float) -> float | int:
    """A number as Graph prints an Edm.Single: 7 significant digits, no point where none is needed."""
    near = float(f"{value:.7g}")
    return int(near) if near.is_integer() else near


def jittered(random: Random, ticks: int) -> int:
    """A moment within a second after `ticks`, most often with all 7 digits, sometimes with 3 or none."""
    precision = random.choice((1, 1, 1, 1, 10, 10_000, TICKS))
    return ticks + random.randrange(TICKS) // precision * precision


def weighted(random: Random, pairs: tuple[tuple[str, int], ...]) -> str:
    """One of the names, by weight."""
    left = random.random() * sum(weight for _, weight in pairs)
    for name, weight in pairs:
        left -= weight
        if left < 0:
            return name
    return pairs[-1][0]
