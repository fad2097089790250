"""What becomes of a notification: the rules of the lanes, as values."""

import pytest

from service.clock import from_iso, iso
from service.errors import GraphUnavailable, NotACallRecord, RecordNotFound, TenantMustWait
from service.lanes import policy
from service.lanes.ledger import Entry
from service.lanes.policy import Dead, Later, Publish, Rules, ShapedRecord, Skip, SkipReason
from service.notification import Notification
from service.settings import Retry

TENANT = "c0ffee00-1111-4222-8333-444455556666"
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
NOW = from_iso("2026-11-22T12:00:00Z")
RULES = Rules.of(Retry())


def notice(**fields: object) -> Notification:
    """A live notification received now."""
    given = {"source": "webhook", "received_at": iso(NOW), **fields}
    return Notification(tenant_id=TENANT, call_id=CALL, **given)  # type: ignore[arg-type]


def shaped(version: int) -> ShapedRecord:
    """A version without events."""
    return ShapedRecord(version, [], b"{}", "", 0, iso(NOW))


@pytest.mark.parametrize("entry", [None, Entry(2), Entry(2, dead=True), Entry(0, dead=True)])
def test_a_version_above_the_ledgers_is_published(entry: Entry | None) -> None:
    """Whatever came before it, dead or alive."""
    assert isinstance(policy.after_fetch(notice(), shaped(3), entry, RULES, NOW), Publish)


@pytest.mark.parametrize("entry", [Entry(3), Entry(4), Entry(3, dead=True)])
def test_a_live_notification_that_finds_nothing_new_takes_one_more_look(entry: Entry) -> None:
    """It speaks of a change, so what Graph shows may be stale: ten minutes later again, then nothing."""
    first = policy.after_fetch(notice(), shaped(3), entry, RULES, NOW)

    assert isinstance(first, Later)
    assert RULES.delays[first.tier] == 600.0
    assert first.notification.attempt == 0
    assert isinstance(policy.after_fetch(first.notification, shaped(3), entry, RULES, NOW), Skip)


def test_backfill_that_finds_nothing_new_is_done() -> None:
    """It only asked whether something is missing."""
    outcome = policy.after_fetch(notice(source="reconcile", version=3), shaped(3), Entry(3), RULES, NOW)

    assert outcome == Skip(SkipReason.PUBLISHED)


def test_a_listed_version_that_graph_does_not_show_yet_is_looked_for_again() -> None:
    """The list knew of version 5; a read that shows 3 is stale."""
    outcome = policy.after_fetch(notice(source="reconcile", version=5), shaped(3), Entry(3), RULES, NOW)

    assert isinstance(outcome, Later)


def test_a_replay_goes_past_what_is_dead_and_nothing_else_does() -> None:
    """Dead versions are not queued again and again; a person may ask for one."""
    entry = Entry(3, dead=True)

    assert policy.needs_no_fetch(notice(source="reconcile", version=3), entry) is SkipReason.DEAD
    assert policy.needs_no_fetch(notice(source="replay", version=3), entry) is None
    assert isinstance(policy.after_fetch(notice(source="replay"), shaped(3), entry, RULES, NOW), Publish)


def test_a_404_is_retried_while_young_and_set_aside_when_old() -> None:
    """Not ready and gone are the same answer; the notification's age decides."""
    young = policy.after_failure(notice(), RecordNotFound("404"), None, RULES, NOW + 5 * 3600)
    old = policy.after_failure(notice(), RecordNotFound("404"), None, RULES, NOW + 6 * 3600)

    assert isinstance(young, Later)
    assert young.notification.attempt == 1
    assert isinstance(old, Dead)
    assert (old.reason, old.entry) == ("unavailable", Entry(0, dead=True))


def test_waits_grow_from_tier_to_tier() -> None:
    """One minute, ten minutes, then an hour each."""
    notification, tiers = notice(), []
    for _ in range(5):
        outcome = policy.after_failure(notification, GraphUnavailable("503"), None, RULES, NOW)
        assert isinstance(outcome, Later)
        tiers.append(outcome.tier)
        notification = outcome.notification

    assert tiers == [0, 1, 2, 2, 2]
    assert notification.first_seen_at == iso(NOW)
    assert notification.due_at == iso(NOW + 3600)


def test_attempts_end_when_their_waits_add_up_to_a_day() -> None:
    """1 m + 10 m + 23 h 49 m of hours: the 26th failure is the last."""
    last = notice(attempt=RULES.most_attempts - 1)

    assert RULES.most_attempts == 26
    assert isinstance(policy.after_failure(last, GraphUnavailable("503"), None, RULES, NOW), Dead)


@pytest.mark.parametrize(("wait", "tier"), [(5.0, 0), (61.0, 0), (900.0, 1), (7200.0, 2)])
def test_waiting_for_a_tenant_costs_no_attempt_and_about_its_time(wait: float, tier: int) -> None:
    """The longest tier that is over when the wait is."""
    outcome = policy.after_failure(notice(attempt=25), TenantMustWait("throttled", wait), None, RULES, NOW)

    assert isinstance(outcome, Later)
    assert (outcome.tier, outcome.notification.attempt) == (tier, 25)


def test_a_dead_letter_never_hides_what_is_published() -> None:
    """The ledger keeps the published version; only a call without any learns that it is dead."""
    error = NotACallRecord("list", "a list")

    assert policy.after_failure(notice(), error, Entry(4), RULES, NOW) == Dead(
        "not_a_call_record", "a list", notice(), None, published=4
    )


def test_merged_notifications_ask_for_the_most() -> None:
    """A fresh live one among backfills and retries decides; what is known of versions is only kept if all know one."""
    retried = notice(reason="not_found", attempt=3, first_seen_at=iso(NOW - 3600))
    listed = notice(source="reconcile", version=7)
    fresh = notice(attempt=0)

    assert policy.merge([retried, listed, fresh]).reason is None
    assert policy.merge([retried, listed, fresh]).source == "webhook"
    assert policy.merge([retried, listed, fresh]).version is None
    assert policy.merge([listed, notice(source="reconcile", version=9)]).version == 9


@pytest.mark.parametrize(
    ("retry_after", "attempt", "delay"),
    [(0.0, 1, 60.0), (45.0, 1, 60.0), (61.0, 1, 600.0), (61.0, 3, 3600.0), (3600.0, 1, 3600.0), (9999.0, 1, 3600.0)],
)
def test_what_graph_asked_to_wait_goes_before_the_attempts_own_delay(
    retry_after: float, attempt: int, delay: float
) -> None:
    """A record whose 503 names a wait is not asked for sooner."""
    error = GraphUnavailable("Graph answered 503.", retry_after)
    outcome = policy.after_failure(notice(attempt=attempt - 1), error, None, RULES, NOW)

    assert isinstance(outcome, Later)
    assert RULES.delays[outcome.tier] == delay
    assert outcome.notification.attempt == attempt
