"""What waits for one URL, and how that URL has answered: Graph's slow and drop states (graph-contract 3.3)."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from service.emulator.options import DeliveryOptions
from service.emulator.store import Announcement
from service.emulator.subscription import Subscription


@dataclass
class Parcel:
    """One item on its way."""

    item: dict[str, Any]
    subscription: Subscription
    born_at: float
    """Unix seconds; after the give-up time it is thrown away."""
    announcement: Announcement | None = None
    """What it tells of; None for a lifecycle notification."""
    attempts: int = 0


@dataclass
class Window:
    """How a URL answered in one window."""

    began_at: float
    answers: int = 0
    slow: int = 0
    silent: int = 0


@dataclass
class Channel:
    """Everything that goes to one URL, which is also where a slow or drop state belongs (not documented by Graph)."""

    url: str
    window: Window
    state: str = "normal"
    waiting: list[tuple[float, int, Parcel]] = field(default_factory=list)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def record(self, *, is_slow: bool, is_silent: bool) -> None:
        """One answer, or silence, in the window that is open."""
        self.window.answers += 1
        self.window.slow += is_slow
        self.window.silent += is_silent

    def turn_window(self, now: float, options: DeliveryOptions) -> None:
        """At the end of a window its shares decide the state of the next; after a drop window Graph tries again."""
        window = self.window
        if now < window.began_at + options.window_seconds:
            return
        is_last_window = now < window.began_at + 2 * options.window_seconds
        if self.state == "drop" or not window.answers or not is_last_window:
            self.state = "normal"
        elif window.silent > options.drop_share * window.answers:
            self.state = "drop"
        elif window.slow > options.slow_share * window.answers:
            self.state = "slow"
        else:
            self.state = "normal"
        passed = (now - window.began_at) // options.window_seconds
        self.window = Window(window.began_at + passed * options.window_seconds)
