"""Shell: a transaction that an earlier owner left complete, and without an end, is committed and not aborted.

A publisher sends offsets only when every record has been acknowledged. So a transaction with offsets in it is complete,
whether or not its owner lived to ask for the commit, and committing it is always right: what it publishes need not be
done again. Aborting it may be wrong: a coordinator that was killed with the commit in its own log alone, and is back at
once, tells partitions of it before it hears that another leads; aborted by that other one, the transaction would be
there in some partitions and not in others (docs/reliability.md, `python -m tests.chaos.torn`).

What is under way is asked with DescribeTransactions (KIP-664, brokers of 3.0 and later; older ones abort, as ever).
Source: https://cwiki.apache.org/confluence/display/KAFKA/KIP-664%3A+Provide+tooling+to+detect+and+abort+hanging+transactions
"""

import asyncio

import structlog
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import ConcurrentTransactions, IncompatibleBrokerVersion, KafkaError, NoError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.transaction import EndTxnRequest
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

from service.kafka.epochs import passes

OFFSETS = "__consumer_offsets"
# Who says so may be the one that has been away: the other, which leads by now, may know nothing of an end.
ENDING = ("PrepareCommit", "PrepareAbort", "PrepareEpochFence")
WAIT_SECONDS = 0.1
TEXT = CompactString("utf-8")

log = structlog.get_logger()


class _DescribeResponse(Response):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "transactions",
            CompactArray(
                ("error_code", Int16),
                ("transactional_id", TEXT),
                ("state", TEXT),
                ("timeout_ms", Int32),
                ("start_time_ms", Int64),
                ("producer_id", Int64),
                ("producer_epoch", Int16),
                ("topics", CompactArray(("topic", TEXT), ("partitions", CompactArray(Int32)), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _DescribeRequestStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _DescribeResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(TEXT)), ("tags", TaggedFields))


class _DescribeRequest(Request[_DescribeRequestStruct]):  # type: ignore[misc]
    """What goes on under one transactional id; its coordinator knows."""

    API_KEY = 65

    def __init__(self, transactional_id: str) -> None:
        self._transactional_id = transactional_id

    def build(self, request_struct_class: type[_DescribeRequestStruct]) -> _DescribeRequestStruct:
        return request_struct_class([self._transactional_id], {})


async def commit_what_is_complete(client: AIOKafkaClient, transactional_id: str) -> bool:
    """Whether a transaction of an earlier owner was committed. For who is about to fence that owner.

    Asks for as long as no coordinator answers, or one is just ending the transaction. Raises `KafkaError` for a lookup
    that is refused; whatever else stands in the way leaves the transaction to be aborted.
    """
    while (done := await _try(client, transactional_id)) is None:  # noqa: ASYNC110 - a coordinator tells nobody
        await asyncio.sleep(WAIT_SECONDS)
    return done


async def _try(client: AIOKafkaClient, transactional_id: str) -> bool | None:
    """None when it is to be tried again."""
    try:
        node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        answer = await client.send(node, _DescribeRequest(transactional_id), group=ConnectionGroup.COORDINATION)
        (found,) = answer.transactions
        code, _, state, _, _, producer_id, epoch, topics, _ = found
        if code:
            return None if for_code(code).retriable else False
        if state in ENDING:
            return None
        if state != "Ongoing" or OFFSETS not in {topic for topic, _, _ in topics}:
            return False
        commit = EndTxnRequest(transactional_id, producer_id, epoch, True)
        ended = for_code((await client.send(node, commit, group=ConnectionGroup.COORDINATION)).error_code)
    except (IncompatibleBrokerVersion, NotImplementedError):  # the request is unknown there, or in no version of ours
        return False
    except KafkaError as error:
        if passes(error):
            return None
        raise
    if ended is NoError:
        log.info("a transaction that was left complete is committed", transactional_id=transactional_id)
        return True
    # Its owner, or another who opens, may be ending it at this moment.
    return None if ended is ConcurrentTransactions or ended.retriable else False
