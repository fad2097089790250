"""Shell: what one lane reads: live notifications, due retries and backfill, polled apart.

The consumer has no group; positions are committed inside the lane's transactions. Polling one call over all partitions
would return live work only after everything that backfill has prefetched (kafka.md), so each source has its own buffer
and its own poll. A retry topic is first-in first-out with one delay: only its head decides when to look at it again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from service.clock import Clock, from_iso
from service.kafka.connect import client_options, close_consumer
from service.kafka.forward import Forward
from service.kafka.topics import Topics
from service.notification import UNREADABLE, Notification
from service.settings import Kafka

# The longest an idle lane sleeps before it looks at its timers again. Seconds.
IDLE_SECONDS = 1.0
BACKFILL_SHARE = 10  # one in ten
# Of key and value together. A notification of ours has some 300, one whose texts are all as long as they may be 17,000;
# more is none, and no more than this is kept of it: for memory, and because with its headers it might fit no topic.
MOST_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Item:
    """One notification with its place in Kafka. `notification` is None when the value is no notification."""

    partition: TopicPartition
    offset: int
    key: bytes | None
    value: bytes
    notification: Notification | None
    cut_from: int = 0
    """How many bytes key and value had, where not all of them are kept; else 0."""


class Intake:
    """The inputs of lane `lane`, from the committed offsets on."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        topics: Topics,
        lane: int,
        clock: Clock,
        retry_buffer: int,
        delays: Sequence[float],
    ) -> None:
        """`retry_buffer`: so many of each retry partition wait in memory until they are due, after its delay."""
        self._consumer = consumer
        self._retry_buffer = retry_buffer
        self._clock = clock
        self._live = TopicPartition(topics.notifications, lane)
        self._backfill = TopicPartition(topics.backfill, lane)
        self._retries = [TopicPartition(name, lane) for name in topics.retry]
        self._delays = dict(zip(self._retries, delays, strict=True))
        self._buffers: dict[TopicPartition, deque[Item]] = {
            partition: deque() for partition in (self._live, *self._retries, self._backfill)
        }
        self._under_way: list[Item] = []
        self._forward = Forward()

    async def take(self, room: int, *, more: bool = False) -> list[Item]:
        """Up to `room` items that may be worked on now, in order for each partition; empty when there are none.

        `more`: beside what was taken before and is not handled yet. Raises `WentBackError`, `KafkaError`.
        """
        await self._fill(self._live, room)
        await self._fill(self._backfill, room)
        for retry in self._retries:
            await self._fill(retry, self._retry_buffer)
        now = self._clock.now()
        due = [self._due_count(retry, now) for retry in self._retries]
        live, retries, backfill = shares(
            len(self._buffers[self._live]), sum(due), len(self._buffers[self._backfill]), room
        )
        lists = [self._pop(self._live, live), self._pop(self._backfill, backfill)]
        for retry, count in zip(self._retries, due, strict=True):
            popped = self._pop(retry, min(count, retries))
            retries -= len(popped)
            lists.append(popped)
        taken = interleave(lists)
        self._under_way = [*self._under_way, *taken] if more else taken
        return taken

    def handled(self) -> None:
        """What was taken and not given back is done."""
        self._under_way = []

    def give_back(self, items: Sequence[Item]) -> None:
        """Puts the not yet started end of what was taken back in front."""
        for item in reversed(items):
            self._buffers[item.partition].appendleft(item)

    async def wait(self, longest_seconds: float = IDLE_SECONDS) -> None:
        """Until something new arrives or becomes due, at most `longest_seconds` of the machine's time."""
        seconds = min(longest_seconds, self._clock.real_seconds(self._seconds_to_due()))
        empty = [partition for partition, buffer in self._buffers.items() if not buffer]
        if seconds <= 0:
            return
        if not empty:
            await asyncio.sleep(seconds)
            return
        # One record is enough to wake up; `take` polls the rest.
        polled = await self._consumer.getmany(*empty, timeout_ms=max(1, int(seconds * 1000)), max_records=1)
        self._keep(polled)

    def oldest_due(self) -> float | None:
        """Unix time since which the longest-waiting item may be worked on; None when nothing is due."""
        now = self._clock.now()
        heads = [buffer[0] for buffer in self._buffers.values() if buffer]
        moments = [due_at(item) or received_at(item) for item in (*heads, *self._under_way)]
        return min((moment for moment in moments if 0 < moment <= now), default=None)

    def most_retries(self) -> int:
        """Items of the fullest retry partition that wait in memory."""
        return max(len(self._buffers[retry]) for retry in self._retries)

    async def positions(self) -> dict[TopicPartition, int]:
        """Where each input stands: the offset of the next item that has not been taken. Raises `WentBackError`."""
        found = {}
        for partition, buffer in self._buffers.items():
            found[partition] = buffer[0].offset if buffer else await self._position(partition)
        return found

    async def _position(self, partition: TopicPartition) -> int:
        position = int(await self._consumer.position(partition))
        self._forward.stands(partition, position)
        return position

    async def _fill(self, partition: TopicPartition, room: int) -> None:
        missing = room - len(self._buffers[partition])
        if missing > 0:
            self._keep(await self._consumer.getmany(partition, timeout_ms=0, max_records=missing))

    def _keep(self, polled: Mapping[TopicPartition, Iterable[ConsumerRecord]]) -> None:
        for partition, records in polled.items():
            for record in records:
                self._forward.read(partition, record.offset)
                self._buffers[partition].append(item_of(partition, record))

    def _due_count(self, retry: TopicPartition, now: float) -> int:
        """How many items stand in front of the first that is not due."""
        count = 0
        for item in self._buffers[retry]:
            if self._seconds_left(retry, item, now) > 0:
                break
            count += 1
        return count

    def _seconds_to_due(self) -> float:
        now = self._clock.now()
        heads = [(retry, self._buffers[retry][0]) for retry in self._retries if self._buffers[retry]]
        return min((self._seconds_left(retry, head, now) for retry, head in heads), default=float("inf"))

    def _seconds_left(self, retry: TopicPartition, item: Item, now: float) -> float:
        """Until the item is due. One that would wait much longer than its topic's delay, which no lane writes, is due
        now: what stands behind it would wait too. Twice the delay, because clocks differ."""
        seconds = due_at(item) - now
        return seconds if seconds <= 2 * self._delays[retry] else 0.0

    def _pop(self, partition: TopicPartition, count: int) -> list[Item]:
        buffer = self._buffers[partition]
        return [buffer.popleft() for _ in range(min(count, len(buffer)))]


