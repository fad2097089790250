"""The verdict: rule set cqd-2022, strict at every limit, with reasons a consumer can look up in the same event."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from service.record.model import MediaStream
from service.record.quality import judge, kind_of
from tests.core.test_record_flatten import published
from tests.strategies import call_records

AUDIO = ["averageRoundTripTimeMs", "averagePacketLossRate", "averageJitterMs"]
VIDEO = ["averageVideoFrameLossPercentage", "averageVideoFrameRate", "postForwardErrorCorrectionPacketLossRate"]


def verdict(kind: Any, is_peer_to_peer: Any = False, **stream: Any) -> tuple[str, list[str]]:
    quality = judge(kind, MediaStream(**stream), is_peer_to_peer=is_peer_to_peer)
    assert quality.rule_set == "cqd-2022"
    return quality.verdict, list(quality.reasons)


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("main-audio", "audio"),
        ("main-video", "video"),
        ("panoramic-video", "video"),
        ("applicationsharing-video", "screenSharing"),
        ("ApplicationSharing", "screenSharing"),
        ("MAIN-AUDIO", "audio"),
        ("data", "other"),
        ("", "other"),
        (None, "other"),
    ],
)
def test_the_label_says_what_a_line_carries(label: str | None, kind: str) -> None:
    """By what the label contains, sharing first, in any case."""
    assert kind_of(label) == kind


@pytest.mark.parametrize("packets", [None, 0, 500])
def test_audio_with_few_packets_is_unclassified_whatever_was_measured(packets: int | None) -> None:
    """Loss 0 beside no packets means no data, not a perfect stream."""
    assert verdict("audio", packet_utilization=packets, average_packet_loss_rate=0.9) == (
        "unclassified",
        ["packetUtilization"],
    )


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ({}, ("unclassified", AUDIO)),
        ({"average_round_trip_time": "PT0.5S"}, ("good", AUDIO[:1])),
        ({"average_round_trip_time": "PT0.5000001S"}, ("poor", AUDIO[:1])),
        ({"average_packet_loss_rate": 0.1}, ("good", AUDIO[1:2])),
        ({"average_packet_loss_rate": 0.1001}, ("poor", AUDIO[1:2])),
        ({"average_jitter": "PT0.03S"}, ("good", AUDIO[2:])),
        ({"average_jitter": "PT0.031S"}, ("poor", AUDIO[2:])),
        ({"average_jitter": "PT1S", "average_packet_loss_rate": 0}, ("poor", AUDIO[2:])),
        ({"average_jitter": "PT1S", "average_packet_loss_rate": 1.2}, ("poor", AUDIO[1:])),
        ({"average_jitter": "PT0S", "average_packet_loss_rate": 0}, ("good", AUDIO[1:])),
        ({"average_audio_degradation": 4.0, "average_ratio_of_concealed_samples": 1}, ("unclassified", AUDIO)),
    ],
)
def test_audio_is_judged_by_three_metrics(stream: dict[str, Any], expected: tuple[str, list[str]]) -> None:
    """Poor names every metric over its limit, good every metric there was."""
    assert verdict("audio", packet_utilization=501, **stream) == expected


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ({}, ("unclassified", VIDEO)),
        ({"average_video_frame_loss_percentage": 50}, ("good", VIDEO[:1])),
        ({"average_video_frame_loss_percentage": 50.1}, ("poor", VIDEO[:1])),
        ({"average_video_frame_loss_percentage": 0, "average_video_frame_rate": 1}, ("good", VIDEO[:1])),
        ({"average_video_frame_rate": 7}, ("good", VIDEO[1:2])),
        ({"average_video_frame_rate": 6.99}, ("poor", VIDEO[1:2])),
        ({"post_forward_error_correction_packet_loss_rate": 0.15}, ("good", VIDEO[2:])),
        ({"post_forward_error_correction_packet_loss_rate": 0.16}, ("poor", VIDEO[2:])),
    ],
)
def test_video_is_judged_by_the_first_metric_there_is(stream: dict[str, Any], expected: tuple[str, list[str]]) -> None:
    """Frame loss, else frame rate, else loss after error correction."""
    assert verdict("video", **stream) == expected


BAD_LOSS = {"average_video_frame_loss_percentage": 51, "average_video_frame_rate": 30}
BAD_RATE = {"average_video_frame_loss_percentage": 0, "average_video_frame_rate": 0.9}
INBOUND = {"stream_direction": "CalleeToCaller"}
OUTBOUND = {"stream_direction": "callerToCallee"}
H264S = {"video_codec": "H264S"}


@pytest.mark.parametrize(
    ("stream", "is_peer_to_peer", "expected"),
    [
        (INBOUND | BAD_LOSS, False, ("poor", VIDEO[:1])),
        (INBOUND | BAD_RATE, False, ("good", VIDEO[:1])),
        (INBOUND, False, ("unclassified", VIDEO[:1])),
        (OUTBOUND | BAD_LOSS, False, ("good", VIDEO[1:2])),
        (OUTBOUND | BAD_RATE, False, ("poor", VIDEO[1:2])),
        (OUTBOUND, False, ("unclassified", VIDEO[1:2])),
        (INBOUND | H264S | BAD_LOSS, False, ("good", VIDEO[1:2])),
        (H264S | BAD_RATE, False, ("poor", VIDEO[1:2])),
        (OUTBOUND | BAD_LOSS, True, ("poor", VIDEO[:1])),
        (BAD_RATE, True, ("good", VIDEO[:1])),
        (OUTBOUND | H264S | BAD_RATE, True, ("poor", VIDEO[1:2])),
        (BAD_LOSS, False, ("unclassified", ["direction"])),
        (BAD_LOSS | {"stream_direction": "sideways"}, False, ("unclassified", ["direction"])),
    ],
)
def test_sharing_is_judged_by_loss_inbound_and_by_rate_outbound(
    stream: dict[str, Any], is_peer_to_peer: bool, expected: tuple[str, list[str]]
) -> None:
    """H264S always by its rate; between peers both directions as inbound; without a direction not at all."""
    assert verdict("screenSharing", is_peer_to_peer, **stream) == expected


def test_a_frame_rate_of_one_is_good_enough_for_sharing() -> None:
    """Strict here too."""
    assert verdict("screenSharing", **OUTBOUND, average_video_frame_rate=1) == ("good", VIDEO[1:2])


def test_other_lines_are_never_judged() -> None:
    """A data line has nothing to judge, and nothing to blame."""
    assert verdict("other", packet_utilization=9000, average_packet_loss_rate=1) == ("unclassified", [])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(call_records())
def test_the_reasons_of_a_verdict_are_keys_of_the_same_event(document: dict[str, Any]) -> None:
    """Whoever asks why finds the number beside the verdict; unclassified names what is not there, or too small."""
    for event in published(document)[0]:
        quality, stream = event["quality"], event["stream"]
        for reason in quality["reasons"]:
            if quality["verdict"] != "unclassified":
                assert reason in stream
            elif reason == "packetUtilization":
                assert stream.get(reason, 0) <= 500
            elif reason != "direction":
                assert reason not in stream
