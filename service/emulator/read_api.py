"""Reading call records as Graph offers it (graph-contract 6): get, list, sessions, participants, page by page.

Every page is cut from the version that is current when it is asked for, so a new version can appear between two pages.
"""

from typing import Any
from urllib.parse import quote

from aiohttp import web

from service.clock import iso
from service.emulator import odata
from service.emulator.bodies import Body, render
from service.emulator.misbehaviour import answer
from service.emulator.odata import Expand
from service.emulator.pages import Asked, Pages, asked_of, page_number
from service.emulator.refusals import bad_request, not_found
from service.emulator.site import PRINCIPAL, Handler, admit, body_reply, tenant_of, world
from service.emulator.store import Call, Version

GONE = "The call record was not found. It may belong to a call that started more than 30 days ago."
METADATA = b'<?xml version="1.0" encoding="utf-8"?><edmx:Edmx Version="4.0"/>'


def guarded(kind: str, handler: Handler) -> Handler:
    """Who asks, Graph's limits, scripted faults, then the handler: for everything that reads."""

    async def serve(request: web.Request) -> web.StreamResponse:
        here = world(request)
        with here.journal.noted(kind) as visit:
            visit.call_id = request.match_info.get("id", "").lower()
            admit(request, needs_token=True)
            visit.tenant_id = tenant_of(request) or ""
            visit.page = page_number(request, kind)
            if principal := request[PRINCIPAL]:
                here.counters.admit(principal.client_id, principal.tenant_id, visit.call_id or None, kind == "list")
            return await answer(request, visit, handler)

    return serve


def readable_call(request: web.Request) -> Call:
    """The call in the path; 400 when the id is no GUID, 404 when Graph would not show it."""
    here, call_id = world(request), request.match_info["id"]
    if not odata.GUID.fullmatch(call_id):
        raise bad_request(f"Invalid call record id '{call_id}'.")
    call = here.store.find(tenant_of(request), call_id)
    now = here.clock.now()
    if call is not None and call.is_gone(now):
        raise not_found(GONE)
    if call is None or not call.is_readable(now):
        raise not_found()
    return call


async def get_record(request: web.Request) -> web.StreamResponse:
    """`GET callRecords/{id}` with `$expand` and `$select`."""
    odata.check_options(request.query, ("$expand", "$select"))
    here, asked, call = world(request), asked_of(request), readable_call(request)
    expand = odata.read_expand(request.query.get("$expand", ""))
    select = odata.read_select(request.query.get("$select"), odata.CALL_RECORD_PROPERTIES, "callRecord")
    version = call.current
    key = ("record", call.tenant_id, call.id, version.number, asked, expand, select)

    def make() -> bytes:
        return render(_record(request, asked, call, version, expand, select), asked.preferences)

    return body_reply(request, here.bodies.get(key, make), asked.preferences.applied)


def _record(
    request: web.Request, asked: Asked, call: Call, version: Version, expand: Expand, select: frozenset[str] | None
) -> dict[str, Any]:
    """The record's own properties, then what was asked to be expanded, as far as the first page goes."""
    here, context = world(request), f"{asked.root}/$metadata#communications/callRecords"
    record: dict[str, Any] = {"@odata.context": f"{context}{_context_of(expand)}/$entity"}
    for name, value in version.top.items():
        if select is None or name in select:
            if name == "organizer_v2":
                record["organizer_v2@odata.context"] = f"{context}('{call.id}')/organizer_v2/$entity"
            record[name] = value
    if expand.sessions or expand.participants:
        document = here.store.document(call, version)
        pages = Pages(request, asked, call)
        if expand.participants:
            record["participants_v2@odata.context"] = f"{context}('{call.id}')/participants_v2"
            pages.expand_participants(record, document.get("participants_v2") or [])
        if expand.sessions:
            segments = "(segments())" if expand.segments else ""
            record["sessions@odata.context"] = f"{context}('{call.id}')/sessions{segments}"
            pages.expand_sessions(record, document.get("sessions") or [], expand.segments)
    return record


async def get_sessions(request: web.Request) -> web.StreamResponse:
    """`GET callRecords/{id}/sessions?$expand=segments`, any page."""
    odata.check_options(request.query, ("$expand", "$select", "$skiptoken"))
    here, asked, call = world(request), asked_of(request), readable_call(request)
    with_segments = odata.read_segments_expand(request.query.get("$expand", ""))
    select = odata.read_select(request.query.get("$select"), odata.SESSION_PROPERTIES, "session")
    pages, version = Pages(request, asked, call), call.current
    kind = "sessions+segments" if with_segments else "sessions"
    offset = pages.offset(kind, request.query.get("$skiptoken"))

    def make() -> bytes:
        sessions = here.store.document(call, version).get("sessions") or []
        page, token = pages.sessions(sessions, offset, with_segments)
        suffix = "(segments())" if with_segments else ""
        options = _carried(request, "$select") + pages.session_options(with_segments, token)
        kept = None if select is None else select | {"segments"}
        return _collection(asked, pages.path("sessions"), suffix, _pick(page, kept), options if token else "", select)

    key = (kind, call.tenant_id, call.id, version.number, asked, offset, select)
    return body_reply(request, here.bodies.get(key, make), asked.preferences.applied)


