"""What a leg measures: one cause of trouble (or none) shows in network, device and stream metrics together.

The verdict that follows from the metrics is not decided here: limits and rules are those of graph-contract 8.
"""

from dataclasses import dataclass
from random import Random
from typing import Any

from service.emulator.catalog import AUDIO_CODECS, BAD_HEADSET, CAMERAS, FEEDBACK_TEXTS, FEEDBACK_TOKENS, VIDEO_CODECS
from service.emulator.people import Person
from service.emulator.wire import duration, single, weighted

Json = dict[str, Any]

STREAM_FIELDS = (
    "streamId",
    "audioCodec",
    "videoCodec",
    "averageAudioDegradation",
    "averageJitter",
    "maxJitter",
    "averagePacketLossRate",
    "maxPacketLossRate",
    "averageRatioOfConcealedSamples",
    "maxRatioOfConcealedSamples",
    "averageRoundTripTime",
    "maxRoundTripTime",
    "packetUtilization",
    "averageBandwidthEstimate",
    "wasMediaBypassed",
    "postForwardErrorCorrectionPacketLossRate",
    "averageVideoFrameLossPercentage",
    "averageReceivedFrameRate",
    "lowFrameRateRatio",
    "averageVideoPacketLossRate",
    "averageVideoFrameRate",
    "lowVideoProcessingCapabilityRatio",
    "averageAudioNetworkJitter",
    "maxAudioNetworkJitter",
    "averageFreezeDuration",
    "rmsFreezeDuration",
    "isAudioForwardErrorCorrectionUsed",
    "startDateTime",
    "endDateTime",
    "streamDirection",
)
_EMPTY_STREAM: Json = dict.fromkeys(STREAM_FIELDS)

DEVICE_FIELDS = (
    "captureDeviceName",
    "captureDeviceDriver",
    "renderDeviceName",
    "renderDeviceDriver",
    "sentSignalLevel",
    "receivedSignalLevel",
    "sentNoiseLevel",
    "receivedNoiseLevel",
    "initialSignalLevelRootMeanSquare",
    "cpuInsufficentEventRatio",
    "renderNotFunctioningEventRatio",
    "captureNotFunctioningEventRatio",
    "deviceGlitchEventRatio",
    "lowSpeechToNoiseEventRatio",
    "lowSpeechLevelEventRatio",
    "deviceClippingEventRatio",
    "howlingEventCount",
    "renderZeroVolumeEventRatio",
    "renderMuteEventRatio",
    "micGlitchRate",
    "speakerGlitchRate",
)
_EMPTY_DEVICE: Json = dict.fromkeys(DEVICE_FIELDS)

_PACKETS_PER_SECOND = 50  # audio frames of 20 ms
_TROUBLE = {
    "officeWired": ("uplink",),
    "officeWifi": ("radio",),
    "homeWifi": ("radio", "uplink", "uplink"),
    "homeWired": ("uplink",),
    "weakWifi": ("radio",),
    "vpn": ("tunnel",),
    "mobile": ("radio", "uplink"),
}


@dataclass(frozen=True)
class Path:
    """How it goes between a person and the other side in one leg. Times in ms, loss as a fraction."""

    trouble: str
    """`radio`, `uplink`, `tunnel`: the network; `device`, `cpu`: the machine; empty: nothing."""
    round_trip: float
    jitter: float
    loss: float

    @property
    def is_network_bad(self) -> bool:
        """The network is to blame, so CQD's rules can see it."""
        return self.trouble in {"radio", "uplink", "tunnel"}


def path_of(random: Random, who: Person) -> Path:
    """How this person's leg goes, in keeping with the person's network."""
    access = who.access
    wireless = 1.0 if access.signal_percent is None else 1.8
    round_trip = min(440.0, access.round_trip_ms * random.lognormvariate(0, 0.15))
    jitter = min(27.0, random.lognormvariate(1.2, 0.5) * wireless)
    loss = min(0.06, random.expovariate(250))
    if random.random() < access.bad_share:
        trouble = random.choice(_TROUBLE[access.kind])
        if trouble == "radio":
            return Path(
                trouble, round_trip * random.uniform(1.4, 3), random.uniform(27, 95), random.uniform(0.02, 0.17)
            )
        if trouble == "uplink":
            return Path(trouble, random.uniform(280, 950), random.uniform(20, 75), random.uniform(0.06, 0.3))
        return Path(trouble, random.uniform(480, 1100), jitter * random.uniform(1.5, 3), loss)
    if who.headset is BAD_HEADSET:
        return Path("device", round_trip, jitter, loss)
    return Path("cpu" if random.random() < 0.03 else "", round_trip, jitter, loss)


