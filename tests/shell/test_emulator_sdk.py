# mypy: disable-error-code="import-not-found"
"""Microsoft's own beta SDK against the emulator: seed 004 made, read back, changed, by the library its users have.

The SDK is 0.7 GB installed, so it is no dependency of the tests: `pip install msgraph-beta-sdk` beside them to run it.

Version 1.66 of it writes a duration as Python does (`0:00:00.036000`) and reads such a text back as nothing; the
emulator stores it in Graph's own form, so that what is read back is whole.
"""

import datetime as dt
from typing import Any

import pytest

from service.clock import Clock
from service.emulator.options import EmulatorOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.timespans import as_iso

pytest.importorskip("msgraph_beta", reason="Microsoft's beta SDK is not installed: pip install msgraph-beta-sdk")

BEGIN = dt.datetime(2026, 11, 20, 9, 30, 15, 250_000, dt.UTC)
END = dt.datetime(2026, 11, 20, 10, 0, tzinfo=dt.UTC)
SESSION_ID = "6b1f2c1e-58a3-4d31-9d5c-0d4a4c6b1f10"
pytestmark = pytest.mark.filterwarnings("default")  # the SDK's own deprecations are not ours


def make_session() -> Any:
    """Every parameter of New-MgBetaCommunicationCallRecordSession (seed 004)."""
    from msgraph_beta.generated.models.call_records.modality import Modality
    from msgraph_beta.generated.models.call_records.session import Session

    return Session(
        id=SESSION_ID,
        caller=_caller(),
        callee=_callee(),
        start_date_time=BEGIN,
        end_date_time=END,
        failure_info=_failure(),
        is_test=True,
        modalities=[Modality.Audio, Modality.VideoBasedScreenSharing],
        segments=[_segment()],
        additional_data={"departmentName": "Sales", "tags": ["a", "b"]},
    )


def _caller() -> Any:
    from msgraph_beta.generated.models.call_records.client_platform import ClientPlatform
    from msgraph_beta.generated.models.call_records.client_user_agent import ClientUserAgent
    from msgraph_beta.generated.models.call_records.participant_endpoint import ParticipantEndpoint
    from msgraph_beta.generated.models.call_records.product_family import ProductFamily

    agent = ClientUserAgent(
        header_value="CallSignalingAgent/1",
        application_version="1.2.3",
        platform=ClientPlatform.Windows,
        product_family=ProductFamily.Teams,
    )
    return ParticipantEndpoint(
        odata_type="#microsoft.graph.callRecords.participantEndpoint",
        name="LAPTOP-1",
        cpu_name="CPU",
        cpu_cores_count=8,
        cpu_processor_speed_in_mhz=2400,
        user_agent=agent,
    )


def _callee() -> Any:
    from msgraph_beta.generated.models.call_records.service_endpoint import ServiceEndpoint
    from msgraph_beta.generated.models.call_records.service_role import ServiceRole
    from msgraph_beta.generated.models.call_records.service_user_agent import ServiceUserAgent

    return ServiceEndpoint(
        odata_type="#microsoft.graph.callRecords.serviceEndpoint",
        user_agent=ServiceUserAgent(header_value="MediaController", role=ServiceRole.MediaController),
    )


def _failure() -> Any:
    from msgraph_beta.generated.models.call_records.failure_info import FailureInfo
    from msgraph_beta.generated.models.call_records.failure_stage import FailureStage

    return FailureInfo(reason="Network path lost", stage=FailureStage.Midcall)


def _segment() -> Any:
    from msgraph_beta.generated.models.call_records.segment import Segment

    return Segment(
        id="segment-of-the-sdk",
        caller=_caller(),
        callee=_callee(),
        start_date_time=BEGIN,
        end_date_time=END,
        failure_info=_failure(),
        media=[_media()],
    )


def _media() -> Any:
    from msgraph_beta.generated.models.call_records.media import Media

    return Media(
        label="main-audio",
        caller_network=_network(),
        callee_network=_network(),
        caller_device=_device(),
        callee_device=_device(),
        streams=[_stream()],
    )


def _network() -> Any:
    """Every property of networkInfo, by the model's own declaration."""
    from msgraph_beta.generated.models.call_records.network_info import NetworkInfo
    from msgraph_beta.generated.models.call_records.trace_route_hop import TraceRouteHop

    network = _filled(NetworkInfo())
    network.trace_route_hops = [
        TraceRouteHop(hop_count=1, ip_address="10.0.0.1", round_trip_time=dt.timedelta(milliseconds=3)),
        TraceRouteHop(hop_count=2, ip_address="10.0.0.2", round_trip_time=dt.timedelta(milliseconds=9)),
    ]
    return network


