"""The tables of a run, and the machine it ran on."""

import os
import platform
import statistics
from collections.abc import Iterable

import msgspec
from rich.console import Console
from rich.table import Table

from bench.compare import NAIVE, OURS, Comparison, Rate, Spread
from bench.whole import STREAMS, Way
from service.embedded import KAFKA_VERSION


class Report(msgspec.Struct, frozen=True):
    """Everything a run has found."""

    machine: str
    comparison: Comparison
    ways: list[Way]


def machine() -> str:
    """What the figures hold for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{cores} cores, {platform.machine()}, {platform.system()}, {python}, Apache Kafka {KAFKA_VERSION}"


def show(report: Report, console: Console) -> None:
    """All tables."""
    console.print(f"\n{report.machine}\n", highlight=False)
    console.print(_rates(report.comparison))
    console.print(_rounds(report.comparison))
    for name in NAIVE:
        spread = report.comparison.ratios[name]
        text = f"{OURS} against {name}: {spread.median:.2f} times the events per CPU second"
        console.print(f"{text} ({spread.least:.2f} to {spread.most:.2f}, round by round)", highlight=False)
    console.print(f"Every pipeline published the same {report.comparison.positions:,} positions, each once.\n")
    if report.ways:
        console.print(_ways(report.ways))


def _rates(comparison: Comparison) -> Table:
    title = f"From page bodies to Kafka: {comparison.records} records of {comparison.streams} streams a round"
    table = _table(title, "pipeline", "bytes/event", "events/CPU s", "min-max", "CPU us/event", "events/s", "min-max")
    for rate in comparison.rates:
        table.add_row(
            rate.name,
            f"{rate.event_bytes:,.0f}",
            f"{rate.per_cpu_second.median:,.0f}",
            _range(rate.per_cpu_second),
            f"{1e6 / rate.per_cpu_second.median:.1f}",
            f"{rate.per_wall_second.median:,.0f}",
            _range(rate.per_wall_second),
        )
    return table


def _rounds(comparison: Comparison) -> Table:
    """Microseconds of one core for an event, in every round."""
    numbers = [str(number + 1) for number in range(len(comparison.rates[0].rounds))]
    table = _table("CPU us/event by round", "pipeline", *numbers, "median")
    for rate in comparison.rates:
        costs = us_per_event(rate)
        table.add_row(rate.name, *(f"{cost:.1f}" for cost in costs), f"{statistics.median(costs):.1f}")
    return table


def us_per_event(rate: Rate) -> list[float]:
    """Microseconds of one core for an event, round by round."""
    return [cost.cpu_seconds / cost.events * 1e6 for cost in rate.rounds]


def _ways(ways: Iterable[Way]) -> Table:
    columns = ("records", "events", "events/s", "CPU us/event", "idle MB", "most MB")
    table = _table("The whole way: serve, the emulator and Kafka, each a process", *columns)
    for way in ways:
        table.add_row(
            f"{way.records} {way.size} of {STREAMS[way.size]} streams",
            f"{way.events:,}",
            f"{way.events / way.wall_seconds:,.0f}",
            f"{way.cpu_us_per_event:.1f}",
            f"{way.idle_mb:.0f}",
            f"{way.most_mb:.0f}",
        )
    return table


def _table(title: str, first: str, *rest: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name in rest:
        table.add_column(name, justify="right")
    return table


def _range(spread: Spread) -> str:
    return f"{spread.least:,.0f}-{spread.most:,.0f}"
