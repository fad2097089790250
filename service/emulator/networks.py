"""Where people sit: one access network per person, the same in all their calls; and the service's media processors."""

from dataclasses import dataclass
from random import Random
from typing import Any

from service.emulator.catalog import WIFI_DRIVERS
from service.emulator.wire import duration, single

Json = dict[str, Any]

#: Kinds of access network with the share of people who have it, and how often a call over it goes badly. The bad calls
#: add up to about one in ten.
KINDS = {
    "officeWired": (0.26, 0.015),
    "officeWifi": (0.24, 0.03),
    "homeWifi": (0.20, 0.10),
    "homeWired": (0.08, 0.06),
    "weakWifi": (0.07, 0.41),
    "vpn": (0.07, 0.30),
    "mobile": (0.08, 0.20),
}
#: Base round trip in ms to the nearest media relay.
_ROUND_TRIP = {
    "officeWired": 14,
    "officeWifi": 20,
    "homeWifi": 34,
    "homeWired": 28,
    "weakWifi": 48,
    "vpn": 95,
    "mobile": 62,
}
_PRIVACY_MAC = "02:00:00:00:00:00"  # what phones tell (graph-contract 7.4)

NETWORK_FIELDS = (
    "ipAddress",
    "subnet",
    "linkSpeed",
    "connectionType",
    "port",
    "reflexiveIPAddress",
    "relayIPAddress",
    "relayPort",
    "macAddress",
    "wifiMicrosoftDriver",
    "wifiMicrosoftDriverVersion",
    "wifiVendorDriver",
    "wifiVendorDriverVersion",
    "wifiChannel",
    "wifiBand",
    "basicServiceSetIdentifier",
    "wifiRadioType",
    "wifiSignalStrength",
    "wifiBatteryCharge",
    "dnsSuffix",
    "sentQualityEventRatio",
    "receivedQualityEventRatio",
    "delayEventRatio",
    "bandwidthLowEventRatio",
    "networkTransportProtocol",
    "traceRouteHops",
)
_EMPTY: Json = dict.fromkeys(NETWORK_FIELDS)


@dataclass(frozen=True)
class Access:
    """The access network of a person. `facts` is what does not change from call to call."""

    kind: str
    round_trip_ms: float
    bad_share: float
    """Of the person's calls."""
    signal_percent: int | None
    facts: Json


def access_of(random: Random, position: float, *, is_phone: bool, is_windows: bool) -> Access:
    """The network of a person; `position` in 0..1 chooses the kind, so that the shares hold in small tenants too."""
    kind = "mobile" if is_phone and position > 0.6 else _kind_at(position)
    facts = dict(_EMPTY)
    facts.update(_addresses(random, kind))
    signal = None
    if kind in {"officeWifi", "homeWifi", "weakWifi"}:
        signal = random.randrange(14, 41) if kind == "weakWifi" else random.randrange(62, 100)
        facts.update(_wifi(random, kind, signal))
        if not is_windows:  # other systems do not tell their drivers
            facts |= dict.fromkeys(name for name in NETWORK_FIELDS if name.startswith("wifi") and "Driver" in name)
    if is_phone or kind == "mobile":
        facts["macAddress"] = _PRIVACY_MAC
        facts["basicServiceSetIdentifier"] = None
    round_trip = _ROUND_TRIP[kind] * random.uniform(0.7, 1.6) + (110 if random.random() < 0.06 else 0)
    return Access(kind, round_trip, KINDS[kind][1], signal, facts)


def _kind_at(position: float) -> str:
    for kind, (share, _) in KINDS.items():
        position -= share
        if position < 0:
            return kind
    return "officeWired"


def _addresses(random: Random, kind: str) -> Json:
    host = random.randrange(2, 254)
    if kind in {"officeWired", "officeWifi"}:
        site, floor = random.randrange(12), random.randrange(1, 6)
        octets, suffix = f"10.{20 + site}.{floor + (100 if kind == 'officeWifi' else 0)}", "corp.contoso.com"
        public, link = f"203.0.113.{10 + site}", 1_000_000_000
    elif kind == "vpn":
        octets, suffix = f"172.16.{random.randrange(8)}", "vpn.contoso.com"
        public, link = "203.0.113.9", 100_000_000
    elif kind == "mobile":
        octets, suffix, link = f"100.{random.randrange(64, 128)}.{random.randrange(256)}", None, None
        public = f"198.51.100.{random.randrange(1, 255)}"
    else:
        octets = random.choice(("192.168.0", "192.168.1", "192.168.178", "192.168.2"))
        suffix = random.choice(("fritz.box", "home", "", None))
        public, link = f"198.51.100.{random.randrange(1, 255)}", 1_000_000_000
    facts: Json = {"ipAddress": f"{octets}.{host}", "subnet": f"{octets}.0", "reflexiveIPAddress": public}
    if kind == "mobile" and random.random() < 0.5:
        facts |= {"ipAddress": f"2001:db8:{random.randrange(65536):x}::{host:x}", "subnet": None}
    connection = {"vpn": "tunnel", "mobile": "mobile", "officeWired": "wired", "homeWired": "wired"}.get(kind, "wifi")
    relay = {"relayIPAddress": f"52.112.{random.randrange(64)}.{host}", "relayPort": random.randrange(3478, 3482)}
    return (
        facts
        | relay
        | {
            "linkSpeed": link,
            "connectionType": connection if random.random() > 0.02 else "unknown",
            "macAddress": _hardware_address(random, "-") if kind != "vpn" else None,
            "dnsSuffix": suffix,
            "networkTransportProtocol": "tcp" if kind == "vpn" and random.random() < 0.6 else "udp",
            "wifiBand": "unknown",
            "wifiRadioType": "unknown",
        }
    )


