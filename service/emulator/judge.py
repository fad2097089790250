"""The verdict on a run: what a read_committed consumer saw, compared with every version that existed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Verdict:
    """Counts; a right run has zeros in lost, duplicated, wrong, half and older_after_newer."""

    calls: int = 0
    versions: int = 0
    events: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    half: int = 0
    older_after_newer: int = 0
    dead: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Nothing lost, duplicated, wrong, half or out of order."""
        return not (self.lost or self.duplicated or self.wrong or self.half or self.older_after_newer)


class Judge:
    """Collects what existed and what was seen. `see_...` must be called in the order of each partition's offsets."""

    def add_truth(self, tenant_id: str, document: dict[str, Any]) -> None:
        """A version of a call record that existed; call it once for each."""

    def see_event(
        self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes, headers: Headers
    ) -> None:
        """A record of one of the stream topics."""

    def see_summary(
        self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes, headers: Headers
    ) -> None:
        """A record of the calls topic."""

    def see_dead_letter(
        self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes, headers: Headers
    ) -> None:
        """A record of the dead-letter topic."""

    def verdict(self) -> Verdict:
        """What is known so far."""
        return Verdict()
