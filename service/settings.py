"""Settings: `callstream.toml` below environment variables → one frozen `Settings`. The only reader of the environment.

A variable is `CALLSTREAM_` + the path in upper case with `__` between levels: `kafka.bootstrap_servers` is
`CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS`, the id of tenant `contoso` is `CALLSTREAM_TENANTS__CONTOSO__ID`. A variable that
ends in `_FILE` names a file that holds the value (for secrets). Lists are comma-separated. Everything is checked before
anything opens; a mistake raises `UserError` with one sentence.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec

from service.errors import UserError

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Credential = Literal[
    "client-secret",
    "certificate",
    "federated-token",
    "workload-identity",
    "managed-identity",
    "managed-identity-federation",
]

PREFIX = "CALLSTREAM_"
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
SHORTEST_KEY = 16  # characters; a clientState key that can be guessed lets anyone in
ROLES = ("receive", "work", "keep")
# Settings of the process itself rather than of `Settings`: read by `load` alone.
CONFIG_FILE_VARIABLE = "CALLSTREAM_CONFIG"
# Settings whose own name ends in `_file`: their value is the path, not what the file holds.
PATH_SETTINGS = frozenset(
    {"ca_file", "certificate_file", "certificate_key_file", "client_secret_file", "federated_token_file"}
)
# What the workload identity webhook of Kubernetes sets in a pod, and the tenant's setting that it stands for.
# Source: https://learn.microsoft.com/azure/aks/workload-identity-overview . The login host is `graph.cloud`'s affair.
WORKLOAD_IDENTITY = {
    "AZURE_TENANT_ID": "id",
    "AZURE_CLIENT_ID": "client_id",
    "AZURE_FEDERATED_TOKEN_FILE": "federated_token_file",
}


class Secret:
    """Text that never shows in a log, an error or a `repr`; `reveal()` gives it to the one who needs it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: pass it on, never log it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)


class _Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of settings; an unknown name is refused at start."""


class Kafka(_Group, frozen=True):
    """Where Kafka is and what the topics are called."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated host:port list."""
    topic_prefix: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "callrecords"
    """Begins every topic name, the group ids and the transactional ids."""
    partitions: Count = 12
    """Partitions of every per-call topic, and so the number of lanes. Growing it means a new prefix."""
    replication_factor: Annotated[int, msgspec.Meta(ge=-1)] = -1
    """For topics that `serve` or `topics` creates; -1 takes the broker's default."""
    create_topics: bool = True
    """Whether `serve` creates missing topics."""
    session_timeout_seconds: Positive = 10.0
    """How long a dead worker holds its lanes."""
    request_timeout_seconds: Positive = 20.0
    """How long one request to a broker may take."""


class Receiver(_Group, frozen=True):
    """The public site that Graph posts to: `/notifications` and `/lifecycle`."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod's public port
    port: Port = 8080
    public_url: str = ""
    """Base URL under which Graph reaches this site, for instance https://calls.example.com; the keeper needs it."""
    max_body_bytes: Count = 4 * 1024 * 1024
    max_items: Count = 10_000
    """Notifications in one POST; Graph documents no batch limit."""
    read_timeout_seconds: Positive = 10.0
    """How long a request's body may take to arrive."""
    store_timeout_seconds: Positive = 2.0
    """How long Kafka may take before the answer is 503; Graph counts answers over 3 s as slow."""


class Admin(_Group, frozen=True):
    """The private site: `/metrics`, `/livez`, `/readyz`. Never expose it publicly."""

    host: str = "127.0.0.1"
    port: Port = 8081


class ClientState(_Group, frozen=True):
    """Keys behind `clientState` (`k{n}.` + base64url of HMAC-SHA256(key n, tenant id)).

    All are accepted, the one with the highest number is used.
    """

    keys: dict[str, Secret] = {}
    """Key number (1, 2, …) → key text, at least 16 characters."""


class Tenant(_Group, frozen=True):
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


class Graph(_Group, frozen=True):
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
    thorough_every: Annotated[int, msgspec.Meta(ge=0)] = 50
    """Every so many records one is searched for unknown fields and enum members; 0 for never."""


class Lanes(_Group, frozen=True):
    """How a lane takes and publishes work."""

    batch_notifications: Count = 100
    """Most notifications in one transaction."""
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
    audit_every: Annotated[int, msgspec.Meta(ge=0)] = 200
    """Of the listed records that the ledger knows, every so many is fetched all the same and compared; 0 for none."""
    stall_seconds: Positive = 300.0
    """A lane with work that does not move for so long ends the process's liveness."""


