"""Shell: one call record from Graph: every page of one version, or a typed error that says what to do.

Sources: graph-contract 6; https://learn.microsoft.com/graph/api/callrecords-callrecord-get and
https://learn.microsoft.com/graph/api/callrecords-session-list .
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp

from service.clock import Clock
from service.errors import GraphUnavailable
from service.graph.auth import Tokens
from service.graph.budget import TenantGates
from service.graph.exchange import Exchange, Subject
from service.graph.reading import Forms, Reading
from service.graph.room import Room, Stay
from service.metrics import Metrics
from service.record.archive import Pages
from service.record.decode import OddValue
from service.record.model import CallRecord
from service.settings import Graph, Tenant
from service.signin.clouds import Endpoints

# Versions of one record that may replace each other while it is read, before it is left for later.
MOST_RESTARTS: Final = 3


@dataclass
class Progress:
    """How far a fetch has come. Made by the caller, written while pages arrive."""

    version: int | None = None
    pages: int = 0
    last_page_at: float | None = None
    """Unix seconds of the clock."""
    stay: Stay | None = None
    """What the record is counted on, while it is fetched and until it is let go."""

    @property
    def is_held_back(self) -> bool:
        """Whether it waits until the process holds less: it is not Graph that is silent."""
        return self.stay is not None and self.stay.is_waiting

    def let_go(self) -> None:
        """Nothing is left of the record, nor of what was made of it: another large one may be read."""
        if self.stay is not None:
            self.stay.end()

    async def take(self, size: int) -> None:
        """Counts bytes that are made of the record, when there is room for them."""
        if self.stay is not None:
            await self.stay.take(size)


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

        Its bytes count as held until the block is left: let it go there, and say `progress.let_go()` when what was made
        of it is gone, too. Raises RecordNotFound, TenantMustWait,
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
