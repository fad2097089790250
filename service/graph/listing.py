"""Shell: the list of call records of a tenant, by windows of `startDateTime`, page by page, within a budget of its own.

Sources: graph-contract 6.4 and 9.1;
https://learn.microsoft.com/graph/api/callrecords-cloudcommunications-list-callrecords .
The list shows a record by its start, with its top-level properties only; nothing else can be filtered or ordered by.
"""

from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec

from service.clock import Clock, from_iso, iso
from service.errors import GraphUnavailable, NotACallRecord
from service.graph import protocol
from service.graph.auth import Tokens
from service.graph.budget import TenantGates
from service.graph.exchange import Exchange, Rejected, Subject
from service.graph.protocol import RefusedLink
from service.graph.room import Room
from service.metrics import Metrics
from service.notification import is_guid
from service.settings import Graph, Tenant
from service.signin.clouds import Endpoints

PAGE_SIZE: Final = 60  # Graph's, fixed (graph-contract 6.1)
SELECT: Final = "id,version,startDateTime"
# Generous: another list of Graph's may have pages of up to 999.
MOST_ITEMS: Final = 1000
# 1.2 million records in one window; beyond it something leads us astray.
MOST_PAGES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Listed:
    """One call record as the list shows it."""

    call_id: str
    """Lower case GUID."""
    version: int | None
    """None where the list gives none: expected of Graph, not verified (graph-contract 6.4)."""
    start: float | None
    """Unix seconds; None when it is no date."""


@dataclass(frozen=True)
class ListPage:
    """Up to 60 records and the link to more."""

    items: list[Listed]
    link: str | None
    unreadable: int
    """Items without an id that is a GUID; they cannot be asked for."""


# An array as a struct of so many: read to the first item too many and no further, where a list would hold them all.
_Items = msgspec.defstruct(
    "_Items",
    [(f"item_{number}", msgspec.Raw, msgspec.Raw()) for number in range(MOST_ITEMS)],
    array_like=True,
    forbid_unknown_fields=True,
)


class _Page(msgspec.Struct):
    value: _Items  # type: ignore[valid-type]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)
    next_link_lower: str | None = msgspec.field(name="@odata.nextlink", default=None)


class _Item(msgspec.Struct, rename="camel"):
    id: msgspec.Raw = msgspec.Raw()
    version: msgspec.Raw = msgspec.Raw()
    start_date_time: msgspec.Raw = msgspec.Raw()


_page = msgspec.json.Decoder(_Page)
_item = msgspec.json.Decoder(_Item)
_text = msgspec.json.Decoder(str)
_number = msgspec.json.Decoder(int, strict=False)


def decode_list_page(body: bytes) -> ListPage:
    """One page of the list. Odd items cost nothing but themselves; NotACallRecord for a body that is no page."""
    try:
        page = _page.decode(body)
    except msgspec.ValidationError:
        raise NotACallRecord(
            "odata_error", f"the body is no list of call records, or has more than {MOST_ITEMS:,} of them"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise NotACallRecord("not_json", "the body is not JSON") from None
    items = [raw for raw in msgspec.structs.astuple(page.value) if raw]
    found = [item for raw in items if (item := _listed(raw)) is not None]
    return ListPage(found, page.next_link or page.next_link_lower, len(items) - len(found))


def _listed(raw: msgspec.Raw) -> Listed | None:
    try:
        item = _item.decode(raw)
        call_id = _text.decode(item.id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not is_guid(call_id):
        return None
    return Listed(call_id.lower(), _version(item.version), _start(item.start_date_time))


def _version(raw: msgspec.Raw) -> int | None:
    try:
        version = _number.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return version if 0 < version < 2**62 else None


def _start(raw: msgspec.Raw) -> float | None:
    try:
        return from_iso(_text.decode(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError):
        return None


class Lister:
    """Lists call records. Whoever holds it spends `graph.list_requests_per_20s` of each tenant: make one a process."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        endpoints: Endpoints,
        tokens: Tokens,
        settings: Graph,
        tenant_names: Iterable[str],
        room: Room,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        # Waits of its own too: a throttled list is no reason to stop reading records.
        limited = msgspec.structs.replace(settings, tenant_requests_per_20s=settings.list_requests_per_20s)
        gates = TenantGates(limited, tenant_names, clock, None)
        self._exchange = Exchange(http, tokens, limited, gates, clock, metrics)
        self._root = endpoints.root_url
        self._room = room
        self._refuses_select: set[str] = set()

    async def pages(self, name: str, tenant: Tenant, start: float, end: float) -> AsyncGenerator[ListPage, None]:
        """Every page of the records that start in [start, end), whole Unix seconds.

        Raises TenantMustWait, GraphUnavailable (a refused or worn-out link among it: list the window again) and
        NotACallRecord. Cancelling it leaves nothing behind.
        """
        with self._room.stay() as stay:
            subject = Subject(name, tenant, "list", lambda: False, stay)
            page = await self._first(subject, start, end)
            seen = set[str]()
            while True:
                # What a page holds of its body is a few ids; whoever takes it may be slow.
                stay.give_back(0)
                stay.end()
                yield page
                if page.link is None:
                    return
                if page.link in seen or len(seen) == MOST_PAGES:
                    raise GraphUnavailable("The links of the list of call records lead in circles.")
                seen.add(page.link)
                try:
                    url = protocol.next_list_page(page.link, self._root)
                except RefusedLink as exc:
                    raise GraphUnavailable(f"A next link of the list was refused: {exc}.") from None
                page = await self._exchange.get(subject, "list", url, decode_list_page)

    async def _first(self, subject: Subject, start: float, end: float) -> ListPage:
        """The first page, with `$select` unless Graph was seen to refuse it here (documented for the list, untried)."""
        begin, stop = _moment(start), _moment(end)
        if subject.tenant_name not in self._refuses_select:
            try:
                url = protocol.list_url(self._root, begin, stop, SELECT)
                return await self._exchange.get(subject, "list", url, decode_list_page)
            except Rejected:
                self._refuses_select.add(subject.tenant_name)
        return await self._exchange.get(subject, "list", protocol.list_url(self._root, begin, stop), decode_list_page)


def _moment(unix_seconds: float) -> str:
    return iso(unix_seconds)[:19] + "Z"