def item_of(partition: TopicPartition, record: ConsumerRecord) -> Item:
    """A Kafka record as an item; a value that is no notification is kept for the dead letter, up to `MOST_BYTES`."""
    key, value = record.key, record.value or b""
    if (size := len(key or b"") + len(value)) > MOST_BYTES:
        key = key and key[: MOST_BYTES // 2]
        return Item(partition, record.offset, key, value[: MOST_BYTES // 2], None, size)
    try:
        notification = _decoder.decode(value)
    except UNREADABLE:
        notification = None
    return Item(partition, record.offset, key, value, notification)


_decoder = msgspec.json.Decoder(Notification)


def due_at(item: Item) -> float:
    """Unix time from which an item may be worked on; 0 when it says none."""
    if item.notification is None or item.notification.due_at is None:
        return 0.0
    try:
        return from_iso(item.notification.due_at)
    except ValueError:
        return 0.0


def received_at(item: Item) -> float:
    """Unix time at which the notification was received; 0 when it says none."""
    try:
        return from_iso(item.notification.received_at) if item.notification else 0.0
    except ValueError:
        return 0.0


def shares(live: int, due: int, backfill: int, room: int) -> tuple[int, int, int]:
    """How many of each source fit into `room`: a tenth is kept for backfill, the rest halved between live and due.

    What one source does not need the others get; backfill gets what live work leaves over, and never nothing.
    """
    kept = min(backfill, max(1, room // BACKFILL_SHARE)) if room > 1 or not (live or due) else 0
    rest = room - kept
    due_taken = min(due, max(rest - live, (rest + 1) // 2))
    live_taken = min(live, rest - due_taken)
    return live_taken, due_taken, min(backfill, room - live_taken - due_taken)


def interleave(lists: Iterable[Sequence[Item]]) -> list[Item]:
    """Merges the lists evenly, each in its own order, so that a batch cut short has something of each."""
    placed = [
        ((index + 0.5) / len(items), number, item)
        for number, items in enumerate(lists)
        for index, item in enumerate(items)
    ]
    placed.sort(key=lambda triple: triple[:2])
    return [item for _, _, item in placed]


@asynccontextmanager
async def open_intake(
    kafka: Kafka,
    topics: Topics,
    lane: int,
    committed: Mapping[TopicPartition, int],
    clock: Clock,
    retry_buffer: int,
    delays: Sequence[float],
) -> AsyncIterator[Intake]:
    """Reads every input from its committed offset, or from its beginning. Raises `KafkaError`."""
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=None,
        enable_auto_commit=False,
        isolation_level="read_committed",
        # An input without a committed offset has never been read by anyone: nothing of it may be skipped.
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=256 * 1024,
    )
    partitions = [TopicPartition(name, lane) for name in topics.lane_inputs]
    try:
        await consumer.start()
        consumer.assign(partitions)
        for partition in partitions:
            if partition in committed:
                consumer.seek(partition, committed[partition])
        yield Intake(consumer, topics, lane, clock, retry_buffer, delays)
    finally:
        await close_consumer(consumer)
