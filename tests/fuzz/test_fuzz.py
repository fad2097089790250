"""The fuzz targets: every committed input, always; each under atheris for a moment. `make fuzz` runs them for long."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import tally
from tests.fuzz.mutate import mutated
from tests.fuzz.tally import Tally
from tests.fuzz.targets import CORPUS, TARGETS

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 400.0  # far above what is needed: machines are shared
# A second or two of each; the larger a target's inputs, the slower.
RUNS = {"notification": 5_000, "record": 500, "graph": 5_000, "kafka": 10_000}


@pytest.mark.parametrize("name", TARGETS)
def test_every_committed_input_passes(name: str) -> None:
    """Seeds, what once reached new code, and what once broke something (`regression-…`)."""
    target, counts = TARGETS[name], Tally()
    for file in target.inputs():
        target.run(file.read_bytes(), counts)

    assert len(target.inputs()) >= 5


def test_the_corpus_is_small() -> None:
    """It is in the repository for good."""
    assert sum(file.stat().st_size for file in CORPUS.rglob("*") if file.is_file()) < 200_000


@pytest.mark.parametrize("name", TARGETS)
def test_the_oracle_runs_deep(name: str, tmp_path: Path) -> None:
    """A target whose inputs all fail at the first check would find nothing: the corpus gets through to the end."""
    target, file = TARGETS[name], tmp_path / "counts"
    counts = Tally(file)
    for path in target.inputs():
        target.run(path.read_bytes(), counts)

    expected = {"notification": "admitted", "record": "events", "graph": "links", "kafka": "items"}
    assert tally.read(file)[expected[name]] > 0


def test_a_mutation_is_repeatable_and_within_its_bound() -> None:
    """libFuzzer repeats an input by its seed."""
    data = (CORPUS / "notification" / "seed-mixed").read_bytes()
    for seed in range(300):
        made = mutated(data, 4096, seed, lambda body, _: body[1:])
        assert made == mutated(data, 4096, seed, lambda body, _: body[1:])
        assert len(made) <= 4096


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has wheels for Linux on x86-64 only: pip install 'callstream[fuzz]' there",
)
def test_atheris_finds_nothing_in_a_short_run(tmp_path: Path) -> None:
    """Guided by the branches of the program, from the committed corpus on, another seed each time."""
    # Side by side: most of the time goes by while each imports the program.
    children = {name: _child(name, tmp_path) for name in TARGETS}
    try:
        for name, child in children.items():
            said, _ = child.communicate(timeout=DEADLINE_SECONDS)
            counted = tally.read(tmp_path / f"{name}.counts")

            assert child.returncode == 0, said[-5000:]
            assert counted["runs"] >= RUNS[name]
            assert counted.get("forged_admitted", 0) == 0
    finally:
        for child in children.values():
            child.kill()
            child.communicate()


def _child(name: str, folder: Path) -> "subprocess.Popen[str]":
    (folder / name).mkdir()
    options = [f"-runs={RUNS[name]}", "-verbosity=0", f"-artifact_prefix={folder}/{name}-", "-timeout=20"]
    command = [sys.executable, "-m", "tests.fuzz.child", name, str(folder / f"{name}.counts"), *options]
    return subprocess.Popen(
        [*command, str(folder / name), str(CORPUS / name)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
