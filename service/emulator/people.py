"""Who calls: the people, guests, rooms, bots and telephones of a tenant, each the same in every call."""

import uuid
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

from service.emulator.catalog import (
    ACS_CLIENT,
    BAD_HEADSET,
    BOT_HEADERS,
    CLIENTS,
    DEPARTMENTS,
    DOMAINS,
    HEADSETS,
    PEOPLE,
    ROOMS,
    UNKNOWN_CLIENT,
    Client,
    Headset,
)
from service.emulator.networks import Access, access_of

Json = dict[str, Any]

ZERO_GUID = "00000000-0000-0000-0000-000000000000"
STAFF = 400
"""People of a tenant who meet in ordinary calls; larger meetings go on counting."""

_TYPE = "#microsoft.graph.callRecords."
_WINDOWS = {"windows", "roomSystem", "surfaceHub"}
_GOLDEN = 0.6180339887498949  # successive multiples spread evenly in 0..1, so shares hold for any number of people
#: Shares of those who are not staff with a Teams account, in a meeting.
_KINDS = (("guest", 0.06), ("federated", 0.04), ("anonymous", 0.02), ("acs", 0.015), ("bot", 0.015), ("room", 0.03))
_SET_MEMBERS = (
    "acsUser",
    "spoolUser",
    "phone",
    "guest",
    "encrypted",
    "onPremises",
    "acsApplicationInstance",
    "spoolApplicationInstance",
    "applicationInstance",
    "application",
    "device",
)


@dataclass(frozen=True)
class Person:
    """A participant as every call sees them; the dicts are templates, to be copied."""

    kind: str
    member: str
    """The member of an identity set that holds `identity`."""
    identity_type: str
    """`@odata.type` of the associated identity, without the namespace's `#microsoft.graph.`."""
    identity: Json
    units: list[str] | None
    """Administrative units."""
    user_agent: Json
    machine: str | None
    cpu: tuple[str, int, int] | None
    headset: Headset
    access: Access

    def associated_identity(self) -> Json:
        """For `associatedIdentity` of a participant endpoint."""
        return {"@odata.type": f"#microsoft.graph.{self.identity_type}", **self.identity}

    def identity_set(self, *, is_full: bool) -> Json:
        """For the deprecated properties and `participants_v2`; a full one names the members that are null."""
        empty: Json = dict.fromkeys(_SET_MEMBERS) if is_full else {}
        return empty | {self.member: dict(self.identity)}

    def participant(self, random: Random) -> Json:
        """For `participants_v2` and `organizer_v2`."""
        identity = self.identity_set(is_full=random.random() < 0.3)
        if self.kind == "phone" and random.random() < 0.3:
            identity["assertedIdentity"] = {"id": "sip:reception@gateway.contoso.com", "displayName": "Reception"}
        if random.random() < 0.2:
            identity["endpointType"] = "voicemail" if self.kind == "bot" else "default"
        units = None if self.units is None else [{"id": unit} for unit in self.units]
        return {"id": self.identity["id"], "administrativeUnitInfos": units, "identity": identity}

    def endpoint(self, random: Random) -> Json:
        """`participantEndpoint` without feedback."""
        name, cores, speed = self.cpu or (None, None, None)
        endpoint: Json = {
            "@odata.type": f"{_TYPE}participantEndpoint",
            "name": self.machine,
            "cpuName": name,
            "cpuCoresCount": cores,
            "cpuProcessorSpeedInMhz": speed,
            "feedback": None,
            "userAgent": dict(self.user_agent),
            "identity": None,
            "associatedIdentity": self.associated_identity(),
        }
        style = random.random()
        if style < 0.34:
            declared = {"@odata.type": "#microsoft.graph.communicationsIdentitySet"}
            endpoint["identity"] = declared | self.identity_set(is_full=style < 0.1)
        if style < 0.04:  # as before the deprecated property had a replacement
            del endpoint["associatedIdentity"]
        return endpoint


@lru_cache(maxsize=20_000)
def person(tenant_id: str, number: int, kind: str = "") -> Person:
    """Number `number` of a tenant; without `kind` the number decides it."""
    random = Random(f"{tenant_id.lower()}/{number}/{kind}")  # noqa: S311 - realism, not secrecy
    position = (number * _GOLDEN) % 1
    kind = kind or _kind_at(Random(number * 7 + 1).random())  # noqa: S311
    client = _client(random, kind)
    member, identity_type, identity = _identity(random, tenant_id, number, kind)
    is_phone = client.platform in {"iOS", "android"}
    headset = BAD_HEADSET if random.random() < 0.04 else random.choice(HEADSETS)
    units = [_guid(random) for _ in range(random.randrange(3))] if random.random() < 0.4 else None
    return Person(
        kind,
        member,
        identity_type,
        identity,
        units,
        _user_agent(random, client, kind),
        random.choice(client.machines).format(n=number) if client.machines else random.choice((None, "")),
        random.choice(client.cpus) if client.cpus else None,
        headset,
        access_of(random, position, is_phone=is_phone, is_windows=client.platform in _WINDOWS),
    )


