"""Sessions of a call record: legs between two sides, with their segments, media lines and streams in wire shape."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from service.emulator.catalog import AUDIO_CODECS, SHARING_CODECS, VIDEO_CODECS
from service.emulator.networks import network_in_call, processor_network
from service.emulator.people import Person, meeting_service
from service.emulator.telemetry import (
    Path,
    device_in_call,
    empty_stream,
    feedback_of,
    fill_stream,
    path_of,
    service_device,
)
from service.emulator.wire import TICKS, date_time, weighted

Json = dict[str, Any]

AUDIO, VIDEO, SHARING, DATA = "main-audio", "main-video", "applicationsharing-video", "data"

#: Kind, modality and first client port of each media line; Teams keeps 20 ports for each modality.
LINES = {
    AUDIO: ("audio", "audio", 50_000),
    VIDEO: ("video", "video", 50_020),
    SHARING: ("screenSharing", "videoBasedScreenSharing", 50_040),
    DATA: ("other", "data", 50_060),
}
_CODECS = {"audio": AUDIO_CODECS, "video": VIDEO_CODECS, "screenSharing": SHARING_CODECS}
_DIRECTIONS = ("callerToCallee", "calleeToCaller")


@dataclass(frozen=True)
class Span:
    """From when to when, in ticks of 100 ns since 1970."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """How long."""
        return (self.end - self.start) / TICKS

    def times(self) -> Json:
        """As Graph writes them."""
        return {"startDateTime": date_time(self.start), "endDateTime": date_time(self.end)}


@dataclass(frozen=True)
class Side:
    """One end of a leg: a person's endpoint, or a service's."""

    endpoint: Json
    person: Person | None = None

    @classmethod
    def of(cls, random: Random, person: Person, path: Path, feedback_share: float = 0.12) -> "Side":
        """A person's side; some people tell how the call was, more of them when it was bad."""
        endpoint = person.endpoint(random)
        share = feedback_share * (2 if path.trouble else 1)
        if person.kind in {"user", "guest", "acs"} and random.random() < share:
            endpoint["feedback"] = feedback_of(random, path)
        return cls(endpoint, person)


def new_id(random: Random) -> str:
    """A GUID."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def copied(value: Any) -> Any:
    """A deep copy of a JSON value."""
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def media_line(random: Random, label: str, sides: tuple[Side, Side], path: Path, seconds: float) -> Json:
    """One media line with a stream for each direction; most often telemetry came for one of them only."""
    kind, _, port = LINES[label]
    media: Json = {"label": label}
    for name, side in zip(("caller", "callee"), sides, strict=True):
        if side.person is None:
            media[f"{name}Network"] = processor_network(random)
            media[f"{name}Device"] = service_device(random) if random.random() < 0.7 else None
        else:
            media[f"{name}Network"] = network_in_call(random, side.person.access, port, path.trouble)
            media[f"{name}Device"] = device_in_call(random, side.person, path, kind)
    media["streams"] = streams = [empty_stream(random, direction, n) for n, direction in enumerate(_DIRECTIONS)]
    if label in {AUDIO, VIDEO, SHARING}:
        codec = weighted(random, _CODECS[kind])
        for stream in _with_telemetry(random, streams):
            fill_stream(random, stream, kind, path, seconds, codec)
    return media


def _with_telemetry(random: Random, streams: list[Json]) -> list[Json]:
    chance = random.random()
    if chance < 0.06:  # not yet; a later version has it
        return []
    return streams if chance < 0.40 else [random.choice(streams)]


def segment(random: Random, segment_id: str, span: Span, sides: tuple[Side, Side], media: list[Json] | None) -> Json:
    """A part of a leg. Most parts repeat the endpoints of their leg, some do not."""
    part: Json = {"id": segment_id, **span.times(), "failureInfo": None, "media": media}
    if random.random() < 0.75:
        part |= {"caller": copied(sides[0].endpoint), "callee": copied(sides[1].endpoint)}
    elif random.random() < 0.5:
        part |= {"caller": None, "callee": None}
    return part


def session(
    random: Random, session_id: str, span: Span, sides: tuple[Side, Side], labels: Sequence[str], parts: list[Json]
) -> Json:
    """A leg; what it negotiated is more than what was used (graph-contract 7.8)."""
    modalities = list(dict.fromkeys(LINES[label][1] for label in labels))
    if modalities and random.random() < 0.15:
        modalities = list(dict.fromkeys([*modalities, "videoBasedScreenSharing", "screenSharing"]))
    is_test: bool | None = random.random() < 0.02
    if random.random() < 0.1:
        is_test = None
    return {
        "id": session_id,
        "caller": copied(sides[0].endpoint),
        "callee": copied(sides[1].endpoint),
        "failureInfo": None,
        **span.times(),
        "modalities": modalities,
        "isTest": is_test,
        "segments": parts,
    }


def leg(random: Random, session_id: str, span: Span, people: Sequence[Person], labels: Sequence[str]) -> Json:
    """A VoIP leg with one segment: between two people, or of one person with the meeting service."""
    path = path_of(random, people[0])
    callee = Side.of(random, people[1], path) if len(people) > 1 else Side(meeting_service())
    sides = (Side.of(random, people[0], path), callee)
    media = [media_line(random, label, sides, path, span.seconds) for label in labels]
    if len(people) == 1 and random.random() < 0.1:  # a data channel without streams
        media.append({"label": DATA, "streams": random.choice(([], None))})
    return session(random, session_id, span, sides, labels, [segment(random, session_id, span, sides, media)])


def meeting_labels(random: Random) -> tuple[str, str]:
    """Audio, and a camera or a shared screen."""
    return (AUDIO, VIDEO) if random.random() < 0.78 else (AUDIO, SHARING)


def without_nulls(value: Any) -> Any:
    """The same with null properties absent, as some records come."""
    if isinstance(value, dict):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value
