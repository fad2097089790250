"""How endpoints, identities and participants must come out (design section 6, graph-contract 7.5 and 7.7)."""

import re
from collections.abc import Iterator
from typing import Any

from service.emulator.expect_values import flag, objects, project, text, whole

_PHONE_NUMBER = re.compile(r"\+\d[\d*]*", re.ASCII)  # the last digits can be hidden: +1425555****
_ZERO_GUID = "00000000-0000-0000-0000-000000000000"

_IDENTITY = {
    "id": text,
    "displayName": text,
    "tenantId": text,
    "userPrincipalName": text,
    "email": text,
    "azureCommunicationServicesResourceId": text,
    "applicationType": text,
    "hidden": flag,
}
_ENDPOINT = {"name": text, "cpuCoresCount": whole, "cpuName": text, "cpuProcessorSpeedInMhz": whole}
_CLIENT_ONLY = {"azureADAppId": text, "communicationServiceId": text, "platform": text, "productFamily": text}
_USER_AGENT = {"applicationVersion": text, "headerValue": text, **_CLIENT_ONLY, "role": text}
_FEEDBACK = {"rating": text, "text": text}

#: The member of an identity set that counts as the identity: the first of these that is there (graph-contract 7.5).
_PRIORITY = (
    "user",
    "phone",
    "guest",
    "azureCommunicationServicesUser",
    "acsUser",
    "applicationInstance",
    "application",
    "onPremises",
    "encrypted",
    "device",
)
#: Kind of a participant of whom there is an id and no identity.
_NO_IDENTITY = "unknown"
#: Kind by the last word of `@odata.type`; every other type is a user's.
_KIND_BY_TYPE = {
    "communicationsphoneidentity": "phone",
    "communicationsguestidentity": "guest",
    "azurecommunicationservicesuseridentity": "azureCommunicationServicesUser",
    "communicationsapplicationinstanceidentity": "applicationInstance",
    "communicationsapplicationidentity": "application",
    "communicationsencryptedidentity": "encrypted",
}


def _type_of(source: Any) -> str:
    """The last word of the discriminator in lower case; both `#microsoft...` and `microsoft...` occur."""
    declared = source.get("@odata.type") if isinstance(source, dict) else None
    return str(declared or "").rpartition(".")[2].lower()


def expected_endpoint(source: Any) -> dict[str, Any] | None:
    """The `endpoint` group of a session's or segment's caller or callee; None when there is none."""
    if not isinstance(source, dict):
        return None
    endpoint = {"kind": _endpoint_kind(source), **project(source, _ENDPOINT)}
    parts = {
        "userAgent": _user_agent(source.get("userAgent")),
        "identity": _endpoint_identity(source),
        "feedback": _feedback(source.get("feedback")),
    }
    return endpoint | {name: part for name, part in parts.items() if part is not None}


def _endpoint_kind(source: dict[str, Any]) -> str:
    by_type = {"participantendpoint": "participant", "serviceendpoint": "service", "endpoint": "endpoint"}
    declared = by_type.get(_type_of(source))
    if declared:
        return declared
    if any(source.get(name) is not None for name in ("identity", "associatedIdentity", "feedback")):
        return "participant"
    agent = _user_agent(source.get("userAgent"))
    return "service" if agent is not None and agent["kind"] == "service" else "endpoint"


def _user_agent(source: Any) -> dict[str, Any] | None:
    fields = project(source, _USER_AGENT)
    if not fields:
        return None
    kind = {"clientuseragent": "client", "serviceuseragent": "service"}.get(_type_of(source), "unknown")
    if kind == "unknown" and not _type_of(source):
        if "role" in fields:
            kind = "service"
        elif fields.keys() & _CLIENT_ONLY.keys():
            kind = "client"
    return {"kind": kind, **fields}


