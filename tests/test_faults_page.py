"""docs/faults.md: every row names a test that exists and series that exist, and no fault is left out."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from service.cli.reference import families
from service.emulator.fault_wishes import ACTIONS
from service.metrics import DEAD, GRAPH_CALLS, GRAPH_OUTCOMES, RETRIED, SKIPPED

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| What goes wrong")
]
# What the service promises to withstand, a row each (the fault table of the design), by words of the page's first cell.
PROMISED = (
    "404, the notification is younger",
    "404 for good",
    "429 with `Retry-After`",
    "403: consent is missing",
    "token endpoint fails",
    "401",
    "500, 502, 503, 504",
    "An outage",
    "wrong type, an unknown field or enum member",
    "no call record",
    "new version appears between two pages",
    "still shows the version that the ledger has",
    "Kafka is away",
    "killed at any instant",
)
LABELS = {
    "retried": [RETRIED],
    "dead": [DEAD],
    "skipped": [SKIPPED],
    "graph": [GRAPH_CALLS, GRAPH_OUTCOMES],
}


@cache
def names_in(file: str) -> set[str]:
    """Names of the functions of a test file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_every_row_names_tests_that_exist(row: list[str]) -> None:
    """`file::test`, in backquotes."""
    assert len(row) == 4
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row[3])

    assert named
    assert [name for file, name in named if name not in names_in(file)] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_every_row_names_series_and_labels_that_exist(row: list[str]) -> None:
    """In the short form that the page explains, or in full."""
    names = {family.name.removesuffix("_total") for family in families()}
    for short, text in re.findall(r"`(\w+)(?:\{([^}]*)\})?`", row[2]):
        if short == "waiting":
            continue
        if short in LABELS:
            for label, known in zip(text.split(","), LABELS[short], strict=True):
                assert label == "…" or label in known, (short, label)
        else:
            assert short.removesuffix("_total") in names


@pytest.mark.parametrize("promise", PROMISED)
def test_nothing_promised_is_left_out(promise: str) -> None:
    """Each row of the design has a line here."""
    assert [row[0] for row in ROWS if promise in row[0]]


def test_every_fault_of_the_emulator_meets_the_service() -> None:
    """Each action is put in a test of the table, or kills a keeper."""
    files = ("test_fault_table.py", "test_keeper_deaths.py")
    source = "".join((ROOT / "tests" / "broker" / name).read_text(encoding="utf-8") for name in files)

    assert {name for name in ACTIONS if f'"{name}"' not in source} <= {"status"}
