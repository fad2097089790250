"""What became of a run: for a terminal, for a machine, and for docs/reliability.md."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from service.embedded import KAFKA_VERSION
from tests.chaos.schedule import KILLS, Strike
from tests.chaos.strikes import Struck
from tests.chaos.world import AT_LEAST_ONCE, Size

# What a broker without transactions cannot keep, and the documents say so (docs/operations.md).
MAY_BE_AT_LEAST_ONCE = frozenset({"duplicated", "older after newer", "ledger differs"})
FIGURES = (
    "calls",
    "versions",
    "events",
    "published versions",
    "notices acknowledged",
    "longest stall seconds",
    "longest wait seconds",
    "wait seconds, half of the calls",
    "wait seconds, 99 of 100",
)


@dataclass(frozen=True)
class Report:
    """A run, its strikes and the judge's verdict."""

    size: Size
    strikes: Sequence[Struck]
    left_out: Sequence[Strike]
    """Strikes for which it was too late: the machine was too busy to bring up in time what had been struck before."""
    verdict: dict[str, Any]
    crashes: dict[str, list[int]]
    seconds: float
    """From the first strike's clock to the verdict."""

    @property
    def faults(self) -> dict[str, int]:
        """Everything that must be 0, by name."""
        ended = {"processes that ended by themselves": sum(map(len, self.crashes.values()))}
        hidden = {"partitions with an open transaction": len(self.verdict["hidden"])}
        faults = {**self.verdict["faults"], **ended, **hidden}
        if self.size.delivery != AT_LEAST_ONCE:
            return faults
        overtaken = self.verdict["overtaken"]
        return {name: n - overtaken.get(name, 0) for name, n in faults.items() if name not in MAY_BE_AT_LEAST_ONCE}

    @property
    def counted(self) -> dict[str, int]:
        """What may be above 0 with this delivery."""
        if self.size.delivery != AT_LEAST_ONCE:
            return {}
        half = {"half versions that a newer one followed": self.verdict["overtaken"]["half versions"]}
        return {name: self.verdict["faults"][name] for name in sorted(MAY_BE_AT_LEAST_ONCE)} | half

    @property
    def is_right(self) -> bool:
        """Whether the promises held."""
        return not any(self.faults.values())

    @property
    def command(self) -> str:
        """What makes the same schedule and the same calls again."""
        delivery = ' ARGS="--delivery at-least-once"' if self.size.delivery == AT_LEAST_ONCE else ""
        return f"make chaos EVENTS={self.size.events} DURATION={self.size.seconds:g} SEED={self.size.seed}{delivery}"

    def struck(self) -> list[tuple[str, str, int]]:
        """Whom, what, how often."""
        counts = Counter((one.strike.track, one.strike.what) for one in self.strikes)
        return [(track, what, count) for (track, what), count in sorted(counts.items())]

    @property
    def kills(self) -> int:
        """Processes that were ended, by SIGKILL or SIGTERM."""
        return sum(one.strike.what in KILLS for one in self.strikes)

    def as_json(self) -> bytes:
        """Everything, the strikes one by one."""
        return orjson.dumps(
            {
                "command": self.command,
                "machine": machine(),
                "seconds": round(self.seconds, 1),
                "kills": self.kills,
                "faults": self.faults,
                "counted": self.counted,
                "isRight": self.is_right,
                "verdict": self.verdict,
                "crashes": self.crashes,
                "strikes": [str(one) for one in self.strikes],
                "leftOut": [str(one) for one in self.left_out],
            },
            option=orjson.OPT_INDENT_2,
        )

    def as_markdown(self) -> str:
        """A document of its own, the strikes one by one."""
        events, seconds = self.verdict["events"], self.seconds
        lines = [
            "# A chaos run",
            "",
            f"Written by `{self.command} REPORT=…` on {machine()}: {events:,} events, {self.kills} kills and "
            f"{len(self.strikes) - self.kills} other strikes in {seconds / 60:.1f} minutes, "
            f"{events / seconds:.0f} events a second. What is struck and judged, and what of it a seed repeats, is in "
            "[reliability](reliability.md).",
            "",
            *_table(("Must be 0", "Found"), self.faults.items()),
            *(_table(("Counted", "Found"), self.counted.items()) if self.counted else ()),
            *_table(("Struck", "How", "Times"), self.struck()),
            *_table(("Seen", ""), [(name, _shown(self.verdict[name])) for name in FIGURES]),
            f"Strikes left out because the machine was too busy: {len(self.left_out)}. "
            "Each strike as planned, and when and whom it met:",
            "",
            "```text",
            *(str(one) for one in self.strikes),
            "```",
        ]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Markdown for a name that ends in .md, else JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            path.write_text(self.as_markdown(), encoding="utf-8")
        else:
            path.write_bytes(self.as_json())

    def show(self, console: Console) -> None:
        """The verdict as a table."""
        title = (
            f"{self.verdict['events']:,} events, {self.kills} kills, {len(self.strikes)} strikes, {self.seconds:.0f} s"
        )
        table = Table(title=title)
        table.add_column("")
        table.add_column("", justify="right")
        for name, count in self.faults.items():
            table.add_row(name, str(count), style="bold red" if count else "green")
        for name, count in self.counted.items():
            table.add_row(f"{name} (may be)", str(count))
        table.add_section()
        for track, what, count in self.struck():
            table.add_row(f"{track}: {what}", str(count))
        table.add_section()
        for name in FIGURES:
            table.add_row(name, _shown(self.verdict[name]))
        console.print(table)
        for problem in (*self.verdict["problems"], *self.verdict["hidden"]):
            console.print(f"  {problem}", style="red", markup=False)
        for reason, count in self.verdict["dead letters by reason"].items():
            console.print(f"  {count} dead letters: {reason}", style="red", markup=False)
        for name, codes in self.crashes.items():
            console.print(f"  {name} ended by itself: {codes}", style="red", markup=False)
        for strike in self.left_out:
            console.print(f"  left out, the machine was too busy: {strike}", markup=False)
        console.print(f"Again: {self.command}", markup=False)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def machine() -> str:
    """What the run ran on."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, Apache Kafka {KAFKA_VERSION}"


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
