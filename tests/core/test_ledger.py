"""The map of one lane: what it knows of a call, and when it forgets."""

import tracemalloc

import pytest

from service.kafka.topics import LEDGER_DAYS, Topics
from service.lanes.ledger import Entry, Ledger

DAY = 24 * 3600.0
KEPT = LEDGER_DAYS * DAY


def key(number: int) -> bytes:
    """Of call `number`."""
    return number.to_bytes(32, "big")


def ledger(*loaded: int) -> Ledger:
    """One that has read version 3 of these calls, and begins to forget at second 0."""
    made = Ledger()
    for number in loaded:
        made.load(key(number), Entry(3).encode())
    made.forget(0.0, KEPT)
    return made


def test_what_nobody_touches_is_gone_after_the_topic_has_dropped_it() -> None:
    """What was read when the lane opened was written before: the topic drops it within 45 days; what is put at any
    other time stays for 45 days at least, for 90 at most."""
    known = ledger(1)
    known.put(key(2), Entry(1))
    known.forget(KEPT - 1, KEPT)
    assert [known.get(key(number)) for number in (1, 2)] == [Entry(3), Entry(1)]
    known.forget(KEPT, KEPT)
    known.put(key(3), Entry(1))

    assert [known.get(key(number)) for number in (1, 2, 3)] == [None, Entry(1), Entry(1)]
    assert len(known) == 2
    known.forget(2 * KEPT, KEPT)
    assert [known.get(key(number)) for number in (1, 2, 3)] == [None, None, Entry(1)]
    known.forget(3 * KEPT, KEPT)
    assert len(known) == 0


def test_an_entry_that_is_put_again_stays_and_counts_once() -> None:
    """A new version, by whichever way it comes, moves the call to those that are kept longest."""
    known = ledger(1, 2, 3)
    known.put(key(1), Entry(4))
    known.load(key(2), Entry(0, dead=True).encode())
    assert len(known) == 3
    known.forget(KEPT, KEPT)

    assert [known.get(key(number)) for number in (1, 2, 3)] == [Entry(4), Entry(0, dead=True), None]
    assert len(known) == 2


@pytest.mark.parametrize("is_old", [False, True])
def test_versions_are_compared_in_both_generations(is_old: bool) -> None:
    """What is older is as good."""
    known = ledger()
    known.put(key(1), Entry(3))
    known.put(key(2), Entry(0))
    if is_old:
        known.forget(KEPT, KEPT)

    assert [known.supersedes(key(1), version) for version in (2, 3, 4)] == [False, False, True]
    assert [known.supersedes(key(number), 0) for number in (2, 3)] == [False, True]
    assert known.get(key(2)) == Entry(0)


@pytest.mark.parametrize("is_old", [False, True])
def test_a_tombstone_forgets_a_call_of_either_generation(is_old: bool) -> None:
    """None is written; one that another tool wrote is taken for what it says."""
    known = ledger()
    known.put(key(1), Entry(3))
    if is_old:
        known.forget(KEPT, KEPT)
    known.load(key(1), None)

    assert known.get(key(1)) is None
    assert len(known) == 0


def test_a_lane_that_was_quiet_for_months_forgets_nothing_that_was_put_since() -> None:
    """Generations end when somebody looks, not by themselves."""
    known = ledger(1)
    known.put(key(2), Entry(1))
    known.forget(10 * KEPT, KEPT)
    known.put(key(3), Entry(1))
    known.forget(10 * KEPT + DAY, KEPT)

    assert [known.get(key(number)) for number in (1, 2, 3)] == [None, Entry(1), Entry(1)]


def test_the_map_stops_growing() -> None:
    """A hundred calls a day for a year: those of 90 days at the most, and the memory of no more."""
    known, sizes = ledger(), []
    tracemalloc.start()
    try:
        for day in range(365):
            known.forget(day * DAY, KEPT)
            for number in range(100):
                known.put(key(day * 100 + number), Entry(1))
            sizes.append((len(known), tracemalloc.get_traced_memory()[0]))
    finally:
        tracemalloc.stop()

    entries, memory = zip(*sizes, strict=True)
    assert max(entries) == 9_000
    assert max(memory[180:]) <= max(memory[:180]) * 1.1
    assert min(entries[90:]) >= 4_500


def test_the_topic_keeps_an_entry_no_longer_than_the_map() -> None:
    """A lane that opens finds as much as one that runs on, or less."""
    [spec] = [spec for spec in Topics().specs(3) if spec.name == "callrecords.ledger"]

    assert int(spec.config["retention.ms"]) == KEPT * 1000