def empty_stream(random: Random, direction: str, position: int) -> Json:
    """A direction for which nobody reported telemetry: loss 0 beside 0 packets means "no data" (graph-contract 7.3)."""
    stream = dict(_EMPTY_STREAM)
    stream["streamId"] = (
        str(random.getrandbits(32)) if random.random() < 0.85 else str(random.choice((1, 1000)) + position)
    )
    stream["streamDirection"] = direction
    stream["packetUtilization"] = 0
    stream["averagePacketLossRate"] = stream["maxPacketLossRate"] = 0
    return stream


def fill_stream(random: Random, stream: Json, kind: str, path: Path, seconds: float, codec: str = "") -> None:
    """Telemetry of one direction of a line of this kind (audio, video, screenSharing) that ran for `seconds`."""
    # The far end of a bad path suffers a little less than the near one.
    share = random.uniform(0.75, 1.1)
    jitter, loss, round_trip = path.jitter * share, min(1.0, path.loss * share), path.round_trip
    worst = random.uniform(1.5, 6)
    stream["averageJitter"] = duration(jitter)
    stream["maxJitter"] = duration(jitter * worst)
    stream["averagePacketLossRate"] = single(loss if loss > 0.0002 else 0)
    stream["maxPacketLossRate"] = single(min(1.0, loss * worst))
    if random.random() > 0.03:
        stream["averageRoundTripTime"] = duration(round_trip)
        stream["maxRoundTripTime"] = duration(round_trip * random.uniform(1.1, 4))
    bandwidth = 300_000 if path.trouble == "uplink" else 6_000_000
    stream["averageBandwidthEstimate"] = int(bandwidth * random.uniform(0.4, 1.8)) if random.random() < 0.8 else None
    if kind == "audio":
        _fill_audio(random, stream, (jitter, loss), seconds, codec)
    else:
        _fill_video(random, stream, kind, path, seconds)
        stream["videoCodec"] = codec or weighted(random, VIDEO_CODECS)


def _fill_audio(random: Random, stream: Json, damage: tuple[float, float], seconds: float, codec: str) -> None:
    jitter, loss = damage
    talking = random.uniform(0.25, 1.0) if random.random() > 0.03 else 0.002  # muted people send comfort noise only
    stream["audioCodec"] = codec or weighted(random, AUDIO_CODECS)
    stream["videoCodec"] = random.choice((None, "unknown"))
    stream["packetUtilization"] = int(seconds * _PACKETS_PER_SECOND * talking)
    stream["averageAudioNetworkJitter"] = duration(jitter * random.uniform(0.8, 1.3))
    stream["maxAudioNetworkJitter"] = duration(jitter * random.uniform(2, 6))
    stream["isAudioForwardErrorCorrectionUsed"] = random.choice((True, False, None))
    if random.random() < 0.6:  # known at the receiving client only
        concealed = min(1.0, loss * random.uniform(0.5, 1.1) + jitter / 2000)
        stream["averageRatioOfConcealedSamples"] = single(concealed)
        stream["maxRatioOfConcealedSamples"] = single(min(1.0, concealed * random.uniform(1.2, 4)))
        stream["averageAudioDegradation"] = single(min(4.0, loss * 9 + jitter / 90))


