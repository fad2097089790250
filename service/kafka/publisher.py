"""Shell: one lane's transactional producer. Starting it fences whoever had the lane before (what that one left complete
is committed first, `unended`). Each transaction has an epoch of its own (`epochs`).

Every send's future is awaited before the offsets go into the transaction: aiokafka's commit succeeds although a send
failed whose future nobody looked at, and that is loss for good (kafka.md). Any failure between begin and commit leaves
the outcome unknown; the caller then drops this producer and opens the lane again.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition

from service.kafka.connect import client_options, close_producer
from service.kafka.epochs import take_next_epoch
from service.kafka.records import KafkaRecord
from service.kafka.unended import commit_what_is_complete
from service.settings import Kafka

# Uncompressed size of one record batch: large ones compress well, and compressed they stay below the brokers' 1 MB.
BATCH_BYTES = 512 * 1024
NOTHING: Mapping[TopicPartition, int] = {}
NO_LIMITS: Mapping[str, int] = {}
LINGER_MS = 0  # batches are built whole before they are sent


class Publisher:
    """Writes outcomes and consumed offsets in one transaction."""

    def __init__(self, producer: AIOKafkaProducer, group: str, limits: Mapping[str, int] = NO_LIMITS) -> None:
        """`limits`: topic → its max.message.bytes, which Kafka holds against whole batches."""
        self._producer = producer
        self._limits = limits
        self.offsets_group = group
        """The group under which offsets are committed."""
        self._next_epoch: asyncio.Task[None] | None = None

    async def commit(
        self,
        records: Iterable[KafkaRecord],
        offsets: Mapping[TopicPartition, int],
        seal: Mapping[TopicPartition, int] = NOTHING,
    ) -> None:
        """All records and offsets, or nothing. Raises `KafkaError` (ProducerFenced among them): outcome unknown.

        `seal`: offsets that stand where they stood, for a transaction that has none to commit: with offsets in it, it
        is known to be complete (`unended`).
        """
        await self._begin()
        await self._send_all(records)
        if ends := offsets or seal:
            await self._producer.send_offsets_to_transaction(dict(ends), self.offsets_group)
        await self._producer.commit_transaction()
        self._has_ended()

    async def mark(self, topics: Iterable[str], partition: int, key: bytes) -> dict[str, int]:
        """A record in the partition of each topic that nobody who reads what is committed ever sees: acknowledged, then
        aborted. The offset behind it, by topic. Raises `KafkaError`.

        What it is for: who has read up to the mark has read all that was written before it, whatever a broker takes for
        the end; and what an earlier owner left in a partition without an end, ends with this (unless a producer id has
        run out of epochs since).
        """
        await self._begin()
        records = [KafkaRecord(topic, partition, key, None, []) for topic in topics]
        ends = await self._send_all(records)
        await self._producer.abort_transaction()
        self._has_ended()
        return {record.topic: end for record, end in zip(records, ends, strict=True)}

    async def _begin(self) -> None:
        """Under an epoch that no transaction before it had: what comes late of those is refused."""
        if self._next_epoch is not None:
            await self._next_epoch
        await self._producer.begin_transaction()

    def _has_ended(self) -> None:
        """The next epoch is taken now and beside other work: asked for only when it is needed, by one that slept
        through the loss of its lane, it would make the brokers abort what the new owner has begun."""
        self._next_epoch = asyncio.create_task(take_next_epoch(self._producer))

    async def close(self) -> None:
        """Ends what goes on beside. The producer is its maker's to close."""
        if self._next_epoch is not None:
            self._next_epoch.cancel()
            await asyncio.gather(self._next_epoch, return_exceptions=True)

    async def _send_all(self, records: Iterable[KafkaRecord]) -> list[int]:
        """All of them, acknowledged; those of one partition in their order. The offset behind the first record of each
        partition's last batch, partitions in the order in which they come."""
        by_partition: defaultdict[tuple[str, int], list[KafkaRecord]] = defaultdict(list)
        for record in records:
            by_partition[record.topic, record.partition].append(record)
        # send_batch must never be called concurrently for one partition, so each partition has one task.
        return await _all(self._send(topic, partition, group) for (topic, partition), group in by_partition.items())

    async def _send(self, topic: str, partition: int, records: list[KafkaRecord]) -> int:
        acknowledged: list[asyncio.Future[Any]] = []

        async def send_batch() -> None:
            future = await self._producer.send_batch(batch, topic, partition=partition)
            future.add_done_callback(_hear)
            acknowledged.append(future)

        most = self._limits.get(topic, BATCH_BYTES)
        batch = self._producer.create_batch()
        for record in records:
            # Nearly every topic takes more than a producer's batch, which knows its own end.
            full = most < BATCH_BYTES and batch.record_count() > 0 and batch.size() + record.size_bytes > most
            if full or batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers) is None:
                await send_batch()
                batch = self._producer.create_batch()
                batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
        await send_batch()
        # Not `gather`: broken off, it would cancel the futures, and aiokafka's own behind them would end unheard.
        await asyncio.wait(acknowledged)
        return [int(future.result().offset) + 1 for future in acknowledged][-1]


def new_producer(kafka: Kafka, **options: Any) -> AIOKafkaProducer:
    """A producer of whole batches, acknowledged by all replicas in sync."""
    return AIOKafkaProducer(
        **client_options(kafka),
        acks="all",
        compression_type="zstd",
        max_batch_size=BATCH_BYTES,
        linger_ms=LINGER_MS,
        **options,
    )


@asynccontextmanager
async def open_transactions(
    kafka: Kafka, transactional_id: str, group: str, limits: Mapping[str, int] = NO_LIMITS
) -> AsyncIterator[Publisher]:
    """A producer that has fenced its predecessors; what they left open is committed if it was complete, else aborted.

    Raises `KafkaError` when the brokers do not answer.
    """
    producer = new_producer(
        kafka,
        transactional_id=transactional_id,
        # The broker aborts what a dead lane left open after this; a live one needs far less.
        transaction_timeout_ms=60_000,
    )
    publisher = Publisher(producer, group, limits)
    try:
        # What `start` begins with, too; what it does next fences, and nobody could ask any more.
        await producer.client.bootstrap()
        await commit_what_is_complete(producer.client, transactional_id)
        await producer.start()
        yield publisher
    finally:
        try:
            await publisher.close()
        finally:
            await close_producer(producer)


def _hear(future: "asyncio.Future[Any]") -> None:
    """The failure of a batch that nobody awaits any more, because another failed first, is no news for the log."""
    if not future.cancelled():
        future.exception()


async def _all(sends: Iterable[Coroutine[Any, Any, int]]) -> list[int]:
    """What every send comes to; the first failure is raised as it is and the others are broken off."""
    tasks = [asyncio.create_task(send) for send in sends]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
