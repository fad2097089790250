"""Events and summaries as the bytes that are published: compact JSON.

The streams of a media line differ in little more than the stream itself, so what they share is encoded once. The bytes are those of
`msgspec.json.encode(event)`; a test compares them.
"""

from typing import Final

import msgspec

from service.record.events import CallSummary, QualityGroup, StreamEvent

_encode: Final = msgspec.json.Encoder().encode


def encode_summary(summary: CallSummary) -> bytes:
    """The value of a record in the calls topic."""
    return _encode(summary)


class EventEncoder:
    """Encodes the events of a record in the order `Flattened.events` gives them; any other order is right too, only slower.

    Groups are recognised by being the same object, which is safe because they are frozen and the encoder keeps hold of them.
    """

    def __init__(self) -> None:
        self._line: StreamEvent | None = None
        self._outer: StreamEvent | None = None
        self._before_outer = b""
        self._between = b""
        self._sides = b""
        self._qualities: dict[int, tuple[QualityGroup, bytes]] = {}

    def encode(self, event: StreamEvent) -> bytes:
        """The value of a record in a streams topic."""
        line = self._line
        if (
            line is None
            or event.media is not line.media
            or event.caller is not line.caller
            or event.callee is not line.callee
            or not _same_outer(event, line)
        ):
            self._prepare(event)
        return b"".join(
            (
                b'{"schemaVersion":%d,"id":' % event.schema_version,
                _encode(event.id),
                self._between,
                _encode(event.stream),
                self._sides,
                self._quality(event.quality),
            )
        )

    def _prepare(self, event: StreamEvent) -> None:
        """Encodes what the streams of the event's media line share."""
        outer = self._outer
        if outer is None or not _same_outer(event, outer):
            self._before_outer = b',"tenantId":%b,"call":%b,"session":%b,"segment":%b,"media":' % (
                _encode(event.tenant_id),
                _encode(event.call),
                _encode(event.session),
                _encode(event.segment),
            )
            self._outer = event
        self._between = b'%b%b,"stream":' % (self._before_outer, _encode(event.media))
        self._sides = b'%b%b,"quality":' % (
            b"" if event.caller is None else b',"caller":' + _encode(event.caller),
            b"" if event.callee is None else b',"callee":' + _encode(event.callee),
        )
        self._line = event

    def _quality(self, quality: QualityGroup) -> bytes:
        known = self._qualities.get(id(quality))
        if known is None:
            known = self._qualities[id(quality)] = (quality, _encode(quality) + b"}")
        return known[1]


def _same_outer(event: StreamEvent, other: StreamEvent) -> bool:
    return (
        event.segment is other.segment
        and event.session is other.session
        and event.call is other.call
        and event.tenant_id is other.tenant_id
    )