class Retry(_Group, frozen=True):
    """Retry tiers and when to stop."""

    delays: tuple[str, ...] = ("1m", "10m", "1h")
    """One retry topic each, in growing order; a number and s, m or h. The topics' names follow."""
    not_ready_hours: Positive = 6.0
    """A 404 is `not ready` until the notification is this old; Graph promises 150 minutes."""
    give_up_hours: Positive = 24.0
    """After this the last failure's reason sends the notification to the dead-letter topic."""


class Keeper(_Group, frozen=True):
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


class Privacy(_Group, frozen=True):
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
    keys: dict[str, Secret] = {}
    """Key number (1, 2, …) → key text, at least 16 characters. The highest hashes; its number stands in each hash."""

    def treatments(self) -> dict[str, Literal["keep", "hash", "drop"]]:
        """Class → what is set for it; without those that the preset decides."""
        found = {name: getattr(self, name) for name in self.__struct_fields__ if name not in ("preset", "keys")}
        return {name: treatment for name, treatment in found.items() if treatment != "preset"}


class Raw(_Group, frozen=True):
    """The archive of whole records, after the privacy policy, for `callstream replay --from-raw`."""

    enabled: bool = False
    """Whether every published version is also written to `{prefix}.raw`; memory for records being fetched doubles."""
    retention_days: Positive = 365.0
    """How long the archive keeps a version."""


class Log(_Group, frozen=True):
    """Log lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"
    """`json`, `console`, or `auto`: console on a terminal, JSON elsewhere."""


class Settings(_Group, frozen=True):
    """Everything `serve` can be told."""

    kafka: Kafka = Kafka()
    receiver: Receiver = Receiver()
    admin: Admin = Admin()
    client_state: ClientState = ClientState()
    tenants: dict[str, Tenant] = {}
    graph: Graph = Graph()
    lanes: Lanes = Lanes()
    retry: Retry = Retry()
    keeper: Keeper = Keeper()
    privacy: Privacy = Privacy()
    raw: Raw = Raw()
    log: Log = Log()
    drain_seconds: Positive = 25.0
    """How long SIGTERM may take; the pod's grace period must exceed it."""


def load(environ: Mapping[str, str], config_file: Path | None = None) -> Settings:
    """Settings from a TOML file and the environment above it.

    The file is the argument, else `CALLSTREAM_CONFIG`, else ./callstream.toml if it is there.

    Raises `UserError` with one sentence for an unknown name, a wrong value, an unreadable file or a contradiction.
    """
    path = config_file or _config_path(environ)
    tree = _read_toml(path) if path else {}
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and name != CONFIG_FILE_VARIABLE:
            _place(tree, name, value)
    _prepare_tenants(tree, environ)
    try:
        settings = msgspec.convert(tree, Settings, strict=False, dec_hook=_secret)
    except msgspec.ValidationError as exc:
        raise UserError(f"Setting {_where(str(exc))}.") from None
    _check(settings)
    return settings


