"""Shell: what Kafka tells and aiokafka 0.14 does not ask: what this client may do, and who is in a group.

Topics: Metadata version 8, groups: DescribeGroups version 3, both with `authorized_operations` (KIP-430): a number in
which bit n stands for operation n. Brokers since 2.3 answer; older ones and Event Hubs leave it unsaid.
Source: https://kafka.apache.org/protocol and org.apache.kafka.common.acl.AclOperation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import IncompatibleBrokerVersion, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Bytes, Int16, Int32, Schema, String

from service.kafka.epochs import EpochRequest

OPERATIONS = {3: "Read", 4: "Write", 8: "Describe", 10: "DescribeConfigs"}
UNSAID = -(2**31)
GROUP, TRANSACTION = 0, 1
TEXT = String("utf-8")


@dataclass(frozen=True)
class Rights:
    """What this client may do with one topic or group. `operations` is None where the broker does not say."""

    error: str = ""
    """Name of Kafka's error; empty for none."""
    operations: frozenset[str] | None = None

    @property
    def is_refused(self) -> bool:
        """Whether nothing at all is allowed, not even to see it."""
        return "AuthorizationFailed" in self.error

    def lacks(self, *wanted: str) -> list[str]:
        """Those of `wanted` that are refused."""
        if self.is_refused:
            return list(wanted)
        return [] if self.operations is None else [one for one in wanted if one not in self.operations]


@dataclass(frozen=True)
class Group:
    """A consumer group."""

    state: str
    """Kafka's word: Stable, Empty, Dead, PreparingRebalance, CompletingRebalance; empty when it is not told."""
    members: int
    owned: dict[tuple[str, int], str]
    """Topic and partition → address of the member that has it."""
    rights: Rights


async def topic_rights(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, Rights]:
    """What may be done with each topic; nothing said where the broker is too old. Raises `KafkaError`."""
    try:
        response = await admin._send_request(_MetadataRequest(names))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return {name: Rights() for name in names}
    found = {name: _rights(code, operations) for code, name, _, _, operations in response.topics}
    return {name: found[name] for name in names if name in found}


async def group(admin: AIOKafkaAdminClient, name: str) -> Group:
    """One group as its coordinator sees it. Raises `KafkaError` when there is no coordinator."""
    node = await admin.find_coordinator(name)
    try:
        response = await admin._send_request(_GroupsRequest([name]), node)
        ((code, _, state, _, _, members, operations),) = response.groups
    except (IncompatibleBrokerVersion, NotImplementedError):
        (response,) = await admin.describe_consumer_groups([name], node)
        ((code, _, state, _, _, members),), operations = response.groups, UNSAID
    owned = {place: host for _, _, host, _, assignment in members for place in _owned(assignment)}
    return Group(state, len(members), owned, _rights(code, operations))


async def init_producer(admin: AIOKafkaAdminClient, transactional_id: str, timeout_ms: int) -> str:
    """Asks for a producer id: the name of Kafka's error, empty for none. Fences a producer of the same id.

    Raises `KafkaError` when no coordinator can be had.
    """
    node = await admin.find_coordinator(transactional_id, TRANSACTION)
    response = await admin._send_request(EpochRequest(transactional_id, timeout_ms), node)
    return _name(response.error_code)


def _owned(assignment: bytes) -> Iterable[tuple[str, int]]:
    if not assignment:
        return []
    decoded = ConsumerProtocolMemberAssignment.decode(assignment)
    return [(partition.topic, partition.partition) for partition in decoded.partitions()]


def _rights(code: int, operations: int) -> Rights:
    if operations == UNSAID:
        return Rights(_name(code))
    return Rights(_name(code), frozenset(name for bit, name in OPERATIONS.items() if operations >> bit & 1))


def _name(code: int) -> str:
    return for_code(code).__name__ if code else ""


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    _PARTITION = (
        ("error_code", Int16),
        ("partition", Int32),
        ("leader", Int32),
        ("leader_epoch", Int32),
        ("replicas", Array(Int32)),
        ("isr", Array(Int32)),
        ("offline_replicas", Array(Int32)),
    )
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", TEXT), ("port", Int32), ("rack", TEXT))),
        ("cluster_id", TEXT),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", TEXT),
                ("is_internal", Boolean),
                ("partitions", Array(*_PARTITION)),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class _MetadataRequest_v8(RequestStruct):  # type: ignore[misc]  # noqa: N801 - aiokafka's way to name versions
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", Array(TEXT)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _MetadataRequest(Request[_MetadataRequest_v8]):  # type: ignore[misc]
    """Of these topics, and never a reason to create one."""

    API_KEY = 3

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def build(self, kind: Any) -> Any:
        return kind(self._names, False, False, True)


class _GroupsResponse(Response):  # type: ignore[misc]
    API_KEY = 15
    API_VERSION = 3
    _MEMBER = (
        ("member_id", TEXT),
        ("client_id", TEXT),
        ("client_host", TEXT),
        ("member_metadata", Bytes),
        ("member_assignment", Bytes),
    )
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", TEXT),
                ("state", TEXT),
                ("protocol_type", TEXT),
                ("protocol", TEXT),
                ("members", Array(*_MEMBER)),
                ("authorized_operations", Int32),
            ),
        ),
    )


class _GroupsRequest_v3(RequestStruct):  # type: ignore[misc]  # noqa: N801
    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = _GroupsResponse
    SCHEMA = Schema(("groups", Array(TEXT)), ("include_authorized_operations", Boolean))


class _GroupsRequest(Request[_GroupsRequest_v3]):  # type: ignore[misc]
    API_KEY = 15

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def build(self, kind: Any) -> Any:
        return kind(self._names, True)
