"""Core: outcomes → the Kafka records of one transaction, and what does not fit into Kafka. No I/O."""

from collections.abc import Iterable, Mapping

import msgspec

from service.kafka.records import KafkaRecord
from service.kafka.topics import Topics, partition_of
from service.lanes import policy
from service.lanes.inbox import Report
from service.lanes.intake import Item
from service.lanes.ledger import Entry
from service.lanes.messages import (
    RAW_PART_BYTES,
    dead_headers,
    dead_records,
    later_record,
    publish_records,
    rerouted_record,
)
from service.lanes.policy import Dead, Later, Outcome, Publish
from service.lanes.reasons import CUT_FROM

# Kafka's own default for max.message.bytes, for a topic whose limit could not be read.
DEFAULT_LIMIT_BYTES = 1_048_588
# Key, headers and record format around a part of an archived record.
RAW_ENVELOPE_BYTES = 1024


class Writer:
    """Turns outcomes of lane `lane` into Kafka records. `limits`: topic → its max.message.bytes."""

    def __init__(self, topics: Topics, lane: int, partitions: int, limits: Mapping[str, int]) -> None:
        self._topics = topics
        self._lane = lane
        self._partitions = partitions
        self._limits = limits
        raw_limit = limits.get(topics.raw or "", DEFAULT_LIMIT_BYTES) - RAW_ENVELOPE_BYTES
        self._raw_part_bytes = max(1, min(RAW_PART_BYTES, raw_limit))

    def records(self, outcome: Outcome) -> list[KafkaRecord]:
        """The Kafka records of one outcome, in the order they are written."""
        match outcome:
            case Publish():
                published = list(publish_records(outcome, self._topics, self._lane, self._raw_part_bytes))
                return published if outcome.second_look is None else published + self.records(outcome.second_look)
            case Later():
                return [later_record(outcome, self._topics, self._lane)]
            case Dead():
                return list(dead_records(outcome, self._topics, self._lane))
            case _:
                return []

    def stray(self, item: Item) -> KafkaRecord:
        """A notification that another tool put into the wrong partition: to its own, processed there."""
        key = item.notification.key if item.notification else item.key or b""
        topic = self._topics.backfill if item.partition.topic == self._topics.backfill else self._topics.notifications
        return rerouted_record(topic, partition_of(key, self._partitions), key, item.value)

    def malformed(self, item: Item) -> KafkaRecord:
        """A Kafka record that is no notification of a call: to the dead letters, as much as is kept of it."""
        headers = dead_headers("malformed", "the Kafka record is no notification of a call", 0)
        if item.cut_from:
            headers.append((CUT_FROM, b"%d" % item.cut_from))
        return KafkaRecord(self._topics.dead_letter, 0, item.key, item.value, headers)

    def report(self, report: Report) -> KafkaRecord:
        """What the keeper is told, in the same transaction."""
        return KafkaRecord(self._topics.inbox, 0, None, msgspec.json.encode(report), [])

    def fitting(self, outcome: Outcome, entry: Entry | None) -> tuple[Outcome, list[KafkaRecord]]:
        """The outcome and its records; a version of which one message is too large becomes a dead letter.

        Checked before the transaction begins: Kafka would refuse the whole of it.
        """
        records = self.records(outcome)
        if isinstance(outcome, Publish) and (sentence := self.too_large(records)):
            given_up = unpublishable(outcome, sentence, entry)
            return given_up, self.records(given_up)
        return outcome, records

    def too_large(self, records: Iterable[KafkaRecord]) -> str | None:
        """Which of these messages Kafka would refuse for its size; None for none."""
        for record in records:
            limit = self._limits.get(record.topic, DEFAULT_LIMIT_BYTES)
            # What a value far below the limit weighs with its headers need not be known; nearly all are.
            if len(record.value or b"") > limit // 2 and record.size_bytes > limit:
                return f"a message of {record.size_bytes} bytes is above the {limit} that {record.topic} takes"
        return None


def unpublishable(outcome: Publish, error: str, entry: Entry | None) -> Dead:
    """The dead letter of a version that Kafka does not take."""
    return policy.dead(outcome.notification, "unpublishable", error, entry, outcome.shaped.version)
