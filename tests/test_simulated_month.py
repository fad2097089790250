"""The month of docs/completeness.md: its table is that of the run that lies beside it, and the run is right."""

from pathlib import Path

import msgspec
import pytest

from bench.simulation.outcome import Outcome

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def month() -> Outcome:
    """As `python -m bench.simulation --json` wrote it."""
    return msgspec.json.decode((DOCS / "completeness-month.json").read_bytes(), type=Outcome)


def test_the_month_was_right(month: Outcome) -> None:
    """Thirty days, three tenants, all listed and published once, no limit passed."""
    assert month.faults() == []
    assert len(month.days) == month.script["days"] == 30
    assert len(month.tenants) == 3
    assert sum(one["throttled"] for one in month.limits.values()) == 0


def test_the_table_is_that_of_the_run(month: Outcome) -> None:
    """Every day's row, and the figures above it."""
    text = (DOCS / "completeness.md").read_text(encoding="utf-8")

    for number, day in enumerate(month.days, 1):
        row = next(line for line in text.splitlines() if line.startswith((f"| {number} |", f"| {number} (")))
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        assert cells == [str(day[state]) for state in ("made", "listed", "published", "missing", "healed")]
    verdict = month.verdict
    assert f"{verdict['calls']:,}, {verdict['versions']:,}, {verdict['events']:,}" in text
    for name, title in (("list", "list, an application and tenant"), ("record", "a record"), ("app", "an application")):
        row = next(line for line in text.splitlines() if line.startswith(f"| {title} |"))
        assert row.endswith(f"| {month.limits[name]['highest']} |")


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_picture_can_be_drawn_again(month: Outcome, tmp_path: Path, ending: str) -> None:
    """From what was written of the run."""
    pytest.importorskip("matplotlib", reason="the extra `bench` is not installed")
    from bench.simulation.plot import draw

    picture = tmp_path / f"month.{ending}"
    draw(month, picture)

    assert picture.stat().st_size > 10_000


def test_what_went_wrong_would_be_said(month: Outcome) -> None:
    """A limit passed, a day not complete, a loss."""
    limits = {name: {**one, "highest": one["limit"] + 1} for name, one in month.limits.items()}
    days = [{**month.days[0], "published": 1}]
    verdict = {**month.verdict, "lost": 1}
    worse = Outcome(**{**vars(month), "limits": limits, "days": days, "verdict": verdict})

    assert len(worse.faults()) == len(limits) + 2
