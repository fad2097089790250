"""What the service must publish for a call record, computed from the wire document alone (design section 6).

Shares no code with `service.record` on purpose: it is the other opinion that a run is judged by. The values are what
a consumer gets from parsing the JSON of an event.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from service.emulator.differences import differences
from service.emulator.expect_fields import CALL, DEVICE, FAILURE, NETWORK, SEGMENT, SESSION, STREAM
from service.emulator.expect_people import expected_endpoint, expected_organizer, expected_participants
from service.emulator.expect_quality import expected_quality
from service.emulator.expect_values import duration_seconds, objects, project, text

__all__ = ["differences", "expected_events", "expected_summary", "kind_of_label"]

Document = dict[str, Any]
Event = dict[str, Any]

KINDS = ("audio", "video", "screenSharing", "other")

#: `participants` and `failures` stop here, because a summary must fit a Kafka record of 1 MB.
_LIST_LIMIT = 500


def kind_of_label(label: Any) -> str:
    """The kind of a media line by its label (graph-contract 7.8)."""
    name = label.lower() if isinstance(label, str) else ""
    if "applicationsharing" in name:
        return "screenSharing"
    if "video" in name:
        return "video"
    return "audio" if "audio" in name else "other"


def _call(document: Document, participant_count: int) -> Event:
    call = project(document, CALL)
    seconds = duration_seconds(document.get("startDateTime"), document.get("endDateTime"))
    if seconds is not None:
        call["durationSeconds"] = seconds
    organizer = expected_organizer(document)
    if organizer is not None:
        call["organizer"] = organizer
    return call | {"participantCount": participant_count}


def _head(tenant_id: str, document: Document, call: Event) -> Event:
    tenant = tenant_id.lower()
    identity = f"{tenant}/{str(document['id']).lower()}/{document['version']}"
    return {"schemaVersion": 1, "id": identity, "tenantId": tenant, "call": call}


class _Line(NamedTuple):
    """A media line and everything around it, as events show it."""

    around: Event  # session, segment, media, caller, callee
    kind: str
    position: str  # session.segment.media
    streams: list[tuple[int, Document]]


def _lines(document: Document) -> Iterator[_Line]:
    for s, session in objects(document.get("sessions")):
        for g, segment in objects(session.get("segments")):
            sides, session_group = _sides(session, segment)
            session_group["index"] = s
            segment_group = project(segment, SEGMENT) | {"index": g} | _failure(segment)
            for m, media in objects(segment.get("media")):
                kind = kind_of_label(media.get("label"))
                media_group = project(media, {"label": text}) | {"index": m, "kind": kind}
                around = {"session": session_group, "segment": segment_group, "media": media_group}
                around |= {side: _side(side, endpoint, media) for side, endpoint in sides.items()}
                yield _Line(around, kind, f"{s}.{g}.{m}", objects(media.get("streams")))


def _sides(session: Document, segment: Document) -> tuple[dict[str, Event | None], Event]:
    """The endpoints that hold for the segment, and the session group with those of the session that differ."""
    sides: dict[str, Event | None] = {}
    group = project(session, SESSION) | _failure(session)
    for side in ("caller", "callee"):
        whole_leg, own = expected_endpoint(session.get(side)), expected_endpoint(segment.get(side))
        sides[side] = whole_leg if own is None else own
        if own is not None and whole_leg is not None and own != whole_leg:
            group[side] = whole_leg
    return sides, group


def _side(side: str, endpoint: Event | None, media: Document) -> Event:
    """The `caller` or `callee` group; it is always there, empty when nothing is known of that side."""
    parts = {
        "endpoint": endpoint,
        "network": project(media.get(f"{side}Network"), NETWORK),
        "device": project(media.get(f"{side}Device"), DEVICE),
    }
    return {name: part for name, part in parts.items() if part}


def _failure(source: Document) -> Event:
    failure = project(source.get("failureInfo"), FAILURE)
    return {"failureInfo": failure} if failure else {}


def _stream(source: Document, index: int) -> Event:
    stream = project(source, STREAM) | {"index": index}
    direction = text(source.get("streamDirection"))
    if direction is not None:
        stream["direction"] = direction
    if direction in {"callerToCallee", "calleeToCaller"}:
        sender, receiver = ("caller", "callee") if direction == "callerToCallee" else ("callee", "caller")
        stream |= {"sender": sender, "receiver": receiver}
    return stream


def expected_events(tenant_id: str, document: Document) -> dict[str, Event]:
    """Every stream event of this version by its `id`, in document order."""
    head = _head(tenant_id, document, _call(document, len(expected_participants(document))))
    is_peer_to_peer = document.get("type") == "peerToPeer"
    events = {}
    for line in _lines(document):
        for index, source in line.streams:
            stream = _stream(source, index)
            identity = f"{head['id']}/{line.position}.{index}"
            quality = expected_quality(line.kind, stream, is_peer_to_peer=is_peer_to_peer)
            events[identity] = head | {"id": identity} | line.around | {"stream": stream, "quality": quality}
    return events


def expected_summary(tenant_id: str, document: Document) -> Event:
    """The call summary of this version."""
    participants = expected_participants(document)
    failures = _failures(document)
    counts = _counts(document)
    summary = _head(tenant_id, document, _call(document, len(participants))) | {
        "counts": counts,
        "eventCount": sum(counts["streams"].values()),
        "failures": failures[:_LIST_LIMIT],
        "participants": participants[:_LIST_LIMIT],
    }
    return summary | ({"failureCount": len(failures)} if failures else {})


def _counts(document: Document) -> dict[str, Any]:
    sessions = objects(document.get("sessions"))
    segments = [segment for _, session in sessions for segment in objects(session.get("segments"))]
    is_peer_to_peer = document.get("type") == "peerToPeer"
    streams: Counter[str] = Counter()
    verdicts: Counter[tuple[str, str]] = Counter()
    media = 0
    for line in _lines(document):
        media += 1
        streams[line.kind] += len(line.streams)
        for index, source in line.streams:
            quality = expected_quality(line.kind, _stream(source, index), is_peer_to_peer=is_peer_to_peer)
            verdicts[quality["verdict"], line.kind] += 1
    counts: dict[str, Any] = {"sessions": len(sessions), "segments": len(segments), "media": media}
    counts["streams"] = {kind: streams[kind] for kind in KINDS}
    for verdict in ("poor", "unclassified"):
        counts[verdict] = {kind: verdicts[verdict, kind] for kind in KINDS}
    return counts


def _failures(document: Document) -> list[Event]:
    """Stage and reason of every failure: a session's own, then those of its segments."""
    found = []
    for s, session in objects(document.get("sessions")):
        found += [failure | {"session": s} for failure in _failure(session).values()]
        for g, segment in objects(session.get("segments")):
            found += [failure | {"session": s, "segment": g} for failure in _failure(segment).values()]
    return found
