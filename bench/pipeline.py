"""What a pipeline is to the benchmark: opened once, told to do one round after another."""

from dataclasses import dataclass
from typing import Protocol, Self

import msgspec

from bench.material import Page


@dataclass
class Work:
    """What a pipeline did in a round: stream events, and the bytes of their values."""

    events: int
    event_bytes: int


class Cost(msgspec.Struct, frozen=True):
    """What a round took: seconds on the wall, and seconds of one core in its process, user and system."""

    events: int
    event_bytes: int
    wall_seconds: float
    cpu_seconds: float


class Pipeline(Protocol):
    """An async context manager: connected while it is open."""

    async def __aenter__(self) -> Self:
        """Connects."""
        ...

    async def __aexit__(self, *exc: object) -> None:
        """Disconnects."""
        ...

    async def run(self, pages: list[Page]) -> Work:
        """All events of these records, as safe as this pipeline makes them."""
        ...
