"""The verdict that a stream must get: CQD's rules (graph-contract 8), rule set "cqd-2022"."""

from collections.abc import Callable
from typing import Any

Stream = dict[str, Any]

RULE_SET = "cqd-2022"

#: Audio with this many packets or fewer is not judged (graph-contract 8.1).
_FEW_PACKETS = 500
_AUDIO_LIMITS = {"averageJitterMs": 30, "averageRoundTripTimeMs": 500, "averagePacketLossRate": 0.1}

#: Video: the first metric that is there decides (graph-contract 8.2).
_VIDEO_STEPS: dict[str, Callable[[float], bool]] = {
    "averageVideoFrameLossPercentage": lambda percent: percent > 50,
    "averageVideoFrameRate": lambda frames_per_second: frames_per_second < 7,
    "postForwardErrorCorrectionPacketLossRate": lambda fraction: fraction > 0.15,
}


def expected_quality(kind: str, stream: Stream, *, is_peer_to_peer: bool) -> dict[str, Any]:
    """The `quality` group of a stream event; `stream` is the event's own group, so reasons are its keys."""
    if kind == "audio":
        verdict, reasons = _audio(stream)
    elif kind == "video":
        verdict, reasons = _first_available(stream, _VIDEO_STEPS)
    elif kind == "screenSharing":
        verdict, reasons = _sharing(stream, is_peer_to_peer=is_peer_to_peer)
    else:
        verdict, reasons = "unclassified", []
    return {"ruleSet": RULE_SET, "verdict": verdict, "reasons": reasons}


def _audio(stream: Stream) -> tuple[str, list[str]]:
    present = [name for name in _AUDIO_LIMITS if name in stream]
    lacking = [] if present else list(_AUDIO_LIMITS)
    if stream.get("packetUtilization", 0) <= _FEW_PACKETS:
        return "unclassified", ["packetUtilization", *lacking]
    if lacking:
        return "unclassified", lacking
    over = [name for name in present if stream[name] > _AUDIO_LIMITS[name]]
    return ("poor", over) if over else ("good", present)


def _first_available(stream: Stream, steps: dict[str, Callable[[float], bool]]) -> tuple[str, list[str]]:
    for name, is_poor in steps.items():
        if name in stream:
            return ("poor" if is_poor(stream[name]) else "good"), [name]
    return "unclassified", list(steps)


def _sharing(stream: Stream, *, is_peer_to_peer: bool) -> tuple[str, list[str]]:
    """VBSS as in the later copies of CQD's page (graph-contract 8.3).

    In a meeting the caller is the participant, so callerToCallee is outbound; between two peers nothing is.
    """
    is_outbound = stream.get("direction") == "callerToCallee" and not is_peer_to_peer
    if is_outbound or str(stream.get("videoCodec", "")).lower() == "h264s":
        return _first_available(stream, {"averageVideoFrameRate": lambda frames_per_second: frames_per_second < 1})
    return _first_available(stream, {"averageVideoFrameLossPercentage": lambda percent: percent > 50})
