"""Shell: archived records shaped again into another set of topics, exactly once there too.

Lane by lane: the transactional producer of the new prefix's lane first (it fences and aborts what an earlier run left),
then the new ledger up to its end, then the archive from its beginning. Each batch is one transaction with its ledger
entries, so a replay that was killed goes on where its last transaction ended, and one that is repeated changes nothing.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import ProducerFenced

from service.clock import from_iso
from service.errors import NotACallRecord, UserError
from service.graph.client import Fetched
from service.kafka.delivery import open_publisher
from service.kafka.publisher import Publisher
from service.kafka.records import KafkaRecord
from service.kafka.scan import Stretch, open_admin, open_reader, partition_counts, scan
from service.kafka.topics import Topics, ensure, raw_topic
from service.lanes.archived import Parts, Version
from service.lanes.ledger import Entry, Ledger
from service.lanes.policy import Dead, Outcome, Publish
from service.lanes.restore import restore
from service.lanes.shaping import policy_in_force, shape
from service.lanes.writes import Writer
from service.notification import Notification
from service.record.archive import unpacked
from service.record.decode import decode_record
from service.record.privacy import Policy
from service.settings import Kafka, Settings

POLL_RECORDS = 200


@dataclass(frozen=True)
class Selection:
    """Which archived versions: fetched from Graph from `since` on and before `until` (Unix seconds), of one tenant."""

    since: float | None = None
    until: float | None = None
    tenant_id: str | None = None

    def takes(self, tenant_id: str, fetched: float) -> bool:
        """Whether a version is wanted."""
        return (
            (self.since is None or fetched >= self.since)
            and (self.until is None or fetched < self.until)
            and (self.tenant_id is None or tenant_id == self.tenant_id)
        )


@dataclass
class Tally:
    """What a replay has done so far. Versions, save where it says otherwise."""

    lanes: int = 0
    """Lanes there are."""
    lanes_done: int = 0
    total: int = 0
    """Kafka records in the archive when the replay began, transaction markers too."""
    done: int = 0
    """Those of them that have been read."""
    published: int = 0
    events: int = 0
    """Stream events in the published versions."""
    known: int = 0
    """Published already by an earlier run, or older than what is."""
    dead: int = 0
    """Set aside because Kafka does not take them; the dead letters of the new prefix name them."""
    unreadable: int = 0
    """Whose parts are not all there, or are no archived record."""
    passed_over: int = 0
    """Not selected."""

    @property
    def found(self) -> int:
        """All versions in the archive."""
        return self.published + self.known + self.dead + self.unreadable + self.passed_over


Tell = Callable[[Tally], None]


@dataclass
class Batch:
    """What the next transaction will hold."""

    outcomes: list[Outcome] = field(default_factory=list)
    records: list[KafkaRecord] = field(default_factory=list)
    entries: dict[bytes, Entry] = field(default_factory=dict)
    size_bytes: int = 0


class LaneReplay:
    """One lane of the new prefix, fed from the archive's partition of the same number."""

    def __init__(
        self,
        settings: Settings,
        writer: Writer,
        publisher: Publisher,
        ledger: Ledger,
        selection: Selection,
        tally: Tally,
        seal: Mapping[TopicPartition, int],
    ) -> None:
        """`seal`: as for `Publisher.commit`, in every transaction."""
        self._lanes = settings.lanes
        self._policy: Policy = policy_in_force(settings.privacy)
        self._writer = writer
        self._publisher = publisher
        self._ledger = ledger
        self._selection = selection
        self._tally = tally
        self._seal = seal
        self._batch = Batch()

    async def take(self, version: Version) -> None:
        """Shapes one version if it is wanted and new; commits when the batch is full."""
        try:
            is_wanted = self._selection.takes(version.tenant_id, from_iso(version.fetched))
        except ValueError:
            is_wanted = self._selection.since is None and self._selection.until is None
        if not is_wanted:
            self._tally.passed_over += 1
        elif not self._is_new(version):
            self._tally.known += 1
        else:
            await self._shape(version)
        is_large = self._batch.size_bytes >= self._lanes.batch_bytes
        if is_large or len(self._batch.outcomes) >= self._lanes.batch_notifications:
            await self.commit()

    async def commit(self) -> None:
        """One transaction: events, summaries and ledger entries. Raises KafkaError: outcome unknown."""
        batch, self._batch = self._batch, Batch()
        if not batch.records:
            return
        await self._publisher.commit(batch.records, {}, self._seal)
        for key, entry in batch.entries.items():
            self._ledger.put(key, entry)
        for outcome in batch.outcomes:
            if isinstance(outcome, Publish):
                self._tally.published += 1
                self._tally.events += len(outcome.shaped.events)
            else:
                self._tally.dead += 1

    def _is_new(self, version: Version) -> bool:
        pending = self._batch.entries.get(version.ledger_key)
        if pending is not None:
            return version.version > pending.version
        return self._ledger.supersedes(version.ledger_key, version.version)

    async def _shape(self, version: Version) -> None:
        try:
            body = unpacked(version.value)
            record, odd = decode_record(body)
        except (OSError, EOFError, zlib.error, NotACallRecord):
            self._tally.unreadable += 1
            return
        fetched = Fetched(record, odd, pages=1, body_bytes=len(body))
        shaped = await shape(version.tenant_id, fetched, version.fetched, self._policy)
        note = Notification(
            tenant_id=version.tenant_id,
            call_id=version.call_id,
            source="replay",
            received_at=version.notified,
            version=version.version,
        )
        outcome, records = self._writer.fitting(Publish(note, shaped), self._ledger.get(version.ledger_key))
        entry = outcome.entry if isinstance(outcome, Dead) else Entry(version.version)
        if entry is not None:
            self._batch.entries[version.ledger_key] = entry
        self._batch.outcomes.append(outcome)
        self._batch.records += records
        self._batch.size_bytes += shaped.size_bytes


