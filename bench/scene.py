"""`callstream serve` and the emulated Graph, each a process of its own, watched and driven from outside."""

import asyncio
import contextlib
import io
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import free_port, running
from service.emulator.options import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, DEMO_TENANT_ID
from service.settings import PREFIX

SAMPLE_SECONDS = 0.05
LOOK_SECONDS = 0.5
"""`/metrics` costs `serve` some milliseconds, so it is not asked often."""
OPEN_SECONDS = 60.0
STALL_SECONDS = 60.0
OTHER_TENANT_ID = "fab00000-1111-4222-8333-444455556666"
TENANTS = {"contoso": DEMO_TENANT_ID, "fabrikam": OTHER_TENANT_ID}


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


@dataclass(frozen=True)
class Figures:
    """One scrape."""

    samples: Sequence[tuple[str, Mapping[str, str], float]]

    def total(self, name: str, **labels: str) -> float:
        """The sum of a series (without `callstream_`) over the labels that are not given."""
        return sum(
            value
            for sample, found, value in self.samples
            if sample == f"callstream_{name}" and labels.items() <= found.items()
        )

    def slower_than(self, name: str, seconds: str) -> float:
        """Of a histogram, how many observations lie above the bucket that ends at `seconds`."""
        return self.total(f"{name}_count") - self.total(f"{name}_bucket", le=seconds)


@dataclass
class Scene:
    """The two processes while they run."""

    http: aiohttp.ClientSession
    graph: str
    """Address of the emulated Graph."""
    admin: str
    """Address of the private site of `serve`."""
    receiver: str
    process: psutil.Process
    """`serve`."""
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = Memory(self.process)

    async def post(self, path: str, body: object) -> Any:
        """Tells the emulator something below `/emulator`, or writes under `/beta`."""
        data, headers = io.BytesIO(msgspec.json.encode(body)), {"Content-Type": "application/json"}
        async with self.http.post(f"{self.graph}{path}", data=data, headers=headers, raise_for_status=True) as response:
            return await response.json()

    async def get(self, path: str) -> Any:
        """Asks the emulator."""
        async with self.http.get(f"{self.graph}{path}", raise_for_status=True) as response:
            return await response.json()

    async def lift(self) -> None:
        """Takes every scripted fault away."""
        async with self.http.delete(f"{self.graph}/emulator/faults", raise_for_status=True) as response:
            await response.read()

    async def figures(self) -> Figures:
        """What `/metrics` says now."""
        async with self.http.get(f"{self.admin}/metrics", raise_for_status=True) as response:
            families = text_string_to_metric_families(await response.text())
        return Figures([(one.name, one.labels, one.value) for family in families for one in family.samples])

    async def until_total(self, name: str, least: float, **labels: str) -> Figures:
        """Until a series has come so far; RuntimeError when it has not moved for a minute."""
        loop = asyncio.get_running_loop()
        seen, moved = -1.0, loop.time()
        while True:
            figures = await self.figures()
            now = figures.total(name, **labels)
            if now >= least:
                return figures
            if now != seen:
                seen, moved = now, loop.time()
            if loop.time() - moved > STALL_SECONDS:
                counts = (await self.get("/emulator/status"))["delivery"]["counts"]
                raise RuntimeError(f"{name} stands at {now:.0f} of {least:.0f} and does not move; delivered: {counts}")
            await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def open_scene(
    servers: str,
    folder: Path,
    prefix: str,
    *,
    emulate: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    tenants: int = 1,
    speed: float = 1.0,
) -> AsyncIterator[Scene]:
    """A fresh `serve` and a fresh emulator, subscribed for every tenant, the memory of `serve` watched.

    `emulate` are further options of `callstream emulate`, `settings` further ones of `serve` (without CALLSTREAM_).
    `speed` other than 1: both on clocks that run so fast. RuntimeError when a process does not begin or end well.
    """
    graph, receiver, admin = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
    ids = dict(list(TENANTS.items())[:tenants])
    named = [word for name, one in ids.items() for word in ("--tenant-id", one, "--tenant-name", name)]
    options = ("--port", graph.rpartition(":")[2], "--calls", "0", "--speed", f"{speed:g}", *named, *emulate)
    emulator = running(
        "service", "emulate", *options, log=folder / f"{prefix}-emulator.log", environment=_environment()
    )
    environment = _environment() | {
        PREFIX + name: value
        for name, value in (_settings(servers, prefix, graph, receiver, admin, ids) | dict(settings or {})).items()
    }
    program = ("service", "serve") if speed == 1 else ("bench.fast_serve", f"{speed:g}")
    serve = running(*program, log=folder / f"{prefix}-serve.log", environment=environment)
    async with aiohttp.ClientSession() as http, emulator, serve as process:
        scene = Scene(http, graph, admin, receiver, psutil.Process(process.pid))

        async def is_subscribed() -> bool:
            return len((await scene.get("/emulator/status"))["subscriptions"]) == tenants

        await _until(is_subscribed, "a subscription", OPEN_SECONDS)
        watching = asyncio.create_task(scene.memory.watch())
        try:
            yield scene
        finally:
            watching.cancel()
            await asyncio.wait({watching})


def _settings(
    servers: str, prefix: str, graph: str, receiver: str, admin: str, tenants: Mapping[str, str]
) -> dict[str, str]:
    found = {
        "KAFKA__BOOTSTRAP_SERVERS": servers,
        "KAFKA__TOPIC_PREFIX": prefix,
        "GRAPH__CLOUD": "custom",
        "GRAPH__ROOT_URL": graph,
        "GRAPH__LOGIN_URL": graph,
        "RECEIVER__HOST": "127.0.0.1",
        "RECEIVER__PORT": receiver.rpartition(":")[2],
        "RECEIVER__PUBLIC_URL": receiver,
        "ADMIN__PORT": admin.rpartition(":")[2],
        "CLIENT_STATE__KEYS__1": os.urandom(16).hex(),
        "LOG__LEVEL": "warning",
    }
    for name, tenant_id in tenants.items():
        found |= {
            f"TENANTS__{name.upper()}__ID": tenant_id,
            f"TENANTS__{name.upper()}__CLIENT_ID": DEMO_CLIENT_ID,
            f"TENANTS__{name.upper()}__CLIENT_SECRET": DEMO_CLIENT_SECRET,
        }
    return found


def _environment() -> dict[str, str]:
    """Ours, without settings that somebody has in the shell."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}


async def _until(claim: Callable[[], Awaitable[object]], what: str, seconds: float) -> None:
    """Asks twice a second until the answer is something; RuntimeError after `seconds`."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        with contextlib.suppress(aiohttp.ClientConnectionError):  # not open yet
            if await claim():
                return
        await asyncio.sleep(LOOK_SECONDS)
    raise RuntimeError(f"{what} did not come within {seconds:.0f} s")
