"""What exists: tenants' call records in all their versions, and the notices of them that are still to be given.

Versions are kept packed (a record with 80 streams is 200 kB of JSON and a tenth of that packed), because a run is
judged by what existed and nothing may be forgotten. Time is read from the clock at every look: a record appears,
gets a scheduled version, or is gone after 30 days, with nobody having to wait for it.
"""

import bisect
import heapq
import itertools
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.clock import Clock, from_iso
from service.emulator.statefile import Head, State

RETENTION_SECONDS = 30 * 24 * 3600.0  # graph-contract 6.5: counted from the end of the call
NAVIGATION = ("sessions", "participants_v2")
UNPACKED_DOCUMENTS = 16

Document = dict[str, Any]
Change = Callable[[Document, float], Document]
"""(current document, Unix time) → the next version's document; must not change its argument."""


@dataclass(frozen=True)
class Version:
    """One version of a call record."""

    number: int
    created_at: float
    """Unix seconds."""
    top: Document
    """The record without its sessions and participants: what a list or a plain get shows."""
    packed: bytes = field(repr=False)

    def unpack(self) -> Document:
        """The whole document; a new one at every call."""
        document: Document = orjson.loads(zlib.decompress(self.packed))
        return document


@dataclass
class Call:
    """A call record of a tenant with every version it had."""

    tenant_id: str
    id: str
    start: float
    end: float | None
    """Unix seconds; None when the document's end is no date, such a record is never too old."""
    visible_at: float
    """Before this the record answers 404 although it was announced (graph-contract 6.5)."""
    participant_ids: frozenset[str]
    versions: list[Version] = field(default_factory=list)

    @property
    def current(self) -> Version:
        """The newest version."""
        return self.versions[-1]

    def is_gone(self, now: float) -> bool:
        """Past its retention."""
        return self.end is not None and now > self.end + RETENTION_SECONDS

    def is_readable(self, now: float) -> bool:
        """Whether Graph would show it."""
        return self.visible_at <= now and not self.is_gone(now)


@dataclass(frozen=True)
class Announcement:
    """Subscribers are to be told about a version."""

    tenant_id: str
    call_id: str
    version: int
    participant_ids: frozenset[str]


