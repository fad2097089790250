"""The callRecord resource tree as Graph sends it, v1.0 and beta: every property, nothing renamed, nothing judged.

Field names are Graph's own in snake case; the wire name is given where camel case alone would not lead back to it
(`cpuInsufficent…` is misspelt on the wire and here). Every field is optional, and None means absent or null: Graph
drops nulls when asked to (`Prefer: omit-values=nulls`), so the two cannot differ in meaning. Fields stand in the order
of the events, see `events.py`.

Date-times, durations and enumerations are text. Date-times carry seven digits, which `datetime` would cut; enumerations
gain members without notice, and a closed enum would refuse a good record. What kind of text a field holds is noted in
its `Meta.extra`, where `decode.py` and `lenient.py` look it up. A `Meta(pattern=…)` would say the same, but msgspec
takes 0.45 µs for each match, a third of all time spent on an event; the check in `decode.py` remembers the texts it has
seen and takes a tenth of that.

Source: https://learn.microsoft.com/graph/api/resources/callrecords-callrecord and the pages beside it; schema of
2026-08-20.
"""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Struct, field

Int32: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None
Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None

# Edm.Single. `0` stays an int; a whole number no double can hold exactly comes through the lenient pass as a float.
Single: TypeAlias = Annotated[int, Meta(ge=-(2**53), le=2**53)] | float | None

DateTime: TypeAlias = Annotated[str, Meta(extra={"format": "date-time"})] | None
Duration: TypeAlias = Annotated[str, Meta(extra={"format": "duration"})] | None

CallType: TypeAlias = Annotated[str, Meta(extra={"enum": "callType"})] | None
Modality: TypeAlias = Annotated[str, Meta(extra={"enum": "modality"})]
FailureStage: TypeAlias = Annotated[str, Meta(extra={"enum": "failureStage"})] | None
StreamDirection: TypeAlias = Annotated[str, Meta(extra={"enum": "mediaStreamDirection"})] | None
AudioCodec: TypeAlias = Annotated[str, Meta(extra={"enum": "audioCodec"})] | None
VideoCodec: TypeAlias = Annotated[str, Meta(extra={"enum": "videoCodec"})] | None
ConnectionType: TypeAlias = Annotated[str, Meta(extra={"enum": "networkConnectionType"})] | None
TransportProtocol: TypeAlias = Annotated[str, Meta(extra={"enum": "networkTransportProtocol"})] | None
WifiBand: TypeAlias = Annotated[str, Meta(extra={"enum": "wifiBand"})] | None
WifiRadioType: TypeAlias = Annotated[str, Meta(extra={"enum": "wifiRadioType"})] | None
ClientPlatform: TypeAlias = Annotated[str, Meta(extra={"enum": "clientPlatform"})] | None
ProductFamily: TypeAlias = Annotated[str, Meta(extra={"enum": "productFamily"})] | None
ServiceRole: TypeAlias = Annotated[str, Meta(extra={"enum": "serviceRole"})] | None
FeedbackRating: TypeAlias = Annotated[str, Meta(extra={"enum": "userFeedbackRating"})] | None

