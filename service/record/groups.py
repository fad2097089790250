"""The groups of an event that stand for one object of the record each: endpoint, network, device, stream.

Whole numbers lose their `.0`: Graph writes `0` and `0.0` alike, and an event must not depend on which.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import astuple

from service.record import identities
from service.record.events import (
    AgentKind,
    DeviceGroup,
    End,
    EndpointGroup,
    EndpointKind,
    FailureGroup,
    FeedbackGroup,
    NetworkGroup,
    StreamGroup,
    TraceRouteHopGroup,
    UserAgentGroup,
)
from service.record.model import (
    DeviceInfo,
    Endpoint,
    FailureInfo,
    MediaStream,
    NetworkInfo,
    TraceRouteHop,
    UserAgent,
    UserFeedback,
)
from service.record.times import as_utc, milliseconds

_EXACT: Final = 2**53  # beyond it a double no longer tells neighbouring whole numbers apart

_ENDS: Final[dict[str, tuple[End, End]]] = {
    "callertocallee": ("caller", "callee"),
    "calleetocaller": ("callee", "caller"),
}
_NETWORK_SINGLES: Final = slice(20, 24)  # sentQualityEventRatio to bandwidthLowEventRatio
_DEVICE_SINGLES: Final = slice(8, 21)  # initialSignalLevelRootMeanSquare to speakerGlitchRate
_NO_NETWORK: Final = NetworkInfo()
_NO_DEVICE: Final = DeviceInfo()
_NO_AGENT: Final = astuple(UserAgent())[1:]  # all but the type


def _has_whole_float(values: Iterable[Any]) -> bool:
    """Nearly never true, so it is asked before anything is copied; and asked of the fields of type Single alone."""
    for value in values:  # noqa: SIM110  a generator would cost more than the question
        if value.__class__ is float and value.is_integer():
            return True
    return False


def _plain(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values, whole floats as ints."""
    return tuple(int(v) if isinstance(v, float) and v.is_integer() and abs(v) <= _EXACT else v for v in values)


def failure_group(failure: FailureInfo | None) -> FailureGroup | None:
    """None where Graph sent an object that says nothing."""
    if failure is None or (failure.stage is None and failure.reason is None):
        return None
    return FailureGroup(failure.stage, failure.reason)


def network_group(network: NetworkInfo | None) -> NetworkGroup | None:
    """One side's network. The two structs have the same fields in the same order; a test holds them to it."""
    if network is None or network == _NO_NETWORK:
        return None
    values = astuple(network)
    if _has_whole_float(values[_NETWORK_SINGLES]):
        values = _plain(values)
    hops = network.trace_route_hops
    return NetworkGroup(*(*values[:-1], None if hops is None else [_hop_group(hop) for hop in hops]))


def _hop_group(hop: TraceRouteHop) -> TraceRouteHopGroup:
    return TraceRouteHopGroup(hop.hop_count, hop.ip_address, _ms(hop.round_trip_time))


def device_group(device: DeviceInfo | None) -> DeviceGroup | None:
    """One side's devices. The two structs have the same fields in the same order; a test holds them to it."""
    if device is None or device == _NO_DEVICE:
        return None
    values = astuple(device)
    return DeviceGroup(*(_plain(values) if _has_whole_float(values[_DEVICE_SINGLES]) else values))


def endpoint_group(endpoint: Endpoint | None) -> EndpointGroup | None:
    """One end of the call, in one shape whether it is a participant or a service."""
    if endpoint is None:
        return None
    return EndpointGroup(
        _endpoint_kind(endpoint),
        endpoint.name,
        endpoint.cpu_name,
        endpoint.cpu_cores_count,
        endpoint.cpu_processor_speed_in_mhz,
        _user_agent_group(endpoint.user_agent),
        identities.of_endpoint(endpoint),
        _feedback_group(endpoint.feedback),
    )


def _endpoint_kind(endpoint: Endpoint) -> EndpointKind:
    """By its type; where that is missing or only the base, by the fields that one kind alone has."""
    name = identities.type_name(endpoint.odata_type)
    if name == "participantendpoint":
        return "participant"
    if name == "serviceendpoint":
        return "service"
    if not (endpoint.associated_identity is None and endpoint.identity is None and endpoint.feedback is None):
        return "participant"
    agent = endpoint.user_agent
    return "service" if agent is not None and _agent_kind(agent) == "service" else "endpoint"


