"""Whole call records in Graph's v1.0 wire shape, deterministic from a seed."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.clock import iso

DEFAULT_START = 1_790_000_000.0

Document = dict[str, Any]


@dataclass(frozen=True)
class CallSpec:
    """What call to make. Equal specs give equal documents."""

    tenant_id: str
    seed: int
    index: int
    kind: str = "group"
    size: str = "S"
    sessions: int | None = None
    start: float = DEFAULT_START
    failed: bool = False


def generate_call(spec: CallSpec) -> Document:
    """Version 1 of the call record that `spec` describes."""
    name = f"{spec.tenant_id.lower()}/{spec.seed}/{spec.index}"
    call_id = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    begin, end = iso(spec.start), iso(spec.start + 600)
    sessions = []
    for number in range(spec.sessions or {"S": 1, "M": 20, "L": 150}[spec.size]):
        streams = [
            {
                "streamId": str(position),
                "streamDirection": direction,
                "averageJitter": "PT0.004S",
                "packetUtilization": 900,
            }
            for position, direction in enumerate(("callerToCallee", "calleeToCaller"))
        ]
        media = [
            {"label": label, "streams": [dict(stream) for stream in streams]} for label in ("main-audio", "main-video")
        ]
        identity = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{number}"))
        times = {"startDateTime": begin, "endDateTime": end, "id": identity}
        caller = {
            "@odata.type": "#microsoft.graph.callRecords.participantEndpoint",
            "associatedIdentity": {"id": identity, "displayName": f"Person {number}", "tenantId": spec.tenant_id},
        }
        segment = {**times, "media": media}
        sessions.append({**times, "modalities": ["audio", "video"], "caller": caller, "segments": [segment]})
    return {
        "id": call_id,
        "version": 1,
        "type": "groupCall",
        "modalities": ["audio", "video"],
        "startDateTime": begin,
        "endDateTime": end,
        "lastModifiedDateTime": iso(spec.start + 1500),
        "participants_v2": [],
        "sessions": sessions,
    }


def next_version(document: Document, seed: int, now: float) -> Document:  # noqa: ARG001
    """A later version of `document`, which is not changed; `now` (Unix seconds) becomes lastModifiedDateTime."""
    return {**document, "version": document["version"] + 1, "lastModifiedDateTime": iso(now)}


def mixed_specs(
    count: int, tenant_ids: Sequence[str], seed: int, start: float = DEFAULT_START, span_seconds: float = 3600.0
) -> list[CallSpec]:
    """`count` calls of all kinds in realistic shares, starting within `span_seconds` after `start` (Unix seconds)."""
    return [
        CallSpec(tenant_ids[n % len(tenant_ids)], seed, n, start=start + span_seconds * n / max(count, 1))
        for n in range(count)
    ]