# The members known when the schema was read, to tell a new one when asked. Compared without case: Microsoft's own
# fixtures write `Windows`. `unknown` is a known modality to the documentation, though not to the schema.
ENUMS: Final[dict[str, frozenset[str]]] = {
    name: frozenset(member.lower() for member in members.split()) | {"unknownfuturevalue"}
    for name, members in {
        "callType": "unknown groupCall peerToPeer",
        "modality": "unknown audio video videoBasedScreenSharing data screenSharing",
        "failureStage": "unknown callSetup midcall",
        "mediaStreamDirection": "callerToCallee calleeToCaller",
        "audioCodec": "unknown invalid cn pcma pcmu amrWide g722 g7221 g7221c g729 multiChannelAudio muchv2 opus satin"
        " satinFullband rtAudio8 rtAudio16 silk silkNarrow silkWide siren xmsRta",
        "videoCodec": "unknown invalid av1 h263 h264 h264s h264uc h265 rtvc1 rtVideo xrtvc1",
        "networkConnectionType": "unknown wired wifi mobile tunnel",
        "networkTransportProtocol": "unknown udp tcp",
        "wifiBand": "unknown frequency24GHz frequency50GHz frequency60GHz",
        "wifiRadioType": "unknown wifi80211a wifi80211b wifi80211g wifi80211n wifi80211ac wifi80211ax",
        "clientPlatform": "unknown windows macOS iOS android web ipPhone roomSystem surfaceHub holoLens",
        "productFamily": "unknown teams skypeForBusiness lync azureCommunicationServices",
        "serviceRole": "unknown customBot skypeForBusinessMicrosoftTeamsGateway skypeForBusinessAudioVideoMcu"
        " skypeForBusinessApplicationSharingMcu skypeForBusinessCallQueues skypeForBusinessAutoAttendant"
        " mediationServer mediationServerCloudConnectorEdition exchangeUnifiedMessagingService mediaController"
        " conferencingAnnouncementService conferencingAttendant audioTeleconferencerController"
        " skypeForBusinessUnifiedCommunicationApplicationPlatform responseGroupServiceAnnouncementService gateway"
        " skypeTranslator skypeForBusinessAttendant responseGroupService voicemail",
        "userFeedbackRating": "notRated bad poor fair good excellent",
        "endpointType": "default voicemail skypeForBusiness skypeForBusinessVoipPhone",
    }.items()
}


