"""Shell: one attempt to read one version of a call record whole: its first page, the further ones, the same version."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import msgspec
import structlog

from service.errors import GraphUnavailable, NotACallRecord, RecordNotFound
from service.graph import protocol
from service.graph.exchange import Exchange, Rejected, Subject
from service.graph.protocol import RefusedLink
from service.metrics import Metrics
from service.record.archive import Pages
from service.record.decode import OddValue, OddValues, decode_participants_page, decode_record, decode_sessions_page
from service.record.lenient import MOST_KEPT
from service.record.model import CallRecord, Participant, Session

Item = TypeVar("Item")

# 60,000 sessions; a meeting of 10,000 has some 170 pages. Beyond it something leads us in circles.
MOST_PAGES: Final = 1000
# How often a collection is walked from its start, when links go bad on the way.
MOST_WALKS: Final = 2

log = structlog.get_logger()


@dataclass
class Forms:
    """What this process has learnt of Graph."""

    combined_refused: set[str] = field(default_factory=set)
    """Tenants (names) for which Graph does not take both expansions in one request (contract 6.1: used in the field,
    not documented).
    """


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Some items of a collection, and the link to more."""

    items: list[Item]
    link: str | None
    odd: OddValues


@dataclass(frozen=True)
class Collection(Generic[Item]):
    """A collection of the record that comes in pages."""

    call: str
    """Label of graph_seconds."""
    url: Callable[[str, str], str]
    decode: Callable[[bytes, bool], Page[Item]]


class OldLink(Exception):
    """Graph does not take this link any more."""


def _sessions_page(body: bytes, is_thorough: bool) -> Page[Session]:
    page, odd = decode_sessions_page(body, thorough=is_thorough)
    return Page(page.value or [], page.next_link, odd)


def _participants_page(body: bytes, is_thorough: bool) -> Page[Participant]:
    page, odd = decode_participants_page(body, thorough=is_thorough)
    return Page(page.value or [], page.next_link, odd)


SESSIONS: Final = Collection("sessions", protocol.sessions_url, _sessions_page)
PARTICIPANTS: Final = Collection("participants", protocol.participants_url, _participants_page)


