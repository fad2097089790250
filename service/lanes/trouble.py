"""Core: what a lane remembers of transactions that Kafka refused, so that one poisonous record cannot stop it.

Twice the same refusal: the batch is taken apart, one notification a transaction. A call that is refused then, or twice
alone in its transaction whatever succeeds between, goes to the dead letters, reason `unpublishable` (design section 4).
What passes (connections, timeouts) or is about the transaction and not about a record (fencing, a coordinator that was
frozen and knows of none) does not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    KafkaTimeoutError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    TransactionCoordinatorFenced,
    UnknownProducerId,
)

from service.lanes.policy import Dead, Outcome, Publish

SAME_REFUSALS = 2
OF_THE_TRANSACTION = (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    TransactionCoordinatorFenced,
    UnknownProducerId,
)
# So many successes one by one, and the lane takes whole batches again.
SUCCESSES = 100
# Calls whose refusals are remembered; beyond that the oldest is forgotten.
MOST_REFUSED = 1000


@dataclass
class _Refused:
    """A call that was refused alone in its transaction, and has neither been published nor set aside since."""

    times: int = 0
    why: str = ""
    told: int = 0
    """How often it was said that it cannot be published."""


class Trouble:
    """Refusals in a row, and the calls that cannot be published."""

    def __init__(self) -> None:
        self._refusals: list[str] = []
        self._successes = 0
        self._refused: dict[bytes, _Refused] = {}

    @property
    def is_apart(self) -> bool:
        """Whether the lane takes one notification a transaction."""
        return len(self._refusals) >= SAME_REFUSALS

    def failed(self, error: KafkaError, outcomes: Sequence[Outcome]) -> None:
        """A transaction failed with `error`."""
        # A bare KafkaError is how aiokafka says that its sender died, whatever of: a connection that broke, mostly. And
        # it calls a batch that was not sent in time not retriable: a replica that stands still is enough for that.
        passes = isinstance(error, KafkaTimeoutError) or type(error) is KafkaError or error.retriable
        if isinstance(error, OF_THE_TRANSACTION) or passes:
            return
        name = type(error).__name__
        was_apart = self.is_apart
        self._refusals = [*self._refusals, name] if self._refusals[-1:] == [name] else [name]
        self._successes = 0
        published = [outcome for outcome in outcomes if isinstance(outcome, Publish)]
        if len(published) == 1 and (was_apart or len(outcomes) == 1):
            key = published[0].notification.key
            refused = self._refused[key] = self._refused.pop(key, _Refused())
            refused.times = SAME_REFUSALS if was_apart else refused.times + 1
            refused.why = f"Kafka refuses it: {name}: {error}"
            if len(self._refused) > MOST_REFUSED:
                del self._refused[next(iter(self._refused))]

    def succeeded(self, outcomes: Sequence[Outcome]) -> None:
        """A transaction was committed; only one that published something shows that Kafka takes what it is given.

        It shows that of what was in it: a record that is fetched beside the batches is refused between them.
        """
        for outcome in outcomes:
            if isinstance(outcome, Publish | Dead):
                self._refused.pop(outcome.notification.key, None)
        self._successes += any(isinstance(outcome, Publish) for outcome in outcomes)
        if not self.is_apart or self._successes >= SUCCESSES:
            self._refusals.clear()
            self._successes = 0

    def refusal(self, outcome: Publish) -> str | None:
        """Why this call cannot be published, if it was refused; said once, so that a later look tries it again."""
        refused = self._refused.get(outcome.notification.key)
        if refused is None or refused.times < SAME_REFUSALS:
            return None
        refused.times = SAME_REFUSALS - 1
        refused.told += 1
        return refused.why

    def was_tried_again(self, outcome: Publish) -> bool:
        """Whether it was said of this call before, and a later look has changed nothing."""
        refused = self._refused.get(outcome.notification.key)
        return refused is not None and refused.told > 1