def _fill_video(random: Random, stream: Json, kind: str, path: Path, seconds: float) -> None:
    stream["audioCodec"] = random.choice((None, "unknown"))
    # A shared screen moves about four times a second; people some 15 to 30 times.
    rate = random.uniform(1.5, 7) if kind == "screenSharing" else random.uniform(12, 30)
    lost = random.expovariate(0.6)
    if path.is_network_bad:
        rate, lost = rate * random.uniform(0.25, 0.8), random.uniform(6, 75)
    elif path.trouble == "cpu":
        rate, lost = rate * random.uniform(0.12, 0.5), random.uniform(5, 30)
    stream["packetUtilization"] = int(seconds * random.uniform(20, 250))
    stream["averageVideoFrameRate"] = single(rate) if random.random() > 0.07 else None
    stream["averageVideoFrameLossPercentage"] = single(min(100.0, lost)) if random.random() > 0.25 else None
    stream["postForwardErrorCorrectionPacketLossRate"] = single(path.loss * random.uniform(0.2, 1.2))
    stream["averageReceivedFrameRate"] = single(rate * random.uniform(0.8, 1))
    stream["averageVideoPacketLossRate"] = single(path.loss)
    stream["lowFrameRateRatio"] = single(random.uniform(0.2, 0.9) if rate < 7.5 else random.uniform(0, 0.05))
    is_slow = path.trouble == "cpu"
    stream["lowVideoProcessingCapabilityRatio"] = single(random.uniform(0.3, 0.9) if is_slow else 0)
    freeze = random.uniform(300, 2500) if path.trouble else random.uniform(0, 200)
    stream["averageFreezeDuration"] = duration(freeze)
    stream["rmsFreezeDuration"] = duration(freeze * random.uniform(1, 1.6))


def device_in_call(random: Random, who: Person, path: Path, kind: str) -> Json:
    """`deviceInfo` of a person in one media line; all its measurements are about audio (graph-contract 7.4)."""
    device = dict(_EMPTY_DEVICE)
    if kind != "audio":
        device["captureDeviceName"] = random.choice(CAMERAS) if kind == "video" else None
        return device
    is_bad, is_slow = path.trouble == "device", path.trouble == "cpu"
    headset = who.headset
    device |= {
        "captureDeviceName": headset.capture,
        "captureDeviceDriver": headset.capture_driver,
        "renderDeviceName": headset.render,
        "renderDeviceDriver": headset.render_driver,
        "sentSignalLevel": random.randrange(-48, -36) if is_bad else random.randrange(-28, -14),
        "receivedSignalLevel": random.randrange(-30, -12),
        "sentNoiseLevel": random.randrange(-48, -36) if is_bad else random.randrange(-75, -52),
        "receivedNoiseLevel": random.randrange(-75, -50),
        "initialSignalLevelRootMeanSquare": single(random.uniform(5, 40) if is_bad else random.uniform(40, 400)),
        "howlingEventCount": random.randrange(1, 6) if is_bad and random.random() < 0.5 else 0,
        "micGlitchRate": single(random.uniform(8, 40) if is_bad or is_slow else random.uniform(0, 2)),
        "speakerGlitchRate": single(random.uniform(4, 25) if is_bad or is_slow else random.uniform(0, 2)),
        "cpuInsufficentEventRatio": single(random.uniform(0.15, 0.8) if is_slow else 0),
        "deviceGlitchEventRatio": single(random.uniform(0.05, 0.5) if is_bad or is_slow else 0),
        "renderMuteEventRatio": single(random.random() if random.random() < 0.05 else 0),
        "renderZeroVolumeEventRatio": single(random.random() if random.random() < 0.02 else 0),
    }
    for name in _DEVICE_FAULTS:
        device[name] = single(random.uniform(0.05, 0.6)) if is_bad and random.random() < 0.5 else 0
    return device


_DEVICE_FAULTS = (
    "renderNotFunctioningEventRatio",
    "captureNotFunctioningEventRatio",
    "lowSpeechToNoiseEventRatio",
    "lowSpeechLevelEventRatio",
    "deviceClippingEventRatio",
)


def service_device(random: Random) -> Json:
    """`deviceInfo` of the service side: nothing, save for a howling count of 0 now and then."""
    device = dict(_EMPTY_DEVICE)
    if random.random() < 0.5:
        device["howlingEventCount"] = 0
    return device


def feedback_of(random: Random, path: Path) -> Json:
    """What a person answers when asked how the call was: after a bad call, bad marks and what was wrong."""
    if not path.trouble:
        rating = random.choice(("good", "excellent", "excellent", "notRated", "fair"))
        return {"rating": rating, "text": random.choice((None, "")), "tokens": random.choice(({}, {}, None))}
    names = FEEDBACK_TOKENS["network" if path.is_network_bad else "device"]
    tokens = {name: random.random() < 0.6 for name in names}
    rating = random.choice(("bad", "poor", "poor", "fair"))
    return {"rating": rating, "text": random.choice(FEEDBACK_TEXTS), "tokens": tokens}
