"""The keeper's memory: what was written is read again, nothing is counted twice, a look that broke off never counts."""

import pytest

from service.clock import iso
from service.lanes.inbox import JobRequest, Report, Tally, decode_message
from service.reconcile.hours import Job, figures, hour_number, oldest_hour
from service.reconcile.memory import JOB_KEPT_SECONDS, Memory
from service.reconcile.plan import Budget, plan
from service.reconcile.status import tenant_status

TENANT = "c0ffee00-1111-4222-8333-444455556666"
NOW = 1_790_000_000.0
HOUR = hour_number(NOW) - 30
REQUEST = JobRequest(id="j", tenant_id=TENANT, first_hour=HOUR - 2, end_hour=HOUR + 1)


def memory() -> Memory:
    return Memory(NOW, [TENANT.upper()])


def read_again(written: Memory) -> Memory:
    """What the next keeper knows."""
    found = memory()
    for key, value in written.changed():
        found.load(key, value)
    return found


def looked(one: Memory, listed: int, look: int = 100) -> None:
    one.begin_look(TENANT, [HOUR], look)
    one.end_look(TENANT, [HOUR], look, {HOUR: listed})


def report(look: int = 100, known: int = 0, healed: int = 0, dead: int = 0) -> Report:
    return Report(
        lane=0, tallies=[Tally(TENANT, HOUR, look, known, healed, dead)], notices={TENANT: "2026-09-21T14:00:00Z"}
    )


def test_what_is_written_is_read_again() -> None:
    """Hours, jobs, the last notice, and how far the inbox is counted."""
    one = memory()
    looked(one, 5)
    one.take(report(known=2, healed=1), 41, NOW)
    one.take(REQUEST, 42, NOW)
    one.saw_subscription(TENANT, NOW, after_gap=True)
    again = read_again(one)

    assert again.tenants == one.tenants
    assert again.inbox_offset == 43
    assert again.tenants[TENANT].seen.notice == pytest.approx(NOW, abs=3600)
    [day] = figures(again.tenants[TENANT], NOW)
    assert (day.listed, day.published, day.missing, day.healed) == (5, 3, 2, 1)


def test_reports_that_come_before_the_look_is_whole_are_held() -> None:
    """Lanes may be done with the first ids while the last are still being listed."""
    one = memory()
    one.begin_look(TENANT, [HOUR], 100)
    one.take(report(healed=2), 0, NOW)
    one.end_look(TENANT, [HOUR], 100, {HOUR: 3})

    assert one.tenants[TENANT].hours[HOUR].healed == 2


def test_a_look_that_broke_off_never_counts() -> None:
    """Neither its ids nor what is reported of them; the look that follows has another number."""
    one = memory()
    looked(one, 4)
    number = one.next_look(TENANT, [HOUR], 50.0)
    one.begin_look(TENANT, [HOUR], number)
    one.take(report(look=number, healed=2), 0, NOW)
    one.end_look(TENANT, [HOUR], number, None)
    one.take(report(look=number, healed=2), 1, NOW)

    assert number == 101
    assert one.tenants[TENANT].hours[HOUR].settled == 0


def test_reports_of_an_older_look_are_not_counted() -> None:
    """The newer look lists the same ids again, and they are reported again."""
    one = memory()
    looked(one, 4, look=100)
    one.take(report(look=100, known=4), 0, NOW)
    looked(one, 6, look=200)
    one.take(report(look=100, known=4), 1, NOW)
    hour = one.tenants[TENANT].hours[HOUR]

    assert (hour.published, hour.missing, hour.late) == (4, 2, 2)
    one.take(report(look=200, known=4, healed=1, dead=1), 2, NOW)
    assert (hour.published, hour.set_aside, hour.missing) == (5, 1, 0)


