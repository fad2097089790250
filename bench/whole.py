"""The whole way: `callstream serve`, the emulated Graph and Kafka, each a process of its own.

Calls happen in the emulator; it announces them to the receiver, lanes fetch the records over HTTP and publish. What
`serve` spends on an event and how much memory it holds at most is measured from outside.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

from bench.scene import Scene, open_scene

STREAMS = {"M": 80, "L": 600}
WARM_UP_CALLS = 5
LEAD_SECONDS, LEAD_FACTOR = 1.0, 2.5
"""The calls are announced when making them should long be over: so many times the time expected, and a second."""
CALLS_A_REQUEST = 20
MB = 1_000_000


class Way(msgspec.Struct, frozen=True):
    """What `serve` took for so many records of one size, all announced at once."""

    size: str
    records: int
    events: int
    wall_seconds: float
    """From the first announcement until the last event is committed, to within half a second."""
    cpu_seconds: float
    """Of `serve`: receiver, keeper and lanes."""
    idle_mb: float
    """Resident before the first call."""
    most_mb: float
    """Resident at most, sampled every 50 ms."""

    @property
    def cpu_us_per_event(self) -> float:
        """Microseconds of one core for an event."""
        return self.cpu_seconds / self.events * 1e6


async def whole_way(servers: str, folder: Path, size: str, records: int, tell: Callable[[str], None]) -> Way:
    """A fresh `serve` and a fresh emulator; `records` records of `size` M or L. RuntimeError when it does not end."""
    tell(f"The whole way: {records} records of {STREAMS[size]} streams through serve")
    async with open_scene(servers, folder, f"bench.whole.{size}", emulate=("--no-limits",)) as scene:
        return await _measure(scene, size, records)


async def _measure(scene: Scene, size: str, records: int) -> Way:
    events, idle = records * STREAMS[size], scene.process.memory_info().rss
    call_seconds = await _warm_up(scene, size)
    announced = await _make_calls(scene, size, records, call_seconds)
    cpu = _cpu_seconds(scene.process)
    await asyncio.sleep(max(0.0, announced - time.time()))
    begun = time.perf_counter()
    await scene.until_total("events_published_total", events + WARM_UP_CALLS * STREAMS[size])
    wall, cpu = time.perf_counter() - begun, _cpu_seconds(scene.process) - cpu
    return Way(size, records, events, wall, cpu, idle / MB, scene.memory.most / MB)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _make_calls(scene: Scene, size: str, records: int, call_seconds: float) -> float:
    """Makes the calls, all to be announced at one moment after the last is made; that moment in Unix seconds."""
    announced = time.time() + LEAD_SECONDS + LEAD_FACTOR * call_seconds * records
    for first in range(0, records, CALLS_A_REQUEST):
        await _post_calls(scene, size, min(CALLS_A_REQUEST, records - first), announced)
    if time.time() > announced:
        raise RuntimeError("the emulator took longer to make the calls than it took for the first of them; try again")
    return announced


async def _warm_up(scene: Scene, size: str) -> float:
    """A few records through everything, so that tokens, connections and caches are there. Seconds to make a call."""
    begun = time.perf_counter()
    await _post_calls(scene, size, WARM_UP_CALLS, time.time())
    call_seconds = (time.perf_counter() - begun) / WARM_UP_CALLS
    await scene.until_total("events_published_total", WARM_UP_CALLS * STREAMS[size])
    return call_seconds


async def _post_calls(scene: Scene, size: str, count: int, announced: float) -> None:
    body = {"size": size, "count": count, "notifyAfterSeconds": max(0.0, announced - time.time())}
    await scene.post("/emulator/calls", body)
