"""Carries out a scripted fault on the wire: wrong statuses, silence, cut and crawling bodies."""

import asyncio
import gzip

from aiohttp import web

from service.emulator.faults import Rule
from service.emulator.refusals import Refusal
from service.emulator.site import Handler, common_headers, world

CODES = {
    400: "BadRequest",
    401: "InvalidAuthenticationToken",
    403: "Forbidden",
    404: "NotFound",
    429: "TooManyRequests",
    500: "InternalServerError",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
HTML = b"<!DOCTYPE html><html><head><title>Gateway</title></head><h1>Our services aren't available</h1></html>"
DRIP_PIECES = 20


async def misbehave(rule: Rule, request: web.Request, handler: Handler) -> web.StreamResponse:
    """What `rule` makes of this request. Ends early when the client goes or the emulator closes (both cancel)."""
    match rule.action:
        case "status":
            headers = {} if rule.retry_after is None else {"Retry-After": f"{rule.retry_after:g}"}
            raise Refusal(rule.status, CODES[rule.status], "A scripted fault of the emulator.", headers)
        case "html":
            return web.Response(body=HTML, status=rule.status or 200, content_type="text/html")
        case "hang":
            await world(request).clock.sleep(rule.seconds)
            return await handler(request)
    whole = await handler(request)
    body, headers = _bytes_of(whole)
    if rule.action == "cut-gzip":
        return _cut_gzip(whole, body)
    answer = web.StreamResponse(status=whole.status, headers={**whole.headers, **common_headers(request)})
    answer.content_length = len(body)
    await answer.prepare(request)
    if rule.action == "drip":
        await _drip(answer, body, world(request).clock.real_seconds(rule.seconds))
    else:
        await answer.write(body[: len(body) // 2])
        await _hang_up(request)
    return answer


def _bytes_of(response: web.StreamResponse) -> tuple[bytes, dict[str, str]]:
    body = response.body if isinstance(response, web.Response) else b""
    return (body if isinstance(body, bytes) else b""), dict(response.headers)


def _cut_gzip(whole: web.StreamResponse, body: bytes) -> web.Response:
    """A complete HTTP answer whose gzip stream ends in the middle: only who checks the stream's end sees it."""
    packed = body if whole.headers.get("Content-Encoding") == "gzip" else gzip.compress(body)
    headers = {"Content-Type": whole.headers["Content-Type"], "Content-Encoding": "gzip"}
    return web.Response(body=packed[: len(packed) // 2], status=whole.status, headers=headers)


async def _drip(answer: web.StreamResponse, body: bytes, real_seconds: float) -> None:
    size = max(1, -(-len(body) // DRIP_PIECES))
    for begin in range(0, len(body), size):
        await answer.write(body[begin : begin + size])
        await asyncio.sleep(real_seconds / DRIP_PIECES)


async def _hang_up(request: web.Request) -> None:
    """Closes the connection under the client, after what was written has left."""
    await asyncio.sleep(0)
    if request.transport is not None:
        request.transport.close()
