"""What Graph lists against what is published, from the keeper's memory (docs/completeness.md)."""

from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition

from service.doctor.case import Case
from service.doctor.finding import Look, broken, ok, warn
from service.kafka.whole import read_whole
from service.reconcile.hours import TenantHours
from service.reconcile.memory import Memory
from service.reconcile.plan import Budget, plan
from service.reconcile.status import is_overdue, share, tenant_status, wait_text
from service.settings import Tenant

CATCHING_UP_SECONDS = 3600.0


async def keeper_memory(case: Case) -> Memory:
    """Read once. Raises `KafkaError`."""
    if case.memory is None:
        memory = Memory(case.clock.now())
        await read_whole(case.settings.kafka, TopicPartition(case.topics.state, 0), memory)
        case.memory = memory
    return case.memory


async def check(case: Case, name: str, tenant: Tenant) -> Iterable[Look]:  # noqa: ARG001 - its name is the walk's
    """One tenant's days, and what the plan of looks says."""
    memory = await keeper_memory(case)
    settings, now = case.settings, case.clock.now()
    hours = memory.tenants.get(tenant.id.lower()) or TenantHours(tenant.id.lower())
    made = plan(hours, Budget(settings.graph.list_requests_per_20s), now, settings.keeper.reconcile_days)
    return judge(tenant_status(hours, made, now), at_risk=made.backlog.at_risk_hours > 0, never=not hours.hours)


def judge(status: dict[str, Any], *, at_risk: bool, never: bool) -> list[Look]:
    """`status` as `callstream completeness --json` has it. `never`: no hour has ever been listed."""
    if never:
        todo = "A keeper that has just started needs a minute; else see the link keeper."
        return [warn("No hour has been listed yet.", todo)]
    said = [
        broken(text, "See docs/completeness.md.") if at_risk else warn(text, "See docs/completeness.md.")
        for text in status["say"]
    ]
    overdue = [day for day in status["days"] if is_overdue(day)]
    if overdue:
        count = sum(day["missing"] for day in overdue)
        seen = f"{count:,} calls of {overdue[0]['day']} and before are listed by Graph and not published."
        said.append(broken(seen, "See the links retries and dead letters; `callstream completeness` has the days."))
    due = status["plan"]
    if due["secondsLeft"] > CATCHING_UP_SECONDS:
        seen = f"{due['hoursDue']} hours are still to be listed, some {wait_text(due['secondsLeft'])} of work."
        said.append(warn(seen, "Nothing: an outage is being caught up with."))
    total = status["total"]
    if not total["listed"]:
        return said or [ok(f"Graph lists no call in {len(status['days'])} days.")]
    done = f"{share(total)} of them published or set aside"
    return said or [ok(f"Graph lists {total['listed']:,} calls in {len(status['days'])} days, {done}.")]