class Store:
    """All calls of all tenants."""

    def __init__(self, clock: Clock, state: State) -> None:
        self._clock = clock
        self._state = state
        self._calls: dict[tuple[str, str], Call] = {}
        self._by_start: dict[str, list[tuple[float, str]]] = {}
        self._announcements: list[tuple[float, int, Announcement]] = []
        self._scheduled: list[tuple[float, int, str, str, Change]] = []
        self._order = itertools.count()
        self._unpacked: OrderedDict[tuple[str, str, int], Document] = OrderedDict()
        self.on_announcement: Callable[[], None] = lambda: None
        """Called when something was announced or scheduled, so that the one who waits looks again."""

    def __len__(self) -> int:
        return len(self._calls)

    def add_call(
        self, tenant_id: str, document: Document, visible_at: float | None = None, notify_at: float | None = None
    ) -> Call:
        """A new call; `visible_at` and `notify_at` are Unix seconds, default now. ValueError if the id exists."""
        now = self._clock.now()
        key = (tenant_id.lower(), str(document["id"]).lower())
        if key in self._calls:
            raise ValueError(f"call {key[1]} exists")
        start = _unix(document.get("startDateTime"))
        call = Call(
            *key,
            start=now if start is None else start,
            end=_unix(document.get("endDateTime")),
            visible_at=now if visible_at is None else visible_at,
            participant_ids=_participant_ids(document),
        )
        self._place(call)
        self._append(call, document, now, notify_at)
        return call

    def _place(self, call: Call) -> None:
        self._calls[call.tenant_id, call.id] = call
        bisect.insort(self._by_start.setdefault(call.tenant_id, []), (call.start, call.id))

    def restore(self, head: Head, packed: bytes) -> None:
        """A version as the state file has it; nothing is announced."""
        key = (head["tenantId"], head["callId"])
        call = self._calls.get(key)
        if call is None:
            call = Call(*key, start=head["start"], end=None, visible_at=head["visibleAt"], participant_ids=frozenset())
            self._place(call)
        call.end, call.participant_ids = head["end"], frozenset(head["people"])
        call.versions.append(Version(head["version"], head["createdAt"], head["top"], packed))

    def announce_again(self, tenant_id: str, call_id: str, version: int, at: float) -> None:
        """What was to be announced at Unix time `at` when the process ended; it is in the state file already."""
        call = self._calls[tenant_id, call_id]
        note = Announcement(tenant_id, call_id, version, call.participant_ids)
        heapq.heappush(self._announcements, (at, next(self._order), note))

    def schedule_again(self, tenant_id: str, call_id: str, at: float, change: Change) -> None:
        """A version that was still to come when the process ended."""
        heapq.heappush(self._scheduled, (at, next(self._order), tenant_id, call_id, change))

    def settled(self, announcement: Announcement, end: str) -> None:
        """Subscribers have been told (`delivered`), or never will be."""
        place = {"tenantId": announcement.tenant_id, "callId": announcement.call_id, "version": announcement.version}
        self._state.append("settled", {**place, "end": end})

    def add_version(self, call: Call, document: Document, notify_at: float | None = None) -> Version:
        """The next version of `call`, visible at once. ValueError unless its number grows."""
        if document["version"] <= call.current.number:
            raise ValueError(f"version {document['version']} does not follow {call.current.number}")
        return self._add(call, document, notify_at)

    def schedule(self, call: Call, at: float, change: Change) -> None:
        """At Unix time `at` the then current document becomes `change(document, at)`."""
        self._state.append("scheduled", {"at": at, "tenantId": call.tenant_id, "callId": call.id})
        self.schedule_again(call.tenant_id, call.id, at, change)
        self.on_announcement()

    def announce(self, call: Call, at: float | None = None) -> None:
        """Subscribers will be told of the current version of `call` (again) at Unix time `at`, default now."""
        at, number = self._clock.now() if at is None else at, call.current.number
        place = {"tenantId": call.tenant_id, "callId": call.id, "version": number}
        self._state.append("announced", {**place, "at": at})
        self.announce_again(call.tenant_id, call.id, number, at)
        self.on_announcement()

    def find(self, tenant_id: str | None, call_id: str) -> Call | None:
        """The call whether readable or not; without a tenant, the first tenant's that has it."""
        self._advance()
        if tenant_id is not None:
            return self._calls.get((tenant_id.lower(), call_id.lower()))
        tenants = list(self._by_start)
        return next((call for name in tenants if (call := self._calls.get((name, call_id.lower())))), None)

    def calls(self) -> Iterator[Call]:
        """Every call that exists, readable or not, in the order they were added."""
        self._advance()
        return iter(list(self._calls.values()))

    def started_after(self, tenant_id: str, start: float, after_id: str = "") -> Iterator[Call]:
        """A tenant's readable calls with (start, id) above the given, by start and id; pages of a list."""
        self._advance()
        now, order = self._clock.now(), self._by_start.get(tenant_id.lower(), [])
        for index in range(bisect.bisect_right(order, (start, after_id)), len(order)):
            call = self._calls[(tenant_id.lower(), order[index][1])]
            if call.is_readable(now):
                yield call

    def tenants(self) -> list[str]:
        """Ids of tenants that have calls."""
        return list(self._by_start)

    def document(self, call: Call, version: Version) -> Document:
        """The whole document, for reading only: the last few stay unpacked, for records of many pages."""
        key = (call.tenant_id, call.id, version.number)
        document = self._unpacked.pop(key, None) or version.unpack()
        self._unpacked[key] = document
        if len(self._unpacked) > UNPACKED_DOCUMENTS:
            self._unpacked.popitem(last=False)
        return document

    def next_due(self) -> float | None:
        """Unix time of the next announcement or scheduled version; None when there is none."""
        heads = [heap[0][0] for heap in (self._announcements, self._scheduled) if heap]
        return min(heads, default=None)

    def take_due(self) -> list[Announcement]:
        """Announcements whose time has come, each given once."""
        self._advance()
        now, due = self._clock.now(), []
        while self._announcements and self._announcements[0][0] <= now:
            due.append(heapq.heappop(self._announcements)[2])
        return due

    @property
    def waiting(self) -> int:
        """Announcements and versions that are still to come."""
        return len(self._announcements) + len(self._scheduled)

    def _advance(self) -> None:
        now = self._clock.now()
        while self._scheduled and self._scheduled[0][0] <= now:
            at, _, tenant_id, call_id, change = heapq.heappop(self._scheduled)
            call = self._calls[(tenant_id, call_id)]
            self._add(call, change(self.document(call, call.current), at), scheduled_at=at)

    def _add(
        self, call: Call, document: Document, notify_at: float | None = None, scheduled_at: float | None = None
    ) -> Version:
        call.end = _unix(document.get("endDateTime"))
        call.participant_ids = _participant_ids(document)
        return self._append(call, document, self._clock.now(), notify_at, scheduled_at)

    def _append(
        self,
        call: Call,
        document: Document,
        now: float,
        notify_at: float | None,
        scheduled_at: float | None = None,
    ) -> Version:
        top = {name: value for name, value in document.items() if name not in NAVIGATION}
        version = Version(document["version"], now, top, zlib.compress(orjson.dumps(document), 1))
        notify_at = now if notify_at is None else notify_at
        head = {
            "tenantId": call.tenant_id,
            "callId": call.id,
            "version": version.number,
            "createdAt": now,
            "notifyAt": notify_at,
            "scheduledAt": scheduled_at,
            "start": call.start,
            "end": call.end,
            "visibleAt": call.visible_at,
            "people": sorted(call.participant_ids),
            "top": top,
        }
        self._state.append("version", head, version.packed)
        call.versions.append(version)
        self.announce_again(call.tenant_id, call.id, version.number, notify_at)
        self.on_announcement()
        return version


def _unix(text: object) -> float | None:
    try:
        return from_iso(str(text))
    except (ValueError, OverflowError):
        return None


def _participant_ids(document: Document) -> frozenset[str]:
    """Ids by which the list and a subscription's filter can ask for people on the call."""
    people = document.get("participants_v2") or []
    return frozenset(str(person["id"]).lower() for person in people if isinstance(person, dict) and "id" in person)
