"""The picture of a run: what was listed and how it came out day by day, what was open at each moment, what happened.

Reads nothing but an `Outcome`. Needs matplotlib, of the extra `bench`; draws without a display.
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.simulation.outcome import Outcome

# Told apart by people who see no red and green, too (Okabe and Ito's palette).
NOTICE, HEALED, MISSING, INK, SILENT, DOWN = "#56b4e9", "#e69f00", "#d55e00", "#222222", "#dddddd", "#f3c9c0"
MARKS = {
    "secret": ("client secrets replaced", "v", "#0072b2"),
    "late secret": ("a secret ends 6 h too early", "X", "#d55e00"),
    "key": ("new clientState key, service restarted", "D", "#009e73"),
}
SIZE_INCHES = (11.0, 7.2)


def draw(outcome: Outcome, path: Path) -> None:
    """Writes the picture; the file's ending decides its kind (.svg, .png)."""
    # Text stays text and ids repeat, so that the same run gives the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "callstream", "font.size": 9, "axes.grid": True}):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        axes = figure.subplots(3, 1, sharex=True, height_ratios=(5, 4, 2))
        for each in axes:
            _shade(each, outcome)
            each.set_axisbelow(True)
            each.grid(axis="x", visible=False)
            each.grid(axis="y", color="#eeeeee")
            for side in ("top", "right"):
                each.spines[side].set_visible(False)
        _days(axes[0], outcome)
        _open(axes[1], outcome)
        _doings(axes[2], outcome)
        last = max([len(outcome.days), *(one["day"] for one in outcome.samples)])
        axes[2].set_xlim(0, last)
        axes[2].set_xticks(range(0, int(last) + 1, 2 if last > 12 else 1))
        axes[2].set_xlabel("day of the run (a day begins at its number, 00:00 UTC of the simulated clock)")
        figure.suptitle(_title(outcome), x=0.01, ha="left", fontsize=11)
        figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)


def _title(outcome: Outcome) -> str:
    verdict, script = outcome.verdict, outcome.script
    throttled = sum(one["throttled"] for one in outcome.limits.values())
    return (
        f"{script['days']:g} days, {script['tenants']} tenants, {verdict['calls']:,} calls, "
        f"{100 * script['dropped']:g} % of all notices lost: "
        f"{sum(day['missing'] for day in outcome.days)} missing, {verdict['lost']} lost, "
        f"{verdict['duplicated']} published twice, {throttled} answers 429"
    )


def _shade(axes: Axes, outcome: Outcome) -> None:
    for first, last in outcome.script["silent"]:
        axes.axvspan(first, last, color=SILENT, lw=0, zorder=0)
    for first, last in outcome.script["down"]:
        axes.axvspan(first, last, color=DOWN, lw=0, zorder=0)


def _days(axes: Axes, outcome: Outcome) -> None:
    """One bar a day: listed as an outline, published in it by notice and by reconciliation, missing on top in red."""
    middles = [number + 0.5 for number in range(len(outcome.days))]
    healed = [min(day["healed"], day["published"]) for day in outcome.days]
    noticed = [day["published"] - many for day, many in zip(outcome.days, healed, strict=True)]
    missing = [day["missing"] for day in outcome.days]
    axes.bar(middles, noticed, width=0.8, color=NOTICE)
    axes.bar(middles, healed, width=0.8, bottom=noticed, color=HEALED)
    axes.bar(middles, missing, width=0.8, bottom=[day["published"] for day in outcome.days], color=MISSING)
    listed = [day["listed"] for day in outcome.days]
    axes.bar(middles, listed, width=0.8, fill=False, edgecolor=INK, linewidth=0.9)
    axes.set_ylabel("calls that started on the day")
    axes.set_ylim(0, 1.32 * max(listed, default=1))
    total = {state: sum(day[state] for day in outcome.days) for state in ("listed", "healed", "missing", "published")}
    legend: list[Any] = [
        Patch(fill=False, edgecolor=INK, label=f"listed by Graph: {total['listed']:,}"),
        Patch(color=NOTICE, label=f"published after a notice: {sum(noticed):,}"),
        Patch(color=HEALED, label=f"published because the list was looked through (healed): {sum(healed):,}"),
        Patch(color=MISSING, label=f"missing in the end: {total['missing']:,}"),
        Patch(color=SILENT, label="Graph silent: nobody is told of these calls"),
        Patch(color=DOWN, label="service down; subscriptions lapse"),
    ]
    axes.legend(
        handles=legend, ncols=2, loc="upper left", facecolor="white", framealpha=1, edgecolor="none", fontsize=8
    )


def _open(axes: Axes, outcome: Outcome) -> None:
    """By the emulator's own truth, not by what the keeper knows."""
    days = [one["day"] for one in outcome.samples]
    axes.fill_between(days, [one["open"] for one in outcome.samples], step="post", color=MISSING, alpha=0.35, lw=0)
    axes.step(days, [one["open"] for one in outcome.samples], where="post", color=MISSING, lw=1.1)
    axes.set_ylabel("calls whose last version\nis not published yet")
    axes.set_ylim(bottom=0)
    end = outcome.samples[-1]
    axes.annotate(
        f"{end['open']} open", (end["day"], end["open"]), (-4, 10), textcoords="offset points", ha="right", fontsize=8
    )


def _doings(axes: Axes, outcome: Outcome) -> None:
    """What the operator did, and each tenant's subscription as a line with gaps."""
    tenants = list(outcome.gaps)
    for row, tenant in enumerate(tenants):
        begin, end = 0.0, outcome.samples[-1]["day"]
        for first, last in [*outcome.gaps[tenant], (end, end)]:
            axes.plot([begin, first], [row, row], color=INK, lw=2.2, solid_capstyle="butt")
            begin = last
    for mark in outcome.marks:
        if mark["what"] in MARKS:
            _, shape, colour = MARKS[mark["what"]]
            axes.plot([mark["day"]], [len(tenants)], marker=shape, color=colour, ms=7, ls="none", clip_on=False)
    axes.set_yticks(range(len(tenants) + 1), [*(f"{name} subscribed" for name in tenants), "operator"])
    axes.set_ylim(-0.6, len(tenants) + 1.9)
    axes.grid(axis="y", visible=False)
    used = {mark["what"] for mark in outcome.marks}
    legend = [
        Line2D([], [], marker=shape, color=colour, ls="none", ms=6, label=text)
        for what, (text, shape, colour) in MARKS.items()
        if what in used
    ]
    axes.legend(
        handles=legend,
        ncols=3,
        loc="upper left",
        facecolor="white",
        framealpha=1,
        edgecolor="none",
        fontsize=8,
        borderaxespad=0.1,
    )
