"""Core: a seed → every strike of a run, in order. Pure: the same seed and duration give the same list.

Strikes come on tracks (workers, receivers, brokers, emulator, links) that know nothing of each other; on one track a
strike begins when the one before it is over. What is struck is drawn from a shuffled deck, so that every run of some
length has each kind in its share.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

SESSION_SECONDS = 3.0
"""After which the group takes a silent worker's lanes away."""
BROKER_SESSION_SECONDS = 5.0
WORKERS, RECEIVERS, BROKERS = 3, 2, 3
LANES = 6
QUIET_AT_END_SECONDS = 1.0
SHORT_SECONDS = 120.0
STRETCH = 3.0
"""Longer runs strike a third as often: between two strikes the lanes must have time to publish something."""

KILLS = frozenset({"kill", "term"})


@dataclass(frozen=True)
class Strike:
    """One blow. `seconds`: how long the struck stays down, frozen or hurt; 0 for a moment."""

    at: float
    """Seconds after the begin of the run at which it is due."""
    track: str
    what: str
    """`kill` SIGKILL, `term` SIGTERM, `stop` SIGSTOP and SIGCONT; of links: reset, cut, slow, stall, deaf."""
    whom: str
    """A process or link by name; of brokers also the part they play when the blow falls."""
    seconds: float
    otherwise: int
    """The broker that is struck when nobody can be asked who plays the part, from 1."""

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:7.1f} s  {self.what:5} {self.whom}{lasting}"


@dataclass(frozen=True)
class Track:
    """Who is struck how, and how often. Pairs are (least, most) seconds."""

    name: str
    gap: tuple[float, float]
    deck: tuple[str, ...]
    whom: tuple[str, ...]
    lasting: dict[str, tuple[float, float]]


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}-{number}" for number in range(1, count + 1))


_BROKER_PARTS = (
    *(f"leader-of-lane-{lane}" for lane in range(LANES)),
    *(f"transaction-coordinator-of-lane-{lane}" for lane in range(LANES)),
    *("group-coordinator",) * LANES,
    *_numbered("broker", BROKERS),
)

TRACKS = (
    Track(
        # Workers that are killed faster than two session timeouts apart never get their lanes.
        name="workers",
        gap=(2 * SESSION_SECONDS, 2.6 * SESSION_SECONDS),
        deck=("kill",) * 5 + ("stop",) * 2 + ("term",) * 2,
        whom=_numbered("worker", WORKERS),
        # A stop longer than the session: a zombie that wakes up after its lanes have moved.
        lasting={"kill": (0.0, 1.5), "term": (0.0, 0.5), "stop": (1.5 * SESSION_SECONDS, 3 * SESSION_SECONDS)},
    ),
    Track(
        name="brokers",
        gap=(11.0, 14.0),
        deck=("kill",) * 3 + ("stop", "term"),
        whom=_BROKER_PARTS,
        lasting={
            # Some are back before their session has ended, when a coordinator may end a transaction in some
            # partitions alone (`torn.py`), some when others have long taken their place.
            "kill": (0.5, 2.2 * BROKER_SESSION_SECONDS),
            "term": (0.0, 1.0),
            "stop": (1.2 * BROKER_SESSION_SECONDS, 1.8 * BROKER_SESSION_SECONDS),
        },
    ),
    Track(
        name="receivers",
        gap=(3.5, 5.5),
        deck=("kill",) * 4 + ("stop", "term"),
        whom=_numbered("receiver", RECEIVERS),
        lasting={"kill": (0.0, 2.0), "term": (0.0, 1.0), "stop": (1.0, 5.0)},
    ),
    Track(
        name="emulator",
        gap=(12.0, 16.0),
        deck=("kill", "kill", "stop", "term"),
        whom=("emulator",),
        lasting={"kill": (0.0, 0.5), "term": (0.0, 0.5), "stop": (0.5, 3.0)},
    ),
    Track(
        name="links",
        gap=(3.5, 5.5),
        deck=("reset", "cut", "slow", "stall", "deaf"),
        whom=(
            *_numbered("broker", BROKERS),
            *_numbered("controller", BROKERS),
            *_numbered("receiver", RECEIVERS),
            "emulator",
        ),
        lasting={"reset": (0.0, 0.0), "cut": (0.5, 3.0), "slow": (2.0, 5.0), "stall": (0.5, 4.0), "deaf": (0.5, 3.0)},
    ),
)


def schedule(seed: int, duration_seconds: float) -> list[Strike]:
    """Every strike of a run, in the order of their times."""
    strikes = [strike for track in TRACKS for strike in _strikes(track, seed, duration_seconds)]
    return sorted(strikes, key=lambda strike: (strike.at, strike.track))


def kills(strikes: list[Strike]) -> int:
    """How many processes are ended (SIGKILL and SIGTERM)."""
    return sum(strike.what in KILLS for strike in strikes)


def _strikes(track: Track, seed: int, duration_seconds: float) -> Iterator[Strike]:
    random = Random(f"{track.name}/{seed}")
    draws, names = _dealt(random, track.deck), _dealt(random, track.whom)
    stretch = 1.0 if duration_seconds <= SHORT_SECONDS else STRETCH
    at = random.uniform(1.0, track.gap[1])
    while at < duration_seconds - QUIET_AT_END_SECONDS:
        what = next(draws)
        seconds = round(random.uniform(*track.lasting[what]), 1)
        yield Strike(round(at, 1), track.name, what, next(names), seconds, random.randint(1, BROKERS))
        at += stretch * random.uniform(*track.gap)


def _dealt(random: Random, deck: tuple[str, ...]) -> Iterator[str]:
    """Cards from a deck that is shuffled anew whenever it is empty."""
    while True:
        yield from random.sample(deck, len(deck))
