"""Core: what a lane remembers of transactions that Kafka refused, so that one poisonous record cannot stop it.

Twice the same refusal: the batch is taken apart, one notification a transaction. What is refused then goes to the dead
letters, reason `unpublishable` (design section 4). What passes (connections, timeouts) or is about the transaction and
not about a record (fencing, a coordinator that was frozen and knows of none) does not count.
"""

from collections.abc import Sequence

from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    KafkaError,
    ProducerClosed,
    ProducerFenced,
    TransactionCoordinatorFenced,
    UnknownProducerId,
)

from service.lanes.policy import Outcome, Publish

SAME_REFUSALS = 2
OF_THE_TRANSACTION = (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidTxnState,
    ProducerClosed,
    ProducerFenced,
    TransactionCoordinatorFenced,
    UnknownProducerId,
)
# So many successes one by one, and the lane takes whole batches again.
SUCCESSES = 100


class Trouble:
    """Refusals in a row, and the calls that cannot be published."""

    def __init__(self) -> None:
        self._refusals: list[str] = []
        self._successes = 0
        self._refused: dict[bytes, str] = {}

    @property
    def is_apart(self) -> bool:
        """Whether the lane takes one notification a transaction."""
        return len(self._refusals) >= SAME_REFUSALS

    def failed(self, error: KafkaError, outcomes: Sequence[Outcome]) -> None:
        """A transaction failed with `error`."""
        # A bare KafkaError is how aiokafka says that its sender died, whatever of: a connection that broke, mostly.
        if isinstance(error, OF_THE_TRANSACTION) or type(error) is KafkaError or error.retriable:
            return
        name = type(error).__name__
        was_apart = self.is_apart
        self._refusals = [*self._refusals, name] if self._refusals[-1:] == [name] else [name]
        self._successes = 0
        published = [outcome for outcome in outcomes if isinstance(outcome, Publish)]
        if was_apart and len(published) == 1:
            self._refused[published[0].notification.key] = f"Kafka refuses it: {name}: {error}"

    def succeeded(self, outcomes: Sequence[Outcome]) -> None:
        """A transaction was committed; only one that published something shows that Kafka takes what it is given."""
        self._successes += any(isinstance(outcome, Publish) for outcome in outcomes)
        if not self.is_apart or self._successes >= SUCCESSES:
            self._refusals.clear()
            self._successes = 0
            self._refused.clear()

    def refusal(self, outcome: Publish) -> str | None:
        """Why this call cannot be published, if it was refused; said once, so that a later look tries it again."""
        return self._refused.pop(outcome.notification.key, None)