def _feedback(source: Any) -> dict[str, Any] | None:
    if not isinstance(source, dict):
        return None
    result = project(source, _FEEDBACK)
    tokens = source.get("tokens")
    if isinstance(tokens, dict):  # an open bag; an empty one was sent by the client and is kept
        result["tokens"] = {name: given for name, given in tokens.items() if isinstance(given, bool)}
    return result


def _endpoint_identity(source: dict[str, Any]) -> dict[str, Any] | None:
    associated = source.get("associatedIdentity")
    fields = project(associated, _IDENTITY)
    if not fields:
        return expected_identity_set(source.get("identity"))
    kind = _KIND_BY_TYPE.get(_type_of(associated), "user")
    if _PHONE_NUMBER.fullmatch(fields.get("id", "")):
        kind = "phone"
    identity = {"kind": kind, **fields}
    others = _others_in_set(source.get("identity"), fields.get("id"))
    return identity | ({"otherIdentities": others} if others else {})


def _others_in_set(source: Any, known_id: str | None) -> list[dict[str, Any]]:
    """Members of the deprecated set that are somebody else than the associated identity."""
    members = _members(source) if isinstance(source, dict) else []
    return [member for member in members if str(member.get("id")).lower() != str(known_id).lower()]


def expected_identity_set(source: Any) -> dict[str, Any] | None:
    """The identity that an identity set stands for; its further members are under `otherIdentities`."""
    if not isinstance(source, dict):
        return None
    members = _members(source)
    if not members:
        return None
    first, *others = members
    endpoint_type = text(source.get("endpointType"))
    if endpoint_type is not None:
        first["endpointType"] = endpoint_type
    return first | ({"otherIdentities": others} if others else {})


def _members(source: dict[str, Any]) -> list[dict[str, Any]]:
    """The members of a set that hold something, by priority, then those that nobody knows."""
    names = [*_PRIORITY, *(name for name in source if name not in _PRIORITY and not name.startswith("@"))]
    return [{"kind": name, **fields} for name in names if (fields := project(source.get(name), _IDENTITY))]


def expected_organizer(document: dict[str, Any]) -> dict[str, Any] | None:
    """`organizer_v2` first; the deprecated `organizer` as fallback."""
    newer, older = _participant(document.get("organizer_v2")), expected_identity_set(document.get("organizer"))
    if older is not None and (newer is None or newer["kind"] == _NO_IDENTITY):
        return older
    return newer


def _participant(source: Any) -> dict[str, Any] | None:
    """An entry of `participants_v2`, or `organizer_v2`: the identity with its administrative units."""
    if not isinstance(source, dict):
        return None
    identity = expected_identity_set(source.get("identity"))
    if identity is None and text(source.get("id")):
        identity = {"kind": _NO_IDENTITY, "id": source["id"]}
    units = source.get("administrativeUnitInfos")
    if identity is not None and isinstance(units, list):
        identity["administrativeUnitInfos"] = [project(unit, {"id": text}) for _, unit in objects(units)]
    return identity


def expected_participants(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Everybody, once: from the sessions (caller, then callee), then `participants_v2`, then `participants`.

    Who is met again keeps the place and the values of the first time; what was missing is filled in.
    """
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for identity in _all_identities(document):
        if identity is not None:
            key = _participant_key(identity)
            merged[key] = identity | merged.get(key, {})
    return list(merged.values())


def _all_identities(document: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
    for _, session in objects(document.get("sessions")):
        for side in ("caller", "callee"):
            endpoint = expected_endpoint(session.get(side))
            yield endpoint.get("identity") if endpoint else None
    for _, participant in objects(document.get("participants_v2")):
        yield _participant(participant)
    for _, identity_set in objects(document.get("participants")):
        yield expected_identity_set(identity_set)


def _participant_key(identity: dict[str, Any]) -> tuple[str, ...]:
    """People without an id of their own are told apart by their name."""
    known = identity.get("id", "").lower()
    if known in {"", _ZERO_GUID}:
        return identity["kind"], known, identity.get("displayName", "")
    return identity["kind"], known
