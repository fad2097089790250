"""Carries out a scripted fault on the wire: wrong statuses, silence, cut and crawling bodies, answers made wrong."""

import asyncio
import contextlib
import gzip
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import orjson
from aiohttp import web

from service.emulator import falsify
from service.emulator.fault_wishes import Rule
from service.emulator.faults import Occasion
from service.emulator.journal import Visit
from service.emulator.making import MAKER
from service.emulator.refusals import Refusal, not_found
from service.emulator.site import Handler, common_headers, own_root, tenant_of, world

CODES = {
    400: "BadRequest",
    401: "InvalidAuthenticationToken",
    403: "Forbidden",
    404: "NotFound",
    410: "Gone",
    429: "TooManyRequests",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
    509: "BandwidthLimitExceeded",
}
HTML = b"<!DOCTYPE html><html><head><title>Gateway</title></head><h1>Our services aren't available</h1></html>"
DRIP_PIECES = 20


async def answer(request: web.Request, visit: Visit, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or what a scripted fault makes of it; the visit learns of both."""
    here = world(request)
    call = here.store.find(visit.tenant_id or None, visit.call_id) if visit.call_id else None
    age = None if call is None else here.clock.now() - call.versions[0].created_at
    rule = here.faults.strike(
        Occasion(visit.kind, visit.tenant_id, visit.call_id, visit.page, request.method, age_seconds=age)
    )
    if rule is None:
        response = await handler(request)
    else:
        visit.fault = rule.id
        response = await misbehave(rule, request, handler)
    visit.status = response.status
    return response


async def misbehave(rule: Rule, request: web.Request, handler: Handler) -> web.StreamResponse:
    """What `rule` makes of this request. Ends early when the client goes or the emulator closes (both cancel)."""
    match rule.action:
        case "status":
            raise Refusal(rule.status, CODES[rule.status], "A scripted fault of the emulator.", _retry(rule, request))
        case "not-ready":
            raise not_found()
        case "html":
            return web.Response(body=HTML, status=rule.status or 200, content_type="text/html")
        case "body":
            return web.Response(body=orjson.dumps(rule.body), content_type="application/json")
        case "close":
            return await _close(request)
        case "hang":
            await _stand(rule, request)
        case "hold":
            return await _held(rule, request, handler)
        case "short-token":
            world(request).tokens.lifetime_of_next(rule.seconds)
        case "new-version":
            _make_version(request)
    whole = await handler(request)
    return await _spoilt(rule, request, whole)


async def _held(rule: Rule, request: web.Request, handler: Handler) -> web.StreamResponse:
    """The right answer, a refusal too, some time after it was made and had its effect."""
    try:
        held = await handler(request)
    except Refusal:
        await _stand(rule, request)
        raise
    await _stand(rule, request)
    return held


async def _stand(rule: Rule, request: web.Request) -> None:
    """Until the rule is taken away, at most its seconds. The client going away cancels it."""
    rule.waiting += 1
    try:
        with contextlib.suppress(TimeoutError):
            async with world(request).clock.timeout(rule.seconds):
                await rule.removed.wait()
    finally:
        rule.waiting -= 1


async def _spoilt(rule: Rule, request: web.Request, whole: web.StreamResponse) -> web.StreamResponse:
    """The right answer, put wrong on its way out; as it is for the faults that came before it."""
    match rule.action:
        case "cut" | "drip":
            return await _crawling(rule, request, whole)
        case "cut-gzip":
            return _cut_gzip(whole)
        case "cut-json":
            body = _plain(whole)
            return _with_body(whole, body[: len(body) // 2])
        case "content-type":
            return _with_body(whole, _plain(whole), rule.content_type)
        case "missing":
            return _changed(whole, falsify.without_collections)
        case "foreign-link":
            return _changed(whole, lambda document: falsify.with_foreign_links(document, rule.host))
        case "looping-link":
            return _changed(whole, lambda document: falsify.with_looping_link(document, _own_url(request)))
        case "empty-page":
            return _changed(
                whole, lambda document: falsify.with_empty_page_first(document, _own_url(request), rule.acted)
            )
    return whole


def _retry(rule: Rule, request: web.Request) -> dict[str, str]:
    """`Retry-After` in the form that was asked for (RFC 9110 10.2.3)."""
    if rule.retry_after is None:
        return {}
    if rule.retry_after_form == "date":
        return {"Retry-After": formatdate(world(request).clock.now() + rule.retry_after, usegmt=True)}
    return {"Retry-After": f"{rule.retry_after:g}"}


def _make_version(request: web.Request) -> None:
    """The call gets its next version right now."""
    here, call_id = world(request), request.match_info["id"]
    if call := here.store.find(tenant_of(request), call_id):
        here.store.schedule(call, here.clock.now(), request.app[MAKER].later_version)


def _own_url(request: web.Request) -> str:
    return f"{own_root(request)}{request.raw_path}"


def _plain(whole: web.StreamResponse) -> bytes:
    body = _packed(whole)
    return gzip.decompress(body) if whole.headers.get("Content-Encoding") == "gzip" else body


def _packed(whole: web.StreamResponse) -> bytes:
    body = whole.body if isinstance(whole, web.Response) else b""
    return body if isinstance(body, bytes) else b""


def _changed(whole: web.StreamResponse, change: Callable[[dict[str, Any]], dict[str, Any]]) -> web.StreamResponse:
    """Another document in the same envelope; errors pass as they are."""
    if whole.status != 200:
        return whole
    return _with_body(whole, orjson.dumps(change(orjson.loads(_plain(whole)))))


def _with_body(whole: web.StreamResponse, body: bytes, content_type: str = "") -> web.Response:
    kept = {name: value for name, value in whole.headers.items() if name not in ("Content-Encoding", "Content-Length")}
    return web.Response(
        body=body, status=whole.status, headers={**kept, **({"Content-Type": content_type} if content_type else {})}
    )


def _cut_gzip(whole: web.StreamResponse) -> web.Response:
    """A complete HTTP answer whose gzip stream ends in the middle: only who checks the stream's end sees it."""
    if whole.status == 204:
        return _with_body(whole, b"")  # nothing to cut
    packed = gzip.compress(_plain(whole))
    headers = {"Content-Type": whole.headers["Content-Type"], "Content-Encoding": "gzip"}
    return web.Response(body=packed[: len(packed) // 2], status=whole.status, headers=headers)


async def _crawling(rule: Rule, request: web.Request, whole: web.StreamResponse) -> web.StreamResponse:
    body = _packed(whole)
    spoilt = web.StreamResponse(status=whole.status, headers={**whole.headers, **common_headers(request)})
    spoilt.content_length = len(body)
    with contextlib.suppress(ConnectionResetError):  # the client went first, which is no fault of ours
        await spoilt.prepare(request)
        if rule.action == "drip":
            await _drip(spoilt, body, world(request).clock.real_seconds(rule.seconds))
        else:
            await spoilt.write(body[: len(body) // 2])
            await _hang_up(request)
    return spoilt


async def _drip(answer: web.StreamResponse, body: bytes, real_seconds: float) -> None:
    """The last piece comes when the time is over; a client that has it waits for nothing more."""
    size = max(1, -(-len(body) // DRIP_PIECES))
    begins = range(0, len(body), size)
    for begin in begins:
        await asyncio.sleep(real_seconds / len(begins))
        await answer.write(body[begin : begin + size])


async def _close(request: web.Request) -> web.StreamResponse:
    """No answer at all."""
    await _hang_up(request)
    return web.Response(status=503)


async def _hang_up(request: web.Request) -> None:
    """Closes the connection under the client, after what was written has left."""
    await asyncio.sleep(0)
    if request.transport is not None:
        request.transport.close()
