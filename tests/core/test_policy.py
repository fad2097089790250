"""What becomes of a notification: the rules of the lanes, as values."""

import pytest

from service.clock import Clock, from_iso, iso
from service.errors import GraphUnavailable, NotACallRecord, RecordNotFound, TenantMustWait
from service.kafka.topics import Topics
from service.lanes import policy
from service.lanes.accounts import Accounts
from service.lanes.inbox import Notices, Tally, tally
from service.lanes.ledger import Entry
from service.lanes.policy import Dead, Later, Publish, Rules, ShapedRecord, Skip, SkipReason
from service.lanes.writes import Writer
from service.metrics import Metrics
from service.notification import Notification
from service.settings import Retry, Tenant

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


@pytest.mark.parametrize("entry", [None, Entry(5)])
@pytest.mark.parametrize("source", ["reconcile", "backfill", "webhook"])
def test_a_newer_version_below_the_listed_one_is_published_and_the_listed_one_looked_for_again(
    entry: Entry | None, source: str
) -> None:
    """The list knew of version 7; a read that shows 6 is stale, though nobody had published 6."""
    outcome = policy.after_fetch(notice(source=source, version=7), shaped(6), entry, RULES, NOW)

    assert isinstance(outcome, Publish)
    assert outcome.second_look is not None
    assert RULES.delays[outcome.second_look.tier] == 600.0
    again = outcome.second_look.notification
    assert (again.version, again.reason, again.attempt) == (7, policy.UNCHANGED, 0)
    assert policy.needs_no_fetch(again, Entry(6)) is None
    assert policy.needs_no_fetch(again, Entry(7)) is SkipReason.PUBLISHED
    assert policy.after_fetch(again, shaped(7), Entry(6), RULES, NOW) == Publish(again, shaped(7))


@pytest.mark.parametrize("version", [None, 6, 7])
def test_what_shows_all_that_was_announced_is_published_and_at_rest(version: int | None) -> None:
    """A live notification names no version: there is nothing that could be missing."""
    assert policy.after_fetch(notice(version=version), shaped(7), None, RULES, NOW) == Publish(
        notice(version=version), shaped(7)
    )


def test_a_listed_version_that_never_comes_ends() -> None:
    """Each further look follows a version that was new; the first that brings nothing is the last."""
    waiting, entry = notice(source="reconcile", version=9), None
    for version in (5, 6):
        outcome = policy.after_fetch(waiting, shaped(version), entry, RULES, NOW)
        assert isinstance(outcome, Publish)
        assert outcome.second_look is not None
        waiting, entry = outcome.second_look.notification, Entry(version)

    assert policy.after_fetch(waiting, shaped(6), entry, RULES, NOW) == Skip(SkipReason.PUBLISHED)


def test_a_listed_notification_is_reported_by_its_last_look_alone() -> None:
    """Healed is what is published as listed; the keeper counts each listed id once."""
    first = notice(source="reconcile", version=7, listed_hour=3, look=8)
    stale = policy.after_fetch(first, shaped(6), None, RULES, NOW)
    assert isinstance(stale, Publish)
    assert stale.second_look is not None
    whole = policy.after_fetch(stale.second_look.notification, shaped(7), Entry(6), RULES, NOW)

    assert tally([stale]) == []
    assert tally([whole]) == [Tally(TENANT, 3, 8, healed=1)]


def test_a_publication_with_a_second_look_writes_both() -> None:
    """In one transaction: who dies before it publishes again, who dies after it looks again."""
    outcome = policy.after_fetch(notice(source="reconcile", version=7), shaped(6), None, RULES, NOW)
    records = Writer(Topics("p"), 2, 3, {}).records(outcome)

    assert [record.topic for record in records] == ["p.calls", "p.ledger", "p.retry.10m"]
    assert {record.partition for record in records} == {2}


def test_a_publication_with_a_second_look_counts_as_both() -> None:
    """Published, and on its way through a retry topic."""
    metrics, tenant = Metrics(tenants=["contoso"]), Tenant(id=TENANT, client_id="app")
    outcome = policy.after_fetch(notice(source="reconcile", version=7), shaped(6), None, RULES, NOW)
    Accounts(metrics, Clock(), {"contoso": tenant}).committed([outcome], 0.1)
    get = metrics.registry.get_sample_value

    assert get("callstream_records_published_total", {"tenant": "contoso"}) == 1
    assert get("callstream_notifications_retried_total", {"reason": "unchanged"}) == 1


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


def test_a_404_of_a_notification_from_the_far_future_is_set_aside_as_if_it_were_old() -> None:
    """It would be looked at until then; clocks that differ by minutes are another matter."""
    far = policy.after_failure(notice(), RecordNotFound("404"), None, RULES, NOW - 6 * 3600)
    near = policy.after_failure(notice(), RecordNotFound("404"), None, RULES, NOW - 600)

    assert isinstance(far, Dead)
    assert isinstance(near, Later)


def test_no_notice_is_told_to_have_come_later_than_now() -> None:
    """Another tool may write any time, or none; the keeper would take a gap for none."""
    outcomes = [Skip(SkipReason.PUBLISHED, notice(received_at=text)) for text in ("9999-12-31T23:59:59Z", "zzz")]

    assert Notices().news(outcomes, NOW) == {notice().tenant_id: iso(NOW)}
    assert Notices().news(outcomes[1:], NOW) == {}


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


def test_a_merged_notification_knows_the_highest_version_and_still_asks_for_a_look() -> None:
    """A live one may announce something newer still, so the listed version in the ledger is not enough for it."""
    merged = policy.merge([notice(), notice(source="reconcile", version=7), notice(source="backfill", version=6)])

    assert (merged.source, merged.version) == ("webhook", None)
    assert policy.needs_no_fetch(merged, Entry(7)) is None
    assert policy.merge([merged, notice()]) == merged, "merged once more in a retry topic"
    stale = policy.after_fetch(merged, shaped(6), None, RULES, NOW)
    assert isinstance(stale, Publish)
    assert stale.second_look is not None
    assert stale.second_look.notification.version == 7
    assert policy.after_fetch(merged, shaped(7), None, RULES, NOW) == Publish(merged, shaped(7))


def test_a_listed_version_is_owed_its_own_second_look() -> None:
    """Merged into a live notification that has had one; a listed version that was known by then is owed none."""
    waiting = notice(reason=policy.UNCHANGED)
    merged = policy.merge([waiting, notice(source="reconcile", version=7)])
    again = policy.after_fetch(merged, shaped(6), Entry(6), RULES, NOW)

    assert isinstance(again, Later)
    assert policy.after_fetch(again.notification, shaped(6), Entry(6), RULES, NOW) == Skip(SkipReason.PUBLISHED)
    known = policy.merge([again.notification, notice(source="reconcile", version=7, reason=policy.UNCHANGED)])
    assert policy.after_fetch(known, shaped(6), Entry(6), RULES, NOW) == Skip(SkipReason.PUBLISHED)


def test_a_notification_that_waits_beside_knows_the_highest_version() -> None:
    """What a page has shown may be older than what was listed."""
    merged = policy.merge([notice(), notice(source="reconcile", version=7)])

    assert policy.with_version(merged, 6).version == 7
    assert policy.with_version(merged, 8).version == 8


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
