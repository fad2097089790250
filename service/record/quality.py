"""The verdict on one stream, as the Call Quality Dashboard gives it; Graph itself gives none.

Rule set `cqd-2022`: the audio rule of the dashboard's current page, its three video steps, and for screen sharing the
rule of the page's later copies. The audio rule judges packets only where there were enough of them, so a stream of 500
or fewer is unclassified. Every comparison is strict.

Source: https://learn.microsoft.com/microsoftteams/stream-classification-in-call-quality-dashboard
"""

from functools import cache
from typing import Final

from service.record.events import MediaKind, QualityGroup, Verdict
from service.record.model import MediaStream
from service.record.times import milliseconds

RULE_SET: Final = "cqd-2022"

# Keys of the event's stream group: a consumer finds each reason under that name in the same event.
ROUND_TRIP: Final = "averageRoundTripTimeMs"
LOSS: Final = "averagePacketLossRate"
JITTER: Final = "averageJitterMs"
PACKETS: Final = "packetUtilization"
FRAME_LOSS: Final = "averageVideoFrameLossPercentage"
FRAME_RATE: Final = "averageVideoFrameRate"
LOSS_AFTER_FEC: Final = "postForwardErrorCorrectionPacketLossRate"
DIRECTION: Final = "direction"

_PACKETS_NEEDED = 500
_ROUND_TRIP_LIMIT_MS = 500
_LOSS_LIMIT = 0.1
_JITTER_LIMIT_MS = 30
_FRAME_LOSS_LIMIT_PERCENT = 50
_VIDEO_FRAME_RATE_LIMIT = 7
_SHARING_FRAME_RATE_LIMIT = 1
_LOSS_AFTER_FEC_LIMIT = 0.15


def kind_of(label: str | None) -> MediaKind:
    """What a media line carries, by its label.

    Sharing goes before video: its usual label is `applicationsharing-video`.
    """
    name = (label or "").lower()
    if "applicationsharing" in name:
        return "screenSharing"
    if "video" in name:
        return "video"
    return "audio" if "audio" in name else "other"


def judge(kind: MediaKind, stream: MediaStream, *, is_peer_to_peer: bool) -> QualityGroup:
    """The verdict on a stream of a media line of this kind."""
    if kind == "audio":
        return _judge_audio(stream)
    if kind == "video":
        return _judge_video(stream)
    if kind == "screenSharing":
        return _judge_sharing(stream, is_peer_to_peer)
    return quality("unclassified")


@cache
def quality(verdict: Verdict, *reasons: str) -> QualityGroup:
    """One shared object for each of the few dozen possible verdicts."""
    return QualityGroup(RULE_SET, verdict, reasons)


def _judge_audio(stream: MediaStream) -> QualityGroup:
    packets = stream.packet_utilization
    if packets is None or packets <= _PACKETS_NEEDED:
        return quality("unclassified", PACKETS)
    round_trip, loss, jitter = stream.average_round_trip_time, stream.average_packet_loss_rate, stream.average_jitter
    over: list[str] = []
    within: list[str] = []
    if round_trip is not None:
        (over if (milliseconds(round_trip) or 0) > _ROUND_TRIP_LIMIT_MS else within).append(ROUND_TRIP)
    if loss is not None:
        (over if loss > _LOSS_LIMIT else within).append(LOSS)
    if jitter is not None:
        (over if (milliseconds(jitter) or 0) > _JITTER_LIMIT_MS else within).append(JITTER)
    if over:
        return quality("poor", *over)
    return quality("good", *within) if within else quality("unclassified", ROUND_TRIP, LOSS, JITTER)


def _judge_video(stream: MediaStream) -> QualityGroup:
    """The first metric there is decides alone."""
    frame_loss, frame_rate = stream.average_video_frame_loss_percentage, stream.average_video_frame_rate
    loss = stream.post_forward_error_correction_packet_loss_rate
    if frame_loss is not None:
        return quality("poor" if frame_loss > _FRAME_LOSS_LIMIT_PERCENT else "good", FRAME_LOSS)
    if frame_rate is not None:
        return quality("poor" if frame_rate < _VIDEO_FRAME_RATE_LIMIT else "good", FRAME_RATE)
    if loss is not None:
        return quality("poor" if loss > _LOSS_AFTER_FEC_LIMIT else "good", LOSS_AFTER_FEC)
    return quality("unclassified", FRAME_LOSS, FRAME_RATE, LOSS_AFTER_FEC)


def _judge_sharing(stream: MediaStream, is_peer_to_peer: bool) -> QualityGroup:
    """Received sharing by the frames lost, sent sharing and H264S by the frame rate.

    The dashboard says inbound and outbound as the reporting client sees it. In a meeting the caller is that client, so
    calleeToCaller is inbound. Between two peers the words mean nothing, and both directions are judged as inbound.
    """
    direction = (stream.stream_direction or "").lower()
    if (stream.video_codec or "").lower() != "h264s":
        if is_peer_to_peer or direction == "calleetocaller":
            frame_loss = stream.average_video_frame_loss_percentage
            if frame_loss is None:
                return quality("unclassified", FRAME_LOSS)
            return quality("poor" if frame_loss > _FRAME_LOSS_LIMIT_PERCENT else "good", FRAME_LOSS)
        if direction != "callertocallee":
            return quality("unclassified", DIRECTION)
    frame_rate = stream.average_video_frame_rate
    if frame_rate is None:
        return quality("unclassified", FRAME_RATE)
    return quality("poor" if frame_rate < _SHARING_FRAME_RATE_LIMIT else "good", FRAME_RATE)
