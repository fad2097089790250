"""The CallSummary of a record.

What it holds, who took part, what failed. It fits a Kafka record of 1 MB whatever the call's size.
"""

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from service.record import identities
from service.record.events import (
    MEDIA_KINDS,
    SCHEMA_VERSION,
    CallGroup,
    CallSummary,
    Counts,
    EndpointGroup,
    Failure,
    IdentityGroup,
    KindCounts,
    MediaKind,
    QualityGroup,
)
from service.record.groups import endpoint_group, failure_group
from service.record.model import CallRecord, FailureInfo, Session
from service.record.privacy import Hidden

Entry = TypeVar("Entry", Failure, IdentityGroup)

LIST_LIMIT: Final = 500
_LIST_BYTES: Final = 450_000  # two such lists and the rest stay below 1 MB
_REASON_CHARACTERS: Final = 200  # 500 failures of ordinary text then fit into _LIST_BYTES

_ENCODER: Final = msgspec.json.Encoder()


class Leg(msgspec.Struct, frozen=True, gc=False):
    """A session with its two ends in the shape of the events, made once for all that needs them."""

    session: Session
    caller: EndpointGroup | None
    callee: EndpointGroup | None


def leg_of(session: Session) -> Leg:
    """The session with its ends."""
    return Leg(session, endpoint_group(session.caller), endpoint_group(session.callee))


def merged_participants(record: CallRecord, legs: Iterable[Leg]) -> list[IdentityGroup]:
    """Everybody on the call, once: from the ends of the sessions, from participants_v2, from the old participants.

    No single source has all of them: participants_v2 can miss people, the old list stops at 130, and streaming viewers
    of large events have no session (https://learn.microsoft.com/graph/callrecords-api-faq and Graph's known issues).
    """
    found: dict[tuple[str, ...], IdentityGroup] = {}

    def add(identity: IdentityGroup | None) -> None:
        if identity is not None:
            key = identities.key_of(identity)
            known = found.get(key)
            found[key] = identity if known is None else identities.filled(known, identity)

    for leg in legs:
        for end in (leg.caller, leg.callee):
            if end is not None:
                add(end.identity)
    for participant in record.participants_v2 or ():
        add(identities.of_participant(participant))
    for deprecated in record.participants or ():
        add(identities.of_set(deprecated))
    return list(found.values())


def summary_of(
    prefix: str,
    tenant_id: str,
    call: CallGroup,
    legs: list[Leg],
    participants: list[IdentityGroup],
    verdicts: list[tuple[MediaKind, QualityGroup]],
    hidden: Hidden,
) -> CallSummary:
    """`prefix` is the id of the version; `verdicts` are those of all streams; only `call` is hidden already."""
    failures = [failure for index, leg in enumerate(legs) for failure in _failures(index, leg)]
    return CallSummary(
        schema_version=SCHEMA_VERSION,
        id=prefix,
        tenant_id=tenant_id,
        call=call,
        counts=_counts(legs, verdicts),
        event_count=len(verdicts),
        failure_count=len(failures),
        failures=_within_limits([_hidden_failure(failure, hidden) for failure in failures[:LIST_LIMIT]]),
        participants=_within_limits(list(filter(None, map(hidden.identity, participants[:LIST_LIMIT])))),
    )


def _counts(legs: list[Leg], verdicts: list[tuple[MediaKind, QualityGroup]]) -> Counts:
    segments = [segment for leg in legs for segment in leg.session.segments or ()]
    streams, poor, unclassified = (dict.fromkeys(MEDIA_KINDS, 0) for _ in range(3))
    for kind, quality in verdicts:
        streams[kind] += 1
        if quality.verdict == "poor":
            poor[kind] += 1
        elif quality.verdict == "unclassified":
            unclassified[kind] += 1
    return Counts(
        sessions=len(legs),
        segments=len(segments),
        media=sum([len(segment.media) for segment in segments if segment.media]),
        streams=KindCounts(*streams.values()),
        poor=KindCounts(*poor.values()),
        unclassified=KindCounts(*unclassified.values()),
    )


def _failures(index: int, leg: Leg) -> Iterable[Failure]:
    """The session's own failure, then those of its segments."""
    yield from _failure(leg.session.failure_info, leg.caller, leg.callee, index)
    for position, segment in enumerate(leg.session.segments or ()):
        if segment.failure_info is not None:
            caller = endpoint_group(segment.caller) or leg.caller
            callee = endpoint_group(segment.callee) or leg.callee
            yield from _failure(segment.failure_info, caller, callee, index, position)


def _failure(
    info: FailureInfo | None,
    caller: EndpointGroup | None,
    callee: EndpointGroup | None,
    session_index: int,
    segment_index: int | None = None,
) -> Iterable[Failure]:
    failure = failure_group(info)
    if failure is not None:
        reason = failure.reason
        if reason is not None and len(reason) > _REASON_CHARACTERS:
            reason = reason[:_REASON_CHARACTERS] + "…"
        yield Failure(session_index, segment_index, failure.stage, reason, _who(caller), _who(callee))


def _hidden_failure(failure: Failure, hidden: Hidden) -> Failure:
    caller, callee = hidden.identity(failure.caller), hidden.identity(failure.callee)
    if caller is failure.caller and callee is failure.callee:
        return failure
    return msgspec.structs.replace(failure, caller=caller, callee=callee)


def _who(end: EndpointGroup | None) -> IdentityGroup | None:
    """An end's identity without its other identities: enough to find the person, and short."""
    if end is None or end.identity is None:
        return None
    return msgspec.structs.replace(end.identity, other_identities=None)


def _within_limits(entries: list[Entry]) -> list[Entry]:
    """The first entries, as many as the limits of number and of encoded size allow."""
    shown = entries[:LIST_LIMIT]
    if len(_ENCODER.encode(shown)) <= _LIST_BYTES:
        return shown
    size = 0
    for position, entry in enumerate(shown):
        size += len(_ENCODER.encode(entry)) + 1
        if size > _LIST_BYTES:
            return shown[:position]
    return shown
