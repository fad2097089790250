"""Shell: looks at call records, for all lanes of the process: fetch, flatten, encode; the body is let go at once.

Bounds that the lanes share live here: how many records are fetched at once, how many bytes of encoded events are held.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import structlog

from service.clock import Clock
from service.errors import CallstreamError, GraphUnavailable, Unforeseen
from service.graph.client import Progress
from service.graph.room import Room
from service.lanes.policy import ShapedRecord
from service.metrics import Metrics
from service.notification import Notification

log = structlog.get_logger()

Shaper = Callable[[Notification, Progress], Awaitable[ShapedRecord]]


class InFlight:
    """Encoded bytes that all lanes of the process hold."""

    def __init__(self, limit_bytes: int, room: Room, metrics: Metrics) -> None:
        self._limit = limit_bytes
        self._room = room
        self._held = 0
        self._gauge = metrics.bytes_in_flight
        self._freed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether further fetches should wait for publications."""
        return self._held >= self._limit

    @property
    def has_queue(self) -> bool:
        """Whether so many records wait until less is held that further ones should not be started."""
        return self._room.has_queue

    def add(self, size_bytes: int) -> None:
        """Counts encoded bytes; a negative number gives them back."""
        self._held += size_bytes
        self._room.count(size_bytes)
        self._gauge.set(self._held)
        if size_bytes < 0:
            self._freed.set()

    async def wait_freed(self, seconds: float) -> None:
        """Until somebody has given bytes back, at most so many of the machine's seconds."""
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._freed.wait()


class Slots:
    """How many records may be fetched at once; one that goes on beside the batches frees its slot early."""

    def __init__(self, count: int, metrics: Metrics) -> None:
        self._count = count
        self._waiting = 0
        self._semaphore = asyncio.Semaphore(count)
        self._gauge = metrics.fetches_in_flight
        metrics.fetches_waiting.set_function(lambda: self._waiting)

    @property
    def has_queue(self) -> bool:
        """Whether as many looks wait for a slot as there are slots: a batch should start no more."""
        return self._waiting >= self._count

    async def acquire(self) -> "Slot":
        """Waits for a free slot."""
        self._waiting += 1
        try:
            await self._semaphore.acquire()
        finally:
            self._waiting -= 1
        self._gauge.inc()
        return Slot(self._release)

    def _release(self) -> None:
        self._gauge.dec()
        self._semaphore.release()


class Slot:
    """One taken slot; releasing it twice is harmless."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Lets the next fetch start."""
        if self._release is not None:
            self._release()
            self._release = None


@dataclass(eq=False)
class Look:
    """One record being looked at. `result` is there when `task` is done."""

    notification: Notification
    started: float
    progress: Progress = field(default_factory=Progress)
    slot: Slot | None = None
    is_given_back: bool = False
    task: "asyncio.Task[ShapedRecord | CallstreamError]" = field(init=False)

    def go_beside(self) -> None:
        """The batch goes on without it; others may use its slot."""
        if self.slot is not None:
            self.slot.release()

    def result(self) -> ShapedRecord | CallstreamError:
        """What came of it; an error nobody foresaw is raised."""
        return self.task.result()


class Looks:
    """Starts looks within the process's bounds."""

    def __init__(self, shape: Shaper, slots: Slots, in_flight: InFlight, clock: Clock, silent_seconds: float) -> None:
        """`silent_seconds`: how long a fetch may bring nothing before it is given up."""
        self._shape = shape
        self.slots = slots
        self.in_flight = in_flight
        self._clock = clock
        self._silent_seconds = silent_seconds

    def start(self, notification: Notification) -> Look:
        """Begins a look; it never raises but for bugs: a failure of Graph's is its result."""
        look = Look(notification, self._clock.now())
        look.task = asyncio.create_task(self._run(look), name=f"look {notification.call_id}")
        return look

    async def _run(self, look: Look) -> ShapedRecord | CallstreamError:
        look.slot = await self.slots.acquire()
        look.started = self._clock.now()
        try:
            shaped = await self._until_silent(look)
        except CallstreamError as error:
            return error
        except Exception:
            # A bug of ours that one record brings to light: it is retried, then set aside; the others go on.
            log.exception("a call record could not be shaped", call_id=look.notification.call_id)
            return Unforeseen("this program failed on the record; its log has the traceback")
        finally:
            look.slot.release()
        self.in_flight.add(shaped.size_bytes)
        return shaped

    async def _until_silent(self, look: Look) -> ShapedRecord:
        """The record, unless no page has come for `silent_seconds` (twice that between pages: a large record waits
        for its own budget of requests, a window of 20 s)."""
        shaping = asyncio.ensure_future(self._shape(look.notification, look.progress))
        try:
            while True:
                heard, patience = look.started, self._silent_seconds
                if look.progress.last_page_at is not None:
                    heard, patience = look.progress.last_page_at, 2 * self._silent_seconds
                left = patience if look.progress.is_held_back else heard + patience - self._clock.now()
                if left <= 0:
                    raise GraphUnavailable(f"Graph sent nothing of the record for {patience:.0f} s")
                await asyncio.wait({shaping}, timeout=self._clock.real_seconds(left))
                if shaping.done():
                    return shaping.result()
        finally:
            if not shaping.done():
                shaping.cancel()
                await asyncio.wait({shaping})
            if not shaping.cancelled():
                shaping.exception()  # broken off, nobody asks for it, and asyncio would log it as forgotten

    async def discard(self, looks: Sequence[Look]) -> None:
        """Breaks looks off and gives back what they hold; their notifications have not been acknowledged."""
        for look in looks:
            look.task.cancel()
            # Not after an await: whoever discards may be cancelled there, and the bytes would be held for ever.
            look.task.add_done_callback(partial(self._give_back, look))
        if looks:
            await asyncio.wait({look.task for look in looks})

    def _give_back(self, look: Look, task: "asyncio.Task[ShapedRecord | CallstreamError]") -> None:
        if look.is_given_back:
            return
        look.is_given_back = True
        look.progress.let_go()
        if not task.cancelled() and task.exception() is None and isinstance(result := task.result(), ShapedRecord):
            self.in_flight.add(-result.size_bytes)
