"""Who it was: from Graph's identities and identity sets, current and deprecated, to one identity with a kind.

Graph moved from identity sets (`identity`, `organizer`, `participants`) to single identities and new sets
(`associatedIdentity`, `organizer_v2`, `participants_v2`). The new ones come first; the old ones fill what they leave
open and are kept where they name somebody else. Source of the deprecation:
https://learn.microsoft.com/graph/api/resources/callrecords-callrecord
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from service.record.events import AdministrativeUnitGroup, IdentityGroup
from service.record.model import IDENTITY_MEMBERS, Endpoint, Identity, IdentitySet, Participant

ZERO_GUID: Final = "00000000-0000-0000-0000-000000000000"

_PHONE_NUMBER = re.compile(r"\+[0-9][0-9*]*")  # Graph masks the last digits of some numbers with `*`

_PRIORITY: Final = {name: rank for rank, name in enumerate(IDENTITY_MEMBERS)}

# The kind an identity's own type stands for; the base type `identity` says nothing.
_KIND_OF_TYPE: Final = {
    "useridentity": "user",
    "communicationsuseridentity": "user",
    "communicationsphoneidentity": "phone",
    "communicationsguestidentity": "guest",
    "communicationsencryptedidentity": "encrypted",
    "communicationsapplicationidentity": "application",
    "communicationsapplicationinstanceidentity": "applicationInstance",
    "azurecommunicationservicesuseridentity": "azureCommunicationServicesUser",
}


def type_name(odata_type: str | None) -> str:
    """The last part of an `@odata.type`, in lower case.

    Graph writes it with and without `#`, and in more than one case.
    """
    return "" if odata_type is None else odata_type.rpartition(".")[2].lower().lstrip("#")


def is_phone(name: str, identifier: str | None) -> bool:
    """Whether an identity whose `type_name` is `name` is a phone by its id alone.

    Graph says `userIdentity` of whoever took part (contract 7.5); a telephone number is no Entra object id.
    """
    by_type = _KIND_OF_TYPE.get(name)
    return by_type in (None, "user") and identifier is not None and _PHONE_NUMBER.fullmatch(identifier) is not None


def of_endpoint(endpoint: Endpoint) -> IdentityGroup | None:
    """Who used an endpoint: `associatedIdentity`, else the deprecated `identity`."""
    identity, deprecated = endpoint.associated_identity, _of_set(endpoint.identity)
    if identity is None or (deprecated and not _has_content(identity)):
        return _merge(deprecated)
    kind = _kind_of(identity) or _kind_of_same(identity, deprecated) or "user"
    return _merge([_group(kind, identity), *deprecated]) if deprecated else _group(kind, identity)


def of_participant(participant: Participant | None, deprecated: IdentitySet | None = None) -> IdentityGroup | None:
    """Who took part, or who organized; None when neither the current nor the deprecated property names anybody."""
    current = _of_set(participant.identity if participant is not None else None)
    merged = _merge([*current, *_of_set(deprecated)])
    if participant is None:
        return merged
    units = participant.administrative_unit_infos
    if merged is None and participant.id is None and not units:
        return None
    if merged is not None and units is None and same_text(participant.id, merged.id):
        return merged
    identity = merged or IdentityGroup("unknown", id=participant.id)
    return msgspec.structs.replace(
        identity,
        participant_id=None if same_text(participant.id, identity.id) else participant.id,
        administrative_unit_infos=None if units is None else [AdministrativeUnitGroup(unit.id) for unit in units],
    )


def of_set(identities: IdentitySet) -> IdentityGroup | None:
    """Who an entry of the deprecated `participants` names."""
    return _merge(_of_set(identities))


def same_text(one: str | None, other: str | None) -> bool:
    """Equal without case: ids are GUIDs in either case."""
    return one == other or (one is not None and other is not None and one.lower() == other.lower())


def key_of(identity: IdentityGroup) -> tuple[str, ...]:
    """What makes two identities the same party. Anonymous ones share an id or have none; there the name counts too."""
    key = (identity.kind.lower(), (identity.id or "").lower())
    if key[1] in ("", ZERO_GUID):
        return (*key, identity.display_name or "")
    return key


def filled(identity: IdentityGroup, other: IdentityGroup) -> IdentityGroup:
    """The first identity with what only the second knows."""
    missing = {
        name: value
        for name in _FIELDS
        if (value := getattr(other, name)) is not None and getattr(identity, name) is None
    }
    return msgspec.structs.replace(identity, **missing) if missing else identity


_FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(IdentityGroup) if field.name != "kind")


def _of_set(identities: IdentitySet | None) -> list[IdentityGroup]:
    """The identities of a set, the likeliest first; members without content only when there is nothing else."""
    if not identities:
        return []
    members = [(name, member) for name, member in identities.items() if isinstance(member, Identity)]
    if len(members) > 1:
        members.sort(key=lambda entry: _PRIORITY.get(entry[0], len(_PRIORITY)))
        members = [entry for entry in members if _has_content(entry[1])] or members[:1]
    endpoint_type = identities.get("endpointType")
    if not isinstance(endpoint_type, str):
        return [_group(name, member) for name, member in members]
    if not members:
        return [IdentityGroup("unknown", endpoint_type=endpoint_type)]
    first, *others = members
    return [_group(*first, endpoint_type), *(_group(name, member) for name, member in others)]


def _group(kind: str, identity: Identity, endpoint_type: str | None = None) -> IdentityGroup:
    return IdentityGroup(
        kind,
        identity.id,
        identity.display_name,
        identity.tenant_id,
        identity.user_principal_name,
        identity.email,
        identity.application_type,
        identity.hidden,
        identity.azure_communication_services_resource_id,
        endpoint_type,
    )


def _merge(identities: Sequence[IdentityGroup]) -> IdentityGroup | None:
    """The first of them, filled from those with the same id; the rest under `otherIdentities`."""
    if len(identities) < 2:
        return identities[0] if identities else None
    first, *rest = identities
    others: dict[tuple[str, ...], IdentityGroup] = {}
    for identity in rest:
        if identity.id is not None and same_text(identity.id, first.id) and identity.id != ZERO_GUID:
            first = filled(first, identity)
        else:
            key = key_of(identity)
            others[key] = filled(others[key], identity) if key in others else identity
    others.pop(key_of(first), None)
    return msgspec.structs.replace(first, other_identities=list(others.values())) if others else first


def _has_content(identity: Identity) -> bool:
    return any(value is not None for value in msgspec.structs.astuple(identity)[1:])


def _kind_of(identity: Identity) -> str | None:
    """What an identity says of its own kind, by its type or else by the fields that only one type has."""
    name = type_name(identity.odata_type)
    if is_phone(name, identity.id):
        return "phone"
    by_type = _KIND_OF_TYPE.get(name)
    if by_type is not None:
        return by_type
    if identity.azure_communication_services_resource_id is not None:
        return "azureCommunicationServicesUser"
    if identity.application_type is not None:
        return "application"
    if identity.email is not None and identity.user_principal_name is None:
        return "guest"
    return None


def _kind_of_same(identity: Identity, deprecated: Iterable[IdentityGroup]) -> str | None:
    same: Iterator[str] = (
        group.kind for group in deprecated if group.id is not None and same_text(group.id, identity.id)
    )
    return next(same, None)
