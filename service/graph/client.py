"""Shell: one call record from Graph: every page of one version, or a typed error that says what to do.

Sources: graph-contract 6; https://learn.microsoft.com/graph/api/callrecords-callrecord-get and
https://learn.microsoft.com/graph/api/callrecords-session-list .
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from service import __version__
from service.clock import Clock
from service.errors import GraphUnavailable, UserError
from service.graph.auth import Tokens
from service.graph.budget import TenantGates
from service.graph.clouds import Endpoints
from service.graph.exchange import Exchange, Subject
from service.graph.reading import Forms, Reading
from service.graph.room import Room, Stay
from service.metrics import Metrics
from service.record.archive import Pages
from service.record.decode import OddValue
from service.record.model import CallRecord
from service.settings import Graph, Tenant

# Versions of one record that may replace each other while it is read, before it is left for later.
MOST_RESTARTS: Final = 3
# More than the lanes of one process ask at once: one that waited for a connection would be counted before it starts.
CONNECTIONS: Final = 256


@dataclass
class Progress:
    """How far a fetch has come. Made by the caller, written while pages arrive."""

    version: int | None = None
    pages: int = 0
    last_page_at: float | None = None
    """Unix seconds of the clock."""
    stay: Stay | None = None

    @property
    def is_held_back(self) -> bool:
        """Whether it waits until the process holds less: it is not Graph that is silent."""
        return self.stay is not None and self.stay.is_waiting


@dataclass(frozen=True)
class Fetched:
    """One version of a call record, whole."""

    record: CallRecord
    odd: list[OddValue]
    pages: int
    """Answers that the record was read from."""
    body_bytes: int
    """Their size, uncompressed."""
    kept: Pages | None = None
    """The answers themselves, where the archive wants them."""


class RecordChanged(GraphUnavailable):
    """New versions kept appearing while the record was read."""

    reason = "changed"


class GraphClient:
    """Fetches call records; safe to use from many tasks."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        endpoints: Endpoints,
        tokens: Tokens,
        settings: Graph,
        gates: TenantGates,
        room: Room,
        clock: Clock,
        metrics: Metrics,
        *,
        keeps_pages: bool = False,
    ) -> None:
        """`keeps_pages`: whether what is fetched comes with Graph's answers, for the archive."""
        self._exchange = Exchange(http, tokens, settings, gates, clock, metrics)
        self._endpoints = endpoints
        self._settings = settings
        self._clock = clock
        self._room = room
        self._metrics = metrics
        self._forms = Forms()
        self._fetches = 0
        self._keeps_pages = keeps_pages

    @asynccontextmanager
    async def fetched(
        self, tenant_name: str, tenant: Tenant, call_id: str, progress: Progress
    ) -> AsyncIterator[Fetched]:
        """The record's current version with every session, segment and participant.

        Its bytes count as held until the block is left: let it go there. Raises RecordNotFound, TenantMustWait,
        GraphUnavailable (RecordChanged when versions kept changing) and NotACallRecord. Cancelling it at any point
        leaves nothing behind.
        """

        def resumed() -> None:
            progress.last_page_at = self._clock.now()

        with self._room.stay(resumed) as stay:
            progress.stay = stay
            yield await self._fetch(Subject(tenant_name, tenant, call_id, lambda: progress.pages > 0, stay), progress)

    async def _fetch(self, subject: Subject, progress: Progress) -> Fetched:
        self._fetches += 1
        every = self._settings.thorough_every
        is_thorough = every > 0 and self._fetches % every == 0

        def arrived(version: int | None, pages: int) -> None:
            progress.version = version if version is not None else progress.version
            progress.pages += pages
            progress.last_page_at = self._clock.now()

        for _ in range(1 + MOST_RESTARTS):
            subject.stay.give_back(0)
            reading = Reading(
                self._exchange,
                subject,
                self._endpoints.root_url,
                self._forms,
                arrived,
                self._metrics,
                is_thorough,
                self._keeps_pages,
            )
            record = await reading.whole()
            if record is not None:
                return Fetched(record, reading.odd, reading.pages, reading.body_bytes, reading.kept)
        raise RecordChanged("New versions of the call record kept appearing while it was read.")


def http_session(ca_file: str = "") -> aiohttp.ClientSession:
    """The process's one session to Graph and the login; the caller closes it. UserError for an unusable `ca_file`.

    No cookies: a gateway's would pin all requests to one place. No proxies or passwords from the environment.
    """
    trust = _trust(ca_file)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, ttl_dns_cache=60, ssl=trust or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"callstream/{__version__}"},
        timeout=aiohttp.ClientTimeout(total=60, sock_connect=10),
        trust_env=False,
    )


def _trust(ca_file: str) -> ssl.SSLContext | None:
    """The system's certificate authorities and those of the file; None for the system's alone."""
    if not ca_file:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        why = "holds no PEM certificate" if isinstance(exc, ssl.SSLError) else f"cannot be read ({exc.strerror})"
        raise UserError(f"Setting graph.ca_file: {ca_file} {why}.") from None
    return context
