"""Events and summaries as the bytes that are published: compact JSON.

The streams of a media line differ in little more than the stream itself, so what they share is encoded once. The bytes
are those of `msgspec.json.encode(event)`; a test compares them.
"""

from typing import Final

import msgspec

from service.record.events import SCHEMA_VERSION, CallSummary, QualityGroup, StreamEvent

_encode: Final = msgspec.json.Encoder().encode


def encode_summary(summary: CallSummary) -> bytes:
    """The value of a record in the calls topic."""
    return _encode(summary)


class EventEncoder:
    """Encodes the events of a record, best in the order of `Flattened.events`; any other is right too, only slower.

    Groups are recognised by being the same object, which is safe because they are frozen and the encoder keeps hold of
    them.
    """

    def __init__(self) -> None:
        self._line: StreamEvent | None = None
        self._segment: StreamEvent | None = None
        self._outer = b""
        self._before_stream = b""
        self._after_stream = b""
        self._qualities: dict[int, tuple[QualityGroup, bytes]] = {}

    def encode(self, event: StreamEvent) -> bytes:
        """The value of a record in a streams topic."""
        line = self._line
        if (
            line is None
            or event.media is not line.media
            or event.caller is not line.caller
            or event.callee is not line.callee
            or event.segment is not line.segment
            or event.session is not line.session
            or event.call is not line.call
            or event.tenant_id is not line.tenant_id
        ):
            self._prepare(event)
        quality = self._qualities.get(id(event.quality))
        if quality is None:
            quality = self._qualities[id(event.quality)] = (event.quality, _encode(event.quality) + b"}")
        return b"".join(
            (_START, _encode(event.id), self._before_stream, _encode(event.stream), self._after_stream, quality[1])
        )

    def _prepare(self, event: StreamEvent) -> None:
        """Encodes what the streams of a media line share, and anew only what the lines of its segment do not share."""
        if self._segment is None or not _is_same_segment(event, self._segment):
            groups = (event.tenant_id, event.call, event.session, event.segment)
            self._outer = b',"tenantId":%b,"call":%b,"session":%b,"segment":%b,"media":' % tuple(map(_encode, groups))
            self._segment = event
        self._before_stream = b'%b%b,"stream":' % (self._outer, _encode(event.media))
        self._after_stream = b',"caller":%b,"callee":%b,"quality":' % (_encode(event.caller), _encode(event.callee))
        self._line = event


_START: Final = b'{"schemaVersion":%d,"id":' % SCHEMA_VERSION


def _is_same_segment(event: StreamEvent, other: StreamEvent) -> bool:
    return (
        event.segment is other.segment
        and event.session is other.session
        and event.call is other.call
        and event.tenant_id is other.tenant_id
    )
