"""`python -m tests.fuzz`: runs targets one after the other, each in a process of its own, and says what came of it.

Exit code 1 when one has failed; the input that did it lies in `build/fuzz/`.
"""

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import tally
from tests.fuzz.keep import worth_keeping
from tests.fuzz.targets import CORPUS, TARGETS

WORK = Path("build/fuzz")
KEPT_BYTES = {"notification": 30_000, "record": 60_000, "graph": 25_000, "kafka": 20_000}


@dataclass(frozen=True)
class Outcome:
    """How one target went."""

    name: str
    executions: int
    seconds: float
    has_failed: bool
    counts: dict[str, int]
    said: str


def main() -> int:
    """Reads the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", default=sorted(TARGETS), help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target; 0 for no limit")
    parser.add_argument("--runs", type=int, default=-1, help="for each target; -1 for no limit")
    parser.add_argument("--seed", type=int, default=0, help="0 takes another one each time")
    parser.add_argument("--keep", action="store_true", help="puts what reached new code into the committed corpus")
    chosen = parser.parse_args()
    if unknown := set(chosen.target) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(sorted(TARGETS))}")
    outcomes = [run(name, chosen.seconds, chosen.runs, chosen.seed) for name in chosen.target]
    if chosen.keep:
        for name in chosen.target:
            keep(name)
    for outcome in outcomes:
        print(_line(outcome))
    total = sum(outcome.executions for outcome in outcomes)
    print(f"{total:,} executions, {sum(outcome.has_failed for outcome in outcomes)} of {len(outcomes)} targets failed")
    return 1 if any(outcome.has_failed for outcome in outcomes) else 0


def run(name: str, seconds: int, runs: int, seed: int) -> Outcome:
    """One target in a process of its own. New inputs go to `build/fuzz/{name}`, next to what is committed."""
    found = WORK / name
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}", "-rss_limit_mb=1024", "-timeout=10"]
    options += [f"-artifact_prefix={WORK}/{name}-", "-print_final_stats=1", "-verbosity=1"]
    counts = WORK / f"{name}.counts"
    command = [sys.executable, "-m", "tests.fuzz.child", name, str(counts), *options, str(found), str(CORPUS / name)]
    started = time.monotonic()
    # Errors of Python come on stdout, libFuzzer's own lines on stderr.
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    return Outcome(
        name,
        tally.read(counts).pop("runs", 0) if counts.exists() else 0,
        time.monotonic() - started,
        ended.returncode != 0,
        {key: count for key, count in tally.read(counts).items() if key != "runs"} if counts.exists() else {},
        ended.stdout,
    )


def keep(name: str) -> None:
    """Adds to the committed corpus what of `build/fuzz/{name}` is worth it, in place of what was added before."""
    corpus = CORPUS / name
    for old in corpus.iterdir():
        if re.fullmatch(r"[0-9a-f]{40}", old.name):
            old.unlink()
    for file in worth_keeping(TARGETS[name], list(corpus.iterdir()), list((WORK / name).iterdir()), KEPT_BYTES[name]):
        (corpus / file.name).write_bytes(file.read_bytes())


def _line(outcome: Outcome) -> str:
    counted = ", ".join(f"{count:,} {name}" for name, count in outcome.counts.items())
    rate = outcome.executions / outcome.seconds
    line = f"{outcome.name}: {outcome.executions:,} executions in {outcome.seconds:.0f} s ({rate:,.0f}/s), "
    line += f"{'FAILED' if outcome.has_failed else 'none failed'}" + (f"; {counted}" if counted else "")
    return line if not outcome.has_failed else line + "\n" + outcome.said[-4000:]


if __name__ == "__main__":
    sys.exit(main())
