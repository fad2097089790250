"""Processes of the service on a real broker, a Graph to feed them, and a judge that reads what they publish."""

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from service.clock import Clock
from service.demo.watch import Watch
from service.embedded import Cluster, embedded_kafka
from service.emulator.generator import generate_call, mixed_specs
from service.emulator.judge import Verdict
from service.emulator.options import DeliveryOptions, EmulatorOptions
from service.emulator.server import Emulator, open_emulator
from service.kafka.topics import Topics

PARTITIONS = 6
RETRY_DELAYS = ("1s", "3s", "10s")
SESSION_SECONDS = 3
# Far above what is needed: these machines are shared and noisy.
DEADLINE_SECONDS = 240.0
QUIET_SECONDS = 5.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One `callstream serve`, started as often as it is killed; its ports stay the same."""

    name: str
    roles: str
    environment: dict[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts it; it may take a moment to be ready."""
        environment = os.environ | self.environment
        environment["CALLSTREAM_RECEIVER__PORT"] = str(self.port)
        environment["CALLSTREAM_ADMIN__PORT"] = str(self.admin_port)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "service", "serve", "--role", self.roles, env=environment, stdout=log, stderr=log
            )

    async def kill(self) -> None:
        """SIGKILL, and the body collected."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            return await self.process.wait()

    async def ready(self) -> bool:
        """Whether `/readyz` says so."""
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{self.admin_port}/readyz") as answer,
            ):
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def metric(self, name: str) -> float:
        """The sum of a series over its labels; with all of its labels in its name, that one."""
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.admin_port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@dataclass
class Scene:
    """Kafka, a Graph, servers and the watch."""

    cluster: Cluster
    emulator: Emulator
    watch: Watch
    servers: list[Server]

    async def until(self, claim: Callable[[], bool], what: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Waits until a claim holds; fails with `what` after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not claim():  # noqa: ASYNC110 - what is waited for tells nobody
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not within {seconds:.0f} s: {what}\n{self.tails()}") from None

    def announce(self, calls: int, seconds: float, seed: int) -> None:
        """So many calls of all kinds, over so many seconds, a tenth late, a tenth with a second version."""
        chance = random.Random(seed)
        store, now = self.emulator.store, self.emulator.world.clock.now()
        tenant = self.emulator.world.options.tenants[0].id
        for spec in mixed_specs(calls, [tenant], seed, start=now - 3 * 3600):
            at = now + chance.random() * seconds
            late = 2.0 if chance.random() < 0.1 else 0.0
            call = store.add_call(spec.tenant_id, generate_call(spec), visible_at=at + late, notify_at=at)
            if chance.random() < 0.1:
                store.schedule(call, at + late + 3.0, self.emulator.maker.later_version)

    async def verdict(self) -> Verdict:
        """Waits until nothing is missing and nothing more comes; at the deadline, what there is."""
        loop = asyncio.get_running_loop()
        begun = moved = loop.time()
        events = -1
        while loop.time() - begun < DEADLINE_SECONDS:
            await asyncio.sleep(0.5)
            if self.watch.events != events:
                events, moved = self.watch.events, loop.time()
            waiting = self.emulator.store.waiting or self.emulator.world.delivery.waiting
            if loop.time() - moved > QUIET_SECONDS and not waiting:
                verdict = self.watch.verdict(self.emulator.store)
                if not verdict.lost:
                    return verdict
        return self.watch.verdict(self.emulator.store)

    def tails(self) -> str:
        """The last log lines of every server: what a failed test needs."""
        return "\n".join(f"--- {server.name}\n{server.log.read_text()[-3000:]}" for server in self.servers)


@asynccontextmanager
async def scene(folder: Path, roles: list[str]) -> AsyncIterator[Scene]:
    """Servers with these roles, started and subscribed; the first receives what Graph sends."""
    delivery = DeliveryOptions(
        duplicate_share=0.05, reorder_seconds=1.0, first_backoff_seconds=0.5, longest_backoff_seconds=3.0
    )
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(embedded_kafka())
        emulator = await stack.enter_async_context(
            open_emulator(EmulatorOptions(port=0, delivery=delivery, nextlink_form="metadata"), Clock())
        )
        names = [f"server-{number}" for number in range(len(roles))]
        environment = _environment(cluster, emulator)
        servers = [
            Server(name, role, environment, folder / f"{name}.log") for name, role in zip(names, roles, strict=True)
        ]
        environment["CALLSTREAM_RECEIVER__PUBLIC_URL"] = f"http://127.0.0.1:{servers[0].port}"
        topics = Topics("callrecords", RETRY_DELAYS)
        watch = Watch(cluster.bootstrap_servers, topics, PARTITIONS, lambda _: None)
        for server in servers:
            await server.start()
            stack.push_async_callback(server.terminate)
        built = Scene(cluster, emulator, watch, servers)
        await built.until(lambda: any(emulator.world.subscriptions.live()), "a subscription is there")
        reading = asyncio.create_task(watch.run())
        try:
            yield built
        finally:
            reading.cancel()
            await asyncio.wait({reading})


def _environment(cluster: Cluster, emulator: Emulator) -> dict[str, str]:
    tenant = emulator.world.options.tenants[0]
    return {
        "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": cluster.bootstrap_servers,
        "CALLSTREAM_KAFKA__PARTITIONS": str(PARTITIONS),
        "CALLSTREAM_KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        "CALLSTREAM_RECEIVER__HOST": "127.0.0.1",
        "CALLSTREAM_RETRY__DELAYS": ",".join(RETRY_DELAYS),
        "CALLSTREAM_GRAPH__CLOUD": "custom",
        "CALLSTREAM_GRAPH__ROOT_URL": emulator.url,
        "CALLSTREAM_GRAPH__LOGIN_URL": emulator.url,
        "CALLSTREAM_KEEPER__PERIOD_SECONDS": "5",
        "CALLSTREAM_CLIENT_STATE__KEYS__1": "a-key-for-this-test",
        "CALLSTREAM_TENANTS__CONTOSO__ID": tenant.id,
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": tenant.client_id,
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET": tenant.client_secret,
        "CALLSTREAM_LOG__FORMAT": "json",
    }
