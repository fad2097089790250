"""The targets by name, and what libFuzzer has to know of each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import target_graph, target_kafka, target_notification, target_record
from tests.fuzz.tally import Tally

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """One target: `run` takes an input and raises when something is wrong."""

    name: str
    run: Callable[[bytes, Tally], None]
    longest_bytes: int
    head: int = 0
    """Bytes in front of the JSON that choose what reads it."""

    def inputs(self) -> list[Path]:
        """The committed inputs: seeds, what reached new code, and what once broke something."""
        return sorted((CORPUS / self.name).iterdir())


TARGETS = {
    target.name: target
    for target in (
        Target("notification", target_notification.run, 4096),
        Target("record", target_record.run, 8192),
        Target("graph", target_graph.run, 4096, head=1),
        Target("kafka", target_kafka.run, 2048, head=1),
    )
}
