"""Who it was: current identities first, deprecated ones as filling and fallback, nobody lost."""

from typing import Any

import pytest

from service.record.identities import ZERO_GUID
from tests.core.test_record_flatten import one_stream, published

ID = "821809f5-0000-0000-0000-3b5136c0e777"
OTHER = "f69e2c00-0000-0000-0000-185e5f5f5d8a"


def who(**end: Any) -> dict[str, Any]:
    """The caller's identity for an endpoint with these properties."""
    (event,), _ = published(one_stream({"caller": end}))
    identity: dict[str, Any] = event["caller"]["endpoint"]["identity"]
    return identity


@pytest.mark.parametrize(
    ("identity", "kind"),
    [
        ({"@odata.type": "#microsoft.graph.callRecords.userIdentity", "id": "+15550100"}, "phone"),
        ({"@odata.type": "#microsoft.graph.callRecords.userIdentity", "id": ID, "email": "a@example.com"}, "user"),
        ({"@odata.type": "microsoft.graph.communicationsGuestIdentity", "id": ID}, "guest"),
        ({"@odata.type": "#MICROSOFT.GRAPH.COMMUNICATIONSPHONEIDENTITY", "id": ID}, "phone"),
        ({"@odata.type": "#microsoft.graph.communicationsApplicationInstanceIdentity"}, "applicationInstance"),
        ({"@odata.type": "#microsoft.graph.azureCommunicationServicesUserIdentity"}, "azureCommunicationServicesUser"),
        ({"@odata.type": "#microsoft.graph.identity", "id": "+1555010*"}, "phone"),
        ({"id": "+15550100"}, "phone"),
        ({"email": "a@example.com"}, "guest"),
        ({"applicationType": "bot"}, "application"),
        ({"azureCommunicationServicesResourceId": "r"}, "azureCommunicationServicesUser"),
        ({"id": ID}, "user"),
    ],
)
def test_an_associated_identity_has_the_kind_of_its_type_or_fields(identity: dict[str, Any], kind: str) -> None:
    """A number is a phone whatever its type says; else by type without case or `#`, else by fields, else user."""
    assert who(associatedIdentity=identity)["kind"] == kind


def test_the_deprecated_set_tells_the_kind_and_fills_the_gaps() -> None:
    """The same id in both, in whatever case, is one person."""
    got = who(
        associatedIdentity={"id": ID, "displayName": "Now"},
        identity={"guest": {"id": ID.upper(), "displayName": "Then", "tenantId": "t"}, "endpointType": "voicemail"},
    )

    assert got == {"kind": "guest", "id": ID, "displayName": "Now", "tenantId": "t", "endpointType": "voicemail"}


def test_other_identities_of_a_set_are_kept() -> None:
    """The likeliest leads by a fixed order; unknown members travel under their own name."""
    got = who(
        identity={"neverSeen": {"id": "n"}, "phone": {"id": "+1"}, "device": None, "user": {"id": ID}, "guest": {}}
    )

    assert got == {
        "kind": "user",
        "id": ID,
        "otherIdentities": [{"kind": "phone", "id": "+1"}, {"kind": "neverSeen", "id": "n"}],
    }


def test_an_identity_without_content_gives_way_to_one_with() -> None:
    """`associatedIdentity: {}` beside a deprecated identity that says something."""
    assert who(associatedIdentity={}, identity={"phone": {"id": "+1"}}) == {"kind": "phone", "id": "+1"}
    assert who(associatedIdentity={}) == {"kind": "user"}
    assert who(identity={"encrypted": {}}) == {"kind": "encrypted"}


def test_the_organizer_comes_from_the_new_property_and_falls_back_to_the_old() -> None:
    """With administrative units where there are any, and the participant's own id where it is another."""
    new = {"id": "p", "identity": {"user": {"id": ID}}, "administrativeUnitInfos": [{"id": "unit"}]}
    old = {"user": {"id": ID, "displayName": "Name"}}
    both = published({"organizer_v2": new, "organizer": old})[1]["call"]["organizer"]

    assert both == {
        "kind": "user",
        "id": ID,
        "displayName": "Name",
        "participantId": "p",
        "administrativeUnitInfos": [{"id": "unit"}],
    }
    assert published({"organizer": old})[1]["call"]["organizer"] == {"kind": "user", "id": ID, "displayName": "Name"}
    assert "organizer" not in published({"organizer_v2": {"identity": {"user": None}}, "organizer": {}})[1]["call"]


def test_participants_come_from_all_sources_once_and_in_order() -> None:
    """Sessions, caller before callee, then participants_v2, then the old list; later ones fill gaps."""
    sessions = [
        {"caller": {"associatedIdentity": {"id": ID}}, "callee": {"associatedIdentity": {"id": "+15550100"}}},
        {"caller": {"associatedIdentity": {"id": ID.upper(), "displayName": "Name"}}},
    ]
    document = {
        "sessions": sessions,
        "participants_v2": [{"id": OTHER, "identity": {"user": {"id": OTHER}}}, {"identity": None}],
        "participants": [{"user": {"id": OTHER, "tenantId": "t"}}, {"guest": {"displayName": "G"}}],
    }
    _, summary = published(document)

    assert summary["participants"] == [
        {"kind": "user", "id": ID, "displayName": "Name"},
        {"kind": "phone", "id": "+15550100"},
        {"kind": "user", "id": OTHER, "tenantId": "t"},
        {"kind": "guest", "displayName": "G"},
    ]
    assert summary["call"]["participantCount"] == 4


@pytest.mark.parametrize("identifier", [ZERO_GUID, None, ""])
def test_anonymous_people_are_told_apart_by_name(identifier: str | None) -> None:
    """A zero GUID or no id is nobody in particular."""
    people = [{"guest": {"id": identifier, "displayName": name}} for name in ("A", "B", "A")]
    _, summary = published({"participants": people})

    assert [person["displayName"] for person in summary["participants"]] == ["A", "B"]