async def get_participants(request: web.Request) -> web.StreamResponse:
    """`GET callRecords/{id}/participants_v2`, any page."""
    odata.check_options(request.query, ("$select", "$skiptoken"))
    here, asked, call = world(request), asked_of(request), readable_call(request)
    select = odata.read_select(request.query.get("$select"), odata.PARTICIPANT_PROPERTIES, "participant")
    pages, version = Pages(request, asked, call), call.current
    offset = pages.offset("participants_v2", request.query.get("$skiptoken"))

    def make() -> bytes:
        page, token = pages.participants(here.store.document(call, version).get("participants_v2") or [], offset)
        options = _carried(request, "$select") + f"$skiptoken={token}" if token else ""
        return _collection(asked, pages.path("participants_v2"), "", _pick(page, select), options, select)

    key = ("participants_v2", call.tenant_id, call.id, version.number, asked, offset, select)
    return body_reply(request, here.bodies.get(key, make), asked.preferences.applied)


async def list_records(request: web.Request) -> web.StreamResponse:
    """`GET callRecords?$filter=…`: top-level properties only, by start and id (graph-contract 6.4)."""
    odata.check_options(request.query, ("$filter", "$select", "$skiptoken"))
    here, asked = world(request), asked_of(request)
    text = request.query.get("$filter")
    wanted = odata.read_filter(text)
    select = odata.read_select(request.query.get("$select"), odata.CALL_RECORD_PROPERTIES, "callRecord")
    tenants = [tenant] if (tenant := tenant_of(request)) else here.store.tenants()[:1]
    mark, number = (wanted.lowest_start(), ""), 1
    if token := request.query.get("$skiptoken"):
        start, after_id, page_text = here.skip_tokens.read(f"list/{tenants}/{text}", token).split("/")
        mark, number = (float(start), after_id), int(page_text)
    size = min(asked.preferences.page_size or here.options.list_page, here.options.list_page)
    found = _page_of_calls(request, tenants, mark, wanted, size + 1)
    page = found[:size]
    options = ""
    if len(found) > size:
        token = here.skip_tokens.make(f"list/{tenants}/{text}", f"{page[-1].start!r}/{page[-1].id}/{number + 1}")
        options = _carried(request, "$filter", "$select") + f"$skiptoken={token}"
    items = _pick([_list_item(call, here.options.list_has_version) for call in page], select)
    written = _collection(asked, "communications/callRecords", "", items, options, select)
    return body_reply(request, Body(written), asked.preferences.applied)


def _page_of_calls(
    request: web.Request, tenants: list[str], mark: tuple[float, str], wanted: odata.ListFilter, size: int
) -> list[Call]:
    """The first `size` readable calls after `mark` (Unix seconds, id) that the filter admits."""
    found: list[Call] = []
    for tenant in tenants:
        for call in world(request).store.started_after(tenant, *mark):
            if wanted.is_past(call.start) or len(found) == size:
                break
            if wanted.admits_start(call.start) and all(person in call.participant_ids for person in wanted.people):
                found.append(call)
    return found


def _list_item(call: Call, has_version: bool) -> dict[str, Any]:
    """As in the documentation's sample: `type` is unknown and times have no fraction, whatever the record says."""
    item = {**call.current.top, "type": "unknown", "startDateTime": _whole_seconds(call.start)}
    item.pop("organizer_v2", None)
    if call.end is not None:
        item["endDateTime"] = _whole_seconds(call.end)
    if not has_version:
        del item["version"]
    return item


def _carried(request: web.Request, *names: str) -> str:
    """Query options that a next link repeats, each followed by `&`."""
    return "".join(f"{name}={quote(request.query[name], safe='')}&" for name in names if name in request.query)


def _whole_seconds(unix_seconds: float) -> str:
    return iso(unix_seconds)[:19] + "Z"


def _collection(
    asked: Asked, path: str, suffix: str, items: list[Any], options: str, select: frozenset[str] | None
) -> bytes:
    chosen = "" if select is None else f"({','.join(sorted(select))})"
    answer: dict[str, Any] = {"@odata.context": f"{asked.root}/$metadata#{path}{suffix}{chosen}", "value": items}
    if options:
        answer["@odata.nextLink"] = asked.link(path, options)
    return render(answer, asked.preferences)


def _pick(items: list[Any], names: frozenset[str] | None) -> list[Any]:
    if names is None:
        return items
    return [{name: value for name, value in item.items() if name in names} for item in items]


def _context_of(expand: Expand) -> str:
    """`(sessions(segments()),participants_v2())` as in the samples; empty when nothing is expanded."""
    parts = ["sessions(segments())" if expand.segments else "sessions()"] if expand.sessions else []
    parts += ["participants_v2()"] if expand.participants else []
    return f"({','.join(parts)})" if parts else ""


async def get_metadata(_: web.Request) -> web.StreamResponse:
    """Where a client ends that follows a `$metadata#` link literally: an answer that is no JSON."""
    return web.Response(body=METADATA, content_type="application/xml")


def routes() -> list[web.RouteDef]:
    """Both forms of the key, under v1.0 and beta."""
    table: list[tuple[str, str, Handler]] = [
        ("", "record", get_record),
        ("/sessions", "sessions", get_sessions),
        ("/participants_v2", "participants", get_participants),
    ]
    base = "/{api:v1\\.0|beta}/communications/callRecords"
    defined = [web.get(base, guarded("list", list_records)), web.get("/{api:v1\\.0|beta}/$metadata", get_metadata)]
    for suffix, kind, handler in table:
        serve = guarded(kind, handler)
        defined += [web.get(f"{base}{key}{suffix}", serve, allow_head=False) for key in ("/{id}", "('{id}')")]
    return defined
