"""Shell: what checks share: the settings, one HTTP session, Kafka's admin client, and what earlier checks brought."""

import ipaddress
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from service import upkeep
from service.clock import Clock
from service.errors import TenantMustWait
from service.kafka.topics import Topics
from service.notification import Gatekeeper
from service.reconcile.memory import Memory
from service.settings import Settings, Tenant
from service.signin.clouds import Endpoints
from service.signin.credentials import Grant


@dataclass(frozen=True)
class Bounds:
    """Offsets of one partition."""

    first: int
    stable: int
    """Where a read_committed reader stops: below `end` while a transaction is open."""
    end: int


@dataclass
class Case:
    """One run of the doctor. Fields without a default are there once the link `settings` is not broken."""

    config: Path | None
    """The settings file that was named on the command line."""
    environ: dict[str, str]
    stack: AsyncExitStack
    """Closes what checks open."""
    clock: Clock
    settings: Settings = field(default_factory=Settings)
    graph: Endpoints = field(init=False)
    topics: Topics = field(init=False)
    http: aiohttp.ClientSession = field(init=False)
    grants: dict[str, Grant] = field(default_factory=dict)
    """By tenant name."""
    graph_date: tuple[float, float] | None = None
    """Graph's clock and ours at the same moment, Unix seconds."""
    admin: AIOKafkaAdminClient = field(init=False)
    brokers: int = 0
    bounds: dict[TopicPartition, Bounds] | None = None
    """Of every partition of ours, as they were when a link first asked."""
    memory: Memory | None = None
    """The keeper's."""
    newest_notices: dict[str, float] = field(default_factory=dict)
    """By tenant id: when the newest notice in Kafka was received, Unix seconds."""
    standings: dict[str, Any] = field(default_factory=dict)
    """What the keeper says of each tenant's subscription (`Standing.shown`), where it runs here."""
    roles: list[str] | None = None
    """Of the service on this machine; None where it does not say."""
    series: dict[str, float] | None = None
    """What the service on this machine counts, `name{label="value"}` → value; None when nobody answers."""

    @property
    def public_url(self) -> SplitResult:
        """Where Graph posts to, in parts."""
        return urlsplit(self.settings.receiver.public_url)

    @property
    def gatekeeper(self) -> Gatekeeper:
        """Knows every tenant's `clientState`."""
        tenants = {tenant.id.lower(): name for name, tenant in self.settings.tenants.items()}
        keys = {int(number): key.reveal().encode() for number, key in self.settings.client_state.keys.items()}
        return Gatekeeper(tenants, keys)

    def wish(self, tenant: Tenant) -> upkeep.Wish:
        """The subscription that the tenant should have."""
        public_url, minutes = self.settings.receiver.public_url, self.settings.keeper.subscription_minutes
        state = self.gatekeeper.newest(tenant.id)
        if not self.settings.event_hub.hub:
            return upkeep.wish(public_url, state, minutes)
        # Which key it has only its keeper knows.
        return upkeep.hub_wish(self.settings.event_hub.url, public_url, state, minutes, made=None)

    @property
    def is_local(self) -> bool:
        """Whether the public URL is this machine's own: only an emulated Graph can reach that."""
        return is_loopback(self.public_url.hostname or "")


class GivenTokens:
    """The one token that was asked for already, as `service.graph.auth.Tokens`."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    async def token(self, tenant: Tenant) -> str:  # noqa: ARG002 - it is made for one
        """The token."""
        return self._grant.token

    def invalidate(self, tenant: Tenant, token: str) -> None:  # noqa: ARG002
        """Refused, and there is no other: the check says so."""
        raise TenantMustWait("no_token", 0.0, "Graph refused the token that the login has just given.")


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.1, ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connection_text(error: BaseException) -> str:
    """Why there was no connection, in words that are the same on every system."""
    cause: BaseException | None = getattr(error, "certificate_error", None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return str(cause.verify_message)
    cause = getattr(error, "os_error", None) or error
    if isinstance(cause, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(cause, ConnectionResetError) or "disconnected" in str(cause).lower():
        return "the connection is broken off"
    if isinstance(cause, ssl.SSLError):
        return f"no TLS ({cause.reason or 'broken off'})"
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else error_text(cause)


def error_text(error: BaseException) -> str:
    """An error in a few words for a sentence: its own, else its kind."""
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__


def listed(names: Any) -> str:
    """`a, b and c`."""
    *most, last = [str(name) for name in names] or ["none"]
    return f"{', '.join(most)} and {last}" if most else last
