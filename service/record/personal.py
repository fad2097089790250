"""Which text of a call record is about somebody: every text field of the model, and of the events, has its class here.

A field stands in `PERSONAL` with its class and the form of its values, or in `IMPERSONAL`; a test walks both models and
fails for one that stands in neither or in both. Names are those of the JSON, which record and events share.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from service.record import events, model

PersonalClass: TypeAlias = Literal[
    "names",
    "ids",
    "phone_numbers",
    "ip_addresses",
    "subnets",
    "hardware_addresses",
    "device_names",
    "feedback_text",
    "join_urls",
    "user_agents",
    "dns_suffixes",
    "unknown_properties",
]

CLASSES: Final[Mapping[PersonalClass, str]] = {
    "names": "What people are called: display names, user principal names, e-mail addresses",
    "ids": "Object ids, participant ids, administrative units, Communication Services resources, other tenants' ids",
    "phone_numbers": "Telephone numbers, wherever a phone's id or name stands; Graph's own masking (`*`) stays",
    "ip_addresses": "Addresses of clients, of their public side, of relays and of hops in between",
    "subnets": "Network addresses of clients",
    "hardware_addresses": "MAC address of the adapter, BSSID of the access point",
    "device_names": "Names of machines, microphones and loudspeakers: people name these after themselves",
    "feedback_text": "What a participant wrote about the call; rating and ticked problems stay",
    "join_urls": "The link that lets its reader into the meeting; it holds tenant and organizer ids",
    "user_agents": "Raw user-agent text, which names the software and, of bots, its owner",
    "dns_suffixes": "DNS suffix of the adapter, which names a household's or company's network",
    "unknown_properties": "Properties that Graph added since: they travel in the raw archive alone",
}

# How values are told to be the same before they are hashed: `exact` by every character; `folded` without case;
# `address` as IP addresses in their one canonical spelling; `hardware` without case and separators.
Form: TypeAlias = Literal["exact", "folded", "address", "hardware"]


class Rule(NamedTuple):
    """The class of a field, and the form of its values."""

    personal: PersonalClass
    form: Form = "exact"


_NAME: Final = Rule("names")
_SIGN_IN: Final = Rule("names", "folded")
_ID: Final = Rule("ids", "folded")
_ADDRESS: Final = Rule("ip_addresses", "address")
_HARDWARE: Final = Rule("hardware_addresses", "hardware")

# The id of a phone, and a name or id that reads like a telephone number, are phone numbers instead (`privacy.py`).
_IDENTITY: Final = {
    "id": _ID,
    "displayName": _NAME,
    "tenantId": _ID,
    "userPrincipalName": _SIGN_IN,
    "email": _SIGN_IN,
    "azureCommunicationServicesResourceId": _ID,
}
_ENDPOINT: Final = {"name": Rule("device_names", "folded")}
_AGENT: Final = {"headerValue": Rule("user_agents"), "communicationServiceId": _ID}
_FEEDBACK: Final = {"text": Rule("feedback_text")}
_NETWORK: Final = {
    "ipAddress": _ADDRESS,
    "subnet": Rule("subnets", "address"),
    "reflexiveIPAddress": _ADDRESS,
    "relayIPAddress": _ADDRESS,
    "macAddress": _HARDWARE,
    "basicServiceSetIdentifier": _HARDWARE,
    "dnsSuffix": Rule("dns_suffixes", "folded"),
}
_DEVICE: Final = {"captureDeviceName": Rule("device_names"), "renderDeviceName": Rule("device_names")}
_HOP: Final = {"ipAddress": _ADDRESS}
_UNIT: Final = {"id": _ID}
_CALL: Final = {"joinWebUrl": Rule("join_urls")}

PERSONAL: Final[Mapping[type[Struct], Mapping[str, Rule]]] = {
    model.Identity: _IDENTITY,
    model.AdministrativeUnitInfo: _UNIT,
    model.Participant: {"id": _ID},
    model.UserFeedback: _FEEDBACK,
    model.UserAgent: _AGENT,
    model.Endpoint: _ENDPOINT,
    model.TraceRouteHop: _HOP,
    model.NetworkInfo: _NETWORK,
    model.DeviceInfo: _DEVICE,
    model.CallRecord: _CALL,
    events.IdentityGroup: {**_IDENTITY, "participantId": _ID},
    events.AdministrativeUnitGroup: _UNIT,
    events.FeedbackGroup: _FEEDBACK,
    events.UserAgentGroup: _AGENT,
    events.EndpointGroup: _ENDPOINT,
    events.TraceRouteHopGroup: _HOP,
    events.NetworkGroup: _NETWORK,
    events.DeviceGroup: _DEVICE,
    events.CallGroup: _CALL,
}

# Why they are impersonal: ids of calls, sessions, segments and streams name a call, not a person, and are keys of the
# published data, as the own tenant's id is; times, members of Graph's enumerations, codecs and labels come from closed
# sets; processors, drivers and versions name products; a failure's reason is Graph's classification; the names of
# ticked problems and of kinds of identities come from clients and schemas. Next links never leave the process.
_FAILURE: Final = frozenset({"stage", "reason"})
_AGENT_PRODUCT: Final = frozenset({"applicationVersion", "role", "platform", "productFamily", "azureADAppId"})
_NETWORK_KIND: Final = frozenset(
    {
        "connectionType",
        "wifiMicrosoftDriver",
        "wifiMicrosoftDriverVersion",
        "wifiVendorDriver",
        "wifiVendorDriverVersion",
        "wifiBand",
        "wifiRadioType",
        "networkTransportProtocol",
    }
)
_DRIVERS: Final = frozenset({"captureDeviceDriver", "renderDeviceDriver"})
_TIMES: Final = frozenset({"startDateTime", "endDateTime"})
_CODECS: Final = frozenset({"audioCodec", "videoCodec"})
_STREAM: Final = _TIMES | _CODECS | {"streamId"}
_DURATIONS: Final = frozenset(
    {
        "averageJitter",
        "maxJitter",
        "averageRoundTripTime",
        "maxRoundTripTime",
        "averageAudioNetworkJitter",
        "maxAudioNetworkJitter",
        "averageFreezeDuration",
        "rmsFreezeDuration",
    }
)
_CALL_FACTS: Final = _TIMES | {"id", "type", "modalities", "lastModifiedDateTime"}

IMPERSONAL: Final[Mapping[type[Struct], frozenset[str]]] = {
    model.Identity: frozenset({"@odata.type", "applicationType"}),
    model.Participant: frozenset({"identity"}),  # its only text is `endpointType`
    model.UserFeedback: frozenset({"rating", "tokens"}),
    model.UserAgent: _AGENT_PRODUCT | {"@odata.type"},
    model.Endpoint: frozenset({"@odata.type", "cpuName", "identity"}),
    model.FailureInfo: _FAILURE,
    model.TraceRouteHop: frozenset({"roundTripTime"}),
    model.NetworkInfo: _NETWORK_KIND,
    model.DeviceInfo: _DRIVERS,
    model.MediaStream: _STREAM | _DURATIONS | {"streamDirection"},
    model.Media: frozenset({"label"}),
    model.Segment: _TIMES | {"id"},
    model.Session: _TIMES | {"id", "modalities"},
    model.CallRecord: _CALL_FACTS
    | {"organizer", "participants", "sessions@odata.nextLink", "participants_v2@odata.nextLink"},
    events.IdentityGroup: frozenset({"kind", "applicationType", "endpointType"}),
    events.FailureGroup: _FAILURE,
    events.UserAgentGroup: _AGENT_PRODUCT | {"kind"},
    events.FeedbackGroup: frozenset({"rating", "tokens"}),
    events.EndpointGroup: frozenset({"kind", "cpuName"}),
    events.NetworkGroup: _NETWORK_KIND,
    events.DeviceGroup: _DRIVERS,
    events.CallGroup: _CALL_FACTS,
    events.SessionGroup: _TIMES | {"id", "modalities"},
    events.SegmentGroup: _TIMES | {"id"},
    events.MediaGroup: frozenset({"label", "kind"}),
    events.StreamGroup: _STREAM | {"direction", "sender", "receiver"},
    events.QualityGroup: frozenset({"ruleSet", "verdict", "reasons"}),
    events.StreamEvent: frozenset({"id", "tenantId"}),
    events.Failure: _FAILURE,
    events.CallSummary: frozenset({"id", "tenantId"}),
}
