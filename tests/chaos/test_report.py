"""What a chaos run's report says of a verdict, for each kind of delivery."""

from typing import Any

import orjson
import pytest

from tests.chaos.report import FIGURES, Report
from tests.chaos.world import AT_LEAST_ONCE, EXACTLY_ONCE, Size

CLEAN = {
    "lost": 0,
    "duplicated": 0,
    "wrong": 0,
    "half versions": 0,
    "half versions with a summary": 0,
    "older after newer": 0,
    "acknowledged and vanished": 0,
    "dead letters": 0,
    "ledger differs": 0,
}
ALLOWED_AT_LEAST_ONCE = {"duplicated", "older after newer", "ledger differs"}


def report(delivery: str, overtaken: int = 0, crashes: int = 0, hidden: int = 0, **faults: int) -> Report:
    """A run with these counts; underscores stand for spaces."""
    verdict: dict[str, Any] = dict.fromkeys(FIGURES, 1) | {
        "faults": CLEAN | {name.replace("_", " "): count for name, count in faults.items()},
        "overtaken": {"lost": 5 * overtaken, "half versions": overtaken},
        "hidden": ["callrecords.calls 0"] * hidden,
        "dead letters by reason": {},
        "problems": [],
    }
    return Report(Size(1000, 60.0, 7, delivery), [], [], verdict, {"worker-1": [1] * crashes}, 61.0)


@pytest.mark.parametrize("name", CLEAN)
def test_each_fault_alone_makes_a_run_wrong(name: str) -> None:
    """What may be without transactions is counted there, and is a fault with them."""
    found = {name.replace(" ", "_"): 1}

    assert report(EXACTLY_ONCE).is_right
    assert not report(EXACTLY_ONCE, **found).is_right
    assert report(AT_LEAST_ONCE, **found).is_right == (name in ALLOWED_AT_LEAST_ONCE)


@pytest.mark.parametrize("delivery", [EXACTLY_ONCE, AT_LEAST_ONCE])
def test_a_process_that_ended_by_itself_and_an_open_transaction_are_faults(delivery: str) -> None:
    """Nothing is lost by them, and still something is wrong."""
    assert not report(delivery, crashes=1).is_right
    assert not report(delivery, hidden=1).is_right


def test_a_half_version_that_was_overtaken_is_a_fault_only_with_transactions() -> None:
    """Without them its rest follows with a repetition, unless a newer version has come."""
    found = {"overtaken": 1, "lost": 5, "half_versions": 1}

    assert not report(EXACTLY_ONCE, **found).is_right
    assert report(AT_LEAST_ONCE, **found).is_right
    assert not report(AT_LEAST_ONCE, **found | {"lost": 6}).is_right


def test_a_report_names_the_command_that_makes_it_again() -> None:
    """In both of its forms."""
    made = report(AT_LEAST_ONCE, duplicated=3)

    assert made.command == 'make chaos EVENTS=1000 DURATION=60 SEED=7 ARGS="--delivery at-least-once"'
    assert made.command in made.as_markdown()
    assert "| duplicated | 3 |" in made.as_markdown()
    assert orjson.loads(made.as_json())["counted"]["duplicated"] == 3
