"""What must stand around a published value: topic, key and CloudEvents headers (design sections 3 and 6)."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

_STREAM_TOPIC = {
    "audio": ".streams.audio",
    "video": ".streams.video",
    "screenSharing": ".streams.screen-sharing",
    "other": ".streams.other",
}


class Envelope(NamedTuple):
    """Everything around a value that is the same for all streams of a kind in one version of a call."""

    topic_suffix: str
    type: str
    tenant_id: str
    call_id: str
    time: str | None
    version: int

    @classmethod
    def of(cls, value: dict[str, Any]) -> "Envelope":
        """The envelope of an expected event, or of an expected summary, which has no media."""
        call, media = value["call"], value.get("media")
        suffix = _STREAM_TOPIC[media["kind"]] if media else ".calls"
        kind = "callstream.stream.v1" if media else "callstream.call.v1"
        return cls(suffix, kind, value["tenantId"], call["id"], call.get("lastModifiedDateTime"), call["version"])


def envelope_faults(
    must: Envelope, identity: str | None, topic: str, key: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> Iterator[str]:
    """What is wrong, in words; `identity` is the `id` that the value itself has."""
    if not topic.endswith(must.topic_suffix):
        yield f"topic {topic} does not end in {must.topic_suffix}"
    if key != f"{must.tenant_id}/{must.call_id}".lower().encode():
        yield f"key {key!r} is not that of the call"
    expected = {
        "ce_specversion": "1.0",
        "ce_id": identity,
        "ce_type": must.type,
        "ce_source": f"/tenants/{must.tenant_id}/communications/callRecords",
        "ce_subject": must.call_id,
        "ce_time": must.time,
        "content-type": "application/json",
        "version": str(must.version),
    }
    has = {name: text.decode(errors="replace") for name, text in headers}
    for name, text in expected.items():
        if text is not None and has.get(name) != text:
            yield f"header {name}: expected {text!r}, got {has.get(name)!r}"
