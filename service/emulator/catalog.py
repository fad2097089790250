"""What calls are made of: names, devices, clients, service roles, codecs, feedback. Values only, no people and no dice.

Addresses are from the documentation ranges (RFC 5737, RFC 3849) or private ones, phone numbers from fictional blocks.
"""

from typing import NamedTuple

#: Names as people write them: umlauts, accents, CJK, right-to-left, apostrophes, long and single ones.
PEOPLE = (
    "Abbie Wilkins",
    "Owen Franklin",
    "Jürgen Groß",
    "Zoë Ångström",
    "Søren Kjær",
    "Łukasz Żółć",
    "Amélie Lefèvre",
    "José Muñoz Íñiguez",
    "Siobhán O'Brien",
    "Čeněk Dvořák",
    "İbrahim Çağlar",
    "Nguyễn Thị Hồng",
    "山田 太郎",
    "佐藤 美咲",
    "王小明",
    "李娜",
    "김민수",
    "박서연",
    "שרה כהן",
    "דוד לוי",
    "محمد الأحمد",
    "فاطمة الزهراء",
    "Дмитрий Соколов",
    "Олена Шевченко",
    "Αλέξανδρος Παπαδόπουλος",
    "प्रिया शर्मा",
    "ณัฐพล ศรีสุข",
    "Suharto",
    "Maria-Theresia von und zu Hohenstein-Wallerfels",
    "Tom Becker (Extern)",
)
DOMAINS = ("contoso.com", "fabrikam.de", "tailspin.example", "northwind.example")
DEPARTMENTS = ("Vertrieb", "R&D", "営業部", "Extern", "Comptabilité")
ROOMS = ("Room Zürich 4.12", "会議室 A", "Boardroom North", "Salle Côte d'Azur")


class Client(NamedTuple):
    """A kind of client software and the machines it runs on."""

    platform: str
    family: str
    share: float
    """Of all participants; the shares need not add up to 1."""
    versions: tuple[str, ...]
    header: str
    """`{version}` is filled in."""
    machines: tuple[str, ...]
    """Computer names; `{n}` is the person's number. Empty: the client tells none."""
    cpus: tuple[tuple[str, int, int], ...]
    """Name, cores, MHz."""


_INTEL = (
    ("Intel(R) Core(TM) i5-8365U CPU @ 1.60GHz", 8, 1896),
    ("11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz", 8, 2995),
    ("AMD Ryzen 7 PRO 5850U with Radeon Graphics", 16, 1901),
)
_TEAMS_VERSIONS = ("49/24010101", "49/23111630", "50/24072616")

CLIENTS = (
    Client(
        "windows",
        "teams",
        0.52,
        ("26043.2016.3089.9418", "25227.203.3879.1234", "1.6.00.4472"),
        "CallSignalingAgent (27/{version}//;release_2026) Teams-R4-Win",
        ("DESKTOP-{n:05X}", "LAPTOP-{n:05X}", "BÜRO-PC-{n}"),
        _INTEL,
    ),
    Client(
        "macOS",
        "teams",
        0.12,
        ("26043.2016.3089.9418", "25198.1112.3855.2900"),
        "CallSignalingAgent (27/{version}//;release_2026) Teams-Mac",
        ("MacBook-Pro-{n}", "Zoës-MacBook-{n}"),
        (("Apple M2 Pro", 10, 3480), ("Intel(R) Core(TM) i9-9880H CPU @ 2.30GHz", 16, 2300)),
    ),
    Client(
        "iOS",
        "teams",
        0.09,
        ("7.3.1", "6.20.0"),
        "SkypeSpaces/1415/iOS/{version} (iPhone15,3; 18.1)",
        ("iPhone",),
        (),
    ),
    Client(
        "android",
        "teams",
        0.08,
        ("1416/1.0.0.2026033302", "1416/1.0.0.2025164302"),
        "SkypeSpaces/{version}/Android (SM-S918B; 15)",
        ("SM-S918B", "Pixel 8 Pro"),
        (("ARMv8 Processor rev 1 (v8l)", 8, 2016),),
    ),
    Client(
        "web",
        "teams",
        0.06,
        _TEAMS_VERSIONS,
        "SkypeSpaces/1415/{version}/TsCallingVersion=2026.10.01.5/Ovb=…",
        (),
        (),
    ),
    Client(
        "roomSystem",
        "teams",
        0.03,
        ("5.4.200.0", "5.3.104.0"),
        "MTR-W/{version} (Logitech Tap; Windows 11 IoT)",
        ("MTR-ZRH-{n}",),
        _INTEL[:1],
    ),
    Client("ipPhone", "teams", 0.02, ("1449/1.0.94.2026",), "TeamsPhone/{version} (Yealink MP56)", (), ()),
    Client("surfaceHub", "teams", 0.01, ("26043.2016",), "SurfaceHub/{version}", ("HUB-{n}",), _INTEL[:1]),
    Client("holoLens", "teams", 0.004, ("4.21.9",), "RemoteAssist/{version} (HoloLens 2)", ("HOLOLENS-{n}",), ()),
    Client(
        "windows",
        "skypeForBusiness",
        0.02,
        ("16.0.12527.20194",),
        "UCCAPI/16.0.12527.20122 OC/{version} (Skype for Business)",
        ("LEGACY-{n}",),
        _INTEL[:1],
    ),
    Client("ipPhone", "lync", 0.004, ("4.0.7577.4478",), "CPE/{version} OCPhone/4.0", (), ()),
)
#: Azure Communication Services: the family that Graph shows only with `include-unknown-enum-members`.
ACS_CLIENT = Client(
    "web", "azureCommunicationServices", 0, ("1.29.2",), "azsdk-js-communication-calling/{version}", (), ()
)
UNKNOWN_CLIENT = Client("unknown", "unknown", 0, ("",), "", (), ())

