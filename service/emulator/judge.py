"""The verdict on a run: what a read_committed consumer saw, compared with every version that existed.

Pure: somebody else reads Kafka and calls `see_...`. Keeps of every version its compressed document and a digest of
16 bytes for each record that must come out; a whole expectation is computed again only to say what differs.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from service.emulator.differences import differences, digest
from service.emulator.envelope import Envelope, envelope_faults
from service.emulator.expect import expected_events, expected_summary

Headers = Sequence[tuple[str, bytes]]

_SUMMARY = "summary"  # stands for the position of a stream in the record of the calls topic
_PROBLEMS_SHOWN = 20

Call = tuple[str, str]  # tenant id, call id, both in lower case


@dataclass(frozen=True)
class Verdict:
    """What became of the calls. A right run has zeros in lost, duplicated, wrong, half and older_after_newer."""

    calls: int = 0
    versions: int = 0
    events: int = 0
    """Stream events seen, each counted once."""
    lost: int = 0
    """Stream events and summaries missing, of a call's last version or of an earlier one published in part."""
    duplicated: int = 0
    """Records whose id had been seen before."""
    wrong: int = 0
    """Records with other content, topic, partition, key or headers than they must have, or of nothing that existed."""
    half: int = 0
    """Versions of which some records were seen and some are missing."""
    overtaken_lost: int = 0
    """Of `lost`: what is missing of versions that were published in part and followed by a newer one."""
    overtaken_half: int = 0
    """Of `half`: versions that a newer one followed."""
    half_announced: int = 0
    """Of `half`: versions whose summary was seen, so that a consumer must believe them whole."""
    older_after_newer: int = 0
    """Records of a version that came after a newer version of the same call in the same topic."""
    dead: int = 0
    """Calls whose last version was not published but is named in a dead letter."""
    problems: list[str] = field(default_factory=list)
    """The first 20, in words; what is missing before what is there and should not be."""

    @property
    def is_right(self) -> bool:
        """Nothing lost, duplicated, wrong, half or out of order."""
        return not (self.lost or self.duplicated or self.wrong or self.half or self.older_after_newer)


