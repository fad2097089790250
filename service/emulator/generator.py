"""Whole call records in Graph's v1.0 wire shape, deterministic from a seed.

Equal specs give equal documents, and people keep their devices and networks from call to call. What kinds of calls
there are stands in `kinds`, who calls in `people`, what is measured in `telemetry`, how records grow in `revisions`.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote

from service.emulator.kinds import KINDS, Draft, fail
from service.emulator.legs import new_id, without_nulls
from service.emulator.people import Person
from service.emulator.revisions import next_version
from service.emulator.wire import TICKS, date_time, ticks_of

__all__ = ["DEFAULT_START", "KINDS", "CallSpec", "generate_call", "mixed_specs", "next_version"]

Document = dict[str, Any]

DEFAULT_START = 1_790_000_000.0
"""Unix seconds, in September 2026."""

#: Sessions of a group call by size; a session has 4 streams, save in the small call, which has 2 sessions of 2.
_SESSIONS = {"S": None, "M": 20, "L": 150}
_MOST_SESSIONS = 3000
_OLD_PARTICIPANTS = 130  # the deprecated list stops there (graph-contract 6.9)


@dataclass(frozen=True)
class CallSpec:
    """What call to make. Equal specs give equal documents.

    Group calls have 4 (S), 80 (M) or 600 (L) streams, or 4 for each of `sessions` (1 to 3000). The other kinds are as
    large as such calls are, a `peerToPeer` has 4. `start` is Unix seconds; it changes nothing but the times.
    """

    tenant_id: str
    seed: int
    index: int
    kind: str = "group"
    size: str = "S"
    sessions: int | None = None
    start: float = DEFAULT_START
    failed: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be made; ValueError says what can."""
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.size not in _SESSIONS:
            raise ValueError(f"size {self.size!r} is not one of {', '.join(_SESSIONS)}")
        if self.sessions is not None and not 1 <= self.sessions <= _MOST_SESSIONS:
            raise ValueError(f"sessions {self.sessions} is not between 1 and {_MOST_SESSIONS}")


def call_id_of(spec: CallSpec) -> str:
    """The record's id: from tenant, seed and index alone."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"callstream:{spec.tenant_id.lower()}/{spec.seed}/{spec.index}"))


def generate_call(spec: CallSpec) -> Document:
    """Version 1 of the call record that `spec` describes."""
    call_id = call_id_of(spec)
    random = Random(f"{call_id}/{spec.kind}/{spec.size}/{spec.sessions}/{spec.failed}")  # noqa: S311 - realism
    count = spec.sessions if spec.sessions is not None else _SESSIONS[spec.size]
    draft = Draft(random, spec.tenant_id, call_id, ticks_of(spec.start), count)
    KINDS[spec.kind](draft)
    if spec.failed:
        fail(random, draft.sessions[0])
    document = _document(draft)
    return without_nulls(document) if random.random() < 0.1 else document


def _document(draft: Draft) -> Document:
    random = draft.random
    people = list({who.identity["id"]: who for who in draft.people}.values())
    organizer = next((who for who in people if who.kind == "user"), people[0])
    # The first version comes 7 to 40 minutes after the end (graph-contract 6.5).
    modified = draft.last + random.randrange(420 * TICKS, 2400 * TICKS)
    document: Document = {
        "id": draft.call_id,
        "version": 1,
        "type": draft.type,
        "modalities": sorted({modality for session in draft.sessions for modality in session["modalities"]}),
        "lastModifiedDateTime": date_time(modified),
        "startDateTime": date_time(draft.first),
        "endDateTime": date_time(draft.last),
        "joinWebUrl": _join_url(random, draft.tenant_id, organizer) if draft.is_meeting else None,
        "organizer_v2": organizer.participant(random),
        "participants_v2": _participants(random, people),
        "sessions": draft.sessions,
    }
    if random.random() < 0.25:
        document["organizer"] = organizer.identity_set(is_full=True)
        old = people[:_OLD_PARTICIPANTS]
        document["participants"] = [who.identity_set(is_full=random.random() < 0.5) for who in old]
    return document


def _participants(random: Random, people: list[Person]) -> list[Document]:
    """Everybody once; now and then one is missing, a known issue of Graph."""
    is_short = len(people) > 2 and random.random() < 0.05
    return [who.participant(random) for who in people[: -1 if is_short else None]]


def _join_url(random: Random, tenant_id: str, organizer: Person) -> str:
    """A meeting's link; tenant and organizer stand in it URL-encoded."""
    context = quote(f'{{"Tid":"{tenant_id}","Oid":"{organizer.identity["id"]}"}}', safe="")
    thread = quote(f"19:meeting_{new_id(random).replace('-', '')}@thread.v2", safe="")
    return f"https://teams.microsoft.com/l/meetup-join/{thread}/0?context={context}"


#: How often a kind of call is met, for mixes.
_SHARES = {
    "group": 46,
    "peerToPeer": 30,
    "pstn": 9,
    "screenSharing": 6,
    "failed": 4,
    "escalated": 3,
    "autoAttendant": 2,
}
#: With these calls every mix of 20 has each kind, more sessions than a page (60), more participants than a page (130).
_ALWAYS: tuple[dict[str, Any], ...] = (*({"kind": kind} for kind in KINDS), {"sessions": 75}, {"sessions": 140})


def mixed_specs(
    count: int,
    tenant_ids: Sequence[str],
    seed: int,
    start: float = DEFAULT_START,
    span_seconds: float = 3600.0,
) -> list[CallSpec]:
    """`count` calls of all kinds in realistic shares, starting within `span_seconds` after `start` (Unix seconds).

    From 20 calls on, every kind, a call with 75 sessions and one with 140 are among them. Calls are in the order of
    their start and tenants take turns.
    """
    random = Random(f"mix/{seed}/{count}")  # noqa: S311 - realism
    wishes = list(_ALWAYS) if count >= 20 else []
    wishes += [_ordinary(random) for _ in range(count - len(wishes))]
    random.shuffle(wishes)
    moments = sorted(start + random.random() * span_seconds for _ in range(count))
    return [
        CallSpec(tenant_ids[n % len(tenant_ids)], seed, n, start=moment, **wish)
        for n, (wish, moment) in enumerate(zip(wishes, moments, strict=True))
    ]


def _ordinary(random: Random) -> dict[str, Any]:
    kind = random.choices(list(_SHARES), list(_SHARES.values()))[0]
    if kind != "group":
        return {"kind": kind, "failed": kind == "peerToPeer" and random.random() < 0.03}
    chance = random.random()
    if chance < 0.25:
        return {"size": "S"}
    return {"size": "M"} if chance > 0.93 else {"sessions": random.randrange(2, 13)}
