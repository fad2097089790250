"""Every setting with its default, range and meaning: frozen structs, one a group; `docs/settings.md` is made of them.

What must hold between values is checked in `checks`; where they come from is the affair of `reading`.
"""

from typing import Annotated, Literal

import msgspec

from service.settings.base import Count, Group, Port, Positive
from service.settings.kafka import EventHub, Kafka
from service.settings.secret import Secret

Credential = Literal[
    "client-secret",
    "certificate",
    "federated-token",
    "workload-identity",
    "managed-identity",
    "managed-identity-federation",
]

ROLES = ("receive", "work", "keep")


class Receiver(Group, frozen=True):
    """The public site that Graph posts to: `/notifications` and `/lifecycle`."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod's public port
    port: Port = 8080
    public_url: str = ""
    """Base URL under which Graph reaches this site, for instance https://calls.example.com; the keeper needs it."""
    max_body_bytes: Count = 4 * 1024 * 1024
    max_items: Count = 10_000
    """Notifications in one POST or event of a hub; Graph documents no batch limit."""
    max_connections: Count = 1000
    """Open connections; above it the one that has kept us waiting longest gives way."""
    max_held_bytes: Count = 64 * 1024 * 1024
    """Bodies of all POSTs that are not answered yet; above it those over 64 KiB are answered 503. One always fits."""
    max_head_bytes: Count = 16 * 1024 * 1024
    """Request lines and headers of all requests not answered yet; above it those over 8 KiB are answered 503."""
    read_timeout_seconds: Positive = 10.0
    """How long a request's body may take to arrive."""
    store_timeout_seconds: Positive = 2.0
    """How long Kafka may take before the answer is 503; Graph counts answers over 3 s as slow."""


class Admin(Group, frozen=True):
    """The private site: `/metrics`, `/livez`, `/readyz`. Never expose it publicly."""

    host: str = "127.0.0.1"
    port: Port = 8081


class ClientState(Group, frozen=True):
    """Keys behind `clientState` (`k{n}.` + base64url of HMAC-SHA256(key n, tenant id)).

    All are accepted, the one with the highest number is used.
    """

    keys: dict[str, Secret] = msgspec.field(default_factory=dict)
    """Key number (1, 2, …) → key text, at least 16 characters."""


class Tenant(Group, frozen=True):
    """One Microsoft 365 tenant whose calls are read. Its name (the key in `tenants`) is its metric label."""

    id: str
    """Directory (tenant) id, a GUID."""
    client_id: str = ""
    """Application (client) id of the app registration. With `managed-identity`: client id of the user-assigned
    identity, empty for the system-assigned one."""
    credential: Credential = "client-secret"
    """How to sign in (docs/sign-in.md). All but `client-secret` need the extra `azure`."""
    client_secret: Secret = Secret("")
    """For `client-secret`: the secret's value, not its id."""
    client_secret_file: str = ""
    """For `client-secret`: path of the file that holds it; read anew for each token, so that it may be rotated."""
    certificate_file: str = ""
    """For `certificate`: path of a PEM or PFX file; read anew for each token, so a renewed one is used by itself."""
    certificate_key_file: str = ""
    """For `certificate`: path of the private key (PEM) where it stands in a file of its own, as `tls.key`."""
    certificate_password: Secret = Secret("")
    """For `certificate`: password of the private key."""
    federated_token_file: str = ""
    """For `federated-token` and `workload-identity`: path of the outside token; read anew each time it is used.
    `workload-identity` takes it, the client id and the tenant id from the pod's `AZURE_…` variables where not set."""
    identity_client_id: str = ""
    """For `managed-identity-federation`: client id of the user-assigned identity that the app registration trusts,
    empty for the system-assigned one."""


class Graph(Group, frozen=True):
    """Which Graph, and how hard it may be asked. Budgets stay below the limits of graph-contract section 9.1."""

    cloud: str = "global"
    """`global`, `usgov-l4`, `usgov-l5`, or `custom` with `root_url` and `login_url` (the emulator)."""
    root_url: str = ""
    login_url: str = ""
    ca_file: str = ""
    """Path of PEM certificates that are trusted besides the system's, for Graph and the login (private CA, proxy)."""
    request_timeout_seconds: Positive = 15.0
    """One request, headers and body; below the record's deadline so that a silent answer is tried again."""
    record_deadline_seconds: Positive = 20.0
    """All fetches of a batch share it; what is silent or failing by then goes to a retry topic."""
    tenant_requests_per_20s: Annotated[int, msgspec.Meta(ge=1, le=1500)] = 1200
    """Requests for one tenant by all replicas together; Graph allows 1,500. A process spends its lanes' share."""
    record_requests_per_20s: Annotated[int, msgspec.Meta(ge=1, le=40)] = 36
    """Requests for one call record; Graph allows 40."""
    list_requests_per_20s: Annotated[int, msgspec.Meta(ge=1, le=36)] = 8
    """Pages of the list of call records for one tenant. Graph says 40; older texts less than 10, so stay below that."""
    tries: Count = 3
    """Tries in place for one request that fails with 5xx, a timeout or a cut body."""
    max_body_bytes: Count = 64 * 1024 * 1024
    """One page, uncompressed."""
    max_record_bytes: Count = 256 * 1024 * 1024
    """All pages of one record, uncompressed; a larger one becomes a dead letter."""
    thorough_every: Annotated[int, msgspec.Meta(ge=0)] = 50
    """Every so many records one is searched for unknown fields and enum members; 0 for never."""


