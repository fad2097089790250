"""Core: the keeper's memory as records of `{prefix}.state`, which is compacted. No I/O, no clock.

| Key | Value |
|---|---|
| `{tenantId}/day/2026-11-22` | the day's 24 hours: looks, what they listed, what became of it |
| `{tenantId}/job/{id}` | a backfill that somebody asked for |
| `{tenantId}/seen` | last notice, subscription, gap |
| `inbox` | the offset up to which `{prefix}.keeper-inbox` is counted in all of these |

Everything that changed since the last transaction is written together with `inbox`, so nothing is counted twice.
"""

import contextlib
import datetime as dt
from collections.abc import Iterable

import msgspec

from service.lanes.inbox import JobRequest, LookKey, Report, Tally, unix_or_zero
from service.notification import UNREADABLE
from service.reconcile.hours import (
    DAY_HOURS,
    OLDEST_AGE_DAYS,
    Hour,
    Job,
    Seen,
    TenantHours,
    day_number,
    day_text,
    oldest_hour,
)

INBOX_KEY = "inbox"
# A finished job can be asked about for so long.
JOB_KEPT_SECONDS = 7 * 24 * 3600.0

_json = msgspec.json.Encoder()


class _Day(msgspec.Struct):
    day: int
    hours: list[Hour | None]


class _Inbox(msgspec.Struct):
    offset: int


