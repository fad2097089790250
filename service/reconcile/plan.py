"""Core: which hours are listed when, whether that fits the budget, and what will be lost if it does not. No I/O.

Every hour is looked at again as it ages, counted from its end. Two looks are promised: at one day, because by then the
record of every call up to 21 hours long is there (its end, then up to 150 minutes: graph-contract 6.5), and at 28 days,
before day 29, the last safe one (6.4); the second finds what became visible in between: calls longer than a day,
versions without a notice, telemetry that came late. Others are made where the list budget allows, the most useful
first: at 4 hours (an hour and a half of calls and the 150 minutes), then at 7, 3 and 14 days.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from service.reconcile.hours import HOUR_SECONDS, KEPT_HOURS, Hour, TenantHours, hour_number, hour_start

DAY_SECONDS = 24 * HOUR_SECONDS
PROMISED_AGES = (DAY_SECONDS, 28 * DAY_SECONDS)
FURTHER_AGES = (4 * HOUR_SECONDS, 7 * DAY_SECONDS, 3 * DAY_SECONDS, 14 * DAY_SECONDS)
# The last safe age of an hour, counted from its start (graph-contract 6.4).
LAST_SAFE_SECONDS = 29 * DAY_SECONDS
PAGE_SIZE = 60
# One listing covers neighbouring hours while it stays small: a failure repeats it from its beginning.
MOST_PAGES_AT_ONCE, MOST_HOURS_AT_ONCE = 50, 24
# Of what the promised looks leave over, further looks take this share; the rest catches up and answers people.
FURTHER_SHARE = 0.8
# A call that a gap in the notices hides may have begun so long before the gap.
LONGEST_CALL_HOURS = 24
# A listed record has come to its end by then, with all its retries: what has not was lost on the way (a topic that was
# emptied, a keeper away for longer than its inbox is kept), and the hour is looked at again.
UNSETTLED_SECONDS = 2 * DAY_SECONDS
# How many days a tenant's size is judged by.
SIZE_DAYS = 7


@dataclass(frozen=True)
class Budget:
    """What may be asked of the list: `requests` in any window of `window_seconds`."""

    requests: int
    window_seconds: float = 20.25

    @property
    def pages_per_second(self) -> float:
        """Sustained."""
        return self.requests / self.window_seconds


@dataclass(frozen=True)
class Fit:
    """Whether the looks fit the budget at the tenant's size."""

    calls_per_day: float
    pages_per_look_and_day: float
    looks_possible: float
    """How often each record can be looked at."""
    ages: tuple[float, ...]
    """Ages in seconds at which hours are looked at, ascending."""
    fits: bool
    """Whether the promised looks do."""


@dataclass(frozen=True)
class Look:
    """Hours [first, end) to be listed in one go. `source` of the notifications: reconcile, or backfill for a job."""

    first: int
    end: int
    source: str


@dataclass(frozen=True)
class Backlog:
    """What is due now."""

    hours: int
    pages: float
    seconds: float
    """Until it is listed, at the budget, the promised looks of the days to come included."""
    at_risk_hours: int
    """Hours that will pass their last safe day before they can be listed."""
    at_risk_calls: int
    """The calls in them, as far as their number can be told."""


@dataclass(frozen=True)
class Plan:
    """What to do next for one tenant, and how it stands."""

    look: Look | None
    backlog: Backlog
    fit: Fit


@dataclass(frozen=True)
class _Due:
    hour: int
    urgency: int
    pages: float
    source: str


def plan(tenant: TenantHours, budget: Budget, now: float, days: int = 30, most_hours: int = MOST_HOURS_AT_ONCE) -> Plan:
    """`days`: how far back hours are looked for, at most 30; jobs may reach further. `most_hours` of one listing."""
    fit = judge_fit(tenant, budget, now)
    due = _due(tenant, fit, now, days)
    backlog = _backlog(due, _catching_up(fit, budget), now)
    ranked = _ranked(due, backlog, now)
    return Plan(_look(ranked, most_hours) if ranked else None, backlog, fit)


def judge_fit(tenant: TenantHours, budget: Budget, now: float) -> Fit:
    """How many looks the budget allows, and so which are made. A tenant nobody has looked at yet counts as small."""
    per_hour = calls_per_hour(tenant, now)
    # A small tenant's neighbouring hours are listed together, so empty ones cost next to nothing.
    pages = max(24 / MOST_HOURS_AT_ONCE, 24 * per_hour / PAGE_SIZE + 24 / max(1.0, _hours_together(per_hour)))
    capacity = budget.pages_per_second * DAY_SECONDS
    possible = capacity / pages
    promised = len(PROMISED_AGES)
    further = max(0, int((possible - promised) * FURTHER_SHARE))
    ages = tuple(sorted((*PROMISED_AGES, *FURTHER_AGES[:further])))
    return Fit(24 * per_hour, pages, possible, ages, possible >= promised)


def calls_per_hour(tenant: TenantHours, now: float) -> float:
    """The mean of the hours looked at in the last week, and only of older ones where there are none."""
    newest, oldest = hour_number(now), hour_number(now) - SIZE_DAYS * 24
    seen = [hour.listed for number, hour in tenant.hours.items() if hour.look and oldest <= number < newest]
    seen = seen or [hour.listed for hour in tenant.hours.values() if hour.look]
    return sum(seen) / len(seen) if seen else 0.0


