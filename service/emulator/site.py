"""What all answers of the emulated Graph have in common: request ids, error bodies, compression, who may ask."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import orjson
from aiohttp import web

from service.clock import Clock, iso
from service.emulator.bodies import GZIP_LEAST_BYTES, Body, BodyCache
from service.emulator.delivery import Delivery
from service.emulator.faults import Faults
from service.emulator.journal import Journal
from service.emulator.limits import Counters
from service.emulator.odata import SkipTokens
from service.emulator.options import EmulatorOptions
from service.emulator.posting import Poster
from service.emulator.refusals import Refusal, bad_request, error_body, forbidden
from service.emulator.store import Store
from service.emulator.subscriptions import Subscriptions
from service.emulator.tokens import Principal, Tenants, Tokens

JSON_TYPE = "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8"
DIAGNOSTIC = '{"ServerInfo":{"DataCenter":"Emulator","Slice":"E","Ring":"1","ScaleUnit":"001","RoleInstance":"EMU1"}}'

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class World:
    """Everything the handlers work on."""

    options: EmulatorOptions
    clock: Clock
    """What Graph takes for the time; a scripted fault may put it wrong."""
    tenants: Tenants
    tokens: Tokens
    store: Store
    subscriptions: Subscriptions
    poster: Poster
    delivery: Delivery
    counters: Counters
    faults: Faults
    journal: Journal
    bodies: BodyCache
    skip_tokens: SkipTokens


WORLD = web.AppKey("world", World)
REQUEST_ID = web.RequestKey("request_id", str)
PRINCIPAL = web.RequestKey[Principal | None]("principal", Principal)


def world(request: web.Request) -> World:
    """The emulator behind this request."""
    return request.app[WORLD]


def own_root(request: web.Request) -> str:
    """Scheme and host as the client wrote them: links in answers begin so."""
    return f"{request.scheme}://{request.host}"


def tenant_of(request: web.Request) -> str | None:
    """The tenant the token speaks for; None for a request that was let in without one, which sees every tenant."""
    principal = request[PRINCIPAL]
    return principal.tenant_id if principal else None


def json_reply(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A small JSON answer."""
    return web.Response(body=orjson.dumps(value), status=status, headers={"Content-Type": JSON_TYPE, **(headers or {})})


def body_reply(request: web.Request, body: Body, applied: str = "") -> web.Response:
    """A prepared body, compressed where the client takes it and it pays."""
    headers = {"Content-Type": JSON_TYPE, "OData-Version": "4.0", "Vary": "Accept-Encoding"}
    if applied:
        headers["Preference-Applied"] = applied
    level = world(request).options.gzip_level
    takes_gzip = "gzip" in request.headers.get("Accept-Encoding", "").lower()
    if level and takes_gzip and len(body.plain) > GZIP_LEAST_BYTES:
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=body.gzipped(level), headers=headers)
    return web.Response(body=body.plain, headers=headers)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The request's JSON object; 400 otherwise."""
    raw = await read_body(request)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise bad_request("Unable to read JSON request payload: a JSON object is required.")
    return value


async def read_body(request: web.Request) -> bytes:
    """The raw body of a request that must be JSON."""
    if request.content_type != "application/json":
        raise bad_request("Unable to read JSON request payload. Please ensure Content-Type header is application/json.")
    return await request.read()


def admit(request: web.Request, needs_token: bool, needs_consent: bool = True) -> None:
    """Who asks, and may they? 401 and 403 in Graph's order. The answer is kept under `PRINCIPAL`."""
    here, header = world(request), request.headers.get("Authorization")
    if not header and not (needs_token and not here.options.open):
        request[PRINCIPAL] = None
        return
    principal = here.tokens.principal(header)
    request[PRINCIPAL] = principal
    if needs_consent and not here.tenants.may_read(principal):
        raise forbidden("Insufficient privileges to complete the operation: CallRecords.Read.All is not granted.")


@web.middleware
async def graph_manners(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ids on every answer, Graph's error body for every refusal."""
    request[REQUEST_ID] = str(uuid.uuid4())
    try:
        response = await handler(request)
    except Refusal as refusal:
        response = refuse(request, refusal)
    except web.HTTPException as exc:
        response = refuse(request, _unrouted(request, exc))
    if not response.prepared:
        response.headers.update(common_headers(request))
        # The emulator's own time, as Graph's is Graph's: who compares clocks compares with this one.
    return response


def common_headers(request: web.Request) -> dict[str, str]:
    """Ids by which Graph's support finds a request; the client's own id is echoed."""
    request_id = request[REQUEST_ID]
    return {
        "request-id": request_id,
        "client-request-id": request.headers.get("client-request-id", request_id),
        "x-ms-ags-diagnostic": DIAGNOSTIC,
        "Date": formatdate(world(request).clock.now(), usegmt=True),
    }


def refuse(request: web.Request, refusal: Refusal) -> web.Response:
    """Graph's error body."""
    ids = common_headers(request)
    date = iso(world(request).clock.now())[:19]
    body = error_body(refusal.code, refusal.message, date, ids["request-id"], ids["client-request-id"])
    return json_reply(body, refusal.status, refusal.headers)


def _unrouted(request: web.Request, exc: web.HTTPException) -> Refusal:
    """What aiohttp refuses by itself, in Graph's words."""
    if exc.status == 405:
        allow = {"Allow": exc.headers.get("Allow", "")}
        return Refusal(405, "MethodNotAllowed", "Specified HTTP method is not allowed for the request target.", allow)
    if exc.status == 404:
        segment = request.path.rstrip("/").rpartition("/")[2]
        return Refusal(404, "NotFound", f"Resource not found for the segment '{segment}'.")
    return Refusal(exc.status, "RequestEntityTooLarge" if exc.status == 413 else "BadRequest", exc.reason)
