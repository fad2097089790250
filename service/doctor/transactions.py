"""Whether this client may do what the roles need: on topics, on groups, on transactional ids; and whether one hangs.

What may be done is asked, not tried (`wire`). A producer id is asked for under `{prefix}.lane.doctor`, which no lane
has, so nobody is fenced; no transaction is begun.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from service.doctor import reading, wire
from service.doctor.case import Case, listed
from service.doctor.finding import Look, broken, ok, warn
from service.doctor.topics import ACLS
from service.doctor.wire import Group, Rights
from service.kafka.rights import merged, rights_of
from service.kafka.topics import Topics
from service.settings import ROLES

# As lanes ask for; a broker may have a lower limit (transaction.max.timeout.ms).
TRANSACTION_MS = 60_000
TRIES, PAUSE_SECONDS = 10, 0.3
# These pass: the coordinator's topic is being made, or has moved.
PASSING = ("CoordinatorNotAvailable", "GroupCoordinatorNotAvailable", "NotCoordinator", "LoadInProgress", "Concurrent")
# In place of an error's name: the request for a producer id is known there, and not in the version that is needed.
OTHER_VERSIONS = "UnsupportedVersion"
# The brokers abort what is open for longer than a minute; what is older does not end by itself.
HANGING_SECONDS = 120.0


@dataclass(frozen=True)
class Told:
    """What Kafka says of this client."""

    topics: Mapping[str, Rights]
    groups: Mapping[str, Group | str]
    """A group, or the name of the error in its place."""
    producer: str = ""
    """The name of the error when a lane's producer id was asked for; empty for none."""
    keeper: str = ""
    """As well, when it was asked who coordinates the keeper's transactions."""


async def check(case: Case) -> Iterable[Look]:
    """Rights first, then a producer id, then what stands open."""
    topics, in_transactions = case.topics, case.settings.kafka.delivery == "exactly-once"
    told = Told(
        topics=await wire.topic_rights(case.admin, [spec.name for spec in topics.specs(1)]),
        groups={name: await _group(case, name) for name in (topics.lane_group, f"{topics.prefix}.keeper")},
        producer=await _producer_id(case, f"{topics.prefix}.lane.doctor") if in_transactions else "",
        keeper=await _coordinator(case, topics.keeper_transactional_id) if in_transactions else "",
    )
    if told.producer and "AuthorizationFailed" not in told.producer:
        return [judge_producer(told.producer)]
    if (look := judge_rights(told, topics)) is not None:
        return [look]
    unsaid = all(one.operations is None for one in told.topics.values())
    also = " This broker does not tell what is allowed on topics." if unsaid else ""
    if not in_transactions:
        return [ok(f"Not used (kafka.delivery is at-least-once); this client may do what every role needs.{also}")]
    if (hanging := await _hanging(case)) is not None:
        return [hanging]
    return [ok(f"This client may do what every role needs; no transaction hangs.{also}")]


async def _group(case: Case, name: str) -> Group | str:
    said = ""
    for _ in range(TRIES):
        try:
            return await wire.group(case.admin, name)
        except KafkaError as exc:
            said = type(exc).__name__
        if not any(one in said for one in PASSING):
            break
        await asyncio.sleep(PAUSE_SECONDS)
    return said


async def _coordinator(case: Case, transactional_id: str) -> str:
    """Who may write with an id may ask for its coordinator; the keeper's own is not asked for more, to fence nobody."""
    try:
        await case.admin.find_coordinator(transactional_id, wire.TRANSACTION)
    except KafkaError as exc:
        return type(exc).__name__
    return ""


def judge_rights(told: Told, topics: Topics) -> Look | None:
    """None when every role could work under this account.

    Roles may have accounts of their own: one that is refused something here is broken only where nobody works it.
    """
    refused = {role: lacking for role in ROLES if (lacking := _refused(told, topics, role))}
    if not refused:
        return None
    first, lacking = next(iter(refused.items()))
    more = f" (and {len(lacking) - 1} more)" if len(lacking) > 1 else ""
    said = f"Kafka refuses this client {lacking[0]}{more}; the role {first} needs it"
    idle = [role for role in refused if not _is_worked(told, topics, role)]
    if idle or len(refused) == len(ROLES):
        return broken(f"{said}.", ACLS)
    others = f"; {listed(list(refused))} run under other accounts" if len(refused) > 1 else "; it runs elsewhere"
    return warn(f"{said}{others}.", f"Nothing, if so; the doctor sees less here. Else: {ACLS}")


