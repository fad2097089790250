"""The whole way: `callstream serve`, the emulated Graph and Kafka, each a process of its own.

Calls happen in the emulator; it announces them to the receiver, lanes fetch the records over HTTP and publish. What
`serve` spends on an event and how much memory it holds at most is measured from outside.
"""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil  # type: ignore[import-untyped]

from bench.processes import free_port, running
from service.emulator.options import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, DEMO_TENANT_ID
from service.settings import PREFIX

STREAMS = {"M": 80, "L": 600}
WARM_UP_CALLS = 5
LEAD_SECONDS, LEAD_FACTOR = 1.0, 2.5
"""The calls are announced when making them should long be over: so many times the time expected, and a second."""
SAMPLE_SECONDS = 0.05
LOOK_SECONDS = 0.5
"""`/metrics` costs `serve` some milliseconds, so it is not asked often."""
OPEN_SECONDS = 60.0
STALL_SECONDS = 60.0
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


@dataclass
class Memory:
    """The largest resident size seen of a process, in bytes."""

    process: psutil.Process
    most: int = 0

    async def watch(self) -> None:
        """Samples until cancelled."""
        while True:
            self.most = max(self.most, self.process.memory_info().rss)
            await asyncio.sleep(SAMPLE_SECONDS)


async def whole_way(servers: str, folder: Path, size: str, records: int, tell: Callable[[str], None]) -> Way:
    """A fresh `serve` and a fresh emulator; `records` records of `size` M or L. RuntimeError when it does not end."""
    graph, receiver, admin = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    tell(f"The whole way: {records} records of {STREAMS[size]} streams through serve")
    async with (
        aiohttp.ClientSession() as http,
        _emulator(graph, folder, size),
        _serve(servers, graph, receiver, admin, folder, size) as pid,
    ):
        await _until(lambda: _has_subscription(http, graph), "a subscription", OPEN_SECONDS)
        return await _measure(http, graph, admin, pid, size, records)


async def _measure(http: aiohttp.ClientSession, graph: str, admin: str, pid: int, size: str, records: int) -> Way:
    process, events = psutil.Process(pid), records * STREAMS[size]
    memory = Memory(process)
    watching = asyncio.create_task(memory.watch())
    try:
        idle = process.memory_info().rss
        call_seconds = await _warm_up(http, graph, admin, size)
        announced = await _make_calls(http, graph, size, records, call_seconds)
        cpu = _cpu_seconds(process)
        await asyncio.sleep(max(0.0, announced - time.time()))
        begun = time.perf_counter()
        await _until_published(http, admin, events + WARM_UP_CALLS * STREAMS[size])
        wall, cpu = time.perf_counter() - begun, _cpu_seconds(process) - cpu
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    return Way(size, records, events, wall, cpu, idle / MB, memory.most / MB)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@asynccontextmanager
async def _emulator(graph: str, folder: Path, size: str) -> AsyncIterator[None]:
    port = graph.rpartition(":")[2]
    arguments = ("service", "emulate", "--port", port, "--calls", "0", "--no-limits")
    async with running(*arguments, log=folder / f"emulator-{size}.log", environment=_environment()):
        yield


@asynccontextmanager
async def _serve(servers: str, graph: str, receiver: str, admin: str, folder: Path, size: str) -> AsyncIterator[int]:
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": servers,
        "KAFKA__TOPIC_PREFIX": f"bench.whole.{size}",
        "GRAPH__CLOUD": "custom",
        "GRAPH__ROOT_URL": graph,
        "GRAPH__LOGIN_URL": graph,
        "RECEIVER__HOST": "127.0.0.1",
        "RECEIVER__PORT": receiver.rpartition(":")[2],
        "RECEIVER__PUBLIC_URL": receiver,
        "ADMIN__PORT": admin.rpartition(":")[2],
        "CLIENT_STATE__KEYS__1": os.urandom(16).hex(),
        "TENANTS__CONTOSO__ID": DEMO_TENANT_ID,
        "TENANTS__CONTOSO__CLIENT_ID": DEMO_CLIENT_ID,
        "TENANTS__CONTOSO__CLIENT_SECRET": DEMO_CLIENT_SECRET,
        "LOG__LEVEL": "warning",
    }
    environment = _environment() | {PREFIX + name: value for name, value in settings.items()}
    arguments = ("service", "serve", "--role", "work,keep,receive")
    async with running(*arguments, log=folder / f"serve-{size}.log", environment=environment) as process:
        yield process.pid


def _environment() -> dict[str, str]:
    """Ours, without settings that somebody has in the shell."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


async def _make_calls(http: aiohttp.ClientSession, graph: str, size: str, records: int, call_seconds: float) -> float:
    """Makes the calls, all to be announced at one moment after the last is made; that moment in Unix seconds."""
    announced = time.time() + LEAD_SECONDS + LEAD_FACTOR * call_seconds * records
    for first in range(0, records, CALLS_A_REQUEST):
        await _post_calls(http, graph, size, min(CALLS_A_REQUEST, records - first), announced)
    if time.time() > announced:
        raise RuntimeError("the emulator took longer to make the calls than it took for the first of them; try again")
    return announced


async def _warm_up(http: aiohttp.ClientSession, graph: str, admin: str, size: str) -> float:
    """A few records through everything, so that tokens, connections and caches are there. Seconds to make a call."""
    begun = time.perf_counter()
    await _post_calls(http, graph, size, WARM_UP_CALLS, time.time())
    call_seconds = (time.perf_counter() - begun) / WARM_UP_CALLS
    await _until_published(http, admin, WARM_UP_CALLS * STREAMS[size])
    return call_seconds


async def _post_calls(http: aiohttp.ClientSession, graph: str, size: str, count: int, announced: float) -> None:
    body = {"size": size, "count": count, "notifyAfterSeconds": max(0.0, announced - time.time())}
    async with http.post(f"{graph}/emulator/calls", json=body, raise_for_status=True) as response:
        await response.read()


async def _until(claim: Callable[[], Awaitable[object]], what: str, seconds: float) -> None:
    """Asks twice a second until the answer is something; RuntimeError after `seconds`."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        with contextlib.suppress(aiohttp.ClientConnectionError):  # not open yet
            if await claim():
                return
        await asyncio.sleep(LOOK_SECONDS)
    raise RuntimeError(f"{what} did not come within {seconds:.0f} s")


async def _until_published(http: aiohttp.ClientSession, admin: str, events: int) -> None:
    loop = asyncio.get_running_loop()
    seen, moved = -1.0, loop.time()
    while True:
        now = await _published(http, admin)
        if now >= events:
            return
        if now != seen:
            seen, moved = now, loop.time()
        if loop.time() - moved > STALL_SECONDS:
            raise RuntimeError(f"{now:.0f} of {events} events are published and no more come")
        await asyncio.sleep(LOOK_SECONDS)


_EVENTS = re.compile(r"^callstream_events_published_total\{[^}]*\} (\S+)$", re.MULTILINE)


async def _published(http: aiohttp.ClientSession, admin: str) -> float:
    async with http.get(f"{admin}/metrics", raise_for_status=True) as response:
        return sum(float(value) for value in _EVENTS.findall(await response.text()))


async def _has_subscription(http: aiohttp.ClientSession, graph: str) -> Any:
    async with http.get(f"{graph}/emulator/status", raise_for_status=True) as response:
        return (await response.json())["subscriptions"]
