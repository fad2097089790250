"""The ledger: which version of which call is published or dead. Core: entries as bytes, and the map of one lane.

Kafka topic `{prefix}.ledger`, compacted; the key is the two ids in 32 bytes, the value 13 bytes (design section 3).
A lane writes an entry in the same transaction as the events, so the ledger never says more, or less, than the topics.
"""

import struct
from dataclasses import dataclass
from uuid import UUID

_VALUE = struct.Struct(">BQI")
_PUBLISHED, _DEAD = 1, 2


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a call. `version` 0 with `dead` means: no version was ever seen."""

    version: int
    dead: bool = False
    events: int = 0

    def encode(self) -> bytes:
        """13 bytes: outcome, version, number of stream events."""
        return _VALUE.pack(_DEAD if self.dead else _PUBLISHED, self.version, self.events)


def ledger_key(tenant_id: str, call_id: str) -> bytes:
    """Both GUIDs in 32 bytes; ValueError when one is none."""
    return UUID(tenant_id).bytes + UUID(call_id).bytes


class Ledger:
    """The map of one lane, and the offset up to which it has read its partition.

    The topic drops what is old by itself and says nothing; the map has two generations instead (see `forget`).
    """

    def __init__(self) -> None:
        # version << 1 | dead: one small int for each call keeps a million calls below 150 MB. No call is in both.
        self._current: dict[bytes, int] = {}
        self._previous: dict[bytes, int] = {}
        self._current_since: float | None = None
        self.next_offset = 0

    def __len__(self) -> int:
        return len(self._current) + len(self._previous)

    def get(self, key: bytes) -> Entry | None:
        """The newest entry of a call; its event count is not kept in memory and reads 0."""
        packed = self._packed(key)
        return None if packed is None else Entry(packed >> 1, bool(packed & 1))

    def supersedes(self, key: bytes, version: int) -> bool:
        """Whether `version` is newer than everything published or dead of this call."""
        packed = self._packed(key)
        return packed is None or version > packed >> 1

    def put(self, key: bytes, entry: Entry) -> None:
        """Remembers an entry that a committed transaction holds."""
        self._remember(key, entry.version << 1 | entry.dead)

    def forget(self, now: float, kept_seconds: float) -> None:
        """Begins a generation where the last one has lasted `kept_seconds`, and lets go of the one before it.

        Asked at every commit, an entry stays for as long at least, and for twice as long at most. What was read before
        the first time is a generation of its own: the topic has kept it for a while already.
        """
        if self._current_since is None or now - self._current_since >= kept_seconds:
            self._previous, self._current, self._current_since = self._current, {}, now

    def load(self, key: bytes | None, value: bytes | None) -> None:
        """Takes one Kafka record of the ledger topic, in order; a tombstone forgets the call.

        ValueError for a record that is no ledger entry: somebody else wrote into the topic.
        """
        if key is None or len(key) != 32:
            raise ValueError("a ledger key is 32 bytes")
        if value is None:
            self._current.pop(key, None)
            self._previous.pop(key, None)
            return
        if len(value) != _VALUE.size:
            raise ValueError("a ledger value is 13 bytes")
        outcome, version, _ = _VALUE.unpack(value)
        self._remember(key, version << 1 | (outcome == _DEAD))

    def _packed(self, key: bytes) -> int | None:
        packed = self._current.get(key)
        return self._previous.get(key) if packed is None else packed

    def _remember(self, key: bytes, packed: int) -> None:
        self._current[key] = packed
        self._previous.pop(key, None)
