"""Shell: how many bytes of Graph's bodies the process holds, from the first piece until the record is let go.

Whoever would pass the bound waits where it is, its connection unread, so that memory does not follow the number and
size of records. Two rules keep that from standing still: small holders always pass, and of those that wait the first
may go on, alone, up to the bound of one record.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from service.metrics import Metrics
from service.outbound.body import BodyTooLarge
from service.settings import Graph

# What a holder may have however full it is: nearly every record of a call between two people, and of a small meeting.
SMALL_BYTES: Final = 256 * 1024


class RecordTooLarge(BodyTooLarge):
    """All pages of one record together have more bytes than allowed."""

    setting = "graph.max_record_bytes"


class Room:
    """The bytes of all bodies that the process holds, uncompressed; one for all who read from Graph."""

    def __init__(self, settings: Graph, metrics: Metrics) -> None:
        self._most = settings.max_held_bytes
        self.most_of_one = settings.max_record_bytes
        self._held = 0
        self._first: Stay | None = None
        self._waiting: deque[tuple[Stay, int, asyncio.Future[None]]] = deque()
        self._metrics = metrics

    @contextmanager
    def stay(self, resumed: Callable[[], None] = lambda: None) -> Iterator["Stay"]:
        """A holder, until the block is left. `resumed` is called each time it had to wait and goes on."""
        stay = Stay(self, resumed)
        try:
            yield stay
        finally:
            stay.give_back(0)
            if self._first is stay:
                self._first = None
            self._admit()

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
        self._metrics.graph_held_back.inc()
        self._admit()
        try:
            await given
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
                self._admit()

    def count(self, size: int) -> None:
        """Bytes taken, or given back where negative."""
        self._held += size
        self._metrics.graph_held.set(self._held)
        if size < 0:
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

    def takes(self, size: int) -> bool:
        """Takes so many bytes more if there is room now. Raises RecordTooLarge."""
        if self.held + size > self._room.most_of_one:
            raise RecordTooLarge(f"the pages of the record are larger than {self._room.most_of_one} bytes")
        if not self._room.has_room(self, size):
            return False
        self.add(size)
        return True

    async def wait(self, size: int) -> None:
        """Takes so many bytes when there is room, after `takes` has said that there is none."""
        self.is_waiting = True
        try:
            await self._room.wait(self, size)
        finally:
            self.is_waiting = False
            self._resumed()

    def add(self, size: int) -> None:
        """Counts bytes as held."""
        self.held += size
        self._room.count(size)

    def give_back(self, down_to: int) -> None:
        """Lets go what is held above so many bytes."""
        if self.held > down_to:
            size, self.held = self.held - down_to, down_to
            self._room.count(-size)
