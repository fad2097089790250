"""Which failures of a transaction are held against what was in it."""

import pytest
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidRequestError,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
    TopicAuthorizationFailedError,
)

from service.kafka.epochs import NoEpochError
from service.lanes.policy import Publish
from service.lanes.trouble import Trouble
from tests.broker.lane_bench import notice, shaped


@pytest.mark.parametrize("kind", [MessageSizeTooLargeError, TopicAuthorizationFailedError, InvalidRequestError])
def test_the_third_refusal_of_one_record_is_held_against_it(kind: type[KafkaError]) -> None:
    """The second takes the batch apart."""
    trouble, outcome = Trouble(), Publish(notice("call"), shaped("call", 1))
    for _ in range(2):
        assert trouble.refusal(outcome) is None
        trouble.failed(kind(), [outcome])
    assert trouble.is_apart
    trouble.failed(kind(), [outcome])

    assert kind.__name__ in (trouble.refusal(outcome) or "")


@pytest.mark.parametrize(
    "kind",
    [KafkaConnectionError, KafkaError, ProducerFenced, InvalidProducerEpoch, InvalidTxnState, NoEpochError],
)
def test_what_is_about_connections_or_the_transaction_never_is(kind: type[KafkaError]) -> None:
    """A broker that was frozen and has lost the transaction says nothing of the records in it."""
    trouble, outcome = Trouble(), Publish(notice("call"), shaped("call", 1))
    for _ in range(5):
        trouble.failed(kind(), [outcome])

    assert not trouble.is_apart
    assert trouble.refusal(outcome) is None
