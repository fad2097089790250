"""Which properties of the wire objects stand in which group of an event, and how each is read (graph-contract 7).

Units stay Graph's, save that durations become milliseconds; what is not named here travels only in the raw topic.
"""

from typing import Any

from service.emulator.expect_values import Field, flag, milliseconds, number, objects, project, text, texts, utc, whole

TIMES: dict[str, Field] = {"startDateTime": utc, "endDateTime": utc}
CALL: dict[str, Field] = {
    "id": text,
    "version": whole,
    "type": text,
    "modalities": texts,
    **TIMES,
    "lastModifiedDateTime": utc,
    "joinWebUrl": text,
}
SESSION: dict[str, Field] = {"id": text, "modalities": texts, **TIMES, "isTest": flag}
SEGMENT: dict[str, Field] = {"id": text, **TIMES}
FAILURE: dict[str, Field] = {"stage": text, "reason": text}
STREAM: dict[str, Field] = {
    "streamId": text,
    **TIMES,
    "audioCodec": text,
    "videoCodec": text,
    "isAudioForwardErrorCorrectionUsed": flag,
    "wasMediaBypassed": flag,
    "packetUtilization": whole,
    "averageBandwidthEstimate": whole,
    **dict.fromkeys(
        (
            "averageAudioNetworkJitter",
            "averageFreezeDuration",
            "averageJitter",
            "averageRoundTripTime",
            "maxAudioNetworkJitter",
            "maxJitter",
            "maxRoundTripTime",
            "rmsFreezeDuration",
        ),
        milliseconds,
    ),
    **dict.fromkeys(
        (
            "averageAudioDegradation",
            "averagePacketLossRate",
            "averageRatioOfConcealedSamples",
            "averageReceivedFrameRate",
            "averageVideoFrameLossPercentage",
            "averageVideoFrameRate",
            "averageVideoPacketLossRate",
            "lowFrameRateRatio",
            "lowVideoProcessingCapabilityRatio",
            "maxPacketLossRate",
            "maxRatioOfConcealedSamples",
            "postForwardErrorCorrectionPacketLossRate",
        ),
        number,
    ),
}
HOP: dict[str, Field] = {"hopCount": whole, "ipAddress": text, "roundTripTime": milliseconds}


def _hops(value: Any) -> list[dict[str, Any]] | None:
    return [project(hop, HOP) for _, hop in objects(value)] if isinstance(value, list) else None


NETWORK: dict[str, Field] = {
    **dict.fromkeys(
        (
            "basicServiceSetIdentifier",
            "connectionType",
            "dnsSuffix",
            "ipAddress",
            "macAddress",
            "networkTransportProtocol",
            "reflexiveIPAddress",
            "relayIPAddress",
            "subnet",
            "wifiBand",
            "wifiMicrosoftDriver",
            "wifiMicrosoftDriverVersion",
            "wifiRadioType",
            "wifiVendorDriver",
            "wifiVendorDriverVersion",
        ),
        text,
    ),
    **dict.fromkeys(
        ("linkSpeed", "port", "relayPort", "wifiBatteryCharge", "wifiChannel", "wifiSignalStrength"), whole
    ),
    **dict.fromkeys(
        ("bandwidthLowEventRatio", "delayEventRatio", "receivedQualityEventRatio", "sentQualityEventRatio"), number
    ),
    "traceRouteHops": _hops,
}
DEVICE: dict[str, Field] = {
    **dict.fromkeys(("captureDeviceDriver", "captureDeviceName", "renderDeviceDriver", "renderDeviceName"), text),
    **dict.fromkeys(
        ("howlingEventCount", "receivedNoiseLevel", "receivedSignalLevel", "sentNoiseLevel", "sentSignalLevel"), whole
    ),
    **dict.fromkeys(
        (
            "captureNotFunctioningEventRatio",
            "cpuInsufficentEventRatio",
            "deviceClippingEventRatio",
            "deviceGlitchEventRatio",
            "initialSignalLevelRootMeanSquare",
            "lowSpeechLevelEventRatio",
            "lowSpeechToNoiseEventRatio",
            "micGlitchRate",
            "renderMuteEventRatio",
            "renderNotFunctioningEventRatio",
            "renderZeroVolumeEventRatio",
            "speakerGlitchRate",
        ),
        number,
    ),
}
