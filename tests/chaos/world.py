"""Everything of a run: three brokers, emulator, receivers, workers and a judge; a proxy stands before each port."""

import asyncio
import contextlib
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.embedded import Broker, Cluster, embedded_kafka, prepare_fast_start
from service.embedded.guardian import Guardian
from service.emulator.options import TenantOptions
from tests.chaos.children import ROOT, Child
from tests.chaos.graph import Plan, calls_for
from tests.chaos.judging import Task
from tests.chaos.links import Front, Link, free_port
from tests.chaos.schedule import BROKERS, LANES, RECEIVERS, SESSION_SECONDS, WORKERS

PREFIX = "callrecords"
RETRY_DELAYS = ("1s", "3s", "10s")
GRAPH_PATIENCE_SECONDS = 10.0
"""Graph is many machines behind one address: while one is replaced a connection waits, it is not refused."""
OPEN_SECONDS = 120.0
ASK_SECONDS = 3.0
LONGEST_LINE_BYTES = 1024 * 1024
TENANTS = [
    TenantOptions(),
    TenantOptions(id="c0ffee00-1111-4222-8333-444455557777", name="fabrikam", client_id="fabrikam-application"),
]


EXACTLY_ONCE, AT_LEAST_ONCE = "exactly-once", "at-least-once"


@dataclass(frozen=True)
class Size:
    """What a run is asked for."""

    events: int
    seconds: float
    seed: int
    delivery: str = EXACTLY_ONCE


@dataclass
class World:
    """A run's parts by name."""

    cluster: Cluster
    links: dict[str, Link]
    children: dict[str, Child]
    folder: Path
    judge: asyncio.subprocess.Process
    told: dict[str, Any] = field(default_factory=dict)
    """The judge's last line."""
    listening: "asyncio.Task[None] | None" = None
    """Ends with the judge."""

    def broker(self, whom: str) -> Broker | None:
        """The broker of that number."""
        return next((it for it in self.cluster.brokers if f"broker-{it.node_id}" == whom), None)

    async def broker_who(self, part: str, otherwise: int) -> str:
        """The broker that plays `part` now, by name; the given one when nobody can be asked."""
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self.cluster.bootstrap_servers, request_timeout_ms=int(ASK_SECONDS * 1000)
        )
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await admin.start()
                return f"broker-{await _playing(admin, part)}"
        except (KafkaError, OSError, TimeoutError, LookupError):
            return f"broker-{otherwise}"
        finally:
            with contextlib.suppress(KafkaError, OSError):
                await admin.close()

    @property
    def crashes(self) -> dict[str, list[int]]:
        """Exit codes of processes that ended although nobody had ended them."""
        return {name: child.crashes for name, child in self.children.items() if child.crashes}

    def begin(self) -> None:
        """Calls come from now on."""
        (self.folder / "begin").write_text(str(time.time()))

    def settle(self) -> None:
        """Tells the judge that nobody strikes any more."""
        (self.folder / "settle").touch()

    def tails(self) -> str:
        """The last log lines of every process."""
        return "\n".join(f"--- {name}\n{child.tail()}" for name, child in self.children.items())


async def _playing(admin: AIOKafkaAdminClient, part: str) -> int:
    lane = int(part.rpartition("-")[2]) if "lane" in part else 0
    if part == "group-coordinator":
        return int(await admin.find_coordinator(f"{PREFIX}.lanes"))
    if part.startswith("transaction"):
        return int(await admin.find_coordinator(f"{PREFIX}.lane.{lane}", coordinator_type=1))
    [topic] = await admin.describe_topics([f"{PREFIX}.notifications"])
    return next(int(one["leader"]) for one in topic["partitions"] if one["partition"] == lane)


@asynccontextmanager
async def open_world(size: Size, folder: Path, tell: Callable[[str], None]) -> AsyncIterator[World]:
    """The service at work on three brokers, its subscriptions made. However the block is left, everything ends."""
    async with AsyncExitStack() as stack:
        links: dict[str, Link] = {}

        async def front(*behind: Link) -> int:
            links.update({link.name: link for link in behind})
            opened = Front(behind)
            stack.push_async_callback(opened.close)
            return await opened.open()

        await prepare_fast_start(on_progress=tell)
        cluster = await stack.enter_async_context(embedded_kafka(BROKERS, on_progress=tell, advertise=_behind(front)))
        guardian = Guardian(remove=None)
        stack.push_async_callback(guardian.close)
        tell("Starting emulator, receivers and workers")
        children = await _children(size, folder, cluster, front, guardian)
        for child in children.values():
            await child.start()
            stack.push_async_callback(child.kill)
        await _subscribed(children)
        judge = await stack.enter_async_context(_judging(size, folder, cluster))
        world = World(cluster, links, children, folder, judge)
        world.listening = listening = asyncio.create_task(_listen(world))
        try:
            yield world
        finally:
            listening.cancel()
            await asyncio.wait({listening})


def _behind(front: Callable[..., Awaitable[int]]) -> Callable[[int], Awaitable[int]]:
    """A proxy for each listener of the brokers: first those of clients, then those of controllers."""
    names = iter([f"{kind}-{n}" for kind in ("broker", "controller") for n in range(1, BROKERS + 1)])

    async def advertise(port: int) -> int:
        return await front(Link(next(names), port))

    return advertise


