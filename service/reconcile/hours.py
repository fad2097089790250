"""Core: what is remembered of one tenant's hours, and the figures that follow. No I/O, no clock.

An hour is a window of `startDateTime`, numbered from 1970 in UTC: hour 0 is the first one. The list shows a record by
its start and by nothing else (graph-contract 6.4), so a call of 20 hours belongs to the hour in which it began, and
windows that touch each other lose nothing, whatever our clock says. Figures are counted per look: a *look* is one whole
listing of an hour, named by a number that only grows. Lanes say of every listed id what became of it, naming the look,
so a look that a crash broke off never counts.
"""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

HOUR_SECONDS = 3600.0
DAY_HOURS = 24
# Graph keeps a record for 30 days from the end of its call; its error text counts from the start. Hours.
KEPT_HOURS = 30 * DAY_HOURS
OLDEST_AGE_DAYS = 30


class Hour(msgspec.Struct, array_like=True):
    """One hour's last look and what became of the records in it. Counts are of calls, not of versions."""

    look: int = 0
    """Number of the last whole look: Unix seconds at which it began; 0 for none."""
    listed: int = 0
    first_listed: int = 0
    """Listed by the hour's first look."""
    known: int = 0
    """Of this look: found published, or published by a notice that came at the same time."""
    healed: int = 0
    """Of this look: published because of it."""
    dead: int = 0
    """Of this look: named in a dead letter."""
    published_before: int = 0
    """What earlier looks had found or made published; counts until this look is settled."""
    dead_before: int = 0
    healed_before: int = 0
    """Healed by all earlier looks together."""

    @property
    def settled(self) -> int:
        """Records of this look whose end is known."""
        return self.known + self.healed + self.dead

    @property
    def is_settled(self) -> bool:
        """Whether every listed record has come to its end."""
        return self.settled >= self.listed

    @property
    def published(self) -> int:
        """Listed and published. What was published stays so while a new look is being worked off."""
        now = self.known + self.healed
        return min(self.listed, now if self.is_settled else max(now, self.published_before))

    @property
    def set_aside(self) -> int:
        """Listed and named in a dead letter."""
        dead = self.dead if self.is_settled else max(self.dead, self.dead_before)
        return min(dead, self.listed - self.published)

    @property
    def missing(self) -> int:
        """Listed and neither published nor set aside, yet."""
        return self.listed - self.published - self.set_aside

    @property
    def healed_ever(self) -> int:
        """Published because a look found them, over all looks."""
        return self.healed_before + self.healed

    @property
    def late(self) -> int:
        """Listed now, and not by the hour's first look."""
        return max(0, self.listed - self.first_listed) if self.look else 0

    def relisted(self, look: int, listed: int) -> "Hour":
        """This hour after a newer look, of which nothing is settled yet."""
        return Hour(
            look=look,
            listed=listed,
            first_listed=self.first_listed if self.look else listed,
            published_before=self.published,
            dead_before=self.set_aside,
            healed_before=self.healed_ever,
        )

    def count(self, known: int, healed: int, dead: int) -> None:
        """Takes what lanes reported of this look."""
        self.known += known
        self.healed += healed
        self.dead += dead


class Job(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A backfill that somebody asked for: every hour of [first_hour, end_hour) is listed again after `asked`."""

    id: str
    tenant_id: str
    first_hour: int
    end_hour: int
    asked: int
    """Unix seconds; a look that began then or later counts."""


@dataclass(frozen=True)
class JobProgress:
    """How far a job has come."""

    hours: int
    hours_listed: int
    listed: int
    settled: int
    missing: int
    set_aside: int
    healed: int

    @property
    def is_done(self) -> bool:
        """Every hour listed, and every listed record at its end."""
        return self.hours_listed == self.hours and self.settled >= self.listed


class Seen(msgspec.Struct, rename="camel"):
    """What the keeper last saw of a tenant. Unix seconds; 0 for never."""

    notice: float = 0.0
    """The last notification that a lane worked on was received then."""
    subscription: float = 0.0
    """A subscription of ours was there then."""
    gap_until: int = 0
    """Notices up to then may be lost: hours before it are due again if their look began before it."""
    gap_from: int = 0


@dataclass
class TenantHours:
    """Everything remembered of one tenant."""

    tenant_id: str
    hours: dict[int, Hour] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)

    def hour(self, number: int) -> Hour:
        """What is known of an hour; an empty one when nothing is."""
        return self.hours.get(number) or Hour()

    def progress(self, job: Job, now: float) -> JobProgress:
        """How far a job is; hours that have fallen out of Graph's memory need no look any more."""
        wanted = [self.hour(n) for n in range(max(job.first_hour, oldest_hour(now)), job.end_hour)]
        seen = [hour for hour in wanted if hour.look >= job.asked]
        return JobProgress(
            hours=len(wanted),
            hours_listed=len(seen),
            listed=sum(hour.listed for hour in seen),
            settled=sum(min(hour.settled, hour.listed) for hour in seen),
            missing=sum(hour.missing for hour in seen),
            set_aside=sum(hour.set_aside for hour in seen),
            healed=sum(hour.healed for hour in seen),
        )


@dataclass(frozen=True)
class DayFigures:
    """One tenant's day: what Graph lists and what became of it. Counts of calls that started on that UTC day."""

    day: str
    age: int
    """0 for today, up to 30."""
    hours_listed: int
    listed: int
    published: int
    set_aside: int
    missing: int
    healed: int
    late: int
    settled: bool
    """Whether the last look of every hour has been worked off, so that `missing` is final."""


def figures(tenant: TenantHours, now: float) -> list[DayFigures]:
    """The days of which something was listed, newest first."""
    today = day_number(hour_number(now))
    by_day: dict[int, list[Hour]] = {}
    for number, hour in tenant.hours.items():
        if hour.look:
            by_day.setdefault(day_number(number), []).append(hour)
    found = [_day(day, today - day, hours) for day, hours in by_day.items()]
    return sorted((one for one in found if 0 <= one.age <= OLDEST_AGE_DAYS), key=lambda one: one.age)


def _day(day: int, age: int, hours: Iterable[Hour]) -> DayFigures:
    seen = list(hours)
    return DayFigures(
        day=day_text(day),
        age=age,
        hours_listed=len(seen),
        listed=sum(hour.listed for hour in seen),
        published=sum(hour.published for hour in seen),
        set_aside=sum(hour.set_aside for hour in seen),
        missing=sum(hour.missing for hour in seen),
        healed=sum(hour.healed_ever for hour in seen),
        late=sum(hour.late for hour in seen),
        settled=all(hour.is_settled for hour in seen),
    )


def hour_number(unix_seconds: float) -> int:
    """The hour in which a moment lies."""
    return int(unix_seconds // HOUR_SECONDS)


def hour_start(number: int) -> float:
    """Unix seconds of an hour's first instant."""
    return number * HOUR_SECONDS


def day_number(hour: int) -> int:
    """The UTC day of an hour, from 1970."""
    return hour // DAY_HOURS


def day_text(day: int) -> str:
    """`2026-11-22`."""
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()


def oldest_hour(now: float) -> int:
    """The first hour of which Graph may still show records: calls that ended in it are 30 days old at its end."""
    return hour_number(now) - KEPT_HOURS