class _Record(NamedTuple):
    """A Kafka record as the consumer saw it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: Headers

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@lru_cache(maxsize=32)
def _expected(tenant_id: str, packed: bytes) -> dict[str, Any]:
    """Everything that must come out of a packed document, by position (`summary` for the call summary)."""
    document = orjson.loads(zlib.decompress(packed))
    events = expected_events(tenant_id, document)
    return {identity.rpartition("/")[2]: event for identity, event in events.items()} | {
        _SUMMARY: expected_summary(tenant_id, document)
    }


class _Version:
    """One version that existed: its document, and what must come out of it, by position."""

    def __init__(self, tenant_id: str, document: dict[str, Any]) -> None:
        self._tenant_id = tenant_id
        self._packed = zlib.compress(orjson.dumps(document), 1)
        self._awaited: dict[str, tuple[bytes, Envelope]] | None = None
        self._count = 0

    @property
    def awaited(self) -> dict[str, tuple[bytes, Envelope]]:
        """Digest and envelope of what has not been seen yet, by position in document order.

        Made when first asked for, so that telling the truth costs a running emulator little. What was seen goes, so
        that of a version that is whole nothing but the packed document is kept.
        """
        if self._awaited is None:
            shared: dict[Envelope, Envelope] = {}  # one object for all streams of a kind
            self._awaited = {}
            for position, value in self.expected().items():
                envelope = Envelope.of(value)
                self._awaited[position] = digest(value), shared.setdefault(envelope, envelope)
            self._count = len(self._awaited)
        return self._awaited

    @property
    def count(self) -> int:
        """How many records must come out."""
        return self._count or len(self.awaited)

    @property
    def is_seen(self) -> bool:
        """Whether any of its records came."""
        return self._awaited is not None and len(self._awaited) < self._count

    def expected(self) -> dict[str, Any]:
        """Everything that must come out, by position."""
        return _expected(self._tenant_id, self._packed)

    def take(self, position: str, record: _Record, value: dict[str, Any] | None) -> list[str]:
        """Counts an awaited position as seen; what is wrong with its record, in words."""
        must_be, envelope = self.awaited.pop(position)
        if not self.awaited:
            self._awaited = {}  # a dict that was full keeps its size
        found = [] if digest(value) == must_be else differences(self.expected()[position], value)
        identity = None if value is None else str(value.get("id"))
        return found + list(envelope_faults(envelope, identity, record.topic, record.key, record.headers))


class Judge:
    """Collects what existed and what was seen.

    `see_...` must be called in the order of offsets within a partition; a record that is read again (same topic,
    partition and offset) changes nothing. What existed may be told before or after what was seen.
    """

    def __init__(self) -> None:
        self._truth: dict[Call, dict[int, _Version]] = defaultdict(dict)
        self._strangers: dict[tuple[Call, int], list[tuple[str, _Record]]] = defaultdict(list)
        self._dead: dict[Call, int | None] = {}
        self._read_up_to: dict[tuple[str, int], int] = {}
        self._newest: dict[tuple[str, Call], int] = {}
        self._partition: dict[Call, int] = {}
        self._counts: Counter[str] = Counter()
        self._problems: list[str] = []

    def add_truth(self, tenant_id: str, document: dict[str, Any]) -> None:
        """A version of a call record that existed; call it once for each. The document is copied."""
        call, version = (tenant_id.lower(), document["id"].lower()), document["version"]
        self._truth[call][version] = _Version(tenant_id, document)
        for position, record in self._strangers.pop((call, version), []):
            self._compare(call, version, position, record)

    def see_event(
        self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes, headers: Headers
    ) -> None:
        """A record of one of the stream topics."""
        self._see(_Record(topic, partition, offset, key, value, headers), is_summary=False)

    def see_summary(
        self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes, headers: Headers
    ) -> None:
        """A record of the calls topic."""
        self._see(_Record(topic, partition, offset, key, value, headers), is_summary=True)

    def see_dead_letter(
        self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes, headers: Headers
    ) -> None:
        """A record of the dead-letter topic: the last notification about a call, with the reason in a header."""
        record = _Record(topic, partition, offset, key, value, headers)
        if self._was_read(record):
            return
        notification = _parse(value) or {}
        call = (str(notification.get("tenantId", "")).lower(), str(notification.get("callId", "")).lower())
        if not dict(headers).get("reason"):
            self._problem("wrong", f"{record}: a dead letter without a reason")
        if key is not None and key != "/".join(call).encode():
            self._problem("wrong", f"{record}: key {key!r} is not that of call {'/'.join(call)}")
        self._dead[call] = notification.get("version")

    def verdict(self) -> Verdict:
        """What is known so far; asking changes nothing."""
        counts, problems = Counter(self._counts), list[str]()
        for call, versions in self._truth.items():
            for version, truth in versions.items():
                self._account(call, version, truth, counts, problems)
        for (call, version), records in self._strangers.items():
            counts["wrong"] += len(records)
            problems.append(f"{records[0][1]}: version {version} of {'/'.join(call)} never existed")
        return Verdict(
            calls=len(self._truth),
            versions=sum(len(versions) for versions in self._truth.values()),
            events=counts["events"],
            lost=counts["lost"],
            duplicated=counts["duplicated"],
            wrong=counts["wrong"],
            half=counts["half"],
            overtaken_lost=counts["overtaken_lost"],
            overtaken_half=counts["overtaken_half"],
            half_announced=counts["half_announced"],
            older_after_newer=counts["older_after_newer"],
            dead=counts["dead"],
            problems=[*problems, *self._problems][:_PROBLEMS_SHOWN],
        )

    def _account(self, call: Call, version: int, truth: _Version, counts: Counter[str], problems: list[str]) -> None:
        """Adds what is missing of one version."""
        is_last = version == max(self._truth[call])
        if not truth.is_seen and not is_last:
            return  # overtaken before it was fetched: not a loss
        missing = truth.awaited
        if not missing:
            return
        name = f"version {version} of {'/'.join(call)}"
        if not truth.is_seen and call in self._dead and (self._dead[call] or version) >= version:
            counts["dead"] += 1
            return
        counts["lost"] += len(missing)
        if not is_last:  # and seen in part
            counts["overtaken_lost"] += len(missing)
            counts["overtaken_half"] += 1
        if truth.is_seen:
            counts["half"] += 1
            counts["half_announced"] += _SUMMARY not in missing
            first = next(iter(missing))
            problems.append(f"{name} is half: {len(missing)} of {truth.count} missing, first {first}")
        else:
            problems.append(f"{name}, the last one, is missing with all its {len(missing)} records")

    def _see(self, record: _Record, *, is_summary: bool) -> None:
        if self._was_read(record):
            return
        identity = (_parse(record.value) or {}).get("id") or dict(record.headers).get("ce_id", b"").decode(
            errors="replace"
        )
        parts = str(identity).split("/")
        if len(parts) != (3 if is_summary else 4) or not parts[2].isdecimal():
            self._problem("wrong", f"{record}: id {identity!r} is no id of {'a call' if is_summary else 'a stream'}")
            return
        call, version = (parts[0], parts[1]), int(parts[2])
        position = _SUMMARY if is_summary else parts[3]
        self._check_order(call, version, record)
        if version in self._truth.get(call, {}):
            self._compare(call, version, position, record)
        else:
            self._strangers[call, version].append((position, record))

    def _was_read(self, record: _Record) -> bool:
        place = (record.topic, record.partition)
        if record.offset <= self._read_up_to.get(place, -1):
            return True
        self._read_up_to[place] = record.offset
        return False

    def _check_order(self, call: Call, version: int, record: _Record) -> None:
        newest = self._newest.setdefault((record.topic, call), version)
        if version < newest:
            self._problem("older_after_newer", f"{record}: version {version} of {'/'.join(call)} after {newest}")
        self._newest[record.topic, call] = max(newest, version)
        if self._partition.setdefault(call, record.partition) != record.partition:
            self._problem("wrong", f"{record}: call {'/'.join(call)} is in partition {self._partition[call]} elsewhere")

    def _compare(self, call: Call, version: int, position: str, record: _Record) -> None:
        truth = self._truth[call][version]
        if position not in truth.awaited:
            if position in truth.expected():
                self._problem("duplicated", f"{record}: {position} of version {version} of {'/'.join(call)} again")
            else:
                self._problem("wrong", f"{record}: version {version} of {'/'.join(call)} has no stream {position}")
            return
        self._counts["events"] += position != _SUMMARY
        found = truth.take(position, record, _parse(record.value))
        if found:
            self._problem("wrong", f"{record}: {'/'.join(call)}/{version}/{position}: {'; '.join(found[:3])}")

    def _problem(self, count: str, words: str) -> None:
        self._counts[count] += 1
        if len(self._problems) < _PROBLEMS_SHOWN:
            self._problems.append(words)


def _parse(value: bytes) -> dict[str, Any] | None:
    """The JSON object of a record's value; None when it is none."""
    try:
        parsed = orjson.loads(value)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