def _refused(told: Told, topics: Topics, role: str) -> list[str]:
    """What the role needs and Kafka refuses, in words."""
    found = []
    for right in merged(rights_of(role, topics)):
        if right.is_prefix and right.kind == "topic":
            continue  # seeing them is the affair of the link before
        match right.kind:
            case "topic":
                lacks = told.topics.get(right.name, Rights()).lacks(*right.operations)
            case "group":
                group = told.groups[right.name]
                rights = Rights(group) if isinstance(group, str) else group.rights
                lacks = rights.lacks(*right.operations)
            case _:
                lacks = Rights(told.producer if role == "work" else told.keeper).lacks(*right.operations)
        if lacks:
            whose = f"{right.name}*" if right.is_prefix else right.name
            found.append(f"{listed(lacks)} on the {right.kind.replace('-', ' ')} {whose}")
    return found


def _is_worked(told: Told, topics: Topics, role: str) -> bool:
    """Whether somebody is seen to do it. Of `receive` nothing is seen in Kafka."""
    if role == "receive":
        return True
    group = told.groups[topics.lane_group if role == "work" else f"{topics.prefix}.keeper"]
    return isinstance(group, Group) and group.members > 0


async def _producer_id(case: Case, transactional_id: str) -> str:
    """The name of the error in the way; empty when there is none."""
    said = ""
    for _ in range(TRIES):
        try:
            said = await wire.init_producer(case.admin, transactional_id, TRANSACTION_MS)
        except KafkaError as exc:
            said = type(exc).__name__
        except NotImplementedError:
            return OTHER_VERSIONS
        if not any(name in said for name in PASSING):
            return said
        await asyncio.sleep(PAUSE_SECONDS)
    return said


def judge_producer(error: str) -> Look:
    """Why a transactional producer cannot be had, other than for ACLs. `error` is the name of Kafka's."""
    if "Timeout" in error:
        seen = f"The brokers allow no transaction of {TRANSACTION_MS // 1000} s."
        return broken(seen, "Set transaction.max.timeout.ms of the brokers to 60000 or more.")
    if any(name in error for name in PASSING):
        seen = f"The brokers have no coordinator for transactions ({error})."
        return broken(
            seen,
            "See whether __transaction_state can be created: transaction.state.log.replication.factor "
            "must not exceed the number of brokers.",
        )
    if error == OTHER_VERSIONS:
        seen = "The brokers have transactions, of a Kafka before 2.5, which cannot be used."
        return broken(seen, "Use Kafka 2.5 or later, or set kafka.delivery to at-least-once.")
    return broken(
        f"The brokers give no transactional producer ({error}).",
        "Use brokers with transactions, or set kafka.delivery to at-least-once.",
    )


async def _hanging(case: Case) -> Look | None:
    """A transaction that stays open holds back every read_committed consumer of its partition."""
    bounds = await reading.bounds(case)
    open_ones = {one: (found.stable, found.stable + 1) for one, found in bounds.items() if found.stable < found.end}
    if not open_ones:
        return None
    read = await reading.read(case.settings.kafka, open_ones, most=1, committed=False)
    oldest = (
        min((records[0].timestamp / 1000, one) for one, records in read.items() if records)
        if any(read.values())
        else None
    )
    if oldest is None or time.time() - oldest[0] < HANGING_SECONDS:
        return None
    minutes, (topic, number) = (time.time() - oldest[0]) / 60, oldest[1]
    seen = f"A transaction in {topic} {number} has been open for {minutes:.0f} minutes; readers stand still behind it."
    return broken(
        seen, "Restart the worker that has this lane; if it stays, kafka-transactions.sh find-hanging, then abort."
    )
