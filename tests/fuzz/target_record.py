"""Target: a body from Graph as a call record, or as a page of one, up to the Kafka records of its publication."""

import json

import msgspec

from service.errors import NotACallRecord
from service.kafka.topics import Topics
from service.lanes.messages import publish_records
from service.lanes.policy import Publish, ShapedRecord
from service.lanes.shaping import TOPIC_KIND
from service.notification import Notification
from service.record.archive import Collection, Pages, packed, unpacked
from service.record.decode import decode_participants_page, decode_record, decode_sessions_page
from service.record.encode import EventEncoder, encode_summary
from service.record.flatten import Flattened, flatten
from service.record.hiding import hidden_document
from service.record.lenient import OddValue
from service.record.model import CallRecord
from service.record.privacy import OPEN, policy_of
from tests.fuzz.tally import Tally

TENANT = "c0ffee00-1111-4222-8333-444455556666"
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
KINDS = {"wrong_type", "out_of_range", "bad_format", "negative_duration", "unknown_field", "unknown_member"}

_hashing = policy_of(
    "strict", {"names": "hash", "ids": "hash", "ip_addresses": "hash"}, {1: b"a key of sixteen or more"}
)
_policies = (OPEN, _hashing, policy_of("strict", {}, {}))
_topics = Topics("fuzz")
_notification = Notification(tenant_id=TENANT, call_id=CALL, source="webhook", received_at="2026-11-22T10:00:00.000Z")


def run(data: bytes, tally: Tally) -> None:
    """Raises AssertionError, or anything else, when something is wrong."""
    for decode in (decode_participants_page, decode_sessions_page):
        _page(data, decode)
    thorough = _decoded(data, thorough=True)
    quick = _decoded(data, thorough=False)
    assert (thorough is None) == (quick is None)
    if quick is None or thorough is None:
        return
    tally.add("records")
    # Which of the two readings a body takes must not show in what is published.
    policy = _policies[len(data) % len(_policies)]
    published = _published(flatten(TENANT, quick, policy), tally)
    assert published == _published(flatten(TENANT.upper(), thorough, policy), tally)
    _archived(data, quick)


def _page(data: bytes, decode: object) -> None:
    try:
        _, odd = decode(data)  # type: ignore[operator]
    except NotACallRecord as refusal:
        assert refusal.kind
        return
    _well_noted(odd)


def _decoded(data: bytes, *, thorough: bool) -> CallRecord | None:
    try:
        record, odd = decode_record(data, thorough=thorough)
    except NotACallRecord as refusal:
        assert str(refusal).isprintable()
        return None
    assert record.id is not None
    assert 0 <= (record.version if record.version is not None else -1) < 2**63
    _well_noted(odd)
    return record


def _well_noted(odd: list[OddValue]) -> None:
    """Kinds and fields become metric labels, the rest log lines."""
    for value in odd[:50]:
        assert value.kind in KINDS
        assert value.found.isprintable()
        assert len(value.found) < 200
        assert value.path.isprintable()
        assert value.field.isprintable()


def _published(flattened: Flattened, tally: Tally) -> list[bytes]:
    """Every message of the version, as it would be written to Kafka."""
    encoder, plain = EventEncoder(), msgspec.json.Encoder()
    events = []
    for event in flattened.events():
        value = encoder.encode(event)
        assert value == plain.encode(event)
        assert json.loads(value)["id"] == event.id
        events.append((TOPIC_KIND[event.media.kind], value, event.id))
    tally.add("events", len(events))
    assert len(events) == flattened.event_count
    assert len({event_id for _, _, event_id in events}) == len(events)
    summary = encode_summary(flattened.summary)
    call = flattened.summary.call
    shaped = ShapedRecord(call.version, events, summary, call.last_modified_date_time or "", 0, "now")
    for record in publish_records(Publish(_notification, shaped), _topics, 0):
        assert record.size_bytes > 0
    assert json.loads(summary)["eventCount"] == len(events)
    return [*(value for _, value, _ in events), summary]


def _archived(data: bytes, record: CallRecord) -> None:
    """The archive holds the same record."""
    pages = Pages(data, Collection(), Collection())
    again, _ = decode_record(unpacked(packed(pages, hidden_document(OPEN, TENANT))))
    assert (again.id, again.version) == (record.id, record.version)
    assert len(again.sessions or ()) == len(record.sessions or ())