def _device() -> Any:
    from msgraph_beta.generated.models.call_records.device_info import DeviceInfo

    return _filled(DeviceInfo())


def _stream() -> Any:
    from msgraph_beta.generated.models.call_records.media_stream import MediaStream

    return _filled(MediaStream())


def _filled(model: Any) -> Any:
    """`model` with a value in every declared property, by its annotated type."""
    for number, (name, annotation) in enumerate(sorted(type(model).__annotations__.items())):
        value = _value_for(str(annotation), number)
        if value is not None:
            setattr(model, name, value)
    return model


def _value_for(annotation: str, number: int) -> Any:
    import importlib
    import re

    for kind, value in (
        ("bool", True),
        ("int", 10 + number),
        ("float", number + 0.5),
        ("datetime.datetime", BEGIN),
        ("datetime.timedelta", dt.timedelta(milliseconds=20 + number)),
        ("str", f"text {number}"),
    ):
        if annotation == f"Optional[{kind}]":
            return value
    name = re.fullmatch(r"Optional\[(\w+)\]", annotation)
    if name is None:
        return None
    module = re.sub(r"(?<!^)(?=[A-Z])", "_", name[1]).lower()
    enum = getattr(importlib.import_module(f"msgraph_beta.generated.models.call_records.{module}"), name[1])
    return list(enum)[1]


def make_client(emulator: Emulator) -> Any:
    """The SDK's client without authentication, pointed at the emulator's /beta."""
    from kiota_abstractions.authentication.anonymous_authentication_provider import AnonymousAuthenticationProvider
    from msgraph_beta import GraphRequestAdapter, GraphServiceClient

    adapter = GraphRequestAdapter(AnonymousAuthenticationProvider())
    adapter.base_url = f"{emulator.url}/beta"
    return GraphServiceClient(request_adapter=adapter)


def with_iso_durations(value: Any) -> Any:
    """What the emulator stores of what the SDK wrote: durations in Graph's own form."""
    if isinstance(value, dict):
        return {name: with_iso_durations(as_iso(x) if isinstance(x, str) else x) for name, x in value.items()}
    return [with_iso_durations(item) for item in value] if isinstance(value, list) else value


def plain(model: Any) -> Any:
    """A model as the SDK itself writes it, for comparing."""
    from kiota_serialization_json.json_serialization_writer import JsonSerializationWriter

    writer = JsonSerializationWriter()
    model.serialize(writer)
    return writer.writer


async def test_the_sdk_makes_a_session_with_every_parameter_and_reads_it_back() -> None:
    """POST, list, get with expand, and PATCH of seed 004's resource, and segments of seeds 000 to 002."""
    from kiota_abstractions.base_request_configuration import RequestConfiguration
    from msgraph_beta.generated.communications.call_records.item.sessions.item.session_item_request_builder import (
        SessionItemRequestBuilder,
    )
    from msgraph_beta.generated.models.call_records.segment import Segment
    from msgraph_beta.generated.models.call_records.session import Session

    async with open_emulator(EmulatorOptions(port=0, calls=1, open=True), Clock()) as emulator:
        call = next(emulator.store.calls())
        client = make_client(emulator)
        sessions = client.communications.call_records.by_call_record_id(call.id).sessions
        before = len(call.current.unpack()["sessions"])
        made = await sessions.post(make_session())
        stored = call.current.unpack()["sessions"][-1]
        listed = await sessions.get()
        query = SessionItemRequestBuilder.SessionItemRequestBuilderGetQueryParameters(expand=["segments"])
        one = sessions.by_session_id(SESSION_ID)
        read = await one.get(RequestConfiguration(query_parameters=query))
        changed = await one.patch(Session(is_test=False))
        segments = await one.segments.get()
        added = await one.segments.post(Segment(media=[_media()]))
        updated = await one.segments.by_segment_id(added.id).patch(Segment(failure_info=_failure()))
        found = await one.segments.by_segment_id(added.id).get()
        await client.request_adapter._http_client._transport.transport.aclose()  # the SDK forgets to

        assert stored == with_iso_durations(plain(make_session()))
        assert plain(made) == plain(make_session())
        assert [session.id for session in listed.value][-1] == SESSION_ID
        assert len(listed.value) == before + 1
        assert plain(read.segments[0]) == plain(_segment())
        assert read.additional_data["departmentName"] == "Sales"
        assert (changed.is_test, changed.failure_info.reason) == (False, "Network path lost")
        assert [plain(segment) for segment in segments.value] == [plain(_segment())]
        assert {**plain(found), **plain(updated)} == plain(found)
        assert call.current.number == 5
