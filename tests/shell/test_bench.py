"""The benchmark measures what it says: all pipelines do all of the work, each piece once. No claim is about time."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.compare import OURS, PIPELINES
from bench.material import STREAMS
from bench.verify import difference

ROOT = Path(__file__).parents[2]
RECORDS, ROUNDS = 6, 1
DEADLINE_SECONDS = 240.0


@pytest.fixture(scope="module")
def report(kafka_packages: None) -> dict[str, Any]:
    """What the benchmark says after its quickest run."""
    arguments = ("--quick", "--json", "--records", str(RECORDS), "--rounds", str(ROUNDS))
    command = (sys.executable, "-m", "bench", *arguments)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_pipeline_publishes_every_position_exactly_once(report: dict[str, Any]) -> None:
    """The benchmark reads its topics back and fails when pipelines differ; here it must have found all of them."""
    comparison = report["comparison"]
    events = RECORDS * STREAMS

    assert comparison["positions"] == (ROUNDS + 1) * events
    assert {rate["name"] for rate in comparison["rates"]} == set(PIPELINES)
    for rate in comparison["rates"]:
        assert [cost["events"] for cost in rate["rounds"]] == [events] * ROUNDS


def test_events_of_the_naive_pipelines_are_about_as_large_as_ours(report: dict[str, Any]) -> None:
    """The yardstick must carry the same facts: an event of half the size would cost half as much to send.

    Flat keys repeat the names of their groups, and so the naive events are somewhat larger, but not more than that.
    """
    sizes = {rate["name"]: rate["event_bytes"] for rate in report["comparison"]["rates"]}

    for name, size in sizes.items():
        assert 0.85 < size / sizes[OURS] < 1.5, name


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (["a", "b"], None),
        (["a"], "1 missing (for instance b)"),
        (["a", "b", "c"], "1 not expected (for instance c)"),
        (["a", "b", "b"], "1 more than once (for instance b)"),
    ],
)
def test_work_that_is_dropped_repeated_or_made_up_is_told(found: list[str], words: str | None) -> None:
    """What the comparison fails with."""
    assert difference(Counter(["a", "b"]), Counter(found)) == words
