"""The judge's clockwork: what is due, since when, and the longest time in which nothing came."""

from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from tests.chaos.judging import Court, Task
from tests.chaos.waits import Calls

FIRST, SECOND = ("tenant", "one"), ("tenant", "two")


def test_a_call_waits_until_its_last_version_is_published() -> None:
    """An older one that comes late ends no wait; a version that appears meanwhile begins another."""
    calls = Calls()
    calls.exists(FIRST, 1, due=100.0)
    calls.exists(FIRST, 2, due=110.0)
    calls.appeared(FIRST, 1, at=120.0)
    assert calls.oldest_due(130.0) == 110.0
    calls.appeared(FIRST, 2, at=131.0)

    assert calls.oldest_due(140.0) is None
    assert calls.waits == [21.0]
    assert calls.longest_wait == (21.0, "tenant/one version 2")


def test_what_is_due_in_the_future_is_not_waited_for() -> None:
    """A record that is late by design stalls nobody."""
    calls = Calls()
    calls.exists(FIRST, 1, due=200.0)

    assert calls.oldest_due(199.0) is None
    assert calls.oldest_due(200.0) == 200.0


def test_silence_counts_only_while_something_is_due() -> None:
    """From when it was due, or from what was heard last."""
    calls = Calls()
    calls.heard(100.0)
    calls.heard(150.0)
    assert calls.longest_silence == 0.0
    calls.exists(FIRST, 1, due=160.0)
    calls.exists(SECOND, 1, due=161.0)
    calls.heard(165.0)
    assert calls.longest_silence == 5.0
    calls.appeared(FIRST, 1, at=164.0)
    calls.heard(172.0)

    assert calls.longest_silence == 7.0


def test_the_first_to_come_may_have_been_due_for_long() -> None:
    """Nothing has been heard before it, and the silence counts all the same."""
    calls = Calls()
    calls.exists(FIRST, 1, due=100.0)
    calls.heard(130.0)

    assert calls.longest_silence == 30.0


@pytest.mark.parametrize(
    ("topic", "silence"),
    [
        ("notifications", 20.0),
        ("ledger", 20.0),
        *((name, 12.0) for name in ("streams.audio", "streams.other", "calls", "dead-letter")),
    ],
)
def test_only_what_a_consumer_sees_ends_a_silence(topic: str, silence: float) -> None:
    """A notice is written while everything else stands still, and a ledger entry is for the service itself."""
    court = Court(Task("", "run", 1, "", "", 1))
    court.calls.heard(100.0)
    court.calls.exists(FIRST, 1, due=100.0)
    court.see_all(polled("notifications", topic), 112.0)
    court.see_all({}, 115.0)
    court.see_all(polled("streams.video"), 120.0)

    assert court.calls.longest_silence == silence


def polled(*topics: str) -> dict[TopicPartition, list[Any]]:
    """One record of each topic, as a consumer gives them; of a call that nobody waits for."""
    return {
        TopicPartition(f"run.{name}", 0): [ConsumerRecord(f"run.{name}", 0, 0, 0, 0, bytes(32), None, None, 0, 0, ())]
        for name in topics
    }
