"""Who works: a keeper, and workers that have every lane between them."""

from collections.abc import Iterable

from aiokafka.errors import KafkaError

from service.doctor import wire
from service.doctor.case import Case, error_text, listed
from service.doctor.finding import Look, broken, ok, warn
from service.doctor.wire import Group

MOVING = ("PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling")
AGAIN = "Run the doctor again in half a minute; if it stays so, read the log of the workers."


async def check_keeper(case: Case) -> Iterable[Look]:
    """One member at least in the keeper's group."""
    try:
        found = await wire.group(case.admin, f"{case.topics.prefix}.keeper")
    except KafkaError as exc:
        return [_unknown("keeper", exc)]
    return [judge_keeper(found)]


async def check_workers(case: Case) -> Iterable[Look]:
    """Every partition of the notifications topic has an owner."""
    try:
        found = await wire.group(case.admin, case.topics.lane_group)
    except KafkaError as exc:
        return [_unknown("workers", exc)]
    return [judge_workers(found, case.topics.notifications, case.settings.kafka.partitions)]


def _unknown(who: str, exc: BaseException) -> Look:
    seen = f"Kafka does not say who the {who} is ({error_text(exc)})."
    return broken(seen, "See whether the brokers can create __consumer_offsets.")


def judge_keeper(found: Group) -> Look:
    """Without one nothing renews subscriptions or looks for what was missed."""
    if not found.members:
        seen = "No process is the keeper: subscriptions are not renewed, and nothing looks for missed calls."
        return broken(seen, "Start `callstream serve` with the role keep.")
    where = listed(sorted(set(found.owned.values()))) if found.owned else "being chosen"
    return ok(f"{found.members} stand{'s' if found.members == 1 else ''} by; the active one: {where.lstrip('/')}.")


def judge_workers(found: Group, topic: str, partitions: int) -> Look:
    """Every lane has an owner, or the group is just sharing them out."""
    if not found.members:
        return broken("No worker runs: notices wait.", "Start `callstream serve` with the role work.")
    if found.state in MOVING:
        return warn(f"{found.members} workers are sharing the lanes out at this moment.", AGAIN)
    lost = [number for number in range(partitions) if (topic, number) not in found.owned]
    if lost:
        lanes = f"lane {lost[0]}" if len(lost) == 1 else f"lanes {listed(lost)}"
        seen = f"{found.members} workers, and nobody has {lanes} of {partitions}."
        return broken(seen, "Does every worker have the same kafka.partitions? " + AGAIN)
    count = found.members
    return ok(f"{count} worker{'s' if count != 1 else ''} ha{'ve' if count != 1 else 's'} all {partitions} lanes.")
