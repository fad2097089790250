"""How this process collects garbage, and gives memory back.

Decoded records and events are structs that cannot be part of a cycle, so reference counting frees them; what the
collector walks in vain is the program itself and whatever is in flight. A full collection then costs some 100 ms in
which no heartbeat is sent and no notification answered (bench/, docs/benchmark.md).

What is freed goes back to the system: glibc raises its thresholds each time a large block is freed, up to 32 MB, and
from then on what a meeting of thousands needed for a minute stays with the process, in pieces. Thresholds that are set
are not raised (mallopt(3)). Events are smaller than any threshold, and what lies between them keeps the heap as it is;
so its free pages are given back when many have been let go at once, and now and then (malloc_trim(3)).
"""

import asyncio
import ctypes
import gc
from contextlib import suppress

# Allocations between two looks at the youngest objects (Python's default: 700): an L record makes some 20,000.
YOUNG = 50_000
# So many of those before the next generation is looked at (Python's default: 10).
OLDER = 20
# mallopt's parameters (malloc.h), and what they are set to: larger blocks are given back one by one, the heap's end
# when so much of it is free; all threads share two heaps.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
MALLOC = ((M_MMAP_THRESHOLD, 512 * 1024), (M_TRIM_THRESHOLD, 2 * 1024 * 1024), (M_ARENA_MAX, 2))
# What is worth a walk over the heap, some milliseconds: the events of a meeting of some hundreds.
LARGE_BYTES = 4 * 1024 * 1024
GONE_SECONDS = 1.0
# What fails leaves cycles (an error refers to the frames that refer to it), some thousands a minute where much fails:
# too few for the collector to look at them, and each keeps a page.
TIDY_SECONDS = 60.0
_trims_at = 0.0  # seconds of the loop's clock; of the process, like its heap


def settle() -> None:
    """Once, when everything is open: what is there now stays, and is not looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, OLDER, OLDER)
    with suppress(AttributeError):  # another C library than glibc
        for parameter, value in MALLOC:
            ctypes.CDLL(None).mallopt(parameter, value)


def let_go(size_bytes: int) -> None:
    """So many bytes are about to be let go: whoever says so still holds them. Needs a running loop."""
    global _trims_at
    loop = asyncio.get_running_loop()
    if size_bytes >= LARGE_BYTES and loop.time() >= _trims_at:
        _trims_at = loop.time() + GONE_SECONDS
        loop.call_at(_trims_at, _trim)


def _trim() -> None:
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def stay_small() -> None:
    """Until cancelled. A look at what is young takes some milliseconds, the walk over the heap as much."""
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        gc.collect(1)
        _trim()
