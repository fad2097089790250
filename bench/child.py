"""One pipeline in a process of its own, so that the processor time is its alone.

Says `ready`; then reads one line for each round from standard input, the path of a file of bodies, and answers with one
line of JSON, a `Cost`. Ends with its input.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from pathlib import Path

import msgspec

from bench.material import read_round
from bench.naive import Naive, orjson_dumps, orjson_loads, stdlib_dumps
from bench.ours import Ours
from bench.pipeline import Cost, Pipeline
from service import logs
from service.settings import Log

READY = "ready"


def make(name: str, servers: str, prefix: str, tenant_id: str) -> Pipeline:
    """A pipeline by its name. `prefix` begins the names of its topics."""
    match name:
        case "callstream":
            return Ours(servers, prefix, tenant_id)
        case "naive-json":
            return Naive(servers, naive_topic(prefix), tenant_id, json.loads, stdlib_dumps)
        case "naive-orjson":
            return Naive(servers, naive_topic(prefix), tenant_id, orjson_loads, orjson_dumps)
    raise ValueError(f"no pipeline is called {name}")


def naive_topic(prefix: str) -> str:
    """The one topic of a naive pipeline."""
    return f"{prefix}.events"


def cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def one_round(pipeline: Pipeline, file: Path) -> Cost:
    """The bodies are in memory, and the garbage of the last round is gone, before the clocks start."""
    pages = read_round(file)
    gc.collect()
    wall, cpu = time.perf_counter(), cpu_seconds()
    work = await pipeline.run(pages)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return Cost(work.events, work.event_bytes, wall, cpu)


async def main(name: str, servers: str, prefix: str, tenant_id: str) -> None:
    """Rounds until the parent closes our input."""
    logs.set_up(Log(level="error"))
    async with make(name, servers, prefix, tenant_id) as pipeline:
        print(READY, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            cost = await one_round(pipeline, Path(line.strip()))
            print(msgspec.json.encode(cost).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
