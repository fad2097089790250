"""Whether this client may write in transactions: on topics, on groups, on transactional ids; and whether one hangs.

What may be done is asked, not tried (`wire`). A producer id is asked for under `{prefix}.doctor`, which no lane has, so
nobody is fenced; no transaction is begun.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError

from service.doctor import reading, wire
from service.doctor.case import Case, error_text, listed
from service.doctor.finding import Look, broken, ok
from service.doctor.topics import ACLS
from service.doctor.wire import Rights
from service.stream.delivery import offsets_group

# As lanes ask for; a broker may have a lower limit (transaction.max.timeout.ms).
TRANSACTION_MS = 60_000
TRIES, PAUSE_SECONDS = 10, 0.3
# These pass: the coordinator's topic is being made, or has moved.
PASSING = ("CoordinatorNotAvailable", "GroupCoordinatorNotAvailable", "NotCoordinator", "LoadInProgress", "Concurrent")
# The brokers abort what is open for longer than a minute; what is older does not end by itself.
HANGING_SECONDS = 120.0


async def check(case: Case) -> Iterable[Look]:
    """Rights first, then a producer id, then what stands open."""
    prefix = case.topics.prefix
    todo = ACLS.format(prefix=prefix)
    rights = await wire.topic_rights(case.admin, _names(case))
    if (look := judge_topics(rights, _only_written(case), todo)) is not None:
        return [look]
    offsets = offsets_group(case.settings.kafka, case.topics)
    for group in dict.fromkeys((case.topics.lane_group, offsets, f"{prefix}.keeper")):
        if (look := await _group(case, group, todo)) is not None:
            return [look]
    if case.settings.kafka.delivery == "at-least-once":
        return [ok("This client may write to every topic; transactions are not used (kafka.delivery).")]
    said = await _producer_id(case, f"{prefix}.doctor")
    if said:
        return [judge_producer(said, prefix, todo)]
    if (hanging := await _hanging(case)) is not None:
        return [hanging]
    unsaid = all(one.operations is None for one in rights.values())
    also = " (this broker does not say what is allowed on topics)" if unsaid else ""
    return [ok(f"This client may write to every topic, and in transactions{also}; none hangs.")]


def _names(case: Case) -> list[str]:
    return [spec.name for spec in case.topics.specs(1)]


def _only_written(case: Case) -> frozenset[str]:
    topics = case.topics
    return frozenset((*topics.streams.values(), topics.calls, topics.dead_letter, topics.raw or topics.calls))


def judge_topics(rights: Mapping[str, Rights], only_written: frozenset[str], todo: str) -> Look | None:
    """The first right that is missing on topics."""
    lacking = {
        name: lacks
        for name, one in rights.items()
        if (lacks := one.lacks(*(("Write",) if name in only_written else ("Read", "Write"))))
    }
    if not lacking:
        return None
    name, lacks = next(iter(lacking.items()))
    more = f", and on {len(lacking) - 1} other topics" if len(lacking) > 1 else ""
    return broken(f"Kafka refuses {listed(lacks)} on the topic {name}{more}.", todo)


async def _group(case: Case, name: str, todo: str) -> Look | None:
    try:
        found = await wire.group(case.admin, name)
    except GroupAuthorizationFailedError:
        return broken(f"Kafka refuses Read on the group {name}.", todo)
    except KafkaError as exc:
        return broken(f"Kafka does not show the group {name} ({error_text(exc)}).", todo)
    lacks = found.rights.lacks("Read")
    return broken(f"Kafka refuses Read on the group {name}.", todo) if lacks else None


async def _producer_id(case: Case, transactional_id: str) -> str:
    """The name of the error in the way; empty when there is none."""
    said = ""
    for _ in range(TRIES):
        try:
            said = await wire.init_producer(case.admin, transactional_id, TRANSACTION_MS)
        except KafkaError as exc:
            said = type(exc).__name__
        except NotImplementedError:
            return "UnsupportedVersion"
        if not any(name in said for name in PASSING):
            return said
        await asyncio.sleep(PAUSE_SECONDS)
    return said


def judge_producer(error: str, prefix: str, todo: str) -> Look:
    """Why a transactional producer cannot be had. `error` is the name of Kafka's."""
    if "AuthorizationFailed" in error:
        return broken(f"Kafka refuses the transactional id {prefix}.doctor ({error}), and so those of lanes.", todo)
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
    return broken(
        f"The brokers give no transactional producer ({error}).", "Use brokers with transactions (Kafka 2.3 or later)."
    )


async def _hanging(case: Case) -> Look | None:
    """A transaction that stays open holds back every read_committed consumer of its partition."""
    partitions = [
        TopicPartition(spec.name, number)
        for spec in case.topics.specs(case.settings.kafka.partitions)
        for number in range(spec.partitions)
    ]
    bounds = await reading.bounds(case.settings.kafka, partitions)
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
