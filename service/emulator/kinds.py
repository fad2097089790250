"""The kinds of calls: who takes part and which legs there are (graph-contract 6.6)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

from service.emulator import telemetry
from service.emulator.catalog import FAILURE_REASONS, PSTN_CODECS, SERVICE_ROLES
from service.emulator.legs import (
    AUDIO,
    DATA,
    SHARING,
    VIDEO,
    Side,
    Span,
    leg,
    media_line,
    meeting_labels,
    new_id,
    segment,
    session,
)
from service.emulator.people import STAFF, Person, bare_endpoint, person, service
from service.emulator.wire import TICKS, date_time, jittered, weighted

Json = dict[str, Any]

_OTHERS = 10_000  # numbers from here on are people of a given kind, so that none is two people


@dataclass
class Draft:
    """A call in the making."""

    random: Random
    tenant_id: str
    call_id: str
    start: int
    """Ticks; nobody joins before."""
    session_count: int | None = None
    type: str = "groupCall"
    is_meeting: bool = False
    sessions: list[Json] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)
    first: int = 0
    """Ticks at which the first leg began; 0 before there is one."""
    last: int = 0
    """Ticks at which the last leg ended."""

    def meet(self, count: int) -> list[Person]:
        """`count` different people of the tenant, who take part from now on."""
        numbers = self.random.sample(range(max(STAFF, 2 * count)), count)
        found = [person(self.tenant_id, number) for number in numbers]
        self.people += found
        return found

    def meet_one(self, kind: str) -> Person:
        """Somebody of this kind."""
        found = person(self.tenant_id, _OTHERS + self.random.randrange(60), kind)
        self.people.append(found)
        return found

    def span(self, shortest: float, longest: float, late: float = 0.0) -> Span:
        """A time of so many seconds, beginning up to `late` seconds after the call; most are nearer to the shortest."""
        begin = self.start + int(self.random.random() * late * TICKS)
        seconds = shortest + (longest - shortest) * self.random.random() ** 2
        end = begin + TICKS + int(seconds * TICKS)
        return self.noted(Span(jittered(self.random, begin), jittered(self.random, end)))

    def noted(self, span: Span) -> Span:
        """The span, which the call now covers."""
        self.first = min(self.first or span.start, span.start)
        self.last = max(self.last, span.end)
        return span


def peer_to_peer(draft: Draft) -> None:
    """Two people: one session, its id that of the record, with audio and video."""
    draft.type = "peerToPeer"
    is_brief = draft.random.random() < 0.12
    span = draft.span(5, 30) if is_brief else draft.span(60, 2400)
    draft.sessions.append(leg(draft.random, draft.call_id, span, draft.meet(2), (AUDIO, VIDEO)))


def group(draft: Draft) -> None:
    """A meeting: a session of each participant with the service, two media lines each.

    Without a session count it is a small one: two people with audio alone.
    """
    draft.is_meeting = draft.random.random() < 0.8
    count = draft.session_count or 2
    for who in draft.meet(count):
        labels = meeting_labels(draft.random) if draft.session_count else (AUDIO,)
        draft.sessions.append(leg(draft.random, new_id(draft.random), draft.span(240, 3600, 300), (who,), labels))
    _invite(draft)


def _invite(draft: Draft) -> None:
    """People of whom there is no session: dialled but never connected, or known through other systems."""
    if draft.random.random() < 0.4:
        draft.people.append(person(draft.tenant_id, draft.random.randrange(2 * STAFF)))
    for kind in ("onPremises", "encrypted", "device"):
        if draft.random.random() < 0.06:
            draft.meet_one(kind)


def escalated(draft: Draft) -> None:
    """Two people who took in more: what was between the two is an empty session with the record's id, start = end."""
    random = draft.random
    first = draft.meet(2)
    now = jittered(random, draft.start)
    path = telemetry.path_of(random, first[0])
    sides = (Side.of(random, first[0], path, 0), Side.of(random, first[1], path, 0))
    moment = draft.noted(Span(now, now))
    part = segment(random, draft.call_id, moment, sides, [])
    draft.sessions.append(session(random, draft.call_id, moment, sides, (AUDIO,), [part]))
    for who in [*first, *draft.meet(random.randrange(1, 4))]:
        draft.sessions.append(leg(random, new_id(random), draft.span(120, 1500, 30), (who,), meeting_labels(random)))