async def _children(
    size: Size, folder: Path, cluster: Cluster, front: Callable[..., Awaitable[int]], guardian: Guardian
) -> dict[str, Child]:
    graph_port, receiver_ports = free_port(), [free_port() for _ in range(RECEIVERS)]
    graph = await front(Link("emulator", graph_port, GRAPH_PATIENCE_SECONDS))
    public = await front(*(Link(f"receiver-{n}", port) for n, port in enumerate(receiver_ports, 1)))
    plan = Plan(
        port=graph_port,
        state_file=str(folder / "graph.state"),
        tenants=TENANTS,
        seed=size.seed,
        calls=calls_for(size.events),
        begin_file=str(folder / "begin"),
        seconds=size.seconds,
    )
    (folder / "plan.json").write_bytes(msgspec.json.encode(plan))
    environment = service_environment(cluster.bootstrap_servers, f"http://127.0.0.1:{graph}") | {
        "CALLSTREAM_RECEIVER__PUBLIC_URL": f"http://127.0.0.1:{public}"
    }
    if size.delivery != EXACTLY_ONCE:
        environment["CALLSTREAM_KAFKA__DELIVERY"] = size.delivery
    children: dict[str, Child] = {}

    def changed() -> None:
        guardian.watch(child.pid for child in children.values() if child.pid is not None)

    def add(name: str, arguments: list[str], more: dict[str, str]) -> None:
        children[name] = Child(name, arguments, more, folder / f"{name}.log", changed)

    add("emulator", ["-m", "tests.chaos.graph", str(folder / "plan.json")], {})
    serve = ["-m", "service", "serve", "--role"]
    for n, port in enumerate(receiver_ports, 1):
        add(f"receiver-{n}", [*serve, "receive"], environment | {"CALLSTREAM_RECEIVER__PORT": str(port)})
    for n in range(1, WORKERS + 1):
        add(f"worker-{n}", [*serve, "work,keep"], environment)
    return children


def service_environment(servers: str, graph_url: str) -> dict[str, str]:
    """Settings of every process of the service; times are short, so that a run sees many of each."""
    environment = {
        "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": servers,
        "CALLSTREAM_KAFKA__TOPIC_PREFIX": PREFIX,
        "CALLSTREAM_KAFKA__PARTITIONS": str(LANES),
        "CALLSTREAM_KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        "CALLSTREAM_KAFKA__REQUEST_TIMEOUT_SECONDS": "5",
        "CALLSTREAM_RECEIVER__HOST": "127.0.0.1",
        "CALLSTREAM_ADMIN__PORT": "0",
        "CALLSTREAM_RETRY__DELAYS": ",".join(RETRY_DELAYS),
        "CALLSTREAM_GRAPH__CLOUD": "custom",
        "CALLSTREAM_GRAPH__ROOT_URL": graph_url,
        "CALLSTREAM_GRAPH__LOGIN_URL": graph_url,
        "CALLSTREAM_KEEPER__PERIOD_SECONDS": "5",
        # What a lane or a receiver loses must stay lost, or the judge would not see it.
        "CALLSTREAM_KEEPER__RECONCILE_DAYS": "0",
        "CALLSTREAM_CLIENT_STATE__KEYS__1": secrets.token_hex(16),
        "CALLSTREAM_DRAIN_SECONDS": "10",
        "CALLSTREAM_LOG__FORMAT": "json",
    }
    for tenant in TENANTS:
        name = f"CALLSTREAM_TENANTS__{tenant.name.upper()}"
        environment[f"{name}__ID"] = tenant.id
        environment[f"{name}__CLIENT_ID"] = tenant.client_id
        environment[f"{name}__CLIENT_SECRET"] = tenant.client_secret
    return environment


async def _subscribed(children: dict[str, Child]) -> None:
    """Waits until every tenant has its subscription."""
    plan = json.loads(Path(children["emulator"].arguments[-1]).read_text())
    url = f"http://127.0.0.1:{plan['port']}/emulator/status"
    async with asyncio.timeout(OPEN_SECONDS), aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if len((await answer.json())["subscriptions"]) == len(TENANTS):
                        return
            await asyncio.sleep(0.2)


@asynccontextmanager
async def _judging(size: Size, folder: Path, cluster: Cluster) -> AsyncIterator[asyncio.subprocess.Process]:
    task = Task(
        servers=cluster.bootstrap_servers,
        prefix=PREFIX,
        partitions=LANES,
        state_file=str(folder / "graph.state"),
        settle_file=str(folder / "settle"),
        calls=calls_for(size.events),
        is_patient=size.delivery == AT_LEAST_ONCE,
    )
    (folder / "judge.json").write_bytes(msgspec.json.encode(task))
    with (folder / "judge.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.chaos.judging", str(folder / "judge.json")),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LONGEST_LINE_BYTES,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _listen(world: World) -> None:
    """Keeps what the judge said last; ends with it."""
    assert world.judge.stdout is not None
    while line := await world.judge.stdout.readline():
        world.told = json.loads(line)