class Reading:
    """One attempt. `odd`, `pages` and `body_bytes` tell of it afterwards."""

    def __init__(
        self,
        exchange: Exchange,
        subject: Subject,
        root_url: str,
        forms: Forms,
        arrived: Callable[[int | None, int], None],
        metrics: Metrics,
        is_thorough: bool,
        keeps_pages: bool = False,
    ) -> None:
        """`arrived(version, pages)` is told of every answer: the version where it shows one, and pages it brought."""
        self._exchange = exchange
        self._subject = subject
        self._root_url = root_url
        self._forms = forms
        self._arrived = arrived
        self._metrics = metrics
        self._is_thorough = is_thorough
        self._body = b""
        self.kept = Pages() if keeps_pages else None
        """The bodies themselves, for the archive; None where nobody wants them."""
        self.odd: list[OddValue] = []
        self.pages = 0
        self.body_bytes = 0

    async def whole(self) -> CallRecord | None:
        """The record with all pages of its collections; None when a new version appeared between two of them.

        Raises what `Exchange.get` raises.
        """
        record, has_participants = await self._first()
        if (record.id or "").lower() != self._subject.call_id.lower():
            raise GraphUnavailable("Graph answered with another call record than the one asked for.")
        sessions = await self._all(SESSIONS, record.sessions, record.sessions_next_link)
        participants = record.participants_v2 if has_participants else None
        if participants is None or record.participants_next_link is not None:
            participants = await self._all(PARTICIPANTS, participants, record.participants_next_link)
        if self.pages > 1 and await self._version() != record.version:
            return None
        return msgspec.structs.replace(
            record,
            sessions=sessions,
            participants_v2=participants,
            sessions_next_link=None,
            participants_next_link=None,
        )

    async def _first(self) -> tuple[CallRecord, bool]:
        """The record with the first page of its sessions, and whether its participants came with it."""
        tenant = self._subject.tenant_name
        if tenant not in self._forms.combined_refused:
            try:
                return await self._record(protocol.EXPAND_ALL), True
            except Rejected as exc:
                if exc.status != 400:
                    raise
        record = await self._record(protocol.EXPAND_SESSIONS)
        if tenant not in self._forms.combined_refused:
            # Known only now: had it been the id, this would have been refused as well.
            self._forms.combined_refused.add(tenant)
            log.warning("Graph takes one expansion at a time; participants are read apart from now on", tenant=tenant)
        return record, False

    async def _record(self, expand: str) -> CallRecord:
        url = protocol.record_url(self._root_url, self._subject.call_id, expand)
        record, odd = await self._get("record", url, lambda body: decode_record(body, thorough=self._is_thorough))
        self._took(odd, record.version)
        if self.kept is not None:
            self.kept.record = self._body
        return record

    async def _version(self) -> int | None:
        """The version that is current now."""
        url = protocol.version_url(self._root_url, self._subject.call_id)
        record, _ = await self._get("version", url, lambda body: _or_broken(decode_record, body))
        self._arrived(None, 0)
        return record.version

    async def _all(self, collection: Collection[Item], items: list[Item] | None, link: str | None) -> list[Item]:
        """Every item: the expanded first page and what its link leads to, else the collection walked from its start.

        An expansion that is missing altogether is walked too: absent is not the same as empty.
        """
        held, size = self._subject.stay.held, self.body_bytes
        if items is not None:
            try:
                return await self._follow(collection, items, link)
            except (OldLink, RefusedLink) as exc:
                self._note(collection, exc)
        for _ in range(MOST_WALKS):
            if self.kept is not None:
                self.kept.restart(collection.call)
            # The pages of the walk before are let go.
            self._subject.stay.give_back(held)
            self.body_bytes = size
            try:
                page = await self._page(collection, collection.url(self._root_url, self._subject.call_id))
                return await self._follow(collection, page.items, page.link)
            except OldLink as exc:
                self._note(collection, exc)
            except RefusedLink as exc:
                self._note(collection, exc)
                raise GraphUnavailable(f"Graph's link to more {collection.call} was refused: {exc}.") from exc
        raise GraphUnavailable(f"Graph's links to more {collection.call} go bad before they are used.")

    async def _follow(self, collection: Collection[Item], items: list[Item], link: str | None) -> list[Item]:
        """`items` and all that the links lead to. Raises OldLink, RefusedLink."""
        found, seen = list(items), set[str]()
        while link is not None:
            url = protocol.next_page(link, self._root_url, self._subject.call_id)
            if url in seen or len(seen) >= MOST_PAGES:
                raise RefusedLink("the links lead in circles")
            seen.add(url)
            try:
                page = await self._page(collection, url)
            except RecordNotFound as exc:
                raise OldLink(str(exc)) from exc
            except Rejected as exc:
                if exc.status not in (400, 410):
                    raise
                raise OldLink(str(exc)) from exc
            found += page.items
            link = page.link
        return found

    async def _page(self, collection: Collection[Item], url: str) -> Page[Item]:
        def decode(body: bytes) -> Page[Item]:
            return collection.decode(body, self._is_thorough)

        page = await self._get(collection.call, url, lambda body: _or_broken(decode, body))
        self._took(page.odd, None)
        if self.kept is not None:
            self.kept.add(collection.call, self._body)
        return page

    async def _get(self, call: str, url: str, decode: Callable[[bytes], Item]) -> Item:
        size = 0

        def measured(body: bytes) -> Item:
            nonlocal size
            size = len(body)
            if self.kept is not None:
                self._body = body
            return decode(body)

        value = await self._exchange.get(self._subject, call, url, measured)
        self.body_bytes += size
        return value

    def _took(self, odd: OddValues, version: int | None) -> None:
        self.pages += 1
        self._arrived(version, 1)
        self.odd += odd[: MOST_KEPT - len(self.odd)]
        for labels, count in odd.counts.items():
            self._metrics.odd_values.labels(*labels).inc(count)

    def _note(self, collection: Collection[Item], exc: Exception) -> None:
        """A link that leads nowhere; only what was refused before it was asked is not counted yet."""
        if isinstance(exc, RefusedLink):
            self._metrics.graph_seconds.labels(collection.call, "refused").observe(0.0)
        log.warning(
            "a link to more pages was not followed",
            call=collection.call,
            call_id=self._subject.call_id,
            why=str(exc),
        )


def _or_broken(decode: Callable[[bytes], Item], body: bytes) -> Item:
    """The record was there a moment ago, so a body that is no part of it is a broken answer: asked for again, and never
    a reason to set the call aside.
    """
    try:
        return decode(body)
    except NotACallRecord as exc:
        raise NotACallRecord("not_json", str(exc), exc.code) from exc