class Memory:
    """All that the keeper knows. Fill it with `load`, change it with the rest, write what `changed` gives."""

    def __init__(self, now: float, tenant_ids: Iterable[str] = ()) -> None:
        """`tenant_ids`: those that are kept. Without any, whatever is read is kept (for showing).

        `now` (Unix seconds): what is read of a notice that came later is taken to mean now.
        """
        self._now = now
        self.tenants: dict[str, TenantHours] = {one.lower(): TenantHours(one.lower()) for one in tenant_ids}
        self._takes_all = not self.tenants
        self.inbox_offset = 0
        self.next_offset = 0
        """Of the state topic: how far it was read. Kept by whoever reads."""
        self._dirty: set[str] = set()
        self._under_way: dict[LookKey, Hour] = {}

    # ---- reading --------------------------------------------------------------------------------------------------

    def load(self, key: bytes | None, value: bytes | None) -> None:
        """Takes one record of the state topic, in order. What is not understood, a newer release wrote: passed over."""
        text = (key or b"").decode("utf-8", "replace")
        if text == INBOX_KEY:
            with contextlib.suppress(*UNREADABLE):
                self.inbox_offset = msgspec.json.decode(value, type=_Inbox).offset if value else 0
            return
        tenant_id, _, rest = text.partition("/")
        tenant = self.tenants.get(tenant_id)
        if tenant is None and self._takes_all and rest:
            tenant = self.tenants[tenant_id] = TenantHours(tenant_id)
        if tenant is None:
            return
        kind, _, name = rest.partition("/")
        with contextlib.suppress(*UNREADABLE):
            _load(tenant, kind, name, value)
            tenant.seen.notice = min(tenant.seen.notice, self._now)

    # ---- changing -------------------------------------------------------------------------------------------------

    def begin_look(self, tenant_id: str, hours: Iterable[int], look: int) -> None:
        """Reports of this look are held until it is whole."""
        for number in hours:
            self._under_way[tenant_id, number, look] = Hour()

    def end_look(self, tenant_id: str, hours: Iterable[int], look: int, listed: dict[int, int] | None) -> None:
        """The look is whole, with so many records in each hour; None: it was broken off and counts for nothing."""
        tenant = self.tenants[tenant_id]
        for number in hours:
            held = self._under_way.pop((tenant_id, number, look), Hour())
            if listed is not None:
                hour = tenant.hours[number] = tenant.hour(number).relisted(look, listed.get(number, 0))
                hour.count(held.known, held.healed, held.dead)
                self._touch_hour(tenant_id, number)

    def next_look(self, tenant_id: str, hours: Iterable[int], now: float) -> int:
        """A number that no look of these hours has had: Unix seconds, or one more than the newest.

        It begins now, and so after everything that was asked for, though that may have been within this second.
        """
        tenant = self.tenants[tenant_id]
        asked = [tenant.seen.gap_until, *(job.asked for job in tenant.jobs.values())]
        return max(int(now), *asked, *(tenant.hour(number).look + 1 for number in hours))

    def take(self, message: Report | JobRequest, offset: int, now: float) -> str | None:
        """One message of the inbox. Gives the tenant that has a new job."""
        self.inbox_offset = offset + 1
        self._dirty.add(INBOX_KEY)
        if isinstance(message, JobRequest):
            return self._take_job(message, now)
        for tally in message.tallies:
            self._count(tally)
        for tenant_id, received in message.notices.items():
            if (tenant := self.tenants.get(tenant_id)) is not None:
                # Another tool may have written any date: one to come would hide that notices stop.
                tenant.seen.notice = max(tenant.seen.notice, min(unix_or_zero(received), now))
                self._dirty.add(f"{tenant_id}/seen")
        return None

    def saw_subscription(self, tenant_id: str, now: float, *, after_gap: bool) -> None:
        """A subscription of ours is there. `after_gap`: it is a new one; what was noticed before it may be lost."""
        seen = self.tenants[tenant_id].seen
        if after_gap:
            seen.gap_from = int(seen.subscription or now)
            seen.gap_until = int(now) + 1
        seen.subscription = now
        self._dirty.add(f"{tenant_id}/seen")

    def forget(self, now: float) -> list[tuple[str, str, int]]:
        """Lets go what is too old. Gives (tenant id, day, hours) of days that end with hours never listed."""
        lost = []
        oldest = day_number(int(now // 3600)) - OLDEST_AGE_DAYS
        for tenant_id, tenant in self.tenants.items():
            # What Graph had forgotten before anybody looked at all, as a new deployment finds it, is no loss of ours.
            first = oldest_hour(min((hour.look for hour in tenant.hours.values() if hour.look), default=now))
            for day in sorted({day_number(number) for number in tenant.hours if day_number(number) < oldest}):
                numbers = range(day * DAY_HOURS, (day + 1) * DAY_HOURS)
                unseen = sum(1 for number in numbers if number >= first and not tenant.hour(number).look)
                if unseen:
                    lost.append((tenant_id, day_text(day), unseen))
                for number in numbers:
                    tenant.hours.pop(number, None)
                self._dirty.add(f"{tenant_id}/day/{day_text(day)}")
            for job in [job for job in tenant.jobs.values() if now > job.asked + JOB_KEPT_SECONDS]:
                if tenant.progress(job, now).is_done:
                    del tenant.jobs[job.id]
                    self._dirty.add(f"{tenant_id}/job/{job.id}")
        return lost

    def _take_job(self, request: JobRequest, now: float) -> str | None:
        tenant = self.tenants.get(request.tenant_id)
        if tenant is None:
            return None
        running = tenant.jobs.get(request.id)
        if running is None or tenant.progress(running, now).is_done:
            # An unfinished one goes on where it is: asking again is how a person looks at it again.
            tenant.jobs[request.id] = Job(
                id=request.id,
                tenant_id=request.tenant_id,
                first_hour=request.first_hour,
                end_hour=request.end_hour,
                # Hours may have been looked at within this second already, for other reasons.
                asked=int(now) + 1,
            )
            self._dirty.add(f"{request.tenant_id}/job/{request.id}")
        return request.tenant_id

    def _count(self, tally: Tally) -> None:
        held = self._under_way.get((tally.tenant_id, tally.hour, tally.look))
        tenant = self.tenants.get(tally.tenant_id)
        if held is not None:
            held.count(tally.known, tally.healed, tally.dead)
        elif tenant is not None and (hour := tenant.hours.get(tally.hour)) is not None and hour.look == tally.look:
            hour.count(tally.known, tally.healed, tally.dead)
            self._touch_hour(tally.tenant_id, tally.hour)

    def _touch_hour(self, tenant_id: str, number: int) -> None:
        self._dirty.add(f"{tenant_id}/day/{day_text(day_number(number))}")

    # ---- writing --------------------------------------------------------------------------------------------------

    @property
    def is_changed(self) -> bool:
        """Whether there is something to write."""
        return bool(self._dirty)

    def changed(self) -> list[tuple[bytes, bytes | None]]:
        """Key and value of all that changed since the last call, as it is now. Not written, all must be read again."""
        keys, self._dirty = sorted(self._dirty | {INBOX_KEY}), set()
        return [(key.encode(), self._value(key)) for key in keys]

    def _value(self, key: str) -> bytes | None:
        if key == INBOX_KEY:
            return _json.encode(_Inbox(self.inbox_offset))
        tenant_id, kind, *name = key.split("/")
        tenant = self.tenants[tenant_id]
        if kind == "seen":
            return _json.encode(tenant.seen)
        if kind == "job":
            job = tenant.jobs.get(name[0])
            return None if job is None else _json.encode(job)
        day = _day_of(name[0])
        hours = [tenant.hours.get(number) for number in range(day * DAY_HOURS, (day + 1) * DAY_HOURS)]
        return _json.encode(_Day(day, hours)) if any(hours) else None


def _load(tenant: TenantHours, kind: str, name: str, value: bytes | None) -> None:
    if kind == "day":
        day = _day_of(name)
        found = msgspec.json.decode(value, type=_Day).hours if value else [None] * DAY_HOURS
        for number, hour in enumerate(found[:DAY_HOURS], start=day * DAY_HOURS):
            if hour is None:
                tenant.hours.pop(number, None)
            else:
                tenant.hours[number] = hour
    elif kind == "job":
        tenant.jobs.pop(name, None)
        if value:
            tenant.jobs[name] = msgspec.json.decode(value, type=Job)
    elif kind == "seen" and value:
        tenant.seen = msgspec.json.decode(value, type=Seen)


def _day_of(text: str) -> int:
    """`2026-11-22` → days since 1970; msgspec.ValidationError when it is no date."""
    return (msgspec.convert(text, dt.date) - dt.date(1970, 1, 1)).days