def test_asking_twice_is_one_job_until_it_is_done() -> None:
    """An unfinished one goes on; a finished one begins anew."""
    one = memory()
    assert one.take(REQUEST, 0, NOW) == TENANT
    first = one.tenants[TENANT].jobs["j"]
    one.take(REQUEST, 1, NOW + 60)
    assert one.tenants[TENANT].jobs["j"] == first
    hours = range(REQUEST.first_hour, REQUEST.end_hour)
    number = one.next_look(TENANT, hours, NOW)
    one.begin_look(TENANT, hours, number)
    one.end_look(TENANT, hours, number, {})
    assert one.tenants[TENANT].progress(first, NOW).is_done
    one.take(REQUEST, 2, NOW + 60)

    assert one.tenants[TENANT].jobs["j"].asked > first.asked


def test_what_is_old_is_forgotten_and_said_when_it_was_never_listed() -> None:
    """After 30 days Graph has forgotten it too; a job after a week."""
    one = memory()
    looked(one, 5)
    one.tenants[TENANT].jobs["j"] = Job(id="j", tenant_id=TENANT, first_hour=HOUR, end_hour=HOUR, asked=int(NOW))
    one.changed()
    later = NOW + 33 * 86400
    lost = one.forget(later)
    written = dict(one.changed())

    assert [hours for _, _, hours in lost] == [23]
    assert one.tenants[TENANT].hours == one.tenants[TENANT].jobs == {}
    assert sum(value is None for value in written.values()) == 2
    assert later > NOW + JOB_KEPT_SECONDS


def test_what_was_forgotten_before_the_first_look_is_no_loss() -> None:
    """A new deployment looks 30 days back to the hour; the rest of that day is nobody's fault."""
    one = memory()
    first = oldest_hour(NOW)
    hours = range(first, (first // 24 + 1) * 24)
    number = one.next_look(TENANT, hours, NOW)
    one.begin_look(TENANT, hours, number)
    one.end_look(TENANT, hours, number, {})

    assert one.forget(NOW + 2 * 86400) == []
    assert one.tenants[TENANT].hours == {}


@pytest.mark.parametrize(
    ("received", "kept"),
    [
        (iso(NOW - 60), NOW - 60),
        (iso(NOW + 60), NOW),
        ("2099-01-01T00:00:00Z", NOW),
        ("9999-12-31T23:59:59.9999999Z", 0.0),
        ("0001-01-01T00:00:00+01:00", 0.0),
        ("never", 0.0),
    ],
)
def test_no_notice_is_believed_to_come_later_than_now(received: str, kept: float) -> None:
    """Another tool may write any date: one to come would say for ever that notices arrive, or be none to show."""
    one = memory()
    one.take(Report(lane=0, notices={TENANT: received}), 0, NOW)

    assert one.tenants[TENANT].seen.notice == kept
    assert shown_notice(one) == (iso(kept) if kept else None)


@pytest.mark.parametrize("poison", [253402300800.0, 4_070_908_800.0])
def test_a_notice_to_come_that_was_written_before_heals(poison: float) -> None:
    """An earlier release kept whatever date it was told."""
    written = memory()
    written.saw_subscription(TENANT, NOW, after_gap=False)
    written.tenants[TENANT].seen.notice = poison
    one = read_again(written)

    assert one.tenants[TENANT].seen.notice == NOW
    assert shown_notice(one) == iso(NOW)
    one.saw_subscription(TENANT, NOW + 60, after_gap=False)
    assert read_again(one).tenants[TENANT].seen.notice == NOW


def shown_notice(one: Memory) -> object:
    """As the status page has it."""
    tenant = one.tenants[TENANT]
    return tenant_status(tenant, plan(tenant, Budget(8), NOW, 30), NOW)["lastNotice"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"\xff", b"{}"),
        (f"{TENANT}/day/never".encode(), b"{}"),
        (f"{TENANT}/day/2026-09-20".encode(), b"7"),
        (f"{TENANT}/newer/thing".encode(), b"{}"),
        (b"00000000-0000-0000-0000-000000000000/seen", b"{}"),
    ],
)
def test_what_is_not_understood_is_passed_over(key: bytes | None, value: bytes) -> None:
    """A newer release, or somebody else, wrote it."""
    one = memory()
    one.load(key, value)

    assert one.tenants == memory().tenants
    assert decode_message(value) is None
