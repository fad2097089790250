"""Core: Kafka records of the dead-letter topic → letters, and what has become of each since. No I/O, no clock.

The topic holds letters, and receipts: a replay writes one for each letter, in the transaction that queues the
notification again. A receipt has the reason `replayed` and names its letter; readers that go by reasons pass it over.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import msgspec

from service.clock import iso
from service.lanes.ledger import Entry, ledger_key
from service.lanes.reasons import CUT_FROM
from service.notification import Notification, is_guid

RECEIPT = "replayed"
# More digits are no number of ours: some 64 bits hold it, JSON and Python's own reading of digits have their ends.
MOST_DIGITS = 18
LATEST_MS = 253_402_300_799_999  # the last millisecond that a date can be of; a writer chooses its record's time
_decoder = msgspec.json.Decoder(Notification)


class State(Enum):
    """What has become of a letter."""

    OPEN = "open"
    REPLAYED = "replayed"
    """Queued again, and nothing has come of it yet."""
    AGAIN = "again"
    """A newer letter of the same call takes its place."""
    PUBLISHED = "published"


class LetterRecord(Protocol):
    """What is needed of a Kafka record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Letter:
    """One dead letter."""

    number: int
    """Its offset in the topic, which has one partition: the name by which commands know it."""
    set_aside: float
    """Unix seconds."""
    reason: str
    error: str
    attempts: int
    version: int
    """Which version, 0 where none is known."""
    published: int
    """The version that was published when it was written; 0 for none."""
    notification: Notification | None
    """None for a record that was no notification of a call."""
    value: bytes
    cut_from: int = 0
    """How many bytes the Kafka record had, where the letter holds only its beginning; else 0."""

    @property
    def key(self) -> bytes | None:
        """The call's key in the ledger; None where there is no call."""
        note = self.notification
        return None if note is None else ledger_key(note.tenant_id, note.call_id)


@dataclass(frozen=True)
class Receipt:
    """That a letter was queued again."""

    letter: int
    at: float


@dataclass(frozen=True)
class Judged:
    """A letter, and what has become of it."""

    letter: Letter
    state: State
    replayed_at: float | None = None
    newer: int | None = None
    """Number of the newest letter of the same call, when that is another one."""


@dataclass(frozen=True)
class Selection:
    """Which letters; what is None takes all. Times are Unix seconds, `since` on and before `until`."""

    reason: str | None = None
    tenant_id: str | None = None
    call_id: str | None = None
    since: float | None = None
    until: float | None = None
    numbers: frozenset[int] | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing narrows it."""
        return self == Selection()

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is wanted. Ids are compared in lower case."""
        note = letter.notification
        return (
            (self.numbers is None or letter.number in self.numbers)
            and (self.reason is None or letter.reason == self.reason)
            and (self.tenant_id is None or (note is not None and note.tenant_id.lower() == self.tenant_id))
            and (self.call_id is None or (note is not None and note.call_id.lower() == self.call_id))
            and (self.since is None or letter.set_aside >= self.since)
            and (self.until is None or letter.set_aside < self.until)
        )


@dataclass
class Shelf:
    """All letters and receipts of a topic."""

    letters: list[Letter] = field(default_factory=list)
    replayed: dict[int, float] = field(default_factory=dict)
    """Number → when it was last queued again."""
    newest: dict[bytes, int] = field(default_factory=dict)
    """Call → number of its newest letter."""

    def add(self, record: LetterRecord) -> None:
        """Takes one record of the topic, in order."""
        read = read_record(record)
        if isinstance(read, Receipt):
            self.replayed[read.letter] = read.at
            return
        self.letters.append(read)
        if (key := read.key) is not None:
            self.newest[key] = read.number

    def judged(self, selection: Selection, ledger: Mapping[bytes, Entry]) -> list[Judged]:
        """The selected letters, oldest first. `ledger` holds the newest entries of their calls, as far as they are
        younger than the letters."""
        return [self._judge(letter, ledger) for letter in self.letters if selection.takes(letter)]

    def _judge(self, letter: Letter, ledger: Mapping[bytes, Entry]) -> Judged:
        at = self.replayed.get(letter.number)
        if (key := letter.key) is None:
            return Judged(letter, State.OPEN)
        entry = ledger.get(key)
        newer = self.newest[key] if self.newest[key] != letter.number else None
        if entry is not None and not entry.dead and entry.version > letter.published:
            return Judged(letter, State.PUBLISHED, at, newer)
        state = State.AGAIN if newer is not None else State.OPEN if at is None else State.REPLAYED
        return Judged(letter, state, at, newer)