def _wifi(random: Random, kind: str, signal: int) -> Json:
    microsoft, microsoft_version, vendor, vendor_version = random.choice(WIFI_DRIVERS)
    band, radio, channel, link = random.choice(
        (
            ("frequency24GHz", "wifi80211n", 6, 72_000_000),
            ("frequency24GHz", "wifi80211n", 1, 65_000_000),
            ("frequency24GHz", "wifi80211g", 11, 54_000_000),
            ("frequency24GHz", "wifi80211b", 3, 11_000_000),
        )
        if kind == "weakWifi"
        else (
            ("frequency50GHz", "wifi80211ac", 44, 866_700_000),
            ("frequency50GHz", "wifi80211ax", 100, 1_201_000_000),
            ("frequency50GHz", "wifi80211a", 36, 54_000_000),
            ("frequency60GHz", "wifi80211ax", 37, 2_402_000_000),
            ("frequency24GHz", "wifi80211n", 1, 144_400_000),
        )
    )
    return {
        "wifiMicrosoftDriver": microsoft,
        "wifiMicrosoftDriverVersion": microsoft_version,
        "wifiVendorDriver": vendor,
        "wifiVendorDriverVersion": vendor_version,
        "wifiChannel": channel,
        "wifiBand": band,
        "wifiRadioType": radio,
        "wifiSignalStrength": signal,
        # Without the right to precise location the client does not tell its access point.
        "basicServiceSetIdentifier": _hardware_address(random, ":") if random.random() > 0.2 else None,
        "linkSpeed": link,
    }


def _hardware_address(random: Random, separator: str) -> str:
    # The two lowest bits of the first octet mean multicast and locally administered.
    digits = f"{random.getrandbits(48) & ~(3 << 40):012x}"
    return separator.join(digits[n : n + 2] for n in range(0, 12, 2))


def network_in_call(random: Random, access: Access, first_port: int, trouble: str) -> Json:
    """`networkInfo` of a person in one media line; `first_port` begins the 20 ports that Teams keeps for a modality."""
    network = dict(access.facts)
    network["port"] = first_port + random.randrange(20)
    if access.signal_percent is not None:
        network["wifiSignalStrength"] = max(1, min(100, access.signal_percent + random.randrange(-6, 7)))
        network["wifiBatteryCharge"] = random.randrange(100)
    is_bad = trouble in {"radio", "uplink", "tunnel"}
    for name, cause in _EVENT_CAUSES:
        share = random.uniform(0.1, 0.7) if is_bad and trouble in cause else 0
        network[name] = single(share) if share or random.random() < 0.8 else None
    network["traceRouteHops"] = _hops(random, access) if random.random() < 0.02 else []
    return network


_EVENT_CAUSES = (
    ("sentQualityEventRatio", ("radio", "uplink")),
    ("receivedQualityEventRatio", ("radio",)),
    ("delayEventRatio", ("tunnel", "uplink")),
    ("bandwidthLowEventRatio", ("uplink",)),
)


def _hops(random: Random, access: Access) -> list[Json]:
    """Documented as no longer collected; old clients still send some."""
    return [
        {
            "hopCount": n,
            "ipAddress": address,
            "roundTripTime": duration(round(access.round_trip_ms * n / 3 * random.uniform(0.8, 1))),
        }
        for n, address in enumerate(("192.0.2.1", "192.0.2.254", "52.112.0.1"), 1)
    ]


def processor_network(random: Random) -> Json:
    """`networkInfo` of the service's media processor, the callee of every meeting leg (graph-contract 7.8)."""
    network = dict(_EMPTY)
    network |= {
        "ipAddress": f"10.0.{random.randrange(64)}.{random.randrange(4, 250)}",
        "linkSpeed": 0,
        "connectionType": "wired" if random.random() < 0.7 else "unknown",
        "port": 3480,
        "reflexiveIPAddress": f"52.112.{random.randrange(64)}.{random.randrange(4, 250)}",
        "wifiBand": "unknown",
        "wifiRadioType": "unknown",
        "networkTransportProtocol": "udp" if random.random() < 0.95 else "unknown",
        "traceRouteHops": [] if random.random() < 0.9 else None,
    }
    return network
