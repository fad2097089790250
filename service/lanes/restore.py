"""Shell: what a lane reads before it works: the committed offsets, and its ledger up to the end.

Both are read after the lane's producer has started: from then on no earlier owner can add to either.
"""

import asyncio

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.kafka.publisher import Publisher
from service.kafka.topics import Topics
from service.kafka.whole import read_whole
from service.lanes.ledger import Ledger
from service.settings import Kafka

# The key of what is no call's: a ledger forgets what it never knew.
NO_CALL = bytes(32)
# A leader has to be found, and its replicas to follow; beyond that the lane opens again.
MARK_SECONDS = 60.0


class OffsetsUnreadableError(KafkaError):  # type: ignore[misc]
    """The group's coordinator did not say where the lane was left: it is loading, or it has moved."""

    retriable = True


async def committed_offsets(
    admin: AIOKafkaAdminClient, topics: Topics, lane: int, group: str
) -> dict[TopicPartition, int]:
    """Where each input of the lane was left, under the group `group`; an input never committed is absent.

    aiokafka 0.14 passes over an error that is the group's and gives an empty answer (16 `NotCoordinator`, 14 while it
    loads); an input never committed is in the answer, with -1. Raises `OffsetsUnreadableError`, `KafkaError`.
    """
    partitions = [TopicPartition(name, lane) for name in topics.lane_inputs]
    found = await admin.list_consumer_group_offsets(group, partitions=partitions)
    if missing := set(partitions) - found.keys():
        raise OffsetsUnreadableError(
            f"no answer for {min(missing).topic}: the group's coordinator is loading or has moved"
        )
    return {partition: meta.offset for partition, meta in found.items() if meta.offset >= 0}


async def restore(kafka: Kafka, topics: Topics, lane: int, ledger: Ledger, publisher: Publisher) -> None:
    """Reads the ledger partition from `ledger.next_offset` to its end.

    Whole or not at all: an entry that is missed means events published twice. First the lane's publisher leaves a mark
    in every partition that is the lane's to write: what earlier owners left there without an end ends with it; and the
    ledger is read up to its mark, whatever a broker takes for the end. Raises `EndUnreachable`, `KafkaError`.
    """
    async with asyncio.timeout(MARK_SECONDS):
        marks = await publisher.mark(topics.lane_outputs, lane, NO_CALL)
    await read_whole(kafka, TopicPartition(topics.ledger, lane), ledger, marks[topics.ledger])
