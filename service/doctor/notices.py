"""Whether notices arrive: when the last one came, and whether Graph lists calls of which none came."""

import time
from collections.abc import Iterable

from service.doctor.case import Case
from service.doctor.completeness import keeper_memory
from service.doctor.finding import Look, broken, ok, warn
from service.reconcile.hours import TenantHours, hour_number
from service.settings import Tenant

QUIET_SECONDS = 24 * 3600.0
# Graph may take 150 minutes to tell of a call (graph-contract 6.5); an hour of calls more.
LATE_HOURS = 4
TODO = (
    "See whether POSTs reach the receiver (callstream_notifications_received_total); if not, look at the proxy, the "
    "firewall and the subscription's URL. The calls themselves are found by reconciliation."
)


async def check(case: Case, name: str, tenant: Tenant) -> Iterable[Look]:  # noqa: ARG001 - its name is the walk's
    """What lanes told the keeper, and what stands at the end of the notifications topic."""
    memory = await keeper_memory(case)
    tenant_id = tenant.id.lower()
    hours = memory.tenants.get(tenant_id) or TenantHours(tenant_id)
    now = case.clock.now()
    # What stands in the topic may be another tool's, with any date.
    newest = max(hours.seen.notice, min(case.newest_notices.get(tenant_id, 0.0), now))
    return [judge(newest, hours, now)]


def judge(newest: float, hours: TenantHours, now: float) -> Look:
    """`newest`: Unix seconds of the last notice, 0 for none."""
    since = _listed_since(newest, hours, now)
    if not newest:
        if since:
            return broken(f"No notice has ever come, and Graph lists {since:,} calls.", TODO)
        todo = "Make a call and hang up; Graph tells of it within 30 minutes, at most 150."
        return warn("No notice has come yet, and Graph lists no call either.", todo)
    age = now - newest
    seen = f"The last one came {_ago(age)} ago ({time.strftime('%Y-%m-%d %H:%M', time.gmtime(newest))} UTC)."
    if since and age > LATE_HOURS * 3600:
        return broken(f"{seen} Graph lists {since:,} calls since then, of which none came.", TODO)
    if age > QUIET_SECONDS:
        todo = "Nothing, if nobody made calls since; reconciliation finds what was missed."
        return warn(seen, todo)
    return ok(seen)


def _listed_since(newest: float, hours: TenantHours, now: float) -> int:
    """Calls that began after the last notice, so long ago that Graph must have told of them."""
    first, last = hour_number(newest) + 1, hour_number(now) - LATE_HOURS
    return sum(hour.listed for number, hour in hours.hours.items() if first <= number <= last)


def _ago(seconds: float) -> str:
    seconds = max(0.0, seconds)
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )
