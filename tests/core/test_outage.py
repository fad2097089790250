"""When most records fail for one reason: what begins an outage, who is tried in it, what ends it."""

import pytest

from service.clock import from_iso, iso
from service.errors import GraphUnavailable, NotACallRecord, RecordNotFound, TenantMustWait, Unforeseen
from service.lanes import policy
from service.lanes.outage import (
    FEWEST_RECORDS,
    FIRST_WAIT_SECONDS,
    FRESH_SECONDS,
    LONGEST_WAIT_SECONDS,
    OUTAGE,
    PROBE_SECONDS,
    Watch,
    spared,
    symptom,
)
from service.lanes.policy import Dead, Later, Rules
from service.notification import Notification
from service.settings import Retry

NOW = from_iso("2026-11-22T12:00:00Z")
RULES = Rules.of(Retry())
TENANT = "c0ffee00-1111-4222-8333-444455556666"
WHY = "not_a_call_record"


def note(**fields: object) -> Notification:
    """A live notification."""
    given = {"source": "webhook", "received_at": iso(NOW), **fields}
    return Notification(tenant_id=TENANT, call_id="a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33", **given)  # type: ignore[arg-type]


def failing(count: int, watch: Watch | None = None, reason: str = WHY) -> Watch:
    """A watch that has seen so many distinct records fail."""
    watch = watch or Watch()
    for number in range(count):
        watch.failed(b"bad %d" % number, reason, NOW)
    return watch


def test_most_distinct_records_failing_for_one_reason_is_an_outage() -> None:
    """Not one record many times, not a few records, not a minority, not several reasons."""
    assert failing(FEWEST_RECORDS).reason == WHY
    assert not failing(FEWEST_RECORDS - 1).reason
    one = Watch()
    for _ in range(100):
        assert not one.failed(b"the same", WHY, NOW)
    mixed = Watch()
    for number in range(100):
        mixed.went_well(b"good %d" % number)
        assert not mixed.failed(b"bad %d" % number, WHY, NOW)
    split = Watch()
    for number in range(100):
        assert not split.failed(b"bad %d" % number, ("internal", "unavailable", WHY)[number % 3], NOW)


def test_only_the_latest_records_count() -> None:
    """A hundred good ones of this morning do not hide that all fail now."""
    watch = Watch()
    for number in range(100):
        watch.went_well(b"good %d" % number)

    assert failing(FEWEST_RECORDS, watch).reason == WHY


def test_most_failing_is_enough() -> None:
    """A third of them still goes well."""
    watch = Watch()
    begun = False
    for number in range(30):
        if number % 3 == 0:
            watch.went_well(b"good %d" % number)
        else:
            begun |= watch.failed(b"bad %d" % number, WHY, NOW)

    assert begun


def test_in_an_outage_one_record_at_a_time_is_tried_after_waits_that_grow() -> None:
    """The probe alone; its failure doubles the wait, up to the longest."""
    watch, now, waits = failing(FEWEST_RECORDS), NOW, []
    for number in range(8):
        assert watch.wait_seconds(b"fresh %d" % number, now) > 0
        waits.append(watch.until - now)
        now = watch.until
        assert watch.wait_seconds(b"fresh %d" % number, now) == 0
        watch.started(b"fresh %d" % number, now)
        assert watch.wait_seconds(b"fresh %d" % number, now) == 0
        assert watch.wait_seconds(b"another", now) == PROBE_SECONDS
        assert not watch.failed(b"fresh %d" % number, WHY, now)

    assert waits[:3] == [FIRST_WAIT_SECONDS, 2 * FIRST_WAIT_SECONDS, 4 * FIRST_WAIT_SECONDS]
    assert waits[-1] == LONGEST_WAIT_SECONDS


def test_the_probe_that_goes_well_ends_it_and_nothing_else_does() -> None:
    """What had begun before it neither ends it nor makes it longer."""
    watch = failing(FEWEST_RECORDS)
    until = watch.until
    watch.failed(b"began before", WHY, NOW)
    assert not watch.went_well(b"began before, too")
    assert (watch.reason, watch.until) == (WHY, until)
    watch.started(b"probe", until)

    assert watch.went_well(b"probe")
    assert not watch.reason
    assert watch.wait_seconds(b"anyone", until) == 0
    assert not failing(FEWEST_RECORDS - 1, watch).reason, "it begins to count anew"


def test_a_probe_that_is_lost_or_says_nothing_makes_way() -> None:
    """Its lane has moved, or its record was not ready."""
    watch = failing(FEWEST_RECORDS)
    watch.started(b"probe", watch.until)

    assert watch.wait_seconds(b"next", watch.until + PROBE_SECONDS) == 0
    watch.undecided(b"probe")
    assert watch.wait_seconds(b"next", watch.until) == 0


def test_a_record_that_has_not_failed_is_tried_before_those_that_have() -> None:
    """In a quiet tenant a handful of poisonous ones must not hold up the first good one."""
    watch = failing(FEWEST_RECORDS)

    assert watch.wait_seconds(b"bad 1", watch.until) == FRESH_SECONDS
    assert watch.wait_seconds(b"good", watch.until) == 0
    assert watch.wait_seconds(b"bad 1", watch.until + FRESH_SECONDS) == 0


def dead(reason: str = WHY) -> Dead:
    """What the rules would say."""
    return policy.dead(note(), reason, "why", None)


def test_in_an_outage_nothing_is_set_aside_and_nothing_is_counted() -> None:
    """Neither what would be a dead letter nor what would be an attempt."""
    watch, tried = failing(FEWEST_RECORDS), note(attempt=7)
    counted = policy.after_failure(tried, GraphUnavailable("503"), None, RULES, NOW)
    for outcome in (dead(), counted):
        waits = spared(watch, tried, outcome, WHY, RULES, NOW)

        assert isinstance(waits, Later)
        assert (waits.notification.attempt, waits.notification.reason) == (7, OUTAGE)
        assert RULES.delays[waits.tier] == 60.0


def test_what_fails_at_its_first_look_has_one_more() -> None:
    """By then it is known whether it is alone; what has been tried for hours needs none."""
    watch = failing(1)
    again = spared(watch, note(), dead(), WHY, RULES, NOW)

    assert isinstance(again, Later)
    assert (again.tier, again.notification.reason, again.notification.attempt) == (0, WHY, 0)
    assert spared(watch, again.notification, dead(), WHY, RULES, NOW) == dead()
    assert spared(watch, note(), dead("unavailable"), "unavailable", RULES, NOW) == dead("unavailable")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotACallRecord("no_id", "x"), "not_a_call_record"),
        (Unforeseen("x"), "internal"),
        (GraphUnavailable("x"), "graph_unavailable"),
        (TenantMustWait("outage", 30.0), None),
        (RecordNotFound("x"), None),
    ],
)
def test_what_counts_as_failing(error: Exception, reason: str | None) -> None:
    """A record that is not ready yet is normal, and what makes a tenant wait is known already."""
    outcome = policy.after_failure(note(), error, None, RULES, NOW)  # type: ignore[arg-type]

    assert symptom(error, outcome) == reason  # type: ignore[arg-type]


def test_a_record_that_is_gone_counts() -> None:
    """If all are gone, Graph has lost sight of them."""
    assert symptom(RecordNotFound("x"), dead("unavailable")) == "unavailable"
