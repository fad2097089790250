"""One target under atheris: `python -m tests.fuzz.child TARGET COUNTS …libFuzzer's options…`. Never returns."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["service"]):
    from tests.fuzz.targets import TARGETS

from tests.fuzz.mutate import mutated
from tests.fuzz.tally import Tally


def main() -> None:
    """Runs until libFuzzer has enough, or until an input breaks something."""
    target, tally = TARGETS[sys.argv[1]], Tally(Path(sys.argv[2]))

    def run(data: bytes) -> None:
        tally.add("runs")
        target.run(data, tally)

    def mutate(data: bytes, most_bytes: int, seed: int) -> bytes:
        return mutated(data, most_bytes, seed, atheris.Mutate, target.head)

    options = [f"-max_len={target.longest_bytes}", *sys.argv[3:]]
    atheris.Setup([sys.argv[0], *options], run, custom_mutator=mutate)
    atheris.Fuzz()


main()