def _kind_at(position: float) -> str:
    for kind, share in _KINDS:
        position -= share
        if position < 0:
            return kind
    return "user"


def _guid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _name(random: Random, number: int) -> str:
    """A display name; in a large tenant names repeat, ids do not."""
    name = PEOPLE[number] if number < len(PEOPLE) else random.choice(PEOPLE)
    return f"{name} ({random.choice(DEPARTMENTS)})" if random.random() < 0.15 else name


def _identity(random: Random, tenant_id: str, number: int, kind: str) -> tuple[str, str, Json]:
    """Member name in a set, type of the associated identity, the identity itself."""
    identity: Json = {"id": _guid(random), "displayName": _name(random, number), "tenantId": tenant_id}
    if kind == "guest":
        identity |= {"tenantId": None, "email": f"guest{number}@{random.choice(DOMAINS)}"}
        return "guest", "communicationsGuestIdentity", identity
    if kind == "federated":  # another tenant's people: an id, and often no name
        return "user", "callRecords.userIdentity", identity | {"tenantId": _guid(random), "displayName": None}
    if kind == "anonymous":
        nobody = {"id": ZERO_GUID, "displayName": None, "tenantId": ZERO_GUID}
        return "user", "callRecords.userIdentity", nobody
    if kind == "acs":
        resource = _guid(random)
        identity |= {"id": f"8:acs:{resource}_{_guid(random)[:13]}", "azureCommunicationServicesResourceId": resource}
        return "azureCommunicationServicesUser", "azureCommunicationServicesUserIdentity", identity
    if kind == "bot" and number % 2:  # half of the bots show as users, a known issue of Graph
        return (
            "application",
            "communicationsApplicationIdentity",
            identity
            | {
                "displayName": "Compliance Recorder",
                "applicationType": "bot",
                "hidden": True,
            },
        )
    if kind == "autoAttendant":
        identity["displayName"] = "Zentrale / Hauptnummer"
        return "applicationInstance", "communicationsApplicationInstanceIdentity", identity | {"hidden": False}
    if kind == "phone":
        hidden = f"+1425555{'*' * 4}" if random.random() < 0.5 else f"+49305550{random.randrange(100):02d}****"
        phone = {"id": hidden, "displayName": None, "tenantId": None}
        declared = "communicationsPhoneIdentity" if number % 2 else "callRecords.userIdentity"
        return "phone", declared, phone
    if kind in {"onPremises", "encrypted", "device"}:
        return kind, "identity", identity
    if kind == "room":
        identity["displayName"] = random.choice(ROOMS)
    domain = DOMAINS[sum(tenant_id.lower().encode()) % len(DOMAINS)]
    return "user", "callRecords.userIdentity", identity | {"userPrincipalName": f"user{number:05d}@{domain}"}


def _client(random: Random, kind: str) -> Client:
    if kind == "acs":
        return ACS_CLIENT
    if kind in {"phone", "bot", "autoAttendant"}:
        return UNKNOWN_CLIENT
    if kind == "room":
        return next(client for client in CLIENTS if client.platform == "roomSystem")
    left = random.random() * sum(client.share for client in CLIENTS)
    for client in CLIENTS:
        left -= client.share
        if left < 0:
            return client
    return CLIENTS[0]


def _user_agent(random: Random, client: Client, kind: str) -> Json:
    version = random.choice(client.versions)
    header: str | None = client.header.format(version=version)
    if kind == "bot":
        header = random.choice(BOT_HEADERS)
    return {
        "@odata.type": f"{_TYPE}clientUserAgent",
        "headerValue": header or None,
        "applicationVersion": version or None,
        "platform": client.platform,
        "productFamily": client.family,
        "azureADAppId": _guid(random) if kind == "acs" else None,
        "communicationServiceId": _guid(random) if kind == "acs" else None,
    }


def meeting_service() -> Json:
    """The callee of a meeting leg: a service endpoint whose agent is an unknown client's (graph-contract 7.7)."""
    agent: Json = {"@odata.type": f"{_TYPE}clientUserAgent", "headerValue": None, "applicationVersion": None}
    agent |= {"platform": "unknown", "productFamily": "unknown", "azureADAppId": None, "communicationServiceId": None}
    return {"@odata.type": f"{_TYPE}serviceEndpoint", "userAgent": agent}


def service(role: str) -> Json:
    """A service endpoint that tells its role."""
    agent = {"@odata.type": f"{_TYPE}serviceUserAgent", "headerValue": None, "applicationVersion": "2026.10.4.1"}
    return {"@odata.type": f"{_TYPE}serviceEndpoint", "userAgent": agent | {"role": role}}


def bare_endpoint() -> Json:
    """An endpoint of the base type, seen where a leg never got anywhere."""
    agent = {"@odata.type": f"{_TYPE}userAgent", "headerValue": "SIP/2.0", "applicationVersion": None}
    return {"@odata.type": f"{_TYPE}endpoint", "userAgent": agent}