def _hours_together(calls_per_hour: float) -> float:
    if calls_per_hour <= 0:
        return MOST_HOURS_AT_ONCE
    return min(MOST_HOURS_AT_ONCE, MOST_PAGES_AT_ONCE * PAGE_SIZE / calls_per_hour)


# Lower goes first.
_PERISHING, _ASKED, _NEVER_SEEN, _PROMISED, _FURTHER = range(5)


def _due(tenant: TenantHours, fit: Fit, now: float, days: int) -> list[_Due]:
    current = hour_number(now)
    oldest, per_hour = current - KEPT_HOURS, fit.calls_per_day / 24
    jobs = [job for job in tenant.jobs.values() if not tenant.progress(job, now).is_done]
    found = []
    for number in range(oldest, current + 1):
        hour = tenant.hour(number)
        pages = max(1 / MOST_HOURS_AT_ONCE, (hour.listed if hour.look else per_hour) / PAGE_SIZE)
        if any(job.first_hour <= number < job.end_hour and hour.look < job.asked for job in jobs):
            found.append(_Due(number, _ASKED, pages, "backfill"))
        elif number >= current - days * 24 and (urgency := _urgency(tenant, number, hour, fit, now)) is not None:
            found.append(_Due(number, urgency, pages, "reconcile"))
    return found


def _urgency(tenant: TenantHours, number: int, hour: Hour, fit: Fit, now: float) -> int | None:
    """Why an hour is due; None when it is not."""
    end, seen = hour_start(number + 1), tenant.seen
    in_gap = hour_number(seen.gap_from) - LONGEST_CALL_HOURS <= number and end <= seen.gap_until
    if in_gap and hour.look < seen.gap_until:
        return _ASKED
    if hour.look and not hour.is_settled and hour.look + UNSETTLED_SECONDS <= now:
        return _PROMISED
    passed = [age for age in fit.ages if end + age <= now and hour.look < end + age]
    if not passed:
        return None
    if not any(age in PROMISED_AGES for age in passed):
        return _FURTHER
    return _PROMISED if hour.look else _NEVER_SEEN


def _catching_up(fit: Fit, budget: Budget) -> float:
    """Pages per second that the promised looks of the days to come leave over; a tenth at least."""
    return budget.pages_per_second * max(0.1, 1 - len(PROMISED_AGES) / fit.looks_possible)


def _backlog(due: Sequence[_Due], rate: float, now: float) -> Backlog:
    """Oldest first is the order that loses least, so what is late in it is lost in every order."""
    pages, at_risk_hours, at_risk_calls = 0.0, 0, 0.0
    for one in sorted(due, key=lambda one: one.hour):
        if one.urgency == _FURTHER:
            continue
        pages += one.pages
        if now + pages / rate > _deadline(one.hour, now):
            at_risk_hours += 1
            at_risk_calls += one.pages * PAGE_SIZE
    total = sum(one.pages for one in due)
    return Backlog(len(due), total, total / rate, at_risk_hours, int(at_risk_calls))


def _deadline(hour: int, now: float) -> float:
    """The last safe moment; once that is over, the moment at which Graph has surely forgotten the hour."""
    last_safe = hour_start(hour) + LAST_SAFE_SECONDS
    return last_safe if now < last_safe else hour_start(hour + 1 + KEPT_HOURS)


def _ranked(due: Iterable[_Due], backlog: Backlog, now: float) -> list[_Due]:
    """What could be lost while the rest is worked off goes first, oldest first; then by urgency, newest first."""
    close = now + 2 * backlog.seconds + HOUR_SECONDS

    def rank(one: _Due) -> tuple[int, int]:
        if one.urgency != _FURTHER and hour_start(one.hour) + LAST_SAFE_SECONDS < close:
            return _PERISHING, one.hour
        return one.urgency, -one.hour

    return sorted(due, key=rank)


def _look(ranked: Sequence[_Due], most_hours: int) -> Look:
    """The first, and its neighbours as far as they are due for the same source and the listing stays small."""
    first = ranked[0]
    pages = {one.hour: one.pages for one in ranked if one.source == first.source}
    begin, end, total = first.hour, first.hour + 1, first.pages
    for step in (-1, 1):
        while True:
            neighbour = begin - 1 if step < 0 else end
            size = pages.get(neighbour)
            if size is None or end - begin >= most_hours or total + size > MOST_PAGES_AT_ONCE:
                break
            total += size
            begin, end = min(begin, neighbour), max(end, neighbour + 1)
    return Look(begin, end, first.source)


def sentences(plan: Plan) -> list[str]:
    """What a person should know, worst first; empty when all is well."""
    said = []
    if plan.backlog.at_risk_hours:
        said.append(
            f"{plan.backlog.at_risk_hours} hours with some {plan.backlog.at_risk_calls} calls are about to pass "
            "Graph's 30 days before they can be listed: raise graph.list_requests_per_20s (Graph allows 40)."
        )
    if not plan.fit.fits:
        said.append(
            f"Some {plan.fit.calls_per_day:,.0f} calls a day need {ceil(2 * plan.fit.pages_per_look_and_day):,} list "
            f"requests a day for two looks at each, and the budget allows {plan.fit.looks_possible:.1f} looks: "
            "raise graph.list_requests_per_20s."
        )
    return said
