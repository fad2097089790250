"""Core: one tenant's completeness as plain values, for the status page and `callstream completeness --json`."""

from dataclasses import asdict
from typing import Any

from service.clock import iso
from service.reconcile.hours import TenantHours, figures, hour_start
from service.reconcile.plan import DAY_SECONDS, Plan, sentences

# After so many days every retry has had its time.
OVERDUE_DAYS = 3
SUMMED = ("listed", "published", "set_aside", "missing", "healed", "late")


def tenant_status(tenant: TenantHours, plan: Plan, now: float) -> dict[str, Any]:
    """Days newest first, sums over them, the plan, jobs, and what a person should know."""
    days = [asdict(day) for day in figures(tenant, now)]
    return {
        "days": days,
        "total": {name: sum(day[name] for day in days) for name in SUMMED},
        "lastNotice": iso(tenant.seen.notice) if tenant.seen.notice else None,
        "plan": {
            "callsPerDay": round(plan.fit.calls_per_day),
            "looksPossible": round(plan.fit.looks_possible, 2),
            "looksAtDays": [round(age / DAY_SECONDS, 3) for age in plan.fit.ages],
            "fits": plan.fit.fits,
            "hoursDue": plan.backlog.hours,
            "secondsLeft": round(plan.backlog.seconds),
            "hoursAtRisk": plan.backlog.at_risk_hours,
        },
        "jobs": [
            {
                "id": job.id,
                "from": iso(hour_start(job.first_hour)),
                "to": iso(hour_start(job.end_hour)),
                **asdict(progress),
                "done": progress.is_done,
            }
            for job in tenant.jobs.values()
            for progress in (tenant.progress(job, now),)
        ],
        "say": sentences(plan),
    }


def is_overdue(day: dict[str, Any]) -> bool:
    """Whether a day on which every retry has had its time still misses something."""
    return bool(day["missing"] and day["age"] >= OVERDUE_DAYS)


def share(total: dict[str, int]) -> str:
    """`99.98 %` of what is listed is published or named in a dead letter; rounded down, so that 100 means all."""
    if not total["listed"]:
        return "nothing listed"
    done = total["published"] + total["set_aside"]
    return f"{int(10_000 * done / total['listed']) / 100:g} %"


def wait_text(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
