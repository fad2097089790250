"""`python -m bench.memory --minutes 60`: what `serve` holds in an hour of mixed calls with every kind of fault.

`serve`, the emulator and Kafka are processes of their own. Calls of all kinds and sizes come at a rate, to two tenants
in turn, and each minute another fault is scripted (`FAULTS`). Every five seconds the resident size of `serve`, its
ledger's entries and what is in flight go into a CSV file, from which the picture is drawn.
"""

import asyncio
import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench.memory_sample import Sample
from bench.report import machine
from bench.scene import OTHER_TENANT_ID, Scene, open_scene
from service.embedded import embedded_kafka
from service.errors import UserError

MB = 1_000_000
MOST_MB = 512
SAMPLE_SECONDS = 5.0
MINUTE = 60.0
LARGE_EVERY = 5
"""In one minute of so many there is a meeting of 600 sessions."""
LARGE_SESSIONS = 600
Tell = Callable[[str], None]

FAULTS: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = (
    ("nothing", ()),
    ("429 storms", ({"status": 429, "retryAfter": 5, "probability": 0.01},)),
    ("5xx", ({"status": 503, "probability": 0.2}, {"status": 502, "probability": 0.1})),
    ("late records", ({"kind": "record", "action": "not-ready", "seconds": 30},)),
    ("broken bodies", ({"action": "cut", "probability": 0.1}, {"action": "cut-gzip", "probability": 0.1})),
    ("silence", ({"kind": "record", "action": "hang", "seconds": 30, "probability": 0.02},)),
    ("an outage", ({"status": 503},)),
    ("slow bodies", ({"action": "drip", "seconds": 4, "probability": 0.1},)),
    ("pages for people", ({"action": "html", "status": 502, "probability": 0.2},)),
    ("new versions between pages", ({"kind": "record", "action": "new-version", "probability": 0.1},)),
    ("one tenant forbidden", ({"status": 403, "tenantId": OTHER_TENANT_ID},)),
    ("no tokens", ({"kind": "token", "status": 503}, {"status": 401, "probability": 0.05})),
    (
        "notifications twice, late, in disorder",
        (
            {"action": "duplicate", "probability": 0.5},
            {"action": "reorder", "seconds": 20},
            {"action": "delay", "seconds": 60, "probability": 0.2},
        ),
    ),
)
"""A minute of each, in turn."""


async def watch(scene: Scene, minutes: float, tell: Tell) -> list[Sample]:
    """Puts the faults in turn and samples; ends after so many minutes, all faults lifted for the last of them."""
    samples: list[Sample] = []
    begun = time.monotonic()
    told, name = -1, ""
    while (now := time.monotonic() - begun) < minutes * MINUTE:
        minute = int(now // MINUTE)
        if minute != told:
            told = minute
            name = await _next_fault(scene, minute, is_last=now >= (minutes - 1) * MINUTE)
            tell(f"minute {minute + 1}: {name}; {scene.process.memory_info().rss / MB:.0f} MB")
        samples.append(await _sample(scene, now, name))
        await asyncio.sleep(SAMPLE_SECONDS)
    return samples


async def _next_fault(scene: Scene, minute: int, *, is_last: bool) -> str:
    name, faults = FAULTS[0] if is_last else FAULTS[minute % len(FAULTS)]
    await scene.lift()
    for fault in faults:
        await scene.post("/emulator/faults", fault)
    if minute % LARGE_EVERY == LARGE_EVERY - 1:
        await scene.post("/emulator/calls", {"kind": "group", "sessions": LARGE_SESSIONS})
    return name


async def _sample(scene: Scene, seconds: float, fault: str) -> Sample:
    figures = await scene.figures()
    return Sample(
        round(seconds, 1),
        round(scene.process.memory_info().rss / MB, 2),
        int(figures.total("ledger_entries")),
        round(figures.total("in_flight_bytes") / MB, 3),
        int(figures.total("records_published_total")),
        int(figures.total("notifications_retried_total")),
        int(figures.total("dead_letters_total")),
        round(figures.total("lag_seconds"), 1),
        fault,
    )


def slope(samples: Sequence[Sample]) -> float:
    """MB an hour over the second half, when everything has been met once; 0 for fewer than three samples."""
    half = samples[len(samples) // 2 :]
    if len(half) < 3:
        return 0.0
    line = statistics.linear_regression([one.seconds / 3600 for one in half], [one.rss_mb for one in half])
    return float(line.slope)


async def run(minutes: float, rate: float, tell: Tell) -> list[Sample]:
    """The whole of it on an embedded Kafka."""
    with tempfile.TemporaryDirectory(prefix="callstream-memory-") as name:
        async with embedded_kafka(on_progress=tell) as cluster:
            emulate = ("--rate", f"{rate:g}")
            async with open_scene(
                cluster.bootstrap_servers, Path(name), "bench.memory", emulate=emulate, tenants=2
            ) as scene:
                return await watch(scene, minutes, tell)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def memory(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60.0,
    rate: Annotated[float, typer.Option(min=0.1, help="New calls a second.")] = 3.0,
    table: Annotated[Path, typer.Option("--csv", help="Where the samples go.")] = Path("memory.csv"),
    plot: Annotated[Path | None, typer.Option(help="Where the picture goes (.svg or .png); needs matplotlib.")] = None,
) -> None:
    """Memory under mixed load with faults: samples as CSV, a picture, and how steep the second half is."""
    progress = Console(stderr=True)

    def tell(line: str) -> None:
        progress.print(line, style="dim", highlight=False)

    if plot is not None:
        _check_plot(progress)
    try:
        samples = asyncio.run(run(minutes, rate, tell))
    except (UserError, RuntimeError, TimeoutError) as error:
        progress.print(f"memory: {str(error) or type(error).__name__}", style="red", highlight=False)
        raise typer.Exit(1) from None
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Sample._fields)
        writer.writerows(samples)
    if plot is not None:
        from bench.memory_plot import draw

        draw(samples, plot)
    last, most = samples[-1], max(one.rss_mb for one in samples)
    sys.stdout.write(
        f"{machine()}\n{minutes:g} min at {rate:g} calls a second: {last.published:,} versions published, "
        f"{last.retried:,} retries, {last.dead} dead letters\n"
        f"resident {samples[0].rss_mb:.0f} MB at first, {last.rss_mb:.0f} MB at last, {most:.0f} MB at most; "
        f"second half {slope(samples):+.1f} MB an hour, with {last.ledger_entries:,} ledger entries\n"
    )
    if most > MOST_MB:
        progress.print(f"memory: {most:.0f} MB are more than {MOST_MB}", style="red", highlight=False)
        raise typer.Exit(1)


def _check_plot(progress: Console) -> None:
    """Before the hour, not after it."""
    try:
        import bench.memory_plot  # noqa: F401
    except ModuleNotFoundError as error:
        progress.print(f"memory: --plot needs {error.name}, which is not installed", style="red", highlight=False)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
