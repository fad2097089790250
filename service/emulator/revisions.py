"""How a call record grows: later versions with what came late (graph-contract 6.5)."""

from random import Random
from typing import Any

from service.clock import from_iso
from service.emulator.expect_values import objects
from service.emulator.legs import LINES, Span, copied, leg, meeting_labels, new_id
from service.emulator.people import STAFF, person
from service.emulator.telemetry import Path, feedback_of, fill_stream
from service.emulator.wire import date_time, jittered, ticks_of

Document = dict[str, Any]


def next_version(document: Document, seed: int, now: float) -> Document:
    """A later version of `document`, which is not changed; `now` (Unix seconds) becomes `lastModifiedDateTime`.

    Telemetry that was missing has come, now and then with a participant's whole session or somebody's feedback. Nothing
    that was there disappears.
    """
    later: Document = copied(document)
    random = Random(f"{later['id']}/{later['version']}/{seed}")  # noqa: S311 - realism
    later["version"] += 1
    later["lastModifiedDateTime"] = date_time(jittered(random, ticks_of(now)))
    filled = _fill_late(random, later)
    has_joined = later.get("type") == "groupCall" and random.random() < 0.35 and _join_late(random, later)
    if not (filled or has_joined) or random.random() < 0.4:
        _rate_late(random, later)
    return later


def _fill_late(random: Random, document: Document) -> int:
    """Gives most streams that had no telemetry their metrics; how many."""
    filled = 0
    for _, session in objects(document.get("sessions")):
        seconds = _seconds(session)
        for _, segment in objects(session.get("segments")):
            for _, media in objects(segment.get("media")):
                kind = LINES.get(media.get("label") or "", ("other",))[0]
                for _, stream in objects(media.get("streams")):
                    if kind != "other" and stream.get("averageJitter") is None and random.random() < 0.6:
                        fill_stream(random, stream, kind, _late_path(random), seconds)
                        filled += 1
    return filled


def _late_path(random: Random) -> Path:
    """Late telemetry is like any other: about one in ten is bad."""
    if random.random() < 0.1:
        return Path("radio", random.uniform(60, 300), random.uniform(30, 90), random.uniform(0.02, 0.2))
    return Path("", random.uniform(10, 120), random.uniform(1, 15), random.expovariate(250))


def _seconds(session: Document) -> float:
    try:
        return from_iso(session["endDateTime"]) - from_iso(session["startDateTime"])
    except (KeyError, TypeError, ValueError):
        return 60.0


def _join_late(random: Random, document: Document) -> bool:
    """Adds a participant with a session of the call's own times; whether that was possible."""
    try:
        start, end = from_iso(document["startDateTime"]), from_iso(document["endDateTime"])
    except (KeyError, TypeError, ValueError):
        return False
    who = person(_tenant_of(document), STAFF + random.randrange(STAFF))
    span = Span(jittered(random, ticks_of(start)), jittered(random, ticks_of(max(start, end - 2))))
    if span.end <= span.start:
        return False
    document["sessions"] = [
        *(document.get("sessions") or []),
        leg(random, new_id(random), span, (who,), meeting_labels(random)),
    ]
    document["participants_v2"] = [*(document.get("participants_v2") or []), who.participant(random)]
    return True


def _tenant_of(document: Document) -> str:
    """A record does not tell its tenant; its organizer most often does."""
    identity = (document.get("organizer_v2") or {}).get("identity") or {}
    return str((identity.get("user") or {}).get("tenantId") or document["id"])


def _rate_late(random: Random, document: Document) -> None:
    """Feedback of the first caller who had given none, at the session and at the segments that repeat its endpoint."""
    for _, session in objects(document.get("sessions")):
        endpoint = session.get("caller") or {}
        declared = str(endpoint.get("@odata.type", ""))
        if endpoint.get("feedback") is None and declared.endswith("participantEndpoint"):
            feedback = feedback_of(random, Path(random.choice(("", "radio", "device")), 0, 0, 0))
            for _, segment in objects(session.get("segments")):
                if segment.get("caller") == endpoint:
                    segment["caller"]["feedback"] = copied(feedback)
            endpoint["feedback"] = feedback
            return
