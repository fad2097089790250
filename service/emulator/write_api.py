"""Writing sessions and segments, under `/beta` only: calls that are documented (seeds 000, 001, 002, 004) and unreal.

Seed 003 and Graph itself say that v1.0 has none, so there the same requests are refused. Every write gives the record
its next version, a new `lastModifiedDateTime` and a notification. No token is needed, so that a plain curl works; a
token that is sent is checked.
"""

import uuid
from typing import Any

from aiohttp import web

from service.clock import iso
from service.emulator import odata
from service.emulator.bodies import render
from service.emulator.pages import asked_of
from service.emulator.read_api import guarded, readable_call
from service.emulator.refusals import Refusal, bad_request, not_found
from service.emulator.shapes import SEGMENT, SESSION, read_resource
from service.emulator.site import JSON_TYPE, admit, json_reply, read_body, world
from service.emulator.store import Call

Document = dict[str, Any]
BASE = "/{api:beta}/communications/callRecords"


async def post_session(request: web.Request) -> web.StreamResponse:
    """Creates a session: 201 and the whole object."""
    body = await _read(request, "session")
    call, document = _open(request)
    sessions = document.setdefault("sessions", [])
    session = _with_id(body, sessions, "session")
    _name_segments(session)
    sessions.append(session)
    return _save(request, call, document, session, 201)


async def patch_session(request: web.Request) -> web.StreamResponse:
    """Changes a session: 200 and the whole object."""
    body = await _read(request, "session")
    call, document = _open(request)
    session = _session(request, document)
    _check_same_id(body, session)
    merge(session, body)
    _name_segments(session)
    return _save(request, call, document, session, 200)


async def post_segment(request: web.Request) -> web.StreamResponse:
    """Creates a segment (seed 000): 201 and the whole object."""
    body = await _read(request, "segment")
    call, document = _open(request)
    segments = _segments(_session(request, document))
    segment = _with_id(body, segments, "segment")
    segments.append(segment)
    return _save(request, call, document, segment, 201)


async def patch_segment(request: web.Request) -> web.StreamResponse:
    """Changes a segment by its own path: 200 and the whole object."""
    body = await _read(request, "segment")
    call, document = _open(request)
    segment = _find(_segments(_session(request, document)), request.match_info["segment_id"], "segment")
    _check_same_id(body, segment)
    merge(segment, body)
    return _save(request, call, document, segment, 200)


async def patch_segments(request: web.Request) -> web.StreamResponse:
    """Changes a segment on the collection, as seed 001 has it: the id is in the body, or there is only one."""
    body = await _read(request, "segment")
    call, document = _open(request)
    segments = _segments(_session(request, document))
    if body.get("id") is not None:
        segment = _find(segments, str(body["id"]), "segment")
    elif len(segments) == 1:
        segment = segments[0]
    else:
        raise bad_request(f"The session has {len(segments)} segments: the body must name one by 'id'.")
    merge(segment, body | {"id": segment["id"]})
    return _save(request, call, document, segment, 200)


async def get_session(request: web.Request) -> web.StreamResponse:
    """One session; `$expand=segments` for its segments."""
    odata.check_options(request.query, ("$expand", "$select"))
    call, document = _look(request)
    session = _session(request, document)
    if not odata.read_segments_expand(request.query.get("$expand", "")):
        session = {name: value for name, value in session.items() if name != "segments"}
    select = odata.read_select(request.query.get("$select"), odata.SESSION_PROPERTIES, "session")
    if select is not None:
        session = {name: value for name, value in session.items() if name in select | {"segments"}}
    return _entity(request, f"callRecords('{call.id}')/sessions/$entity", session)


async def get_segments(request: web.Request) -> web.StreamResponse:
    """A session's segments."""
    odata.check_options(request.query, ())
    call, document = _look(request)
    session = _session(request, document)
    asked = asked_of(request)
    path = f"communications/callRecords('{call.id}')/sessions('{session['id']}')/segments"
    answer = {"@odata.context": f"{asked.root}/$metadata#{path}", "value": session.get("segments") or []}
    return web.Response(body=render(answer, asked.preferences), headers={"Content-Type": JSON_TYPE})


async def get_segment(request: web.Request) -> web.StreamResponse:
    """One segment."""
    odata.check_options(request.query, ())
    call, document = _look(request)
    session = _session(request, document)
    segment = _find(session.get("segments") or [], request.match_info["segment_id"], "segment")
    return _entity(request, f"callRecords('{call.id}')/sessions('{session['id']}')/segments/$entity", segment)