def pstn(draft: Draft) -> None:
    """A telephone: one session with several segments, each between other endpoints than the session's."""
    random = draft.random
    draft.type = "peerToPeer"
    user, phone = draft.meet_one("user"), draft.meet_one("phone")
    path = telemetry.path_of(random, user)
    ends = [Side.of(random, user, path), Side(phone.endpoint(random), phone)]
    if random.random() < 0.5:
        ends.reverse()
    hops = [ends[0], Side(service(random.choice(("mediationServer", "gateway"))))]
    if random.random() < 0.5:
        hops.append(Side(service(random.choice(SERVICE_ROLES))))
    hops.append(ends[1])
    session_id, span = new_id(random), draft.span(15, 1500)
    parts = []
    for sides in pairwise(hops):
        part = segment(random, new_id(random), span, sides, [_telephone_line(random, sides, path, span)])
        part |= {"caller": sides[0].endpoint, "callee": sides[1].endpoint}
        parts.append(part)
    draft.sessions.append(session(random, session_id, span, (ends[0], ends[1]), (AUDIO,), parts))


def _telephone_line(random: Random, sides: tuple[Side, Side], path: telemetry.Path, span: Span) -> Json:
    """SIP legs tell when a stream ran and whether it bypassed the mediation server; both directions are measured."""
    media = media_line(random, AUDIO, sides, path, span.seconds)
    codec, is_bypassed = weighted(random, PSTN_CODECS), random.random() < 0.4
    for stream in media["streams"]:
        telemetry.fill_stream(random, stream, "audio", path, span.seconds, codec)
        stream |= {"wasMediaBypassed": is_bypassed, "endDateTime": date_time(span.end)}
        stream["startDateTime"] = date_time(span.start)
    return media


def screen_sharing(draft: Draft) -> None:
    """A shared screen: a line beside audio and video, and a session of its own; between two people or in a meeting."""
    random = draft.random
    if random.random() < 0.5:
        draft.type, parties = "peerToPeer", [tuple(draft.meet(2))]
    else:
        parties = [(who,) for who in draft.meet(random.randrange(2, 5))]
    span = draft.span(180, 3000)
    for people in parties:
        draft.sessions.append(leg(random, new_id(random), span, people, (AUDIO, VIDEO, SHARING, DATA)))
    shared = leg(random, new_id(random), draft.span(60, 900, 60), parties[0], (SHARING,))
    if random.random() < 0.3:
        shared["segments"][0]["media"][0]["label"] = "applicationsharing"  # RDP, as old clients share
        shared["modalities"] = ["screenSharing"]
    draft.sessions.append(shared)


def auto_attendant(draft: Draft) -> None:
    """A telephone reaches an auto attendant and is passed to a call queue: two sessions with the same id."""
    random = draft.random
    draft.type = "unknown" if random.random() < 0.1 else "groupCall"
    phone, attendant = draft.meet_one("phone"), draft.meet_one("autoAttendant")
    agent = draft.meet_one("user")
    session_id = new_id(random)
    path = telemetry.path_of(random, agent)
    caller = Side(phone.endpoint(random), phone)
    for role, callee in (
        ("skypeForBusinessAutoAttendant", Side(attendant.endpoint(random), attendant)),
        ("skypeForBusinessCallQueues", Side.of(random, agent, path)),
    ):
        span = draft.span(20, 400, 30)
        between = Side(service(role))
        parts = []
        for sides in ((caller, between), (between, callee)):
            part = segment(random, new_id(random), span, sides, [_telephone_line(random, sides, path, span)])
            parts.append(part | {"caller": sides[0].endpoint, "callee": sides[1].endpoint})
        draft.sessions.append(session(random, session_id, span, (caller, callee), (AUDIO,), parts))


def failed(draft: Draft) -> None:
    """A call that failed, in one of the ways in which records show it."""
    random = draft.random
    way = random.choice(("no segments", "no media", "no streams", "bare", "one of several"))
    if way == "one of several":
        group(draft)
        fail(random, draft.sessions[0])
        return
    peer_to_peer(draft)
    only = draft.sessions[0]
    part = only["segments"][0]
    if way == "no segments":
        only["segments"] = []
        only["failureInfo"] = failure(random, "callSetup")
        return
    part["failureInfo"] = failure(random, "callSetup")
    if way == "no media":
        part["media"] = random.choice(([], None))
    elif way == "no streams":
        only["failureInfo"] = failure(random, "unknown")
        for media in part["media"]:
            media["streams"] = random.choice(([], None))
    else:
        only["callee"], part["callee"] = bare_endpoint(), bare_endpoint()
        only["failureInfo"] = {"stage": None, "reason": None}
        del part["media"]


def failure(random: Random, stage: str) -> Json:
    """`failureInfo`; the reason is free text and can be missing."""
    return {"stage": stage, "reason": random.choice((*FAILURE_REASONS, None))}


def fail(random: Random, broken: Json) -> None:
    """Makes a leg one that broke in the middle of the call."""
    broken["failureInfo"] = failure(random, "midcall")
    for part in broken["segments"]:
        part["failureInfo"] = failure(random, "midcall")


KINDS: dict[str, Callable[[Draft], None]] = {
    "peerToPeer": peer_to_peer,
    "group": group,
    "pstn": pstn,
    "screenSharing": screen_sharing,
    "failed": failed,
    "escalated": escalated,
    "autoAttendant": auto_attendant,
}
