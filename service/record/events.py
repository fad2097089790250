"""What is published: one StreamEvent for each media stream, one CallSummary for each version of a call.

The order of the fields here is the order of the properties in the JSON. Properties have Graph's own names and units
wherever the value is Graph's; a duration becomes a number of milliseconds and says so in its name. None is left out of
the JSON; all else stays, `[]` too. The descriptions are those of the published schema.

Additions only: a consumer may rely on every name and meaning here once it is released.
"""

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct, field

SCHEMA_VERSION: Final = 1

Number: TypeAlias = int | float
EndpointKind: TypeAlias = Literal["participant", "service", "endpoint"]
AgentKind: TypeAlias = Literal["client", "service", "unknown"]
MediaKind: TypeAlias = Literal["audio", "video", "screenSharing", "other"]
End: TypeAlias = Literal["caller", "callee"]
Verdict: TypeAlias = Literal["good", "poor", "unclassified"]

MEDIA_KINDS: Final[tuple[MediaKind, ...]] = ("audio", "video", "screenSharing", "other")


def doc(description: str) -> Meta:
    """The description of a field in the published schema."""
    return Meta(description=description)


# None of these can be part of a reference cycle, so the garbage collector need not visit them (`gc=False`).
class EventStruct(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What every group has in common."""


class AdministrativeUnitGroup(EventStruct, frozen=True):
    """An Entra administrative unit."""

    id: str | None = None


class IdentityGroup(EventStruct, frozen=True):
    """A person, a phone or an application."""

    kind: Annotated[
        str,
        doc("user, phone, guest, applicationInstance, …: the identity set's member, or what the identity's type says"),
    ]
    id: Annotated[str | None, doc("Entra object id, or the phone number of a phone")] = None
    display_name: Annotated[str | None, doc("Name as of the call, perhaps outdated")] = None
    tenant_id: str | None = None
    user_principal_name: str | None = None
    email: str | None = None
    application_type: str | None = None
    hidden: bool | None = None
    azure_communication_services_resource_id: str | None = None
    endpoint_type: Annotated[str | None, doc("endpointType of the identity set: voicemail, skypeForBusiness, …")] = None
    participant_id: Annotated[str | None, doc("id of the participant or organizer, where it is not the identity's")] = (
        None
    )
    administrative_unit_infos: Annotated[
        list[AdministrativeUnitGroup] | None, doc("Administrative units of a participant or organizer")
    ] = None
    other_identities: Annotated[
        list["IdentityGroup"] | None,
        doc("What else the same party is known as, where Graph gives more than one identity"),
    ] = None


class FailureGroup(EventStruct, frozen=True):
    """Why a session or segment failed."""

    stage: Annotated[str | None, doc("callSetup, midcall, unknown")] = None
    reason: Annotated[str | None, doc("Classification in free text")] = None


class UserAgentGroup(EventStruct, frozen=True):
    """The client or service software of an endpoint."""

    kind: AgentKind
    header_value: Annotated[
        str | None, doc("Raw user-agent text; for bots the only place with application details")
    ] = None
    application_version: str | None = None
    role: Annotated[str | None, doc("Role of a service")] = None
    platform: Annotated[str | None, doc("windows, macOS, iOS, android, web, …")] = None
    product_family: Annotated[str | None, doc("teams, skypeForBusiness, lync, azureCommunicationServices, unknown")] = (
        None
    )
    azure_ad_app_id: Annotated[
        str | None, doc("Entra application id of a client built on Azure Communication Services")
    ] = field(default=None, name="azureADAppId")
    communication_service_id: Annotated[str | None, doc("Resource id of the Azure Communication Services resource")] = (
        None
    )


class FeedbackGroup(EventStruct, frozen=True):
    """What the participant answered when asked about the call."""

    rating: Annotated[str | None, doc("notRated, bad, poor, fair, good, excellent")] = None
    text: Annotated[str | None, doc("Free text: personal data")] = None
    tokens: Annotated[dict[str, bool] | None, doc("Ticked problems; their names differ between clients")] = None


class EndpointGroup(EventStruct, frozen=True):
    """One end of the call: a machine and who used it, or a service."""

    kind: EndpointKind
    name: Annotated[str | None, doc("Name of the machine")] = None
    cpu_name: str | None = None
    cpu_cores_count: int | None = None
    cpu_processor_speed_in_mhz: int | None = None
    user_agent: UserAgentGroup | None = None
    identity: IdentityGroup | None = None
    feedback: FeedbackGroup | None = None


class TraceRouteHopGroup(EventStruct, frozen=True):
    """One hop of a trace from client to peer. Graph no longer fills these."""

    hop_count: Annotated[int | None, doc("Position of the hop")] = None
    ip_address: str | None = None
    round_trip_time_ms: Annotated[Number | None, doc("Milliseconds from the client to the hop and back")] = None


class NetworkGroup(EventStruct, frozen=True):
    """One side's network, as it was for one media line."""

    ip_address: Annotated[str | None, doc("Local address of the media endpoint, IPv4 or IPv6")] = None
    subnet: Annotated[str | None, doc("Network address without prefix length")] = None
    link_speed: Annotated[int | None, doc("bits/s as the adapter reports it; 0 on the service side")] = None
    connection_type: Annotated[str | None, doc("wired, wifi, mobile, tunnel, unknown")] = None
    port: int | None = None
    reflexive_ip_address: Annotated[str | None, doc("Address the relay sees, so the public one")] = field(
        default=None, name="reflexiveIPAddress"
    )
    relay_ip_address: str | None = field(default=None, name="relayIPAddress")
    relay_port: int | None = None
    mac_address: Annotated[str | None, doc("02:00:00:00:00:00 where the operating system hides it")] = None
    wifi_microsoft_driver: str | None = None
    wifi_microsoft_driver_version: str | None = None
    wifi_vendor_driver: str | None = None
    wifi_vendor_driver_version: str | None = None
    wifi_channel: int | None = None
    wifi_band: Annotated[str | None, doc("frequency24GHz, frequency50GHz, frequency60GHz, unknown")] = None
    basic_service_set_identifier: Annotated[str | None, doc("BSSID of the access point")] = None
    wifi_radio_type: Annotated[str | None, doc("wifi80211a to wifi80211ax")] = None
    wifi_signal_strength: Annotated[int | None, doc("percent, 0 to 100")] = None
    wifi_battery_charge: Annotated[int | None, doc("percent, 0 to 99")] = None
    dns_suffix: str | None = None
    sent_quality_event_ratio: Annotated[
        Number | None, doc("Fraction of the call in which the network hurt sent audio, 0 to 1")
    ] = None
    received_quality_event_ratio: Annotated[
        Number | None, doc("Fraction of the call in which the network hurt received audio, 0 to 1")
    ] = None
    delay_event_ratio: Annotated[Number | None, doc("Fraction of the call with delay that hurt, 0 to 1")] = None
    bandwidth_low_event_ratio: Annotated[
        Number | None, doc("Fraction of the call with too little bandwidth, 0 to 1")
    ] = None
    network_transport_protocol: Annotated[str | None, doc("udp, tcp, unknown")] = None
    trace_route_hops: list[TraceRouteHopGroup] | None = None


class DeviceGroup(EventStruct, frozen=True):
    """One side's audio devices, as they were for one media line."""

    capture_device_name: Annotated[str | None, doc("Microphone; localized free text")] = None
    capture_device_driver: str | None = None
    render_device_name: Annotated[str | None, doc("Loudspeaker or headset; localized free text")] = None
    render_device_driver: str | None = None
    sent_signal_level: Annotated[int | None, doc("Level of sent speech, dB-like and negative")] = None
    received_signal_level: Annotated[int | None, doc("Level of received speech, dB-like and negative")] = None
    sent_noise_level: Annotated[int | None, doc("Level of sent noise, dB-like and negative")] = None
    received_noise_level: Annotated[int | None, doc("Level of received noise, dB-like and negative")] = None
    initial_signal_level_root_mean_square: Annotated[
        Number | None, doc("Root mean square of the incoming signal in the first 30 seconds")
    ] = None
    cpu_insufficent_event_ratio: Annotated[
        Number | None, doc("Fraction of the call with too little CPU, 0 to 1 (the spelling is Graph's)")
    ] = None
    render_not_functioning_event_ratio: Annotated[
        Number | None, doc("Fraction of the call with a playback device that did not work, 0 to 1")
    ] = None
    capture_not_functioning_event_ratio: Annotated[
        Number | None, doc("Fraction of the call with a capture device that did not work, 0 to 1")
    ] = None
    device_glitch_event_ratio: Annotated[
        Number | None, doc("Fraction of the call with gaps in playback or capture, 0 to 1")
    ] = None
    low_speech_to_noise_event_ratio: Annotated[
        Number | None, doc("Fraction of the call with speech too weak against noise, 0 to 1")
    ] = None
    low_speech_level_event_ratio: Annotated[
        Number | None, doc("Fraction of the call with too quiet speech, 0 to 1")
    ] = None
    device_clipping_event_ratio: Annotated[Number | None, doc("Fraction of the call with clipped capture, 0 to 1")] = (
        None
    )
    howling_event_count: Annotated[int | None, doc("How often echo howled")] = None
    render_zero_volume_event_ratio: Annotated[
        Number | None, doc("Fraction of the call with playback volume zero, 0 to 1")
    ] = None
    render_mute_event_ratio: Annotated[Number | None, doc("Fraction of the call with playback muted, 0 to 1")] = None
    mic_glitch_rate: Annotated[Number | None, doc("Glitches per five minutes, microphone")] = None
    speaker_glitch_rate: Annotated[Number | None, doc("Glitches per five minutes, loudspeaker")] = None


class SideGroup(EventStruct, frozen=True):
    """The caller's or the callee's side of a media line."""

    endpoint: EndpointGroup | None = None
    network: NetworkGroup | None = None
    device: DeviceGroup | None = None


class CallGroup(EventStruct, frozen=True, kw_only=True):
    """The call, as of one version of its record."""

    id: Annotated[str, doc("id of the call record, as Graph wrote it")]
    version: Annotated[int, doc("The larger version of an id supersedes the smaller")]
    type: Annotated[str | None, doc("groupCall, peerToPeer, unknown")] = None
    modalities: Annotated[list[str] | None, doc("Kinds of media negotiated, whether used or not")] = None
    start_date_time: Annotated[str | None, doc("When the first participant joined, UTC")] = None
    end_date_time: Annotated[str | None, doc("When the last participant left, UTC")] = None
    last_modified_date_time: Annotated[str | None, doc("When this version was produced, UTC")] = None
    duration_seconds: Annotated[Number | None, doc("Seconds from startDateTime to endDateTime")] = None
    join_web_url: Annotated[str | None, doc("Link to join the meeting: personal data")] = None
    organizer: IdentityGroup | None = None
    participant_count: Annotated[int, doc("Distinct identities among session ends and participants")]


class SessionGroup(EventStruct, frozen=True, kw_only=True):
    """One leg of the call: user to user, or participant (caller) to service (callee)."""

    id: Annotated[str | None, doc("Not unique in a call: index is")] = None
    index: Annotated[int, doc("Position in the record, from 0")]
    modalities: list[str] | None = None
    start_date_time: str | None = None
    end_date_time: str | None = None
    is_test: bool | None = None
    failure_info: FailureGroup | None = None
    caller: Annotated[EndpointGroup | None, doc("The session's caller where the segment has another")] = None
    callee: Annotated[EndpointGroup | None, doc("The session's callee where the segment has another")] = None


class SegmentGroup(EventStruct, frozen=True, kw_only=True):
    """A part of a session: one for VoIP, several for PSTN."""

    id: str | None = None
    index: Annotated[int, doc("Position in the session, from 0")]
    start_date_time: str | None = None
    end_date_time: str | None = None
    failure_info: FailureGroup | None = None


class MediaGroup(EventStruct, frozen=True, kw_only=True):
    """One media line of a segment."""

    label: Annotated[
        str | None, doc("Name from the SDP: main-audio, main-video, applicationsharing-video, data, …")
    ] = None
    index: Annotated[int, doc("Position in the segment, from 0")]
    kind: Annotated[MediaKind, doc("What the label says the line carries")]


class StreamGroup(EventStruct, frozen=True, kw_only=True):
    """One direction of a media line, and what was measured on it."""

    stream_id: Annotated[str | None, doc("Unique at most within its media line")] = None
    index: Annotated[int, doc("Position in the media line, from 0")]
    start_date_time: Annotated[str | None, doc("UTC; only for legs that use SIP")] = None
    end_date_time: Annotated[str | None, doc("UTC; only for legs that use SIP")] = None
    direction: Annotated[str | None, doc("Graph's streamDirection: callerToCallee or calleeToCaller")] = None
    sender: Annotated[End | None, doc("Which side sent the stream; left out when the direction is unknown")] = None
    receiver: Annotated[End | None, doc("Which side received the stream; left out when the direction is unknown")] = (
        None
    )
    audio_codec: str | None = None
    video_codec: str | None = None
    is_audio_forward_error_correction_used: bool | None = None
    was_media_bypassed: Annotated[bool | None, doc("Direct Routing: media went straight from client to SBC")] = None
    average_audio_degradation: Annotated[Number | None, doc("Mean loss of network MOS, MOS points (audio)")] = None
    average_jitter_ms: Annotated[Number | None, doc("Mean interarrival jitter (RFC 3550), milliseconds")] = None
    max_jitter_ms: Annotated[Number | None, doc("Largest jitter, milliseconds")] = None
    average_packet_loss_rate: Annotated[Number | None, doc("Mean packet loss, fraction 0 to 1")] = None
    max_packet_loss_rate: Annotated[Number | None, doc("Largest packet loss, fraction 0 to 1")] = None
    average_ratio_of_concealed_samples: Annotated[
        Number | None, doc("Frames that needed concealment, fraction 0 to 1 (audio)")
    ] = None
    max_ratio_of_concealed_samples: Annotated[Number | None, doc("Largest concealment, fraction 0 to 1 (audio)")] = None
    average_round_trip_time_ms: Annotated[Number | None, doc("Mean round trip (RFC 3550), milliseconds")] = None
    max_round_trip_time_ms: Annotated[Number | None, doc("Largest round trip, milliseconds")] = None
    packet_utilization: Annotated[int | None, doc("Packets in the stream; 0 when the direction was not used")] = None
    average_bandwidth_estimate: Annotated[int | None, doc("Mean estimated bandwidth, bits/s")] = None
    post_forward_error_correction_packet_loss_rate: Annotated[
        Number | None, doc("Loss left after error correction, fraction 0 to 1 (video)")
    ] = None
    average_video_frame_loss_percentage: Annotated[
        Number | None, doc("Frames lost as shown, percent 0 to 100 (video)")
    ] = None
    average_received_frame_rate: Annotated[Number | None, doc("Mean frames/s over all received video")] = None
    low_frame_rate_ratio: Annotated[Number | None, doc("Fraction of the call below 7.5 frames/s, 0 to 1 (video)")] = (
        None
    )
    average_video_packet_loss_rate: Annotated[Number | None, doc("Mean packet loss, fraction 0 to 1 (video)")] = None
    average_video_frame_rate: Annotated[Number | None, doc("Mean frames/s of the stream (video)")] = None
    low_video_processing_capability_ratio: Annotated[
        Number | None, doc("Fraction of the call below 70 % of the expected video processing, 0 to 1 (video)")
    ] = None
    average_audio_network_jitter_ms: Annotated[
        Number | None, doc("Mean jitter over windows of 20 seconds, milliseconds (audio)")
    ] = None
    max_audio_network_jitter_ms: Annotated[
        Number | None, doc("Largest jitter of a window of 20 seconds, milliseconds (audio)")
    ] = None
    average_freeze_duration_ms: Annotated[Number | None, doc("Mean length of freezes, milliseconds (video)")] = None
    rms_freeze_duration_ms: Annotated[
        Number | None, doc("Root mean square of the lengths of freezes, milliseconds (video)")
    ] = None


class QualityGroup(EventStruct, frozen=True):
    """The verdict on a stream. Network and device conditions, not what a person heard."""

    rule_set: Annotated[str, doc("Name of the rules in force, see docs/events.md")]
    verdict: Verdict
    reasons: Annotated[
        tuple[str, ...],
        doc("Keys of the stream group: the metrics that decided, or those that were missing or too small"),
    ]


class StreamEvent(EventStruct, frozen=True):
    """One media stream with everything around it."""

    schema_version: Annotated[int, doc("Grows only when an addition needs it")]
    id: Annotated[
        str,
        doc("{tenantId}/{callId}/{version}/{session}.{segment}.{media}.{stream} by position: unique and repeatable"),
    ]
    tenant_id: str
    call: CallGroup
    session: SessionGroup
    segment: SegmentGroup
    media: MediaGroup
    stream: StreamGroup
    caller: Annotated[SideGroup, doc("Always there, perhaps empty")]
    callee: Annotated[SideGroup, doc("Always there, perhaps empty")]
    quality: QualityGroup


class KindCounts(EventStruct, frozen=True):
    """How many streams of each kind of media."""

    audio: int
    video: int
    screen_sharing: int
    other: int


class Counts(EventStruct, frozen=True):
    """What the record holds."""

    sessions: int
    segments: int
    media: int
    streams: KindCounts
    poor: KindCounts
    unclassified: KindCounts


class Failure(EventStruct, frozen=True):
    """A session or segment that failed."""

    session_index: int
    segment_index: Annotated[int | None, doc("Left out when the session as a whole failed")] = None
    stage: str | None = None
    reason: Annotated[str | None, doc("Cut after 200 characters; stream events have it whole")] = None
    caller: IdentityGroup | None = None
    callee: IdentityGroup | None = None


class CallSummary(EventStruct, frozen=True, kw_only=True):
    """One version of a call: what it holds, who took part, what failed."""

    schema_version: int
    id: Annotated[str, doc("{tenantId}/{callId}/{version}")]
    tenant_id: str
    call: CallGroup
    counts: Counts
    event_count: Annotated[int, doc("How many stream events this version has")]
    failure_count: Annotated[int, doc("How many sessions and segments failed; failures may list fewer")] = 0
    failures: Annotated[list[Failure], doc("At most 500, and no more than 450 kB")]
    participants: Annotated[
        list[IdentityGroup], doc("At most 500, and no more than 450 kB; call.participantCount counts all")
    ]
