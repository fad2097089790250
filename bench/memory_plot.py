"""The picture of a run of `bench.memory`: resident memory over time, the ledger's entries, a band for each fault."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.figure import Figure

from bench.memory_sample import Sample

MINUTE = 60.0
SHADES = ("#f4f4f4", "#e6eaf2")


def draw(samples: Sequence[Sample], file: Path) -> None:
    """Writes `file`, as SVG or PNG by its name."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    minutes = [one.seconds / MINUTE for one in samples]
    top = max(one.rss_mb for one in samples) * 1.35
    begins = [(next(group).seconds / MINUTE, name) for name, group in groupby(samples, key=lambda one: one.fault)]
    for number, (begin, name) in enumerate(begins):
        end = begins[number + 1][0] if number + 1 < len(begins) else minutes[-1]
        axes.axvspan(begin, end, color=SHADES[number % 2], linewidth=0)
        axes.text(begin, top * 0.99, name, rotation=90, fontsize=6, va="top", color="#777777")
    axes.plot(minutes, [one.rss_mb for one in samples], color="#1f4e9c", label="resident, MB")
    axes.set(xlabel="minutes", ylabel="MB", ylim=(0, top), xlim=(0, minutes[-1]))
    entries = axes.twinx()
    entries.plot(
        minutes, [one.ledger_entries for one in samples], color="#b5651d", linestyle=":", label="ledger entries"
    )
    entries.set(ylabel="ledger entries", ylim=(0, None))
    lines = [*axes.get_lines(), *entries.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="lower right")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
