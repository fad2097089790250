"""What each role must be allowed to do where Kafka has ACLs: the smallest list with which it works.

A group is read to join it and to write its offsets; writing transactional ids includes asking for them (Kafka's own
implications: https://kafka.apache.org/documentation/#operations_in_kafka ).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from service.kafka.topics import Topics

CREATE = "create"
LETTERS = "dead-letter"
Kind = Literal["topic", "group", "transactional-id", "cluster"]


@dataclass(frozen=True)
class Right:
    """One resource, and Kafka's names of what may be done with it."""

    kind: Kind
    name: str
    """Of a cluster `kafka-cluster`, as Kafka calls the only one."""
    operations: tuple[str, ...]
    is_prefix: bool = False
    """Whether every name that begins so is meant."""


def rights_of(role: str, topics: Topics) -> list[Right]:
    """Of `receive`, `work`, `keep`; of `CREATE`, whoever makes missing topics; of `LETTERS`, whoever lists dead letters
    and queues them again. KeyError for another role."""
    everything = Right("topic", f"{topics.prefix}.", ("Describe", "DescribeConfigs"), is_prefix=True)
    raw = () if topics.raw is None else (topics.raw,)
    written_by_lanes = (
        *(topics.notifications, topics.backfill, *topics.retry, *topics.streams.values()),
        *(topics.calls, topics.ledger, topics.dead_letter, topics.inbox, *raw),
    )
    return {
        "receive": [everything, *_all("Write", (topics.notifications, topics.lifecycle))],
        "work": [
            everything,
            *_all("Read", (*topics.lane_inputs, topics.ledger)),
            *_all("Write", written_by_lanes),
            Right("group", topics.lane_group, ("Read",)),
            Right("transactional-id", f"{topics.prefix}.lane.", ("Write",), is_prefix=True),
        ],
        "keep": [
            everything,
            *_all("Read", (topics.lifecycle, topics.state, topics.inbox)),
            *_all("Write", (topics.backfill, topics.state)),
            Right("group", f"{topics.prefix}.keeper", ("Read",)),
            Right("transactional-id", topics.keeper_transactional_id, ("Write",)),
        ],
        LETTERS: [
            everything,
            *_all("Read", (topics.dead_letter, topics.ledger)),
            *_all("Write", (topics.notifications, topics.dead_letter)),
            Right("transactional-id", topics.replay_transactional_id, ("Write",)),
        ],
        CREATE: [
            everything,
            Right("topic", f"{topics.prefix}.", ("Create",), is_prefix=True),
            # The brokers' default replication factor is asked for, where kafka.replication_factor says none.
            Right("cluster", "kafka-cluster", ("DescribeConfigs",)),
        ],
    }[role]


def _all(operation: str, names: Iterable[str]) -> list[Right]:
    return [Right("topic", name, (operation,)) for name in names]


def merged(rights: Iterable[Right]) -> list[Right]:
    """One entry for each resource, in the order in which they come."""
    found: dict[tuple[Kind, str, bool], dict[str, None]] = {}
    for right in rights:
        found.setdefault((right.kind, right.name, right.is_prefix), {}).update(dict.fromkeys(right.operations))
    return [Right(kind, name, tuple(said), is_prefix) for (kind, name, is_prefix), said in found.items()]


def as_command(right: Right, principal: str) -> str:
    """What `kafka-acls.sh` takes to grant it, beside how it reaches the brokers."""
    operations = " ".join(f"--operation {operation}" for operation in right.operations)
    resource = "--cluster" if right.kind == "cluster" else f"--{right.kind} {right.name}"
    pattern = " --resource-pattern-type prefixed" if right.is_prefix else ""
    return f"--add --allow-principal {principal} {operations} {resource}{pattern}"
