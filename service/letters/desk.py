"""Shell: the dead-letter topic and the ledger read from Kafka, and letters queued again.

A replay is nothing but a notification with the source `replay`, in the call's own partition: lanes treat it like any
other, save that it goes past what is dead. Notification and receipt are one transaction, so a replay that was killed
goes on where it was, and lanes publish a version once however often it is asked for.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ProducerFenced

from service.clock import Clock
from service.errors import UserError
from service.kafka.delivery import open_publisher
from service.kafka.records import KafkaRecord
from service.kafka.scan import Stretch, open_admin, open_reader, partition_counts, scan
from service.kafka.topics import Topics, partition_of
from service.lanes.ledger import Entry, Ledger
from service.letters.letter import Judged, Letter, Selection, Shelf, queued, receipt_headers
from service.settings import Kafka

# Letters of one transaction: a second's work, and what a kill makes do again.
CHUNK = 500
# The ledger is read from the oldest letter on; its clock is the brokers', the letters' that of a worker.
CLOCKS_APART_SECONDS = 3600.0

Tell = Callable[[int, int], None]
"""Done, of how many."""


@dataclass(frozen=True)
class Desk:
    """What a command needs to read letters and to queue them again."""

    kafka: Kafka
    topics: Topics
    clock: Clock

    async def judged(self, selection: Selection, tell: Tell) -> list[Judged]:
        """The selected letters, oldest first, each with what has become of it. `tell`: ledger records read.

        Raises `UserError` when the topics are not there, `KafkaError` when Kafka breaks off.
        """
        counts = await self._partitions(self.topics.dead_letter, self.topics.ledger)
        async with open_reader(self.kafka) as consumer:
            shelf = await self._shelf(consumer)
            chosen = [letter for letter in shelf.letters if selection.takes(letter)]
            return shelf.judged(selection, await self._ledger(consumer, chosen, counts[self.topics.ledger], tell))

    async def queue(self, letters: Sequence[Letter], tell: Tell) -> None:
        """Queues letters again; `tell` after each transaction. Repeating it is harmless.

        Raises `UserError` when another replay has begun meanwhile, `KafkaError` when Kafka breaks off.
        """
        partitions = (await self._partitions(self.topics.notifications))[self.topics.notifications]
        name = self.topics.replay_transactional_id
        try:
            async with open_publisher(self.kafka, self.topics, name, name) as publisher:
                for begin in range(0, len(letters), CHUNK):
                    chunk = letters[begin : begin + CHUNK]
                    records = [record for letter in chunk for record in self._records(letter, partitions)]
                    await publisher.commit(records, {})
                    tell(begin + len(chunk), len(letters))
        except ProducerFenced:
            raise UserError(
                "Another replay of dead letters has begun, or a broker has failed; let it end, then look again.", 1
            ) from None

    def _records(self, letter: Letter, partitions: int) -> Iterable[KafkaRecord]:
        """The notification first: without transactions a kill between the two must cost a repetition, not a letter."""
        note = queued(letter, self.clock.now())
        value = msgspec.json.encode(note)
        partition = partition_of(note.key, partitions)
        yield KafkaRecord(self.topics.notifications, partition, note.key, value, [])
        yield KafkaRecord(self.topics.dead_letter, 0, note.key, value, receipt_headers(letter.number))

    async def _shelf(self, consumer: AIOKafkaConsumer) -> Shelf:
        place, shelf = TopicPartition(self.topics.dead_letter, 0), Shelf()
        begins, ends = await consumer.beginning_offsets([place]), await consumer.end_offsets([place])
        async for _, records in scan(consumer, Stretch(place, begins[place], ends[place])):
            for record in records:
                shelf.add(record)
        return shelf

    async def _ledger(
        self, consumer: AIOKafkaConsumer, letters: Sequence[Letter], count: int, tell: Tell
    ) -> Mapping[bytes, Entry]:
        """Newest entries of the letters' calls, from the oldest letter on: what was published before is no news."""
        keys = {key for letter in letters if (key := letter.key) is not None}
        if not keys:
            return {}
        notes = [letter.notification for letter in letters if letter.notification is not None]
        lanes = sorted({partition_of(note.key, count) for note in notes})
        since = min(letter.set_aside for letter in letters) - CLOCKS_APART_SECONDS
        stretches = await _stretches(consumer, [TopicPartition(self.topics.ledger, lane) for lane in lanes], since)
        total, done, ledger = sum(one.end - one.begin for one in stretches), 0, Ledger()
        for stretch in stretches:
            async for position, records in scan(consumer, stretch, 20_000):
                for record in records:
                    if record.key in keys:
                        with contextlib.suppress(ValueError):  # somebody else's, in our ledger
                            ledger.load(record.key, record.value)
                tell(done + position - stretch.begin, total)
            done += stretch.end - stretch.begin
        return {key: entry for key in keys if (entry := ledger.get(key)) is not None}

    async def _partitions(self, *topics: str) -> dict[str, int]:
        """How many each topic has; `UserError` when one is not there."""
        async with open_admin(self.kafka) as admin:
            counts = await partition_counts(admin)
        for topic in topics:
            if topic not in counts:
                raise UserError(
                    f"The topic {topic} does not exist: no service has run with this Kafka and this "
                    "CALLSTREAM_KAFKA__TOPIC_PREFIX.",
                    exit_code=1,
                )
        return counts


async def _stretches(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], since: float) -> list[Stretch]:
    """What was written from `since` (Unix seconds) on."""
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, max(0, int(since * 1000))))
    ends = await consumer.end_offsets(partitions)
    return [Stretch(one, at.offset, ends[one]) for one in partitions if (at := found.get(one)) is not None]