#: Application details of a bot are nowhere but here (graph-contract 12, known issue).
BOT_HEADERS = (
    "Microsoft.Skype.Bots.Media/1.27.0.2 (Contoso Recording Bot; appId=6f2d7e0c-58c5-4a2b-9a7e-000000000b07)",
    "GraphCommunicationsSDK/1.2.0.10563 (Compliance Recorder)",
)


class Headset(NamedTuple):
    """Capture and playback device of a person: names and drivers."""

    capture: str
    capture_driver: str | None
    render: str
    render_driver: str | None


HEADSETS = (
    Headset(
        "Headset Microphone (Jabra Evolve2 65)",
        "Microsoft: 10.0.22621.2506",
        "Headset Earphone (Jabra Evolve2 65)",
        None,
    ),
    Headset(
        "Mikrofonarray (Realtek(R) Audio)",
        "Realtek Semiconductor Corp.: 6.0.9360.1",
        "Lautsprecher (Realtek(R) Audio)",
        "Realtek Semiconductor Corp.: 6.0.9360.1",
    ),
    Headset("マイク (Poly Sync 20)", "Microsoft: 10.0.19041.1", "スピーカー (Poly Sync 20)", "Microsoft: 10.0.19041.1"),
    Headset("Zoë's AirPods Pro 🎧", None, "Zoë's AirPods Pro 🎧", None),
    Headset("מיקרופון (USB PnP)", "Microsoft: 10.0.22621.1", "רמקולים (USB PnP)", "Microsoft: 10.0.22621.1"),
    Headset("MacBook Pro Microphone", "Apple Inc.: 14.4", "MacBook Pro Speakers", "Apple Inc.: 14.4"),
    Headset("Default input device", None, "Default output device", None),
    Headset(
        "Logitech MeetUp Speakerphone", "Logitech: 1.10.17.0", "Logitech MeetUp Speakerphone", "Logitech: 1.10.17.0"
    ),
)
#: Plays and records badly whatever the network does.
BAD_HEADSET = Headset(
    "Hands-Free AG Audio (🎧 BT-Nr. 3)", "Generic: 1.0.0.1", "Hands-Free AG Audio (🎧 BT-Nr. 3)", None
)
CAMERAS = ("Integrated Camera", "Logitech BRIO", "FaceTime HD-Kamera", "内蔵カメラ", "OBS Virtual Camera 🎥")

WIFI_DRIVERS = (
    ("Microsoft Wi-Fi Driver", "10.0.22621.1", "Intel(R) Wi-Fi 6E AX211 160MHz", "23.40.0.4"),
    ("Microsoft-WLAN-Treiber", "10.0.19041.1", "Realtek 8822CE Wireless LAN 802.11ac", "2024.0.10.207"),
    ("Microsoft Wi-Fi ドライバー", "10.0.22631.2", "MediaTek Wi-Fi 6 MT7921", "3.3.0.633"),
)

#: Codecs of main-audio with their weights: Teams, then gateways and old clients.
AUDIO_CODECS = (
    ("satin", 60),
    ("satinFullband", 12),
    ("silkWide", 8),
    ("silk", 3),
    ("opus", 5),
    ("g722", 4),
    ("silkNarrow", 1),
    ("siren", 1),
    ("g7221", 1),
    ("xmsRta", 1),
    ("muchv2", 1),
    ("multiChannelAudio", 1),
    ("rtAudio16", 1),
    ("unknown", 1),
)
PSTN_CODECS = (("pcmu", 40), ("pcma", 35), ("g722", 10), ("silkWide", 8), ("g729", 4), ("amrWide", 2), ("cn", 1))
VIDEO_CODECS = (("h264", 55), ("av1", 20), ("h264uc", 10), ("h265", 6), ("rtVideo", 1), ("xrtvc1", 1), ("rtvc1", 1))
SHARING_CODECS = (("h264s", 45), ("h264", 30), ("av1", 25))

SERVICE_ROLES = (
    "mediationServer",
    "gateway",
    "skypeForBusinessAutoAttendant",
    "skypeForBusinessCallQueues",
    "voicemail",
    "customBot",
    "mediaController",
    "conferencingAnnouncementService",
    "conferencingAttendant",
    "skypeForBusinessMicrosoftTeamsGateway",
    "skypeForBusinessAudioVideoMcu",
    "skypeForBusinessApplicationSharingMcu",
    "audioTeleconferencerController",
    "unknown",
)

FAILURE_REASONS = (
    "CallSetupFailure: no answer from the callee",
    "MediaConnectivityFailure: ICE connectivity checks failed, UDP and TCP blocked by firewall",
    "The client's network changed during the call (Wi-Fi → mobile)",
    "Gespräch abgelehnt",
    "Call was terminated by the gateway (SIP 503)",
)

#: What people tick after a call, by what was wrong; token names are not stable between clients (graph-contract 7.5).
FEEDBACK_TOKENS = {
    "network": ("DistortedSound", "Interruptions", "Stopped"),
    "device": ("NoSound", "OtherNoSound", "Echo", "LowVolume", "Noisy"),
}
FEEDBACK_TEXTS = ("Ton war abgehackt 😕", "音が途切れました", "could not hear anyone", "الصوت منخفض", "")
