"""Which hours are looked at when: nothing is forgotten, nothing is lost in silence, the budget holds."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.reconcile.hours import Hour, Job, TenantHours, figures, hour_number, hour_start
from service.reconcile.plan import (
    DAY_SECONDS,
    FURTHER_AGES,
    LAST_SAFE_SECONDS,
    PROMISED_AGES,
    Budget,
    judge_fit,
    plan,
    sentences,
)

NOW = hour_start(500_000) + 60.0
BUDGET = Budget(8)
TENANT = "c0ffee00-1111-4222-8333-444455556666"


@dataclass
class World:
    """A tenant, its clock, and a keeper that does what the plan says at the budget's pace."""

    calls_per_hour: int
    tenant: TenantHours
    now: float = NOW
    pages: float = 0.0

    def look_once(self, budget: Budget = BUDGET) -> bool:
        """Does what is next; False when nothing is due."""
        look = plan(self.tenant, budget, self.now).look
        if look is None:
            return False
        begun = int(self.now)
        pages = max(1.0, (look.end - look.first) * self.calls_per_hour / 60)
        self.pages += pages
        self.now += pages / budget.pages_per_second
        for number in range(look.first, look.end):
            seen = self.tenant.hour(number).relisted(begun, self.calls_per_hour)
            seen.count(self.calls_per_hour, 0, 0)
            self.tenant.hours[number] = seen
        return True

    def work_until(self, end: float, budget: Budget = BUDGET) -> None:
        while self.now < end:
            if not self.look_once(budget):
                self.now += 3600.0


def world(calls_per_hour: int, seen: bool = True, now: float = NOW) -> World:
    """A tenant whose hours have all been looked at when they were due, or never."""
    tenant = TenantHours(TENANT)
    if seen:
        for number in range(hour_number(now) - 720, hour_number(now)):
            age = now - hour_start(number + 1)
            looks = [one for one in (*PROMISED_AGES, *FURTHER_AGES) if one <= age]
            if looks:
                look = int(hour_start(number + 1) + max(looks)) + 1
                tenant.hours[number] = Hour(
                    look=look, listed=calls_per_hour, first_listed=calls_per_hour, known=calls_per_hour
                )
    return World(calls_per_hour, tenant, now)


def test_nothing_is_due_right_after_everything_was_looked_at() -> None:
    """A plan that finds work where there is none would spend the budget on it."""
    small = world(50)
    while small.look_once():
        pass

    assert plan(small.tenant, BUDGET, small.now).look is None
    assert small.pages < 20


def test_every_hour_is_looked_at_as_it_ages() -> None:
    """At one day and at 28, and the look at 28 days comes before the last safe one."""
    begun: dict[int, list[float]] = {}
    one = world(500)
    followed = range(hour_number(NOW), hour_number(NOW) + 24)
    end = NOW + 30 * DAY_SECONDS
    while one.now < end:
        before = {number: one.tenant.hour(number).look for number in followed}
        if not one.look_once():
            one.now += 3600.0
        for number in followed:
            if (look := one.tenant.hour(number).look) != before[number]:
                begun.setdefault(number, []).append(look - hour_start(number + 1))

    for number in followed:
        ages = begun[number]
        for promised in PROMISED_AGES:
            assert any(promised <= age < promised + DAY_SECONDS / 2 for age in ages), (number, ages)
        assert max(ages) + 3600 < LAST_SAFE_SECONDS


