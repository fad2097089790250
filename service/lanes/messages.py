"""Core: outcomes → Kafka records: topic, partition, key, value, headers. No I/O, no clock.

Stream events and call summaries carry CloudEvents headers in binary mode (design section 6); what depends on the run
(when notified, when fetched) stands in headers, never in the value.
"""

from collections.abc import Iterable

import msgspec

from service.kafka.records import Headers, KafkaRecord
from service.kafka.topics import Topics
from service.lanes.ledger import Entry, ledger_key
from service.lanes.policy import Dead, Later, Publish
from service.notification import Notification
from service.record.archive import parts_of

STREAM_EVENT_TYPE = b"callstream.stream.v1"
CALL_SUMMARY_TYPE = b"callstream.call.v1"

# A part of an archived record: below what a producer's batch takes, so that compression and limits stay ordinary.
RAW_PART_BYTES = 400 * 1024

_json = msgspec.json.Encoder()


def publish_records(
    outcome: Publish, topics: Topics, lane: int, raw_part_bytes: int = RAW_PART_BYTES
) -> Iterable[KafkaRecord]:
    """All stream events of one version, its call summary, its archive and its ledger entry: one transaction or none."""
    notification, shaped = outcome.notification, outcome.shaped
    key, streams = notification.key, topics.streams
    shared = _shared_headers(outcome)
    of_streams = [("ce_type", STREAM_EVENT_TYPE), *shared]
    for kind, value, event_id in shaped.events:
        yield KafkaRecord(streams[kind], lane, key, value, [("ce_id", event_id.encode()), *of_streams])
    summary_id = key + b"/%d" % shaped.version
    headers = [("ce_id", summary_id), ("ce_type", CALL_SUMMARY_TYPE), *shared]
    yield KafkaRecord(topics.calls, lane, key, shaped.summary, headers)
    if topics.raw is not None and shaped.raw is not None:
        yield from _raw_records(outcome, shaped.raw, topics.raw, lane, raw_part_bytes)
    yield ledger_record(notification, Entry(shaped.version, events=len(shaped.events)), topics, lane)


def _raw_records(outcome: Publish, raw: bytes, topic: str, lane: int, part_bytes: int) -> Iterable[KafkaRecord]:
    """The archive in parts, numbered from 1; each says of how many it is one."""
    notification, shaped = outcome.notification, outcome.shaped
    parts = list(parts_of(raw, part_bytes))
    for number, part in enumerate(parts, 1):
        headers = [
            ("content-type", b"application/json"),
            ("content-encoding", b"gzip"),
            ("version", b"%d" % shaped.version),
            ("part", b"%d" % number),
            ("parts", b"%d" % len(parts)),
            ("notified", (notification.first_seen_at or notification.received_at).encode()),
            ("fetched", shaped.fetched_at.encode()),
        ]
        yield KafkaRecord(topic, lane, notification.key, part, headers)


def _shared_headers(outcome: Publish) -> Headers:
    notification, shaped = outcome.notification, outcome.shaped
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_source", f"/tenants/{notification.tenant_id}/communications/callRecords".encode()),
        ("ce_subject", notification.call_id.encode()),
        ("content-type", b"application/json"),
        ("version", b"%d" % shaped.version),
        ("notified", (notification.first_seen_at or notification.received_at).encode()),
        ("fetched", shaped.fetched_at.encode()),
    ]
    if shaped.last_modified:
        headers.insert(2, ("ce_time", shaped.last_modified.encode()))
    return headers


def ledger_record(notification: Notification, entry: Entry, topics: Topics, lane: int) -> KafkaRecord:
    """The ledger entry of one call."""
    key = ledger_key(notification.tenant_id, notification.call_id)
    return KafkaRecord(topics.ledger, lane, key, entry.encode(), [])


def later_record(outcome: Later, topics: Topics, lane: int) -> KafkaRecord:
    """The notification on its way to a retry topic."""
    notification = outcome.notification
    return KafkaRecord(topics.retry[outcome.tier], lane, notification.key, _json.encode(notification), [])


def dead_records(outcome: Dead, topics: Topics, lane: int) -> Iterable[KafkaRecord]:
    """The dead letter, and the ledger entry where the call has none newer."""
    notification = outcome.notification
    value = _json.encode(notification)
    yield KafkaRecord(
        topics.dead_letter,
        0,
        notification.key,
        value,
        [
            *dead_headers(outcome.reason, outcome.error, notification.attempt),
            ("version", b"%d" % outcome.version),
            ("published", b"%d" % outcome.published),
        ],
    )
    if outcome.entry is not None:
        yield ledger_record(notification, outcome.entry, topics, lane)


def dead_headers(reason: str, error: str, attempts: int) -> Headers:
    """Why: `reason` from a closed set, `error` one sentence, `attempts` how often it was tried."""
    return [
        ("reason", reason.encode()),
        ("error", error[:1000].encode("utf-8", "replace")),
        ("attempts", b"%d" % attempts),
    ]


def rerouted_record(topic: str, partition: int, key: bytes, value: bytes) -> KafkaRecord:
    """A notification that another tool put into the wrong partition, on its way to its own."""
    return KafkaRecord(topic, partition, key, value, [])
