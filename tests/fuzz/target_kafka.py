"""Target: what is read back from Kafka. The topics are the service's own, but notifications may come from other tools,
and a poison pill would stop a lane for good. The first byte chooses the reader, the rest is what it reads.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import msgspec
from aiokafka import TopicPartition

from service.errors import RecordNotFound
from service.kafka.topics import Topics, partition_of
from service.lanes import policy
from service.lanes.assembler import is_call
from service.lanes.inbox import decode_message, unix_or_zero
from service.lanes.intake import MOST_BYTES, due_at, item_of, received_at
from service.lanes.ledger import Ledger, ledger_key
from service.lanes.messages import later_record
from service.lanes.policy import Later, Rules
from service.lanes.writes import Writer
from service.notification import LifecycleEvent, Notification, read_event
from service.reconcile.memory import Memory
from service.settings import Retry
from tests.fuzz.tally import Tally

NOW = 1_795_348_800.0
_partition = TopicPartition("fuzz", 0)
_topics = Topics("fuzz")
_rules = Rules.of(Retry())
_writer = Writer(_topics, 0, 12, {})


def run(data: bytes, tally: Tally) -> None:
    """Raises AssertionError, or anything else, when something is wrong."""
    if data:
        READERS[data[0] % len(READERS)](data[1:], tally)


def _notifications(data: bytes, tally: Tally) -> None:
    """A value that is no notification is kept for the dead letter; one that is can be worked on, or set aside."""
    item = item_of(_partition, SimpleNamespace(offset=1, key=None, value=data))  # type: ignore[arg-type]
    assert item.value == data
    assert isinstance(due_at(item), float)
    assert isinstance(received_at(item), float)
    notification = item.notification
    if notification is None or not is_call(notification):
        return
    tally.add("items")
    assert len(ledger_key(notification.tenant_id, notification.call_id)) == 32
    assert 0 <= partition_of(notification.key, 12) < 12
    again = later_record(Later(0, notification), _topics, 0)
    assert msgspec.json.decode(again.value or b"", type=Notification) == notification
    for outcome in (_failed(notification), policy.dead(notification, "unknown_tenant", "", None)):
        for record in _writer.records(outcome):
            assert record.size_bytes < MOST_BYTES
            assert record.topic != _topics.ledger or len(record.value or b"") == 13


def _failed(notification: Notification) -> policy.Outcome:
    """A retry tier, or a dead letter: whatever it says of its age and its attempts."""
    return policy.after_failure(notification, RecordNotFound("404"), None, _rules, NOW)


def _ledger(data: bytes, _: Tally) -> None:
    """Either an entry of 32 and 13 bytes, or ValueError."""
    ledger = Ledger()
    size = data[0] % 64 if data else 0
    key, value = data[1 : 1 + size], data[1 + size :]
    try:
        ledger.load(key, value)
    except ValueError:
        assert len(ledger) == 0
        return
    assert (len(key), len(value)) == (32, 13)
    entry = ledger.get(key)
    assert entry is not None
    assert entry.encode()[1:9] == value[1:9]


def _inbox(data: bytes, _: Tally) -> None:
    """None for what is no message to the keeper."""
    decode_message(data)
    assert isinstance(unix_or_zero(data.decode("utf-8", "replace")), float)


def _state(data: bytes, _: Tally) -> None:
    """What is not understood is passed over."""
    key, _, value = data.partition(b"\n")
    Memory(NOW).load(key, value)
    Memory(NOW, ["c0ffee00-1111-4222-8333-444455556666"]).load(key, value or None)


def _lifecycle(data: bytes, _: Tally) -> None:
    """The keeper passes over what is no event."""
    event = read_event(data)
    assert event is None or isinstance(event, LifecycleEvent)


READERS: Sequence[Callable[[bytes, Tally], None]] = (_notifications, _ledger, _inbox, _state, _lifecycle)