# No struct here can be part of a reference cycle, so the garbage collector need not visit them (`gc=False`).
class GraphStruct(Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """What every struct of the tree has in common."""


class Identity(GraphStruct, frozen=True):
    """graph.identity and all that derive from it.

    One struct for the family: `@odata.type` is often missing, and fields of one type turn up undeclared on another
    (`tenantId`).
    """

    odata_type: str | None = field(default=None, name="@odata.type")
    id: str | None = None
    display_name: str | None = None
    tenant_id: str | None = None
    user_principal_name: str | None = None
    email: str | None = None
    application_type: str | None = None
    hidden: bool | None = None
    azure_communication_services_resource_id: str | None = None


# graph.identitySet and communicationsIdentitySet: member name → identity. An open type whose undeclared members matter
# (`acsUser`), so it stays a mapping; `endpointType` and `@odata.type` are its only members that are text.
IdentitySet: TypeAlias = dict[str, Identity | str | None]

# What one identity of a set is, by member name, the likeliest first; declared members and the undeclared ones seen in
# practice.
IDENTITY_MEMBERS: Final = (
    "user",
    "phone",
    "guest",
    "azureCommunicationServicesUser",
    "acsUser",
    "spoolUser",
    "applicationInstance",
    "acsApplicationInstance",
    "spoolApplicationInstance",
    "application",
    "onPremises",
    "encrypted",
    "assertedIdentity",
    "device",
)


class AdministrativeUnitInfo(GraphStruct, frozen=True):
    """An Entra administrative unit that the identity belongs to."""

    id: str | None = None


class Participant(GraphStruct, frozen=True):
    """participant and organizer: both are participantBase and add nothing."""

    id: str | None = None
    identity: IdentitySet | None = None
    administrative_unit_infos: list[AdministrativeUnitInfo] | None = None


class UserFeedback(GraphStruct, frozen=True):
    """What a participant answered when asked about the call.

    `tokens` is an open set of booleans whose names are not stable.
    """

    rating: FeedbackRating = None
    text: str | None = None
    tokens: dict[str, bool | None] | None = None


class UserAgent(GraphStruct, frozen=True):
    """userAgent, clientUserAgent and serviceUserAgent in one.

    The discriminator cannot be relied on to choose between them: it is missing with `odata.metadata=none`, and a
    service endpoint usually carries a *client* user agent.
    """

    odata_type: str | None = field(default=None, name="@odata.type")
    header_value: str | None = None
    application_version: str | None = None
    role: ServiceRole = None
    platform: ClientPlatform = None
    product_family: ProductFamily = None
    azure_ad_app_id: str | None = field(default=None, name="azureADAppId")
    communication_service_id: str | None = None


class Endpoint(GraphStruct, frozen=True):
    """endpoint, participantEndpoint and serviceEndpoint in one, for the reason given at `UserAgent`."""

    odata_type: str | None = field(default=None, name="@odata.type")
    name: str | None = None
    cpu_name: str | None = None
    cpu_cores_count: Int32 = None
    cpu_processor_speed_in_mhz: Int32 = None
    user_agent: UserAgent | None = None
    associated_identity: Identity | None = None
    identity: IdentitySet | None = None
    feedback: UserFeedback | None = None


class FailureInfo(GraphStruct, frozen=True):
    """Why a session or segment failed. Present with null members in some bodies that report no failure."""

    stage: FailureStage = None
    reason: str | None = None


class TraceRouteHop(GraphStruct, frozen=True):
    """One hop between client and peer. Graph says since 2026-06 that it no longer fills these."""

    hop_count: Int32 = None
    ip_address: str | None = None
    round_trip_time: Duration = None


class NetworkInfo(GraphStruct, frozen=True):
    """One side's network.

    `...Ratio` are fractions of the call (0 to 1), speeds bits/s, `wifi…Strength` and `…Charge` percent.
    """

    ip_address: str | None = None
    subnet: str | None = None
    link_speed: Int64 = None
    connection_type: ConnectionType = None
    port: Int32 = None
    reflexive_ip_address: str | None = field(default=None, name="reflexiveIPAddress")
    relay_ip_address: str | None = field(default=None, name="relayIPAddress")
    relay_port: Int32 = None
    mac_address: str | None = None
    wifi_microsoft_driver: str | None = None
    wifi_microsoft_driver_version: str | None = None
    wifi_vendor_driver: str | None = None
    wifi_vendor_driver_version: str | None = None
    wifi_channel: Int32 = None
    wifi_band: WifiBand = None
    basic_service_set_identifier: str | None = None
    wifi_radio_type: WifiRadioType = None
    wifi_signal_strength: Int32 = None
    wifi_battery_charge: Int32 = None
    dns_suffix: str | None = None
    sent_quality_event_ratio: Single = None
    received_quality_event_ratio: Single = None
    delay_event_ratio: Single = None
    bandwidth_low_event_ratio: Single = None
    network_transport_protocol: TransportProtocol = None
    trace_route_hops: list[TraceRouteHop] | None = None


class DeviceInfo(GraphStruct, frozen=True):
    """One side's audio devices.

    `...Ratio` are fractions of the call (0 to 1), `...GlitchRate` glitches per five minutes.
    """

    capture_device_name: str | None = None
    capture_device_driver: str | None = None
    render_device_name: str | None = None
    render_device_driver: str | None = None
    sent_signal_level: Int32 = None
    received_signal_level: Int32 = None
    sent_noise_level: Int32 = None
    received_noise_level: Int32 = None
    initial_signal_level_root_mean_square: Single = None
    cpu_insufficent_event_ratio: Single = None
    render_not_functioning_event_ratio: Single = None
    capture_not_functioning_event_ratio: Single = None
    device_glitch_event_ratio: Single = None
    low_speech_to_noise_event_ratio: Single = None
    low_speech_level_event_ratio: Single = None
    device_clipping_event_ratio: Single = None
    howling_event_count: Int32 = None
    render_zero_volume_event_ratio: Single = None
    render_mute_event_ratio: Single = None
    mic_glitch_rate: Single = None
    speaker_glitch_rate: Single = None


class MediaStream(GraphStruct, frozen=True):
    """One direction of a media line.

    `...Rate` and `...Ratio` are fractions (0 to 1); `averageVideoFrameLossPercentage` is 0 to 100.
    """

    stream_id: str | None = None
    start_date_time: DateTime = None
    end_date_time: DateTime = None
    stream_direction: StreamDirection = None
    audio_codec: AudioCodec = None
    video_codec: VideoCodec = None
    is_audio_forward_error_correction_used: bool | None = None
    was_media_bypassed: bool | None = None
    average_audio_degradation: Single = None
    average_jitter: Duration = None
    max_jitter: Duration = None
    average_packet_loss_rate: Single = None
    max_packet_loss_rate: Single = None
    average_ratio_of_concealed_samples: Single = None
    max_ratio_of_concealed_samples: Single = None
    average_round_trip_time: Duration = None
    max_round_trip_time: Duration = None
    packet_utilization: Int64 = None
    average_bandwidth_estimate: Int64 = None
    post_forward_error_correction_packet_loss_rate: Single = None
    average_video_frame_loss_percentage: Single = None
    average_received_frame_rate: Single = None
    low_frame_rate_ratio: Single = None
    average_video_packet_loss_rate: Single = None
    average_video_frame_rate: Single = None
    low_video_processing_capability_ratio: Single = None
    average_audio_network_jitter: Duration = None
    max_audio_network_jitter: Duration = None
    average_freeze_duration: Duration = None
    rms_freeze_duration: Duration = None


class Media(GraphStruct, frozen=True):
    """One media line.

    `label` is its name from the SDP: `main-audio`, `main-video`, `applicationsharing-video`, `data` were seen.
    """

    label: str | None = None
    caller_network: NetworkInfo | None = None
    callee_network: NetworkInfo | None = None
    caller_device: DeviceInfo | None = None
    callee_device: DeviceInfo | None = None
    streams: list[MediaStream] | None = None


class Segment(GraphStruct, frozen=True):
    """A part of a session: one for VoIP, several for PSTN."""

    id: str | None = None
    start_date_time: DateTime = None
    end_date_time: DateTime = None
    caller: Endpoint | None = None
    callee: Endpoint | None = None
    failure_info: FailureInfo | None = None
    media: list[Media] | None = None


class Session(GraphStruct, frozen=True):
    """A leg of the call.

    User to user, or in a meeting participant (caller) to service (callee). `id` can repeat in a record.
    """

    id: str | None = None
    modalities: list[Modality] | None = None
    start_date_time: DateTime = None
    end_date_time: DateTime = None
    is_test: bool | None = None
    caller: Endpoint | None = None
    callee: Endpoint | None = None
    failure_info: FailureInfo | None = None
    segments: list[Segment] | None = None


class CallRecord(GraphStruct, frozen=True):
    """The record of one call. A decoded one always has `id` and `version`.

    The links of further pages are opaque. Graph's older pages spell them `nextlink`; use `sessions_next_link` and
    `participants_next_link` of a record that came from `decode_record`, which has put any spelling there.
    """

    id: str | None = None
    version: Int64 = None
    type: CallType = None
    modalities: list[Modality] | None = None
    last_modified_date_time: DateTime = None
    start_date_time: DateTime = None
    end_date_time: DateTime = None
    join_web_url: str | None = None
    organizer_v2: Participant | None = field(default=None, name="organizer_v2")
    organizer: IdentitySet | None = None
    participants_v2: list[Participant] | None = field(default=None, name="participants_v2")
    participants: list[IdentitySet] | None = None
    sessions: list[Session] | None = None
    sessions_next_link: str | None = field(default=None, name="sessions@odata.nextLink")
    participants_next_link: str | None = field(default=None, name="participants_v2@odata.nextLink")


class SessionsPage(GraphStruct, frozen=True):
    """A page of `GET …/sessions?$expand=segments`, at most 60."""

    value: list[Session] | None = None
    next_link: str | None = field(default=None, name="@odata.nextLink")


class ParticipantsPage(GraphStruct, frozen=True):
    """A page of `GET …/participants_v2`, at most 130."""

    value: list[Participant] | None = None
    next_link: str | None = field(default=None, name="@odata.nextLink")
