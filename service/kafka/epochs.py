"""Shell: an epoch of its own for each transaction of a producer, so that nothing that comes late belongs to the next.

A producer of aiokafka 0.14 keeps the epoch of its start. A request whose connection ended is sent again, and the first
may be handled all the same, later; so may the brokers' own message that ends a transaction in a partition. With one
epoch for all, what was meant for the transaction before ends the one after it half-way: its events so far are
committed, the rest fails, and all of it is published again. Both were seen here (tests/broker/test_late_requests.py).
Brokers refuse what bears an earlier epoch. Newer clients have it from the protocol (KIP-890); the request here is the
one by which any producer gets a higher epoch in place of one that it can name (KIP-360, brokers of 2.5 and later).

Sources: https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense ,
https://cwiki.apache.org/confluence/pages/viewpage.action?pageId=89068820 (KIP-360).
"""

import asyncio

from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    IncompatibleBrokerVersion,
    InvalidProducerEpoch,
    KafkaError,
    NoError,
    ProducerFenced,
    for_code,
)
from aiokafka.producer.transaction_manager import PidAndEpoch
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactString, Int16, Int32, Int64, Schema, TaggedFields

NOBODY = PidAndEpoch(-1, -1)
"""In place of the epoch that is held: whoever has the transactional id now is fenced."""

# The transaction before is being ended in its partitions, which takes milliseconds; or a coordinator has to be found.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.01, 0.5
TOO_OLD = "transactions need Kafka 2.5 or later; with older brokers set kafka.delivery to at-least-once"


class _EpochResponse(Response):  # type: ignore[misc]
    API_KEY = 22
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _EpochRequestStruct(RequestStruct):  # type: ignore[misc]
    API_KEY = 22
    API_VERSION = 3
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _EpochResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class EpochRequest(Request[_EpochRequestStruct]):  # type: ignore[misc]
    """InitProducerId, version 3: a producer id and the next epoch for a transactional id, in place of `held`."""

    API_KEY = 22

    def __init__(self, transactional_id: str, timeout_ms: int, held: PidAndEpoch = NOBODY) -> None:
        """`timeout_ms`: after which the broker aborts a transaction that is left open."""
        self._fields: tuple[object, ...] = (transactional_id, timeout_ms, held.pid, held.epoch, {})

    def build(self, request_struct_class: type[_EpochRequestStruct]) -> _EpochRequestStruct:
        """For aiokafka, once the version is agreed on."""
        return request_struct_class(*self._fields)


class NoEpochError(KafkaError):  # type: ignore[misc]
    """The brokers refuse this producer a next epoch. Nothing is wrong with what was to be published under it."""

    retriable = True


async def take_next_epoch(producer: AIOKafkaProducer) -> None:
    """The producer's next transaction has a higher epoch than the last. Between transactions only.

    Asks for as long as no coordinator answers. Raises `ProducerFenced` when the brokers know a higher epoch: somebody
    else has the transactional id (what that one has begun they have aborted first; it is done again), or an answer was
    lost and the coordinator has failed since. `NoEpochError` for what else they refuse.
    """
    wait = FIRST_WAIT_SECONDS
    while (taken := await _ask(producer)) is None:
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, LONGEST_WAIT_SECONDS)
    manager = producer._txn_manager
    manager._pid_and_epoch = taken
    # Brokers count from nothing again for each epoch.
    manager._sequence_numbers.clear()


async def _ask(producer: AIOKafkaProducer) -> PidAndEpoch | None:
    """The next producer id and epoch; None when it is to be asked for again."""
    manager, sender = producer._txn_manager, producer._sender
    request = EpochRequest(manager.transactional_id, manager.transaction_timeout_ms, manager._pid_and_epoch)
    try:
        node = await sender._find_coordinator(CoordinationType.TRANSACTION, manager.transactional_id)
        # Asked again after an answer was lost, the same coordinator gives the same epoch again (KIP-360).
        answer = await producer.client.send(node, request, group=ConnectionGroup.COORDINATION)
    except (IncompatibleBrokerVersion, NotImplementedError):
        raise NoEpochError(TOO_OLD) from None
    except KafkaError as error:
        if not passes(error):
            raise NoEpochError(f"{type(error).__name__}: {error}") from error
        sender._coordinator_dead(CoordinationType.TRANSACTION)
        return None
    kind = for_code(answer.error_code)
    if kind is NoError:
        return PidAndEpoch(answer.producer_id, answer.producer_epoch)
    if kind is InvalidProducerEpoch:  # what ProducerFenced is called in this version of the request
        raise ProducerFenced
    if kind is ConcurrentTransactions:
        return None
    if not kind.retriable:
        raise NoEpochError(f"{kind.__name__}: {kind.description}")
    sender._coordinator_dead(CoordinationType.TRANSACTION)
    return None


def passes(error: KafkaError) -> bool:
    """Whether it is about a connection or a coordinator, in aiokafka's own wrapping too."""
    return bool(error.retriable or getattr(error.__cause__, "retriable", False))
