"""Which failures of a transaction are held against what was in it."""

import pytest
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidRequestError,
    InvalidTxnState,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerFenced,
    TopicAuthorizationFailedError,
)

from service.kafka.epochs import NoEpochError
from service.lanes.policy import Dead, Publish
from service.lanes.trouble import MOST_REFUSED, Trouble
from tests.broker.lane_bench import notice, shaped


def outcome_of(name: str) -> Publish:
    """A call that is to be published."""
    return Publish(notice(name), shaped(name, 1))


@pytest.mark.parametrize("kind", [MessageSizeTooLargeError, TopicAuthorizationFailedError, InvalidRequestError])
def test_a_refusal_is_held_against_the_one_that_is_alone_once_the_batch_is_apart(kind: type[KafkaError]) -> None:
    """The second takes the batch apart."""
    trouble, bad, good = Trouble(), outcome_of("bad"), outcome_of("good")
    for _ in range(2):
        assert not trouble.is_apart
        trouble.failed(kind(), [bad, good])
    assert trouble.is_apart
    assert trouble.refusal(bad) is None
    trouble.failed(kind(), [bad])

    assert kind.__name__ in (trouble.refusal(bad) or "")
    assert trouble.refusal(good) is None


def test_a_second_refusal_alone_is_held_against_it_whatever_succeeds_between() -> None:
    """A record that is fetched beside the batches is refused between batches that succeed. Said once."""
    trouble, bad, good = Trouble(), outcome_of("bad"), outcome_of("good")
    for _ in range(2):
        assert trouble.refusal(bad) is None
        trouble.failed(MessageSizeTooLargeError(), [bad])
        trouble.succeeded([good])

    assert not trouble.is_apart
    assert "MessageSizeTooLargeError" in (trouble.refusal(bad) or "")
    assert trouble.refusal(bad) is None
    assert not trouble.was_tried_again(bad)


def test_what_shares_a_transaction_with_something_else_is_not_alone() -> None:
    """A letter that its topic refuses says nothing of the call beside it."""
    trouble, call = Trouble(), outcome_of("call")
    letter = Dead("unavailable", "404", notice("letter"))
    for _ in range(2):
        trouble.failed(TopicAuthorizationFailedError(), [call, letter])

    assert trouble.is_apart
    assert trouble.refusal(call) is None


def test_its_one_more_look_ends_with_one_more_refusal() -> None:
    """What is said of it the second time is final, until it is set aside."""
    trouble, bad = Trouble(), outcome_of("bad")
    for _ in range(2):
        trouble.failed(MessageSizeTooLargeError(), [bad])
    assert trouble.refusal(bad) is not None
    trouble.failed(MessageSizeTooLargeError(), [bad])
    assert trouble.refusal(bad) is not None
    assert trouble.was_tried_again(bad)
    trouble.succeeded([Dead("unpublishable", "", bad.notification)])

    assert not trouble.was_tried_again(bad)


def test_a_record_that_is_published_after_all_begins_anew() -> None:
    """Somebody has raised the topic's limit."""
    trouble, outcome = Trouble(), outcome_of("call")
    trouble.failed(MessageSizeTooLargeError(), [outcome])
    trouble.succeeded([outcome])
    trouble.failed(MessageSizeTooLargeError(), [outcome])

    assert trouble.refusal(outcome) is None


def test_refusals_are_remembered_of_so_many_calls_at_the_most() -> None:
    """The newest ones."""
    trouble, outcomes = Trouble(), [outcome_of(str(number)) for number in range(MOST_REFUSED + 1)]
    for _ in range(2):
        for outcome in outcomes:
            trouble.failed(MessageSizeTooLargeError(), [outcome])
            trouble.succeeded([outcome_of("good")])
    assert trouble.refusal(outcomes[0]) is None
    trouble.failed(MessageSizeTooLargeError(), [outcomes[-1]])

    assert trouble.refusal(outcomes[-1]) is not None


@pytest.mark.parametrize(
    "kind",
    [
        KafkaConnectionError,
        KafkaError,
        KafkaTimeoutError,
        ProducerFenced,
        InvalidProducerEpoch,
        InvalidTxnState,
        OutOfOrderSequenceNumber,
        NoEpochError,
    ],
)
def test_what_is_about_connections_or_the_transaction_never_is(kind: type[KafkaError]) -> None:
    """A broker that was frozen, or has lost the transaction, says nothing of the records in it."""
    trouble, outcome = Trouble(), Publish(notice("call"), shaped("call", 1))
    for _ in range(5):
        trouble.failed(kind(), [outcome])

    assert not trouble.is_apart
    assert trouble.refusal(outcome) is None