def _agent_kind(agent: UserAgent) -> AgentKind:
    name = identities.type_name(agent.odata_type)
    if name == "clientuseragent":
        return "client"
    if name == "serviceuseragent" or agent.role is not None:
        return "service"
    client_fields = (agent.platform, agent.product_family, agent.azure_ad_app_id, agent.communication_service_id)
    return "unknown" if client_fields == (None, None, None, None) else "client"


def _user_agent_group(agent: UserAgent | None) -> UserAgentGroup | None:
    if agent is None:
        return None
    values = astuple(agent)[1:]
    return None if values == _NO_AGENT else UserAgentGroup(_agent_kind(agent), *values)


def _feedback_group(feedback: UserFeedback | None) -> FeedbackGroup | None:
    if feedback is None:
        return None
    tokens = feedback.tokens
    return FeedbackGroup(
        feedback.rating,
        feedback.text,
        None if tokens is None else {name: value for name, value in tokens.items() if value is not None},
    )


def stream_group(stream: MediaStream, index: int) -> StreamGroup:
    """One stream with its metrics; durations in milliseconds."""
    # fmt: off
    (stream_id, start, end, direction, audio_codec, video_codec, is_fec_used, was_bypassed,
     degradation, jitter, max_jitter, loss, max_loss, concealed, max_concealed, round_trip, max_round_trip,
     packets, bandwidth, loss_after_fec, frame_loss, received_rate, low_rate, video_loss, frame_rate, low_capability,
     audio_jitter, max_audio_jitter, freeze, rms_freeze) = astuple(stream)
    singles = (degradation, loss, max_loss, concealed, max_concealed, loss_after_fec, frame_loss, received_rate,
               low_rate, video_loss, frame_rate, low_capability)
    if _has_whole_float(singles):
        (degradation, loss, max_loss, concealed, max_concealed, loss_after_fec, frame_loss, received_rate, low_rate,
         video_loss, frame_rate, low_capability) = _plain(singles)
    # fmt: on
    sender, receiver = (None, None) if direction is None else _ENDS.get(direction.lower(), (None, None))
    return StreamGroup(
        stream_id=stream_id,
        index=index,
        start_date_time=None if start is None else as_utc(start),
        end_date_time=None if end is None else as_utc(end),
        direction=direction,
        sender=sender,
        receiver=receiver,
        audio_codec=audio_codec,
        video_codec=video_codec,
        is_audio_forward_error_correction_used=is_fec_used,
        was_media_bypassed=was_bypassed,
        average_audio_degradation=degradation,
        average_jitter_ms=None if jitter is None else milliseconds(jitter),
        max_jitter_ms=None if max_jitter is None else milliseconds(max_jitter),
        average_packet_loss_rate=loss,
        max_packet_loss_rate=max_loss,
        average_ratio_of_concealed_samples=concealed,
        max_ratio_of_concealed_samples=max_concealed,
        average_round_trip_time_ms=None if round_trip is None else milliseconds(round_trip),
        max_round_trip_time_ms=None if max_round_trip is None else milliseconds(max_round_trip),
        packet_utilization=packets,
        average_bandwidth_estimate=bandwidth,
        post_forward_error_correction_packet_loss_rate=loss_after_fec,
        average_video_frame_loss_percentage=frame_loss,
        average_received_frame_rate=received_rate,
        low_frame_rate_ratio=low_rate,
        average_video_packet_loss_rate=video_loss,
        average_video_frame_rate=frame_rate,
        low_video_processing_capability_ratio=low_capability,
        average_audio_network_jitter_ms=None if audio_jitter is None else milliseconds(audio_jitter),
        max_audio_network_jitter_ms=None if max_audio_jitter is None else milliseconds(max_audio_jitter),
        average_freeze_duration_ms=None if freeze is None else milliseconds(freeze),
        rms_freeze_duration_ms=None if rms_freeze is None else milliseconds(rms_freeze),
    )


def _ms(text: str | None) -> int | float | None:
    return None if text is None else milliseconds(text)