class Lanes(Group, frozen=True):
    """How a lane takes and publishes work."""

    batch_notifications: Count = 100
    """Most records looked at in one transaction; notifications that merge, or need no look, come on top."""
    batch_bytes: Count = 8 * 1024 * 1024
    """A batch starts no further fetch once its events are this large, uncompressed."""
    gather_milliseconds: Annotated[int, msgspec.Meta(ge=0, le=5000)] = 20
    """How long a lane that already has work waits for more of it."""
    concurrent_fetches: Count = 24
    """Records being fetched at once by this process."""
    patience_seconds: Positive = 3.0
    """How long a batch waits for a record before it goes on without it; the record goes on beside the batches."""
    beside_fetches: Count = 4
    """Records of one lane that may be fetched beside its batches at once."""
    bytes_in_flight: Count = 64 * 1024 * 1024
    """Encoded events held by all lanes of this process before further fetches wait."""
    held_bytes: Count = 96 * 1024 * 1024
    """Graph's pages until their records are shaped, and encoded events until they are published, of all lanes of this
    process. Beyond it reading and encoding wait, but for one record at a time and for those below 256 KiB."""
    retry_buffer: Count = 500
    """Notifications of each retry partition that a lane holds until they are due; the others wait in Kafka."""
    audit_every: Annotated[int, msgspec.Meta(ge=0)] = 200
    """Of the listed records that the ledger knows, every so many is fetched all the same and compared; 0 for none."""
    stall_seconds: Positive = 300.0
    """A lane with work that does not move for so long ends the process's liveness."""


class Retry(Group, frozen=True):
    """Retry tiers and when to stop."""

    delays: tuple[str, ...] = ("1m", "10m", "1h")
    """One retry topic each, in growing order; a number and s, m or h. The topics' names follow."""
    not_ready_hours: Positive = 6.0
    """A 404 is `not ready` until the notification is this old; Graph promises 150 minutes."""
    give_up_hours: Positive = 24.0
    """After this the last failure's reason sends the notification to the dead-letter topic."""


class Keeper(Group, frozen=True):
    """Subscriptions, and looking for what Graph never told."""

    subscription_minutes: Annotated[int, msgspec.Meta(ge=45, le=4230)] = 4230
    """Lifetime asked for; Graph's longest is 4,230 minutes. Renewed at half of it."""
    period_seconds: Positive = 60.0
    """How often the keeper looks at every subscription."""
    reconcile_days: Annotated[int, msgspec.Meta(ge=0, le=30)] = 30
    """How far back the list of call records is looked through by itself; 0 for never. Graph keeps 30 days."""
    reconcile_period_seconds: Positive = 300.0
    """How often the keeper looks whether an hour is due to be listed."""


Treatment = Literal["preset", "keep", "hash", "drop"]


class Privacy(Group, frozen=True):
    """What leaves the process of the text in call records that is about somebody: docs/privacy.md has every field.

    One setting a class: `keep`, `hash` (keyed; the same value gives the same hash), `drop`, or as the preset says.
    """

    preset: Literal["open", "reduced", "strict"] = "open"
    """`open` keeps all, `strict` drops all, `reduced` drops join links and feedback text and keeps the rest."""
    names: Treatment = "preset"
    """Display names, user principal names, e-mail addresses."""
    ids: Treatment = "preset"
    """Object ids, participant ids, administrative units, resource ids, other tenants' ids."""
    phone_numbers: Treatment = "preset"
    """Telephone numbers; Graph's own masking stays."""
    ip_addresses: Treatment = "preset"
    """Addresses of clients, relays and hops."""
    subnets: Treatment = "preset"
    """Network addresses of clients."""
    hardware_addresses: Treatment = "preset"
    """MAC addresses and BSSIDs."""
    device_names: Treatment = "preset"
    """Names of machines, microphones and loudspeakers."""
    feedback_text: Treatment = "preset"
    """What participants wrote about the call."""
    join_urls: Treatment = "preset"
    """Links into meetings."""
    user_agents: Treatment = "preset"
    """Raw user-agent text."""
    dns_suffixes: Treatment = "preset"
    """DNS suffixes of adapters."""
    unknown_properties: Treatment = "preset"
    """Text that Graph added since; it travels in the raw archive alone."""
    keys: dict[str, Secret] = msgspec.field(default_factory=dict)
    """Key number (1, 2, …) → key text, at least 16 characters. The highest hashes; its number stands in each hash."""

    def treatments(self) -> dict[str, Literal["keep", "hash", "drop"]]:
        """Class → what is set for it; without those that the preset decides."""
        found = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("preset", "keys")}
        return {name: treatment for name, treatment in found.items() if treatment != "preset"}


class Raw(Group, frozen=True):
    """The archive of whole records, after the privacy policy, for `callstream replay --from-raw`."""

    enabled: bool = False
    """Whether every published version is also written to `{prefix}.raw`; memory for records being fetched doubles."""
    retention_days: Positive = 365.0
    """How long the archive keeps a version."""


class Log(Group, frozen=True):
    """Log lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """`json`, `console`, or `auto`: console on a terminal, JSON elsewhere."""


class Settings(Group, frozen=True):
    """Everything `serve` can be told."""

    kafka: Kafka = Kafka()
    event_hub: EventHub = EventHub()
    receiver: Receiver = Receiver()
    admin: Admin = Admin()
    client_state: ClientState = ClientState()
    tenants: dict[str, Tenant] = msgspec.field(default_factory=dict)
    graph: Graph = Graph()
    lanes: Lanes = Lanes()
    retry: Retry = Retry()
    keeper: Keeper = Keeper()
    privacy: Privacy = Privacy()
    raw: Raw = Raw()
    log: Log = Log()
    drain_seconds: Positive = 25.0
    """How long SIGTERM may take; the pod's grace period must exceed it."""