@pytest.mark.parametrize(
    ("calls_per_day", "fits"), [(1_000, True), (100_000, True), (1_000_000, True), (1_100_000, False)]
)
def test_a_million_calls_a_day_fit_twice(calls_per_day: int, fits: bool) -> None:
    """Two looks at each record of a million a day are what 8 requests per 20 s can do; beyond it the plan says so."""
    tenant = world(calls_per_day // 24).tenant
    fit = judge_fit(tenant, BUDGET, NOW)
    said = sentences(plan(tenant, BUDGET, NOW))

    assert fit.fits is fits
    assert fit.calls_per_day == pytest.approx(calls_per_day, rel=0.02)
    assert any("raise graph.list_requests_per_20s" in one for one in said) is not fits
    if calls_per_day >= 1_000_000:
        assert judge_fit(tenant, Budget(10), NOW).looks_possible * calls_per_day > 2_500_000


def test_small_tenants_are_looked_at_more_often() -> None:
    """What the promised looks leave over is used."""
    assert judge_fit(world(40).tenant, BUDGET, NOW).ages == tuple(sorted((*PROMISED_AGES, *FURTHER_AGES)))
    assert judge_fit(world(41_600).tenant, BUDGET, NOW).ages == PROMISED_AGES


@pytest.mark.parametrize(("days", "calls_per_hour"), [(1, 20), (29, 20), (5, 2_000), (2, 20_000), (29, 20_000)])
def test_after_an_outage_everything_is_looked_at_within_what_the_budget_allows(days: int, calls_per_hour: int) -> None:
    """The estimate holds, and no hour that could be saved passes its last safe day."""
    away = world(calls_per_hour)
    away.now += days * DAY_SECONDS
    begun, estimate = away.now, plan(away.tenant, BUDGET, away.now).backlog
    finished = begun + 1.1 * estimate.seconds + 2 * 3600
    away.work_until(finished)

    first_safe = max(hour_number(NOW), hour_number(finished - LAST_SAFE_SECONDS) + 1)
    away_hours = range(first_safe, hour_number(begun) - 25)
    assert estimate.hours > 20 * days
    assert [number for number in away_hours if away.tenant.hour(number).look < begun] == []


def test_what_cannot_be_listed_in_time_is_said_before_it_is_lost() -> None:
    """29 days away at half a million calls a day: the oldest hours come first, and some are named as lost."""
    away = world(21_000)
    away.now += 29.5 * DAY_SECONDS
    found = plan(away.tenant, BUDGET, away.now)

    assert found.look is not None
    assert found.look.first < hour_number(away.now) - 28 * 24
    assert found.backlog.at_risk_hours > 0
    assert "before they can be listed" in sentences(found)[0]


def test_nothing_is_at_risk_on_a_first_day() -> None:
    """A new tenant's last 30 days are looked at without alarm."""
    new = world(30, seen=False)
    found = plan(new.tenant, BUDGET, NOW)

    assert found.look is not None
    assert sentences(found) == []
    while new.look_once():
        pass
    assert new.pages < 24 * 30
    assert len(new.tenant.hours) > 29 * 24


def test_a_job_goes_before_what_can_wait_and_ends() -> None:
    """Its hours are listed again although they were looked at, with its own source; then it is done."""
    one = world(100)
    while one.look_once():
        pass
    first = hour_number(NOW) - 100
    job = Job(id="j", tenant_id=TENANT, first_hour=first, end_hour=first + 30, asked=int(one.now))
    one.tenant.jobs["j"] = job
    looks = []
    while (look := plan(one.tenant, BUDGET, one.now).look) is not None and look.source == "backfill":
        looks.append(look)
        one.look_once()

    assert sum(look.end - look.first for look in looks) == 30
    progress = one.tenant.progress(job, one.now)
    assert progress.is_done
    assert (progress.hours_listed, progress.listed, progress.missing) == (30, 3000, 0)


def test_an_hour_that_never_settles_is_looked_at_again() -> None:
    """What was queued and never reported was lost on the way; after two days it is asked for anew, not for ever."""
    one = world(100)
    while one.look_once():
        pass
    number = hour_number(NOW) - 50
    one.tenant.hours[number] = one.tenant.hour(number).relisted(int(one.now), 100)
    assert plan(one.tenant, BUDGET, one.now).look is None
    one.now += 2 * DAY_SECONDS + 1
    while one.look_once():
        pass

    assert one.tenant.hour(number).is_settled


def test_a_gap_in_the_notices_is_looked_at_at_once() -> None:
    """Hours from a day before the gap up to its end: a long call may have begun so long before."""
    one = world(10)
    while one.look_once():
        pass
    one.tenant.seen.gap_from, one.tenant.seen.gap_until = int(one.now - 600), int(one.now)
    one.now += 60
    found = plan(one.tenant, BUDGET, one.now)

    assert found.backlog.hours == 25
    while one.look_once():
        pass
    assert plan(one.tenant, BUDGET, one.now).look is None


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=6))
def test_figures_add_up(looks: list[tuple[int, int, int]]) -> None:
    """listed = published + set aside + missing, whatever was reported, and nothing is negative."""
    hour = Hour()
    for number, (listed, known, dead) in enumerate(looks, start=1):
        hour = hour.relisted(number, listed)
        hour.count(min(known, listed), 0, min(dead, listed - min(known, listed)))
        tenant = TenantHours(TENANT, {hour_number(NOW): hour})
        [day] = figures(tenant, NOW)
        assert day.listed == listed == day.published + day.set_aside + day.missing
        assert min(day.published, day.set_aside, day.missing, day.late) >= 0
    assert day.late == max(0, looks[-1][0] - looks[0][0])
