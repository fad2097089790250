"""Shell: how many bytes of call records the process holds: Graph's pages, and the events that are made of them.

Whoever would pass the bound waits where it is, its connection unread, so that memory does not follow the number and
size of records. Two rules keep that from standing still: small holders always pass, and of those that wait the first
may go on, alone, up to the bound of one record; the next may when what was made of that one has been let go.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service import memory
from service.metrics import Metrics

# What a holder may have however full it is: nearly every record of a call between two people, and of a small meeting.
SMALL_BYTES: Final = 256 * 1024
# So many that wait are enough: each has been asked for in vain.
MANY: Final = 12


class Room:
    """All bytes of records that the process holds, uncompressed; one for all who read from Graph."""

    def __init__(self, most_bytes: int, metrics: Metrics) -> None:
        self._most = most_bytes
        self._held = 0
        self._first: Stay | None = None
        self._waiting: deque[tuple[Stay, int, asyncio.Future[None]]] = deque()
        self._metrics = metrics

    @contextmanager
    def stay(self, resumed: Callable[[], None] = lambda: None) -> Iterator["Stay"]:
        """A holder, until the block is left. `resumed` is called each time it had to wait and goes on.

        What was made of its bytes may outlive the block, counted by whoever holds it; `Stay.end` says when that is
        gone. A block that is left by an exception has made nothing.
        """
        stay = Stay(self, resumed)
        try:
            yield stay
        except BaseException:
            stay.end()
            raise
        finally:
            stay.give_back(0)

    def ended(self, stay: "Stay") -> None:
        """Nothing is left of the holder: if it was the one that might go on, another may."""
        if self._first is stay:
            self._first = None
            self._admit()

    @property
    def has_queue(self) -> bool:
        """Whether more wait than will soon be let through."""
        return len(self._waiting) >= MANY

    def has_room(self, stay: "Stay", size: int) -> bool:
        """Whether the holder may take so many bytes more without waiting."""
        if stay is self._first or stay.held + size <= SMALL_BYTES:
            return True
        return not self._waiting and self._held + size <= self._most

    async def wait(self, stay: "Stay", size: int) -> None:
        """Until the bytes have been given to the holder: those that asked before it come first."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (stay, size, given)
        self._waiting.append(place)
        self._metrics.held_back.inc()
        self._admit()
        try:
            await given
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
                self._admit()

    def count(self, size: int) -> None:
        """Bytes taken, or given back where negative; what is encoded and not yet published is counted by the lanes."""
        self._held += size
        self._metrics.held_bytes.set(self._held)
        if size < 0:
            memory.let_go(-size)
            self._admit()

    def _admit(self) -> None:
        """Lets those go on for whom there is room now; one of them whether there is or not."""
        while self._waiting:
            stay, size, given = self._waiting[0]
            if self._held + size > self._most:
                if self._first not in (None, stay):
                    return
                self._first = stay
            self._waiting.popleft()
            if not given.cancelled():
                stay.add(size)
                given.set_result(None)


class Stay:
    """What one reader of Graph holds."""

    def __init__(self, room: Room, resumed: Callable[[], None]) -> None:
        self._room = room
        self._resumed = resumed
        self.held = 0
        """Bytes."""
        self.is_waiting = False
        self.waits = 0
        """How often it had to wait."""

    def takes(self, size: int) -> bool:
        """Takes so many bytes more if there is room now."""
        if not self._room.has_room(self, size):
            return False
        self.add(size)
        return True

    async def take(self, size: int) -> None:
        """Takes so many bytes more, when there is room."""
        if not self.takes(size):
            await self.wait(size)

    async def wait(self, size: int) -> None:
        """Takes so many bytes when there is room, after `takes` has said that there is none."""
        self.is_waiting = True
        self.waits += 1
        try:
            await self._room.wait(self, size)
        finally:
            self.is_waiting = False
            self._resumed()

    def end(self) -> None:
        """Nothing is left of what was made of the bytes. Saying it twice is harmless."""
        self._room.ended(self)

    def add(self, size: int) -> None:
        """Counts bytes as held."""
        self.held += size
        self._room.count(size)

    def give_back(self, down_to: int) -> None:
        """Lets go what is held above so many bytes."""
        if self.held > down_to:
            size, self.held = self.held - down_to, down_to
            self._room.count(-size)
