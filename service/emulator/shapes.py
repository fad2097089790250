"""The structure of what may be written: which property is an object, which a collection, which a scalar.

Scalars are not looked into: the seeds' own examples hold `"Single"` where a number belongs. Properties that are not
declared pass as they are, because the types of the seeds are open ("any property can be added to this object").
Source: seeds 000, 001, 002, 004 and graph-contract 7.2 to 7.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.emulator.refusals import bad_request
from service.emulator.timespans import DURATIONS, as_iso


@dataclass(frozen=True)
class Shape:
    """Properties of one resource type by structure."""

    scalars: frozenset[str] = frozenset()
    objects: Mapping[str, "Shape"] = field(default_factory=dict)
    collections: Mapping[str, "Shape | None"] = field(default_factory=dict)
    """None: a collection of scalars."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


IDENTITY = Shape(_names("id displayName tenantId userPrincipalName email"))
IDENTITY_SET = Shape(
    objects=dict.fromkeys(
        _names(
            "application device user applicationInstance assertedIdentity azureCommunicationServicesUser encrypted "
            "guest onPremises phone"
        ),
        IDENTITY,
    )
)
USER_AGENT = Shape(
    _names("applicationVersion headerValue platform productFamily role azureADAppId communicationServiceId")
)
FEEDBACK = Shape(_names("rating text"), objects={"tokens": Shape()})
ENDPOINT = Shape(
    _names("name cpuName cpuCoresCount cpuProcessorSpeedInMhz"),
    objects={
        "userAgent": USER_AGENT,
        "identity": IDENTITY_SET,
        "associatedIdentity": IDENTITY,
        "feedback": FEEDBACK,
    },
)
FAILURE = Shape(_names("reason stage"))
HOP = Shape(_names("hopCount ipAddress roundTripTime"))
NETWORK = Shape(
    _names(
        "bandwidthLowEventRatio basicServiceSetIdentifier connectionType delayEventRatio dnsSuffix ipAddress linkSpeed "
        "macAddress networkTransportProtocol port receivedQualityEventRatio reflexiveIPAddress relayIPAddress "
        "relayPort sentQualityEventRatio subnet wifiBand wifiBatteryCharge wifiChannel wifiMicrosoftDriver "
        "wifiMicrosoftDriverVersion wifiRadioType wifiSignalStrength wifiVendorDriver wifiVendorDriverVersion"
    ),
    collections={"traceRouteHops": HOP},
)
DEVICE = Shape(
    _names(
        "captureDeviceDriver captureDeviceName captureNotFunctioningEventRatio cpuInsufficentEventRatio "
        "deviceClippingEventRatio deviceGlitchEventRatio howlingEventCount initialSignalLevelRootMeanSquare "
        "lowSpeechLevelEventRatio lowSpeechToNoiseEventRatio micGlitchRate receivedNoiseLevel receivedSignalLevel "
        "renderDeviceDriver renderDeviceName renderMuteEventRatio renderNotFunctioningEventRatio "
        "renderZeroVolumeEventRatio sentNoiseLevel sentSignalLevel speakerGlitchRate"
    )
)
STREAM = Shape(
    _names(
        "audioCodec averageAudioDegradation averageAudioNetworkJitter averageBandwidthEstimate averageFreezeDuration "
        "averageJitter averagePacketLossRate averageRatioOfConcealedSamples averageReceivedFrameRate "
        "averageRoundTripTime averageVideoFrameLossPercentage averageVideoFrameRate averageVideoPacketLossRate "
        "endDateTime isAudioForwardErrorCorrectionUsed lowFrameRateRatio lowVideoProcessingCapabilityRatio "
        "maxAudioNetworkJitter maxJitter maxPacketLossRate maxRatioOfConcealedSamples maxRoundTripTime "
        "packetUtilization postForwardErrorCorrectionPacketLossRate rmsFreezeDuration startDateTime streamDirection "
        "streamId videoCodec wasMediaBypassed"
    )
)
MEDIA = Shape(
    _names("label"),
    objects={"callerNetwork": NETWORK, "calleeNetwork": NETWORK, "callerDevice": DEVICE, "calleeDevice": DEVICE},
    collections={"streams": STREAM},
)
SEGMENT = Shape(
    _names("id startDateTime endDateTime"),
    objects={"caller": ENDPOINT, "callee": ENDPOINT, "failureInfo": FAILURE},
    collections={"media": MEDIA},
)
SESSION = Shape(
    _names("id startDateTime endDateTime isTest"),
    objects={"caller": ENDPOINT, "callee": ENDPOINT, "failureInfo": FAILURE},
    collections={"modalities": None, "segments": SEGMENT},
)


def read_resource(raw: bytes, shape: Shape, type_name: str) -> dict[str, Any]:
    """The body as an object of this shape; 400 with the path of what is wrong."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        message = "Unable to read JSON request payload. Please ensure Content-Type header is set and payload is of "
        raise bad_request(message + "valid JSON format.") from None
    if not isinstance(value, dict):
        raise bad_request(f"The request body must be a JSON object of type 'microsoft.graph.callRecords.{type_name}'.")
    _check_object(value, shape, "")
    try:
        orjson.dumps(value)  # what cannot be written again (too deep) must not get in
    except orjson.JSONEncodeError:
        raise bad_request("The request body is nested too deeply.") from None
    return value


def _check_object(value: dict[str, Any], shape: Shape, path: str) -> None:
    for name, item in value.items():
        place = f"{path}.{name}" if path else name
        if item is None:
            continue
        if name in shape.scalars:
            _require(not isinstance(item, dict | list), place, "a scalar value")
            if name in DURATIONS and isinstance(item, str):
                value[name] = as_iso(item)
        elif name in shape.objects:
            _require(isinstance(item, dict), place, "an object")
            _check_object(item, shape.objects[name], place)
        elif name in shape.collections:
            _require(isinstance(item, list), place, "a collection")
            _check_items(item, shape.collections[name], place)


def _check_items(items: list[Any], shape: Shape | None, path: str) -> None:
    for index, item in enumerate(items):
        place = f"{path}[{index}]"
        if shape is None:
            _require(not isinstance(item, dict | list), place, "a scalar value")
        else:
            _require(isinstance(item, dict), place, "an object")
            _check_object(item, shape, place)


def _require(is_right: bool, path: str, what: str) -> None:
    if not is_right:
        raise bad_request(f"Invalid request body: property '{path}' must be {what}.")
