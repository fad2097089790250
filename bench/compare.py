"""The pipelines in turns, on one broker, over the same bodies: what an event costs each of them."""

import asyncio
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench import material, verify
from bench.child import READY, naive_topic
from bench.pipeline import Cost
from service.emulator.options import DEMO_TENANT_ID
from service.kafka.topics import Topics
from service.settings import Kafka

OURS = "callstream"
NAIVE = ("naive-json", "naive-orjson")
PIPELINES = (NAIVE[0], OURS, NAIVE[1])
ROUND_SECONDS = 300.0
LINE_BYTES = 1024 * 1024

Tell = Callable[[str], None]


class Spread(msgspec.Struct, frozen=True):
    """A figure over the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value for each round."""
        return cls(statistics.median(values), min(values), max(values))


class Rate(msgspec.Struct, frozen=True):
    """One pipeline."""

    name: str
    rounds: list[Cost]
    event_bytes: float
    """Mean size of an event's value."""
    per_cpu_second: Spread
    per_wall_second: Spread


class Comparison(msgspec.Struct, frozen=True):
    """All pipelines, and how many times the naive ones' events per CPU second ours has, round by round."""

    records: int
    streams: int
    rates: list[Rate]
    ratios: dict[str, Spread]
    positions: int
    """Distinct positions that every pipeline published exactly once, warm-up included."""


async def compare(servers: str, folder: Path, *, records: int, rounds: int, tell: Tell) -> Comparison:
    """Runs `rounds` measured rounds of `records` records, after one that only warms up.

    Raises RuntimeError when a pipeline ends early, or did not publish what the others did.
    """
    tell(f"Making {(rounds + 1) * records} records of {material.STREAMS} streams")
    files = await material.write_rounds(folder, rounds + 1, records)
    await _create_naive_topics(servers)
    async with AsyncExitStack() as stack:
        children = {name: await stack.enter_async_context(_child(name, servers)) for name in PIPELINES}
        costs = await _in_turns(children, files, tell)
    tell("Reading back what was published")
    positions = await _verify(servers, expected=len(files) * records * material.STREAMS)
    rates = [_rate(name, costs[name]) for name in PIPELINES]
    ratios = {name: Spread.of(_ratios(costs[OURS], costs[name])) for name in NAIVE}
    return Comparison(records, material.STREAMS, rates, ratios, positions)


async def _in_turns(children: dict[str, "Child"], files: Sequence[Path], tell: Tell) -> dict[str, list[Cost]]:
    """The costs of each pipeline without the first round. Every second round goes backwards, so that a machine that
    grows slower or faster favours nobody."""
    costs: dict[str, list[Cost]] = {name: [] for name in children}
    for number, file in enumerate(files):
        tell(f"Round {number} of {len(files) - 1}" if number else "Warming up")
        for name in list(children)[:: -1 if number % 2 else 1]:
            costs[name].append(await children[name].do(file))
        file.unlink()
    return {name: rounds[1:] or rounds for name, rounds in costs.items()}


class Child:
    """A pipeline's process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process

    async def ready(self) -> None:
        """Waits until it has connected."""
        if (line := await self._line()) != READY:
            raise RuntimeError(f"{self._name} says {line!r}")

    async def do(self, file: Path) -> Cost:
        """One round."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{file}\n".encode())
        return msgspec.json.decode(await self._line(), type=Cost)

    async def _line(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(ROUND_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} has ended; its reason stands above")
        return line.decode().strip()


@asynccontextmanager
async def _child(name: str, servers: str) -> AsyncIterator[Child]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.child", name, servers, _prefix(name), DEMO_TENANT_ID),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
    )
    child = Child(name, process)
    try:
        await child.ready()
        yield child
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _prefix(name: str) -> str:
    return f"bench.{name}"


async def _create_naive_topics(servers: str) -> None:
    """As many partitions as ours have by default; ours are created by the worker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(naive_topic(_prefix(name)), Kafka().partitions, 1) for name in NAIVE])
    finally:
        await admin.close()


async def _verify(servers: str, expected: int) -> int:
    """How many positions all pipelines have published, each once; RuntimeError when they have not."""
    count, topics = Kafka().partitions, Topics(_prefix(OURS)).streams.values()
    ours = await verify.positions(servers, topics, count, verify.position_of_ours)
    found: dict[str, Counter[str]] = {OURS: ours}
    for name in NAIVE:
        found[name] = await verify.positions(servers, [naive_topic(_prefix(name))], count, verify.position_of_naive)
    for name, positions in found.items():
        if (what := verify.difference(ours, positions)) is not None:
            raise RuntimeError(f"{name} did not publish what {OURS} did: {what}")
    if len(ours) != expected:
        raise RuntimeError(f"{len(ours)} events were published where the records have {expected} streams")
    return len(ours)


def _rate(name: str, costs: list[Cost]) -> Rate:
    return Rate(
        name=name,
        rounds=costs,
        event_bytes=sum(cost.event_bytes for cost in costs) / sum(cost.events for cost in costs),
        per_cpu_second=Spread.of([cost.events / cost.cpu_seconds for cost in costs]),
        per_wall_second=Spread.of([cost.events / cost.wall_seconds for cost in costs]),
    )


def _ratios(ours: list[Cost], naive: list[Cost]) -> list[float]:
    """Ours over naive in events per CPU second, one for each round."""
    pairs = zip(ours, naive, strict=True)
    return [(one.events / one.cpu_seconds) / (other.events / other.cpu_seconds) for one, other in pairs]
