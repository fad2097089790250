"""Pages of collections: which one is asked for, where it is cut, the links between them (graph-contract 6.3)."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from service.emulator import odata
from service.emulator.odata import Preferences
from service.emulator.site import own_root, world
from service.emulator.store import Call


@dataclass(frozen=True)
class Asked:
    """A read request, understood."""

    root: str
    """Scheme, host and `/v1.0` or `/beta`."""
    preferences: Preferences
    nextlink_form: str

    def link(self, path: str, options: str) -> str:
        """A plain next link."""
        return f"{self.root}/{path}?{options}"

    def expanded_link(self, path: str, options: str) -> str:
        """A next link on an expanded collection, where the documentation's samples have a fragment (6.3)."""
        return self.link(f"$metadata#{path}" if self.nextlink_form == "metadata" else path, options)


class Pages:
    """Cuts the collections of one call into pages and writes the links between them."""

    def __init__(self, request: web.Request, asked: Asked, call: Call) -> None:
        self._here = world(request)
        self._asked = asked
        self._call = call

    def expand_sessions(self, record: dict[str, Any], sessions: list[Any], with_segments: bool) -> None:
        """First page of sessions beside the record's own properties."""
        page, token = self.sessions(sessions, 0, with_segments)
        record["sessions"] = page
        if token:
            options = self.session_options(with_segments, token)
            record["sessions@odata.nextLink"] = self._asked.expanded_link(self.path("sessions"), options)

    def expand_participants(self, record: dict[str, Any], people: list[Any]) -> None:
        """First page of participants beside the record's own properties."""
        page, token = self._cut("participants_v2", people, 0, self._here.options.participants_page)
        record["participants_v2"] = page
        if token:
            link = self._asked.expanded_link(self.path("participants_v2"), f"$skiptoken={token}")
            record["participants_v2@odata.nextLink"] = link

    def sessions(self, sessions: list[Any], offset: int, with_segments: bool) -> tuple[list[Any], str]:
        """A page of sessions and the token of the next one."""
        kind = "sessions+segments" if with_segments else "sessions"
        page, token = self._cut(kind, sessions, offset, self._here.options.sessions_page)
        if not with_segments:
            page = [{name: value for name, value in one.items() if name != "segments"} for one in page]
        return page, token

    def participants(self, people: list[Any], offset: int) -> tuple[list[Any], str]:
        """A page of participants and the token of the next one."""
        return self._cut("participants_v2", people, offset, self._here.options.participants_page)

    def offset(self, kind: str, token: str | None) -> int:
        """Where the page of `token` begins; 0 without one."""
        return int(self._here.skip_tokens.read(self._collection(kind), token)) if token else 0

    def session_options(self, with_segments: bool, token: str) -> str:
        """Query of a link to more sessions."""
        return f"$expand=segments&$skiptoken={token}" if with_segments else f"$skiptoken={token}"

    def path(self, collection: str) -> str:
        """The collection's path below the root, with the id in OData's brackets as Graph's links have it."""
        return f"communications/callRecords('{self._call.id}')/{collection}"

    def _cut(self, kind: str, items: list[Any], offset: int, largest: int) -> tuple[list[Any], str]:
        end = offset + min(self._asked.preferences.page_size or largest, largest)
        token = self._here.skip_tokens.make(self._collection(kind), str(end)) if end < len(items) else ""
        return items[offset:end], token

    def _collection(self, kind: str) -> str:
        return f"{self._call.tenant_id}/{self._call.id}/{kind}"


def asked_of(request: web.Request) -> Asked:
    """What the request's address and headers ask for."""
    return Asked(
        root=f"{own_root(request)}/{request.match_info['api']}",
        preferences=odata.read_preferences(request.headers, request.headers.getall("Prefer", [])),
        nextlink_form=world(request).options.nextlink_form,
    )


def page_number(request: web.Request, kind: str) -> int:
    """Which page of its collection a read asks for, from 1; 1 for a link that the emulator did not make."""
    here, token = world(request), request.query.get("$skiptoken")
    position = here.skip_tokens.peek(token) if token else ""
    if kind == "list":
        number = position.rpartition("/")[2]
        return int(number) if number.isdigit() else 1
    largest = here.options.participants_page if kind == "participants" else here.options.sessions_page
    wanted = odata.read_preferences(request.headers, request.headers.getall("Prefer", [])).page_size
    return int(position) // min(wanted or largest, largest) + 1 if position.isdigit() else 1
