"""Shell: at least once, for brokers without transactions: one thing after the other, each acknowledged before the next.

First the events, then summaries and dead letters, then the ledger, then the offsets, then what is told to the keeper:
a summary says that all events of its version are there. Killed between two of them, all of it is done again: what was
in the ledger is passed over, what was not is published twice, with the same ids and the same bytes. Nobody is fenced:
a process that slept through the loss of its lanes may still write the batch that it had in hand. Not one request of the
transactional or of the idempotent producer is made.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from service.kafka.connect import client_options, close_consumer, close_producer
from service.kafka.publisher import NO_LIMITS, NOTHING, Publisher, new_producer
from service.kafka.records import KafkaRecord
from service.kafka.topics import Topics
from service.settings import Kafka


def positions_group(group: str) -> str:
    """Under which offsets stand that are committed outside of a transaction: `group` has members, this one never."""
    return f"{group}.positions"


class Flushes(Publisher):
    """A publisher whose commit is a row of steps."""

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        producer: AIOKafkaProducer,
        group: str,
        stack: AsyncExitStack,
        limits: Mapping[str, int],
    ) -> None:
        """`stack` closes what commits offsets, which is opened when it is first needed."""
        super().__init__(producer, group, limits)
        self._kafka = kafka
        self._topics = topics
        self._stack = stack
        self._committer: AIOKafkaConsumer | None = None
        self._assigned: set[TopicPartition] = set()

    async def commit(
        self,
        records: Iterable[KafkaRecord],
        offsets: Mapping[TopicPartition, int],
        seal: Mapping[TopicPartition, int] = NOTHING,  # noqa: ARG002
    ) -> None:
        """All records, then the offsets. Raises `KafkaError`: some of it is done. There is nothing to seal."""
        *stages, last = self._stages(list(records))
        for stage in stages:
            await self._send_all(stage)
        if offsets:
            await self._commit_offsets(offsets)
        # Said twice the keeper would count twice; not said at all, it looks at the hour again.
        await self._send_all(last)

    async def mark(self, topics: Iterable[str], partition: int, key: bytes) -> dict[str, int]:  # noqa: ARG002
        """Nothing is written: it would be seen, and what it is there for costs repetitions, as much else does here."""
        return dict.fromkeys(topics, 0)

    def _stages(self, records: list[KafkaRecord]) -> Iterator[list[KafkaRecord]]:
        """The records, in the order in which they are acknowledged; those of the last come after the offsets."""
        topics = self._topics
        later = ({topics.calls, topics.dead_letter}, {topics.ledger, topics.state}, {topics.inbox})
        yield [record for record in records if not any(record.topic in names for names in later)]
        for names in later:
            yield [record for record in records if record.topic in names]

    async def _commit_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """For a group that nobody is a member of: brokers take offsets from strangers only while a group is empty."""
        committer = await self._opened()
        if missing := offsets.keys() - self._assigned:
            self._assigned |= missing
            committer.assign(list(self._assigned))
            committer.pause(*self._assigned)
        await committer.commit(dict(offsets))

    async def _opened(self) -> AIOKafkaConsumer:
        if self._committer is None:
            self._committer = await self._stack.enter_async_context(_open_committer(self._kafka, self.offsets_group))
        return self._committer


@asynccontextmanager
async def open_flushes(
    kafka: Kafka, topics: Topics, group: str, limits: Mapping[str, int] = NO_LIMITS
) -> AsyncIterator[Flushes]:
    """A plain producer. Raises `KafkaError` when the brokers do not answer.

    Not an idempotent one: after one rejected record that answers `OutOfOrderSequenceNumber` for ever.
    """
    producer = new_producer(kafka, enable_idempotence=False)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(close_producer, producer)
        await producer.start()
        yield Flushes(kafka, topics, producer, positions_group(group), stack, limits)


@asynccontextmanager
async def _open_committer(kafka: Kafka, group: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads nothing and joins nothing."""
    consumer = AIOKafkaConsumer(**client_options(kafka), group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        yield consumer
    finally:
        await close_consumer(consumer)
