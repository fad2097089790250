"""What an emulator can be told: values only. Seconds are of the emulator's clock unless the name says real."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

DEMO_TENANT_ID = "c0ffee00-1111-4222-8333-444455556666"
DEMO_CLIENT_ID = "11111111-2222-4333-8444-555555555555"
DEMO_CLIENT_SECRET = "emulator-secret"  # noqa: S105 - stands in the README; opens nothing but the emulator
ADMINISTRATOR_ID = "aaaaaaaa-1111-4222-8333-444455556666"
ADMINISTRATOR_SECRET = "administrator-secret"  # noqa: S105 - as above


@dataclass(frozen=True)
class Federation:
    """A federated credential of an application: an outside issuer whose tokens it accepts (graph-contract 10)."""

    issuer: str
    subject: str
    public_key: str = ""
    """PEM; stands for the keys that the issuer publishes. Empty: the emulator's own, of a managed identity's tokens."""
    audience: str = "api://AzureADTokenExchange"


@dataclass(frozen=True)
class Machine:
    """The machine on Azure whose managed identities the emulator stands in for. Its tenant is the first one."""

    system_assigned: str = ""
    """Client id of the machine's own identity; empty: it has none."""
    user_assigned: tuple[str, ...] = ()
    """Client ids of the identities that are assigned to it."""
    identity_header: str = "emulator-identity-header"
    """What App Service puts into `IDENTITY_HEADER`."""


@dataclass(frozen=True)
class TenantOptions:
    """One Microsoft 365 tenant with one registered application."""

    id: str = DEMO_TENANT_ID
    name: str = "contoso"
    client_id: str = DEMO_CLIENT_ID
    client_secret: str = DEMO_CLIENT_SECRET
    """Empty: the application has none."""
    secret_expires_at: float | None = None
    """Unix seconds of the emulator's clock; None: never."""
    certificates: tuple[str, ...] = ()
    """PEM of the certificates (public parts) that are uploaded to the application."""
    federations: tuple[Federation, ...] = ()
    consented: bool = True
    """Whether an administrator granted `CallRecords.Read.All`; without it reads answer 403."""
    administrator_id: str = ADMINISTRATOR_ID
    """Client id of whom the directory obeys: an application of the administrator's with the rights of one."""
    administrator_secret: str = ADMINISTRATOR_SECRET


@dataclass(frozen=True)
class Limits:
    """Requests per 20 s, as Graph publishes them for call records (graph-contract 9.1)."""

    app: int = 15_000
    tenant: int = 10_000
    app_and_tenant: int = 1_500
    record: int = 40
    list: int = 40
    window_seconds: float = 20.0
    least_real_seconds: float = 0.1
    """No window is shorter than this on the machine's own clock: at 5,000 times its speed 20 s are 4 ms, in which
    nobody can ask 40 times. Who keeps a limit in a longer window keeps it in every shorter one within."""
    enforced: bool = True
    """False only counts: nothing is answered with 429."""


@dataclass(frozen=True)
class DeliveryOptions:
    """How change notifications reach a subscriber (graph-contract 3.2, 3.3)."""

    answer_seconds: float = 3.0
    """A first attempt must be answered within this."""
    retry_answer_seconds: float = 10.0
    """A repeated attempt may take this long; a first one is listened to for as long, to tell slow from silent."""
    handshake_seconds: float = 10.0
    least_real_seconds: float = 0.5
    """No limit above is shorter than this on the machine's own clock: a fast clock must not judge the machine."""
    give_up_seconds: float = 4 * 3600.0
    first_backoff_seconds: float = 10.0
    longest_backoff_seconds: float = 900.0
    """Backoff doubles from first to longest; Graph documents "exponential" and no numbers."""
    window_seconds: float = 600.0
    slow_share: float = 0.10
    drop_share: float = 0.15
    batch_size: int = 20
    """Items in one POST; Graph documents no number."""
    connections: int = 8
    """POSTs under way at once for one URL."""
    queue_limit: int = 200_000
    """Items waiting for one URL; what comes above is thrown away and counted."""
    duplicate_share: float = 0.0
    """Share of notifications that are sent a second time a little later."""
    drop_notification_share: float = 0.0
    """Share of notifications that never leave: what reconciliation has to find."""
    reorder_seconds: float = 0.0
    """Each notification waits a random time up to this, so that they arrive out of order."""


@dataclass(frozen=True)
class HubOptions:
    """An event hub that subscriptions may name; a Kafka topic of its name stands in for it and must exist."""

    namespace: str
    """Host name, for instance `calls.servicebus.windows.net`."""
    name: str
    bootstrap_servers: str


@dataclass(frozen=True)
class EmulatorOptions:
    """Everything about one emulator."""

    host: str = "127.0.0.1"
    port: int = 8090
    """0 takes any free port."""
    ssl_context: ssl.SSLContext | None = None
    """Given: the emulator speaks TLS and its links begin with https. `tls.make_authority` makes one."""
    machine: Machine | None = None
    """Given: the emulator answers as a managed identity's endpoint too."""
    tenants: tuple[TenantOptions, ...] = (TenantOptions(),)
    seed: int = 1
    """Of the made calls, of delivery faults and of scripted probabilities."""
    calls: int = 0
    """Calls that exist from the start, of all kinds in realistic shares."""
    rate: float = 0.0
    """New calls per second."""
    later_version_share: float = 0.0
    """Share of the calls made by `rate` that get a second version."""
    later_version_seconds: float = 60.0
    """How long after the first version the second one appears."""
    open: bool = False
    """True: no request needs a token."""
    token_seconds: float = 3600.0
    """Lifetime of an access token."""
    nextlink_form: Literal["plain", "metadata"] = "plain"
    """`metadata`: expanded collections link in the `$metadata#` form of the documentation's samples (6.3)."""
    list_has_version: bool = True
    """Whether items of the list carry `version`; expected of Graph, not verified (graph-contract 6.4)."""
    sessions_page: int = 60
    participants_page: int = 130
    list_page: int = 60
    subscriptions_page: int = 20
    subscription_quota: int = 100
    """callRecord subscriptions per tenant (graph-contract 1.4)."""
    announce_existing: bool = False
    """A new subscription is told of the records that already exist: each is first seen on it (graph-contract 1.3)."""
    authorization_seconds: float | None = None
    """How long a subscription may deliver before it must be renewed or reauthorized; None: as long as it lives."""
    reauthorize_lead_seconds: float = 3600.0
    """How long before the end `reauthorizationRequired` is first sent (at most a third of the lifetime)."""
    reauthorize_repeat_seconds: float = 900.0
    gzip_level: int = 1
    """0: bodies are never compressed."""
    body_cache_bytes: int = 64 * 1024 * 1024
    faults: tuple[Mapping[str, Any], ...] = ()
    """Scripted faults from the start on, each in the form of `docs/emulator.md`."""
    state_file: Path | None = None
    """Calls, versions, subscriptions and undelivered notifications survive the process in this file; None: nothing."""
    hubs: tuple[HubOptions, ...] = ()
    """Event Hubs that a `notificationUrl` may name (graph-contract 5)."""
    limits: Limits = field(default_factory=Limits)
    delivery: DeliveryOptions = field(default_factory=DeliveryOptions)