def merge(target: Document, change: Document) -> None:
    """OData's PATCH: properties and complex values are merged, collections and values of another type replaced."""
    for name, value in change.items():
        old = target.get(name)
        if isinstance(value, dict) and isinstance(old, dict) and _is_same_type(old, value):
            merge(old, value)
        else:
            target[name] = value


def _is_same_type(old: Document, new: Document) -> bool:
    return "@odata.type" not in new or new["@odata.type"] == old.get("@odata.type")


async def _read(request: web.Request, type_name: str) -> Document:
    admit(request, needs_token=False)
    shape = SESSION if type_name == "session" else SEGMENT
    body = read_resource(await read_body(request), shape, type_name)
    # Annotations other than the type say something about the message, not about the resource.
    return {name: value for name, value in body.items() if "@odata." not in name or name == "@odata.type"}


def _open(request: web.Request) -> tuple[Call, Document]:
    """The call and a copy of its current document that may be changed. Nothing is awaited from here to `_save`."""
    call = readable_call(request)
    return call, call.current.unpack()


def _look(request: web.Request) -> tuple[Call, Document]:
    call = readable_call(request)
    return call, world(request).store.document(call, call.current)


def _save(request: web.Request, call: Call, document: Document, changed: Document, status: int) -> web.Response:
    here = world(request)
    document["version"] = call.current.number + 1
    document["lastModifiedDateTime"] = iso(here.clock.now())
    here.store.add_version(call, document)
    return json_reply(changed, status)


def _entity(request: web.Request, path: str, value: Document) -> web.Response:
    asked = asked_of(request)
    answer = {"@odata.context": f"{asked.root}/$metadata#communications/{path}", **value}
    return web.Response(body=render(answer, asked.preferences), headers={"Content-Type": JSON_TYPE})


def _session(request: web.Request, document: Document) -> Document:
    return _find(document.get("sessions") or [], request.match_info["session_id"], "session")


def _segments(session: Document) -> list[Document]:
    if session.get("segments") is None:
        session["segments"] = []
    segments: list[Document] = session["segments"]
    return segments


def _find(items: list[Document], wanted: str, what: str) -> Document:
    """The first of that id (a record can hold the same session id twice, graph-contract 6.6), or 404."""
    for item in items:
        if str(item.get("id", "")).lower() == wanted.lower():
            return item
    raise not_found(f"The {what} '{wanted}' was not found.")


def _with_id(body: Document, siblings: list[Document], what: str) -> Document:
    """The new resource, with an id made where none is given; 409 for an id that is taken."""
    given = body.pop("id", None)
    if given is not None and any(str(one.get("id", "")).lower() == str(given).lower() for one in siblings):
        raise Refusal(409, "Conflict", f"A {what} with id '{given}' already exists.")
    head = {"@odata.type": body.pop("@odata.type")} if "@odata.type" in body else {}
    return {**head, "id": str(given) if given is not None else str(uuid.uuid4()), **body}


def _name_segments(session: Document) -> None:
    """Gives an id to every segment that came without."""
    for segment in session.get("segments") or []:
        if segment.get("id") is None:
            segment["id"] = str(uuid.uuid4())


def _check_same_id(body: Document, found: Document) -> None:
    if body.get("id") is not None and str(body["id"]).lower() != str(found["id"]).lower():
        raise bad_request("The 'id' in the body differs from the one in the path.")
    body["id"] = found["id"]


def routes() -> list[web.RouteDef]:
    """Both forms of every key, `{id}` and `('{id}')`."""
    defined = []
    for record in ("/{id}", "('{id}')"):
        sessions = f"{BASE}{record}/sessions"
        defined.append(web.post(sessions, post_session))
        for session in ("/{session_id}", "('{session_id}')"):
            one, segments = f"{sessions}{session}", f"{sessions}{session}/segments"
            defined += [
                web.get(one, guarded("sessions", get_session), allow_head=False),
                web.patch(one, patch_session),
                web.get(segments, guarded("sessions", get_segments), allow_head=False),
                web.post(segments, post_segment),
                web.patch(segments, patch_segments),
            ]
            for segment in ("/{segment_id}", "('{segment_id}')"):
                defined.append(web.get(f"{segments}{segment}", guarded("sessions", get_segment), allow_head=False))
                defined.append(web.patch(f"{segments}{segment}", patch_segment))
    return defined
