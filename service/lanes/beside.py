"""Core: slow records that are fetched beside a lane's batches, and how those fetches ended."""

from dataclasses import dataclass, field
from enum import Enum

from service.errors import CallstreamError
from service.lanes.looks import Look
from service.lanes.policy import Later, Outcome, Publish

MOST_RESULTS = 10_000


class Found(Enum):
    """What a look beside the batches found."""

    NOTHING = "nothing"
    """Its record could not be read."""
    PUBLISHED = "published"
    """A version that was published by it."""
    SENT_ON = "sent_on"
    """A version that Kafka does not take now; a notification of its own waits for that."""
    KNOWN = "known"
    """What is published, or dead."""
    STALE = "stale"
    """What is published, or older, where more was announced: it is to be looked at once more."""


def found_by(written: Outcome, *, is_stale: bool) -> Found:
    """What a look found that was to be published, by what was written in the end. `is_stale`: more was announced."""
    match written:
        case Later():
            return Found.SENT_ON
        case _ if is_stale:
            return Found.STALE
        case Publish():
            return Found.PUBLISHED
        case _:
            return Found.KNOWN


@dataclass(frozen=True)
class Ended:
    """How a look beside the batches ended."""

    found: Found
    was_replay: bool
    """Whether it was judged as a replay, which goes past what is dead."""
    error: CallstreamError | None = None
    """Why nothing was found."""


@dataclass
class Beside:
    """Looks of one lane that go on beside its batches, and how those of them ended whose notification still waits."""

    most: int
    looks: dict[bytes, Look] = field(default_factory=dict)
    results: dict[bytes, Ended] = field(default_factory=dict)
    """Taken when the call's notification comes back."""

    def has_done(self) -> bool:
        """Whether a look is done and waits for its publication."""
        return any(look.task.done() for look in self.looks.values())

    def take_done(self) -> list[Look]:
        """Removes and gives the looks that are done."""
        done = {key: look for key, look in self.looks.items() if look.task.done()}
        for key in done:
            del self.looks[key]
        return list(done.values())

    def remember(self, key: bytes, ended: Ended) -> None:
        """Keeps a result for the notification that waits in a retry topic; old ones go when there are too many."""
        self.results[key] = ended
        while len(self.results) > MOST_RESULTS:
            del self.results[next(iter(self.results))]