def _config_path(environ: Mapping[str, str]) -> Path | None:
    if given := environ.get(CONFIG_FILE_VARIABLE):
        return Path(given)
    default = Path("callstream.toml")
    return default if default.is_file() else None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UserError(f"The settings file {path} cannot be read: {exc.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UserError(f"The settings file {path} is not TOML: {exc}.") from None


def _place(tree: dict[str, Any], name: str, value: str) -> None:
    """Puts one environment variable at its place in the tree of settings."""
    path = name.removeprefix(PREFIX).lower().split("__")
    if path[-1].endswith("_file") and path[-1] not in PATH_SETTINGS:
        path[-1] = path[-1].removesuffix("_file")
        value = _read_secret(name, value)
    node = tree
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise UserError(f"{name} goes deeper than the setting it names.")
    node[path[-1]] = [item.strip() for item in value.split(",")] if path == ["retry", "delays"] else value


def _prepare_tenants(tree: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Gives tenants what stands elsewhere: the secret in its file, and with `workload-identity` the pod's variables.

    Raises UserError for an unknown kind, with the known ones, which the conversion would not name.
    """
    tenants = tree.get("tenants")
    for name, tenant in tenants.items() if isinstance(tenants, dict) else ():
        credential = tenant.get("credential", "client-secret") if isinstance(tenant, dict) else "client-secret"
        if credential not in get_args(Credential):
            known = ", ".join(get_args(Credential))
            raise UserError(f"Setting tenants.{name}.credential is {credential!r}: it must be one of {known}.")
        if isinstance(tenant, dict) and (secret_file := tenant.get("client_secret_file")):
            tenant["client_secret"] = _read_secret(f"Setting tenants.{name}.client_secret_file", str(secret_file))
        if credential == "workload-identity":
            for variable, setting in WORKLOAD_IDENTITY.items():
                if variable in environ:
                    tenant.setdefault(setting, environ[variable])


def _read_secret(name: str, file_name: str) -> str:
    try:
        return Path(file_name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"{name} names {file_name}, which cannot be read as text.") from None


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str | Secret):
        return value if isinstance(value, Secret) else Secret(value)
    raise NotImplementedError(f"a setting cannot be a {kind.__name__}")


def _where(message: str) -> str:
    """`Expected `int`, got `str` - at `$.kafka.partitions`` → `kafka.partitions: expected int, got str`."""
    text, _, path = message.partition(" - at `$.")
    found = re.search(r"unknown field `(\w+)`", text)
    place = path.rstrip("`") or "at the top"
    if found:
        parent = path.rstrip("`") + "." if path else ""
        return f"{parent}{found.group(1)} is not known; docs/settings.md lists them all"
    return f"{place}: {text[0].lower()}{text[1:].replace('`', '')}"


def _check(settings: Settings) -> None:
    """Contradictions that types cannot say."""
    parse_delays(settings.retry.delays)
    _check_addresses(settings)
    _check_tenants(settings.tenants)
    _check_keys("client_state", settings.client_state.keys)
    _check_keys("privacy", settings.privacy.keys)
    hashed = [name for name, treatment in settings.privacy.treatments().items() if treatment == "hash"]
    if hashed and not settings.privacy.keys:
        raise UserError(
            f"Setting privacy.{hashed[0]} is hash, and there is no key to hash with: "
            "set CALLSTREAM_PRIVACY__KEYS__1 to a long random text."
        )
    if settings.graph.cloud == "custom" and not (settings.graph.root_url and settings.graph.login_url):
        raise UserError("Setting graph.cloud is custom, so graph.root_url and graph.login_url must be set.")
    if settings.graph.request_timeout_seconds >= settings.graph.record_deadline_seconds:
        raise UserError("Setting graph.request_timeout_seconds must be below graph.record_deadline_seconds.")


def _check_addresses(settings: Settings) -> None:
    for address in settings.kafka.bootstrap_servers.split(","):
        if not re.fullmatch(r"\s*(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}\s*", address):
            raise UserError(f"Setting kafka.bootstrap_servers: {address.strip()!r} is not host:port.")
    url = settings.receiver.public_url
    if url and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url):
        raise UserError("Setting receiver.public_url must be a URL such as https://calls.example.com, without a query.")


def _check_keys(group: str, keys: Mapping[str, Secret]) -> None:
    for number, key in keys.items():
        place = f"Setting {group}.keys.{number}"
        if not re.fullmatch(r"[1-9][0-9]{0,3}", number):
            raise UserError(f"{place}: a key's name must be a number from 1 to 9999.")
        if len(key.reveal()) < SHORTEST_KEY:
            raise UserError(f"{place} must have at least {SHORTEST_KEY} characters.")


def _check_tenants(tenants: Mapping[str, Tenant]) -> None:
    for name, tenant in tenants.items():
        if not re.fullmatch(r"[a-z0-9_-]{1,40}", name):
            raise UserError(f"Tenant name {name!r} must be 1 to 40 of a-z, 0-9, - and _: it becomes a metric label.")
        if not GUID.fullmatch(tenant.id):
            raise UserError(f"Setting tenants.{name}.id must be the tenant's GUID.")
        if not tenant.client_id and tenant.credential != "managed-identity":
            raise UserError(f"Setting tenants.{name}.client_id must be the app registration's application (client) id.")
    ids = [tenant.id.lower() for tenant in tenants.values()]
    if len(set(ids)) < len(ids):
        raise UserError("Two tenants have the same id.")


def parse_delays(delays: tuple[str, ...]) -> tuple[float, ...]:
    """`("1m", "10m", "1h")` → seconds (60.0, 600.0, 3600.0); `UserError` when one is no delay or they do not grow."""
    seconds = []
    for text in delays:
        match = re.fullmatch(r"([0-9]{1,4})(s|m|h)", text)
        if match is None or int(match.group(1)) == 0:
            raise UserError(f"Setting retry.delays: {text!r} is not a delay such as 30s, 10m or 1h.")
        seconds.append(int(match.group(1)) * {"s": 1.0, "m": 60.0, "h": 3600.0}[match.group(2)])
    if not seconds or seconds != sorted(set(seconds)):
        raise UserError("Setting retry.delays must hold at least one delay, each longer than the one before.")
    return tuple(seconds)
