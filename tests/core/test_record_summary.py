"""The call summary: counts, failures and participants, within the size of a Kafka record."""

import json
from typing import Any

import pytest

from service.record.decode import decode_record
from service.record.encode import encode_summary
from service.record.flatten import flatten
from tests.core.test_record_flatten import TENANT, published


def line(label: str, *streams: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "streams": list(streams)}


def test_what_yields_no_event_is_counted_all_the_same() -> None:
    """Sessions, segments and lines without streams, and verdicts per kind."""
    loud = {"packetUtilization": 1000, "averagePacketLossRate": 0.5}
    media = [line("main-audio", loud, {}), line("main-video", {"averageVideoFrameRate": 30}), line("data"), {}]
    _, summary = published({"sessions": [{"segments": [{"media": media}, {}]}, {}]})

    zero = {"audio": 0, "video": 0, "screenSharing": 0, "other": 0}
    assert summary["counts"] == {
        "sessions": 2,
        "segments": 2,
        "media": 4,
        "streams": zero | {"audio": 2, "video": 1},
        "poor": zero | {"audio": 1},
        "unclassified": zero | {"audio": 1},
    }
    assert summary["eventCount"] == 3


def test_failures_say_where_why_and_who() -> None:
    """The session's failure, then those of its segments, each with the ends it had."""
    session = {
        "caller": {"associatedIdentity": {"id": "a"}},
        "failureInfo": {"stage": "midcall", "reason": "r" * 300},
        "segments": [{}, {"failureInfo": {"stage": "callSetup"}, "callee": {"associatedIdentity": {"id": "b"}}}],
    }
    _, summary = published({"sessions": [{}, session]})

    caller = {"kind": "user", "id": "a"}
    assert summary["failures"] == [
        {"sessionIndex": 1, "stage": "midcall", "reason": "r" * 200 + "…", "caller": caller},
        {
            "sessionIndex": 1,
            "segmentIndex": 1,
            "stage": "callSetup",
            "caller": caller,
            "callee": {"kind": "user", "id": "b"},
        },
    ]
    names = list(summary)
    assert names.index("failureCount") == names.index("failures") - 1
    assert summary["failureCount"] == 2


@pytest.mark.parametrize(
    ("text", "fits"), [("x" * 5000, True), ("\u2603\U0001f600" * 3000, False), ("\x00" * 9000, False)]
)
def test_a_summary_of_three_thousand_sessions_fits_a_kafka_record(text: str, fits: bool) -> None:
    """Lists stop at 500 entries and at 450 kB; the counts stay whole."""
    sessions = [
        {
            "caller": {
                "associatedIdentity": {
                    "id": f"user-{number}",
                    "displayName": f"{number} {text[: 100 if fits else 9000]}",
                }
            },
            "failureInfo": {"stage": "midcall", "reason": text},
        }
        for number in range(3000)
    ]
    body = json.dumps({"id": "r", "version": 1, "sessions": sessions}).encode()
    flattened = flatten(TENANT, decode_record(body)[0])
    encoded = encode_summary(flattened.summary)
    summary = json.loads(encoded)

    assert len(encoded) < 1_000_000
    assert summary["failureCount"] == summary["call"]["participantCount"] == 3000
    assert len(summary["participants"]) <= 500
    assert not fits or len(summary["failures"]) == len(summary["participants"]) == 500
