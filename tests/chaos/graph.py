"""A process: the emulator with its faults on, and a feeder that puts the calls of the run into it.

Killed and started again it goes on from its state file: same calls, same subscriptions, undelivered notices; the calls
that were due meanwhile come at once. Which calls there are follows from the seed; their times are those of the run.
"""

import asyncio
import signal
import sys
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from service.clock import Clock
from service.emulator.generator import CallSpec, generate_call, mixed_specs
from service.emulator.options import DeliveryOptions, EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator

EVENTS_PER_CALL = 17.0
"""Of first versions alone, a little less than the average of the generator's mix."""
BLOCK = 200
STARTED_BEFORE_SECONDS = 3 * 3600.0
LATE_SHARE, LATE_SECONDS = 0.1, 2.0
NEWER_SHARE, MOST_VERSIONS, NEWER_SECONDS = 0.15, 4, (0.5, 6.0)

DELIVERY = DeliveryOptions(
    duplicate_share=0.05,
    reorder_seconds=1.0,
    first_backoff_seconds=0.5,
    longest_backoff_seconds=4.0,
    # A frozen receiver would otherwise make Graph throw notices away for ten minutes, which reconciliation heals.
    slow_share=1.0,
    drop_share=1.0,
)

FAULTS: tuple[dict[str, Any], ...] = (
    {"kind": "record", "status": 404, "probability": 0.01},
    {"status": 429, "retryAfter": 1, "probability": 0.003},
    {"status": 429, "probability": 0.001},
    {"status": 500, "probability": 0.01},
    {"status": 502, "probability": 0.005},
    {"status": 503, "retryAfter": 1, "probability": 0.003},
    {"status": 504, "probability": 0.005},
    {"status": 401, "probability": 0.003},
    {"action": "cut", "probability": 0.01},
    {"action": "cut-gzip", "probability": 0.01},
    {"action": "cut-json", "probability": 0.005},
    {"action": "close", "probability": 0.005},
    {"action": "html", "probability": 0.005},
    {"action": "content-type", "contentType": "text/plain", "probability": 0.003},
    {"kind": "record", "action": "foreign-link", "host": "graph.example.com", "probability": 0.01},
    {"kind": "sessions", "action": "looping-link", "probability": 0.01},
    {"kind": "sessions", "action": "new-version", "probability": 0.05},
    {"action": "drip", "seconds": 1.0, "probability": 0.01},
    {"action": "hang", "seconds": 4.0, "probability": 0.003},
    {"kind": "token", "status": 503, "probability": 0.05},
    {"kind": "subscriptions", "status": 500, "probability": 0.05},
)


class Plan(msgspec.Struct, frozen=True):
    """What the process is told."""

    port: int
    state_file: str
    tenants: list[TenantOptions]
    seed: int
    calls: int
    begin_file: str
    """Appears when the run begins; holds the Unix time at which the first call is announced."""
    seconds: float
    """Over which the calls are announced."""


def calls_for(events: int) -> int:
    """How many calls bring at least so many stream events (later versions come on top)."""
    return max(1, round(events / EVENTS_PER_CALL))


def specs(plan: Plan, begins_at: float) -> list[CallSpec]:
    """The calls of the run, in the order in which they are announced."""
    tenants = [tenant.id for tenant in plan.tenants]
    start = begins_at - STARTED_BEFORE_SECONDS
    blocks = -(-plan.calls // BLOCK)
    made = (
        spec
        for n in range(blocks)
        for spec in mixed_specs(BLOCK, tenants, plan.seed * 100_000 + n, start, plan.seconds)
    )
    return list(islice(made, plan.calls))


async def feed(emulator: Emulator, plan: Plan) -> None:
    """Puts the calls in one after the other, at a steady pace; those that are there already are passed over."""
    clock, store, begins_at = emulator.world.clock, emulator.store, await _begin(Path(plan.begin_file))
    wishes = specs(plan, begins_at)
    for number in range(len(store), len(wishes)):
        at = begins_at + number * plan.seconds / len(wishes)
        await clock.sleep(at - clock.now())
        spec, chance = wishes[number], Random(f"{plan.seed}/{number}")
        now = clock.now()
        late = LATE_SECONDS if chance.random() < LATE_SHARE else 0.0
        call = store.add_call(spec.tenant_id, generate_call(spec), visible_at=now + late)
        if chance.random() < NEWER_SHARE:
            for _ in range(chance.randrange(1, MOST_VERSIONS)):
                late += chance.uniform(*NEWER_SECONDS)
                store.schedule(call, now + late, emulator.maker.later_version)


async def _begin(file: Path) -> float:
    """Waits for the run to begin; the Unix time at which it does."""
    while not file.exists() or not (text := file.read_text()):  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(0.05)
    return float(text)


async def serve(plan: Plan) -> None:
    """Until SIGTERM."""
    options = EmulatorOptions(
        port=plan.port,
        tenants=tuple(plan.tenants),
        seed=plan.seed,
        nextlink_form="metadata",
        state_file=Path(plan.state_file),
        delivery=DELIVERY,
        faults=FAULTS,
    )
    async with open_emulator(options, Clock()) as emulator:
        emulator.background.start(feed(emulator, plan), "feeder")
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, emulator.background.failed.set)
        await emulator.background.failed.wait()


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)))
