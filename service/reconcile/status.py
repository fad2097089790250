"""Core: one tenant's completeness as plain values, for the status page and `callstream completeness --json`."""

from dataclasses import asdict
from typing import Any

from service.clock import iso
from service.reconcile.hours import TenantHours, figures, hour_start
from service.reconcile.plan import DAY_SECONDS, Plan, sentences

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
