"""What came of a run, as values that can be written down and read back; and whether it is right."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.simulation.script import DAY
from bench.simulation.stage import Stage
from bench.simulation.watching import Watching
from service.clock import from_iso
from service.emulator.judge import Verdict

STATES = ("made", "listed", "published", "missing", "healed", "late", "set_aside")


@dataclass
class Outcome:
    """Days are counted from 0; `days[n]` is day n of all tenants together."""

    script: dict[str, Any]
    days: list[dict[str, int]] = field(default_factory=list)
    """Calls by the day on which they started: made, and the keeper's last figures of it (`STATES`)."""
    tenants: dict[str, dict[str, int]] = field(default_factory=dict)
    """The same, each tenant's whole run."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)
    gaps: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Each tenant's days without a subscription in force."""
    renewals: int = 0
    subscriptions: int = 0
    """How many there ever were."""
    verdict: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each limit of Graph's: the limit, the window in seconds, requests, the most in any window, 429s."""
    notices: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    """The service's own counters, over all its starts."""
    unsaid: list[str] = field(default_factory=list)
    """What the keeper said of the tenants in the end: sentences of trouble."""

    def faults(self) -> list[str]:
        """What is not as promised, in words; empty when all is."""
        wrong = ("lost", "duplicated", "wrong", "half", "older_after_newer", "dead")
        words = "; ".join(self.verdict["problems"][:3])
        found = [f"{self.verdict[name]} {name}: {words}" for name in wrong if self.verdict[name]]
        for number, day in enumerate(self.days):
            if not day["made"] == day["listed"] == day["published"] or day["missing"]:
                found.append(f"day {number + 1} is not complete: {day}")
        for name, limit in self.limits.items():
            if limit["throttled"] or limit["highest"] > limit["limit"]:
                found.append(
                    f"limit {name}: {limit['highest']} of {limit['limit']} requests in {limit['windowSeconds']:g} s, "
                    f"429 {limit['throttled']} times"
                )
        return found + [f"the keeper says: {one}" for one in self.unsaid]


def outcome_of(stage: Stage, watching: Watching, verdict: Verdict) -> Outcome:
    """Everything, when it is over."""
    world = stage.emulator.world
    counts = stage.deployment.counts()
    lives = list(world.subscriptions.lives)
    figures = _figures(stage, watching)
    return Outcome(
        script=asdict(stage.script),
        days=[_sum(figures, lambda key, n=number: key[1] == n) for number in sorted({day for _, day in figures})],  # type: ignore[misc]
        tenants={name: _sum(figures, lambda key, n=name: key[0] == n) for name in sorted({t for t, _ in figures})},  # type: ignore[misc]
        samples=[asdict(one) for one in watching.samples],
        marks=[asdict(mark) for mark in stage.marks],
        gaps={tenant.name: _gaps(stage, tenant.id) for tenant in world.options.tenants},
        renewals=sum(len(life.renewed_at) for life in lives),
        subscriptions=len(lives),
        verdict=asdict(verdict),
        limits=world.counters.report(),
        notices=dict(world.delivery.counts),
        counts={name: counts[name] for name in sorted(counts) if name.startswith(_SHOWN)},
        unsaid=[f"{tenant}: {one}" for tenant, said in watching.said.items() for one in said],
    )


_SHOWN = (
    *("audits", "dead_letters", "lifecycle_events", "notifications_re", "notifications_sto", "records_", "reconcile_"),
    *("subscription_calls", "lane_reopened", "graph_seconds_count"),
)


def _figures(stage: Stage, watching: Watching) -> dict[tuple[str, int], dict[str, int]]:
    """(tenant, number of the day) → the day's states."""
    found = {}
    for (tenant, day), made in watching.started().items():
        seen = watching.days.get((tenant, day), {})
        found[tenant, _number(stage, day)] = {"made": made} | {state: seen.get(state, 0) for state in STATES[1:]}
    return found


def _number(stage: Stage, day: str) -> int:
    return round((from_iso(f"{day}T00:00:00Z") - stage.begin) / DAY)


def _sum(figures: dict[tuple[str, int], dict[str, int]], wanted: Any) -> dict[str, int]:
    total: Counter[str] = Counter(dict.fromkeys(STATES, 0))
    for key, states in figures.items():
        if wanted(key):
            total.update(states)
    return dict(total)


def _gaps(stage: Stage, tenant_id: str) -> list[tuple[float, float]]:
    found = stage.emulator.world.subscriptions.lives.gaps(tenant_id, stage.clock.now())
    return [(round((begin - stage.begin) / DAY, 3), round((end - stage.begin) / DAY, 3)) for begin, end in found]