async def replay(settings: Settings, prefix: str, selection: Selection, tell: Tell) -> Tally:
    """Every selected version of the archive under the settings' prefix, into the topics of `prefix`.

    `tell` is called with the growing tally after each poll. Raises `UserError` with one sentence, `KafkaError` when
    Kafka breaks off; running it again goes on.
    """
    check_prefix(settings, prefix)
    source = raw_topic(settings.kafka.topic_prefix)
    topics = Topics(prefix, settings.retry.delays)
    tally = Tally()
    async with open_admin(settings.kafka) as admin:
        count = await _partitions(admin, source)
        kafka = msgspec.structs.replace(settings.kafka, topic_prefix=prefix, partitions=count)
        async with open_reader(kafka) as consumer:
            partitions = [TopicPartition(source, lane) for lane in range(count)]
            begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
            tally.lanes, tally.total = count, sum(ends[one] - begins[one] for one in partitions)
            if not tally.total:
                raise UserError(f"There is nothing in {source} to shape again.", exit_code=1)
            report = await ensure(admin, topics, kafka, create=True)
            report.refuse_fatal()
            for partition in partitions:
                stretch = Stretch(partition, begins[partition], ends[partition])
                lane = _Target(settings, kafka, topics, report.max_message_bytes, partition.partition)
                await _replay_lane(consumer, stretch, lane, selection, tally, tell)
    return tally


def check_prefix(settings: Settings, prefix: str) -> None:
    """Raises `UserError` for the prefix that the archive itself has: its ledger knows every version already."""
    if prefix == settings.kafka.topic_prefix:
        raise UserError(f"--prefix must be another one than {prefix}, where the records were published from.")


@dataclass(frozen=True)
class _Target:
    """A lane of the new prefix. `limits`: topic → its max.message.bytes."""

    settings: Settings
    kafka: Kafka
    topics: Topics
    limits: Mapping[str, int]
    number: int


async def _replay_lane(
    consumer: AIOKafkaConsumer, source: Stretch, lane: _Target, selection: Selection, tally: Tally, tell: Tell
) -> None:
    """`source`: a partition of the archive as it was when the replay began."""
    done = tally.done
    if source.begin < source.end:
        topics, ledger, parts = lane.topics, Ledger(), Parts()
        try:
            name = topics.transactional_id(lane.number)
            async with open_publisher(lane.kafka, topics, name, topics.lane_group, lane.limits) as publisher:
                await restore(lane.kafka, topics, lane.number, ledger, publisher)
                writer = Writer(topics, lane.number, lane.kafka.partitions, lane.limits)
                # Where the archive begins: nobody goes on from there, the new ledger says what is done.
                seal = {source.partition: source.begin}
                work = LaneReplay(lane.settings, writer, publisher, ledger, selection, tally, seal)
                async for position, records in scan(consumer, source, POLL_RECORDS):
                    for record in records:
                        if (version := parts.add(record)) is not None:
                            await work.take(version)
                    tally.done = done + position - source.begin
                    tell(tally)
                await work.commit()
        except ProducerFenced:
            raise UserError(
                f"Somebody else works lane {lane.number} of {topics.prefix}: another replay, or a service with that "
                "prefix (or a broker has failed meanwhile). End it, and run this again.",
                exit_code=1,
            ) from None
        tally.unreadable += parts.broken
    tally.done = done + source.end - source.begin
    tally.lanes_done += 1
    tell(tally)


async def _partitions(admin: AIOKafkaAdminClient, topic: str) -> int:
    """How many the archive has; `UserError` when there is none."""
    counts = await partition_counts(admin)
    if topic not in counts:
        raise UserError(
            f"There is no archive: the topic {topic} does not exist. With CALLSTREAM_RAW__ENABLED=true, what is "
            "published from then on is archived.",
            exit_code=1,
        )
    return counts[topic]
