"""A CallRecord into its stream events and its call summary: the same bytes each time for the same tenant, record and
privacy policy.
"""

from collections.abc import Iterator

from service.record import identities
from service.record.events import (
    SCHEMA_VERSION,
    CallGroup,
    CallSummary,
    EndpointGroup,
    IdentityGroup,
    MediaGroup,
    MediaKind,
    QualityGroup,
    SegmentGroup,
    SessionGroup,
    SideGroup,
    StreamEvent,
)
from service.record.groups import device_group, endpoint_group, failure_group, network_group, stream_group
from service.record.model import CallRecord, DeviceInfo, Endpoint, Media, NetworkInfo, Segment
from service.record.privacy import OPEN, Hidden, Policy
from service.record.quality import judge, kind_of
from service.record.summary import Leg, leg_of, merged_participants, summary_of
from service.record.times import as_utc, seconds_between


class Flattened:
    """What a version of a call becomes: its summary at once, its events one at a time, as often as asked."""

    def __init__(
        self,
        prefix: str,
        tenant_id: str,
        summary: CallSummary,
        legs: list[Leg],
        verdicts: list[QualityGroup],
        hidden: Hidden,
    ) -> None:
        """`legs` are as Graph sent them; what may be shown of them is decided as the events are made."""
        self.summary = summary
        self.event_count = summary.event_count
        self._prefix = prefix
        self._tenant_id = tenant_id
        self._legs = legs
        self._verdicts = verdicts
        self._hidden = hidden

    def events(self) -> Iterator[StreamEvent]:
        """The events in document order. Events share the groups that they have in common, as the same objects."""
        verdicts = iter(self._verdicts)
        for index, leg in enumerate(self._legs):
            for position, segment in enumerate(leg.session.segments or ()):
                if segment.media:
                    yield from self._of_segment(index, leg, position, segment, verdicts)

    def _of_segment(
        self, index: int, leg: Leg, position: int, segment: Segment, verdicts: Iterator[QualityGroup]
    ) -> Iterator[StreamEvent]:
        hidden = self._hidden
        caller, session_caller = map(hidden.endpoint, _end(segment.caller, leg.session.caller, leg.caller))
        callee, session_callee = map(hidden.endpoint, _end(segment.callee, leg.session.callee, leg.callee))
        session_group = _session_group(index, leg, session_caller, session_callee)
        segment_group = _segment_group(position, segment)
        for line, media in enumerate(segment.media or ()):
            if not media.streams:
                continue
            media_group = MediaGroup(label=media.label, index=line, kind=kind_of(media.label))
            caller_side = _side(caller, media.caller_network, media.caller_device, hidden)
            callee_side = _side(callee, media.callee_network, media.callee_device, hidden)
            prefix = f"{self._prefix}/{index}.{position}.{line}."
            for number, stream in enumerate(media.streams):
                yield StreamEvent(
                    SCHEMA_VERSION,
                    f"{prefix}{number}",
                    self._tenant_id,
                    self.summary.call,
                    session_group,
                    segment_group,
                    media_group,
                    stream_group(stream, number),
                    caller_side,
                    callee_side,
                    next(verdicts),
                )


def flatten(tenant_id: str, record: CallRecord, policy: Policy = OPEN) -> Flattened:
    """The events and the summary of a record that came from `decode_record`, with all its sessions in place.

    Nothing that `policy` hides is in either. Who is the same, and how many there are, is decided before it is hidden.
    Ids of tenant and call are in lower case where they identify the event, as they are in Kafka keys; `call.id` is as
    Graph wrote it.
    """
    tenant_id = tenant_id.lower()
    prefix = f"{tenant_id}/{(record.id or '').lower()}/{record.version}"
    legs = [leg_of(session) for session in record.sessions or ()]
    participants = merged_participants(record, legs)
    verdicts = list(_verdicts(record))
    hidden = policy.hidden(tenant_id)
    call = _call_group(record, participants, hidden)
    summary = summary_of(prefix, tenant_id, call, legs, participants, verdicts, hidden)
    return Flattened(prefix, tenant_id, summary, legs, [quality for _, quality in verdicts], hidden)


def _verdicts(record: CallRecord) -> Iterator[tuple[MediaKind, QualityGroup]]:
    is_peer_to_peer = (record.type or "").lower() == "peertopeer"
    for media in _media(record):
        kind = kind_of(media.label)
        for stream in media.streams or ():
            yield kind, judge(kind, stream, is_peer_to_peer=is_peer_to_peer)


def _media(record: CallRecord) -> Iterator[Media]:
    for session in record.sessions or ():
        for segment in session.segments or ():
            yield from segment.media or ()


def _call_group(record: CallRecord, participants: list[IdentityGroup], hidden: Hidden) -> CallGroup:
    return CallGroup(
        id=record.id or "",
        version=record.version or 0,
        type=record.type,
        modalities=record.modalities,
        start_date_time=as_utc(record.start_date_time),
        end_date_time=as_utc(record.end_date_time),
        last_modified_date_time=as_utc(record.last_modified_date_time),
        duration_seconds=seconds_between(record.start_date_time, record.end_date_time),
        join_web_url=hidden.join_url(record.join_web_url),
        organizer=hidden.identity(identities.of_participant(record.organizer_v2, record.organizer)),
        participant_count=len(participants),
    )


def _session_group(index: int, leg: Leg, caller: EndpointGroup | None, callee: EndpointGroup | None) -> SessionGroup:
    """`caller` and `callee` are the session's, where the segment has others."""
    session = leg.session
    return SessionGroup(
        id=session.id,
        index=index,
        modalities=session.modalities,
        start_date_time=as_utc(session.start_date_time),
        end_date_time=as_utc(session.end_date_time),
        is_test=session.is_test,
        failure_info=failure_group(session.failure_info),
        caller=caller,
        callee=callee,
    )


def _segment_group(index: int, segment: Segment) -> SegmentGroup:
    return SegmentGroup(
        id=segment.id,
        index=index,
        start_date_time=as_utc(segment.start_date_time),
        end_date_time=as_utc(segment.end_date_time),
        failure_info=failure_group(segment.failure_info),
    )


def _end(
    of_segment: Endpoint | None, of_session: Endpoint | None, session_group: EndpointGroup | None
) -> tuple[EndpointGroup | None, EndpointGroup | None]:
    """The end that an event has, and the session's own where that is another.

    Mostly the two are equal, and one object serves.
    """
    if of_segment is None or of_segment == of_session:
        return session_group, None
    group = endpoint_group(of_segment)
    return group, None if group == session_group else session_group


def _side(
    end: EndpointGroup | None, network: NetworkInfo | None, device: DeviceInfo | None, hidden: Hidden
) -> SideGroup:
    return SideGroup(end, hidden.network(network_group(network)), hidden.device(device_group(device)))