def read_record(record: LetterRecord) -> Letter | Receipt:
    """One record of the topic; whatever another tool wrote there is a letter that says what it can."""
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
    reason, at = headers.get("reason", ""), min(max(record.timestamp, 0), LATEST_MS) / 1000
    cut_from = _number(headers.get(CUT_FROM, ""))
    if reason == RECEIPT:
        return Receipt(_number(headers.get("replay-of", "")), at)
    return Letter(
        number=record.offset,
        set_aside=at,
        reason=reason,
        error=headers.get("error", ""),
        attempts=_number(headers.get("attempts", "")),
        version=_number(headers.get("version", "")),
        published=_number(headers.get("published", "")),
        # The beginning of something else may read like one.
        notification=None if cut_from else _notification(record.value or b""),
        value=record.value or b"",
        cut_from=cut_from,
    )


def receipt_headers(number: int) -> list[tuple[str, bytes]]:
    """Those of the receipt for a letter."""
    return [("reason", RECEIPT.encode()), ("error", b""), ("attempts", b"0"), ("replay-of", b"%d" % number)]


def _number(text: str) -> int:
    """-1 for what is no number where one must stand, so that it names no letter; 0 for nothing."""
    if len(text) <= MOST_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    return -1 if text else 0


def _notification(value: bytes) -> Notification | None:
    try:
        note = _decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return note if is_guid(note.tenant_id) and is_guid(note.call_id) else None


def _version(number: int) -> int | None:
    """A version that may be asked for; None for none, and for what no record has."""
    return number if 0 < number < 10**MOST_DIGITS else None


class Left(Enum):
    """Why a selected letter is not queued again."""

    PUBLISHED = "published since"
    AGAIN = "have a newer letter of the same call"
    REPLAYED = "queued again before"
    NO_CALL = "no notification of a call"
    NO_TENANT = "of a tenant that is not configured"


@dataclass(frozen=True)
class Plan:
    """What a replay does."""

    queue: list[Letter]
    left: Counter[Left]


def plan(judged: Iterable[Judged], tenant_ids: Iterable[str], *, once_more: bool) -> Plan:
    """Which letters to queue again: the newest of each call that is not published. `tenant_ids`: the configured ones,
    lower case. `once_more`: also those that were queued before.
    """
    known = frozenset(tenant_ids)
    queue: list[Letter] = []
    left: Counter[Left] = Counter()
    for one in judged:
        if (why := _left(one, known, once_more=once_more)) is None:
            queue.append(one.letter)
        else:
            left[why] += 1
    return Plan(queue, left)


def _left(one: Judged, tenant_ids: frozenset[str], *, once_more: bool) -> Left | None:
    note = one.letter.notification
    if note is None:
        return Left.NO_CALL
    if one.state is State.PUBLISHED:
        return Left.PUBLISHED
    if one.state is State.AGAIN:
        return Left.AGAIN
    if note.tenant_id.lower() not in tenant_ids:
        return Left.NO_TENANT
    return Left.REPLAYED if one.state is State.REPLAYED and not once_more else None


def queued(letter: Letter, now: float) -> Notification:
    """The notification that asks for a letter's call again, without the past but for its age: a 404 is still a 404.

    It names the version that could not be published, so that one which is there by now costs no request.
    """
    note = letter.notification
    if note is None:
        raise ValueError("a letter without a call cannot be asked for again")
    return msgspec.structs.replace(
        note,
        source="replay",
        received_at=iso(now),
        first_seen_at=note.first_seen_at or note.received_at,
        version=_version(max(letter.version, note.version or 0)),
        attempt=0,
        due_at=None,
        reason=None,
        listed_hour=None,
        look=None,
    )
