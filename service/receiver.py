"""Shell: the public site that Graph posts to. `/notifications` and `/lifecycle` both take both kinds of item, and the
validation handshake, because Graph validates either URL at any time (graph-contract 2).

202 says that every good item is durable, or that there was nothing good in it: the guidance is to acknowledge and drop
what is not ours (graph-contract 3.6). 503 makes Graph repeat the whole POST for up to 4 hours. 4xx is for what is no
notification collection at all.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import unquote_to_bytes

import structlog
from aiohttp import web
from prometheus_client import Gauge

from service.clock import Clock, iso
from service.connections import SERVER, UNREAD_SECONDS, Connection
from service.errors import CallstreamError
from service.judged import Judged, log_refused, unhurried
from service.logs import RateLimit
from service.metrics import Metrics
from service.notification import (
    Gatekeeper,
    NotACollection,
    Refused,
    TooManyItems,
    bounded_collection,
    judge,
)
from service.settings import Receiver as ReceiverSettings
from service.sites import IDLE_SECONDS, Site, open_site
from service.store import KafkaStore, NotificationStore, StoreUnavailable

__all__ = ["KafkaStore", "NotificationStore", "StoreUnavailable", "receiver_app", "receiver_site", "validation_token"]

PATHS = ("/notifications", "/lifecycle")
RETRY_AFTER_SECONDS = 10
DRAIN_SECONDS = 10.0
SECONDS_BETWEEN_LINES = 1.0  # for each reason; an attacker must not fill the disk
SMALL_BODY_BYTES = 64 * 1024

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rejected(CallstreamError):
    """A POST that is answered with `status` and one sentence; `label` is one of `metrics.REJECTED`."""

    reason = "rejected"

    def __init__(self, status: int, label: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.label = label


@asynccontextmanager
async def receiver_site(
    settings: ReceiverSettings,
    gatekeeper: Gatekeeper,
    store: NotificationStore,
    metrics: Metrics,
    clock: Clock,
    idle_seconds: float = IDLE_SECONDS,
    unread_seconds: float = UNREAD_SECONDS,
) -> AsyncIterator[Site]:
    """The open public site. Leaving the block stops accepting, then lets requests in flight finish (`DRAIN_SECONDS`).

    Close the store after it. Raises `UserError` when the port cannot be had.
    """
    app = receiver_app(settings, gatekeeper, store, metrics, clock)
    async with open_site(
        app,
        settings.host,
        settings.port,
        "receiver",
        max_connections=settings.max_connections,
        drain_seconds=DRAIN_SECONDS,
        max_head_bytes=settings.max_head_bytes,
        idle_seconds=idle_seconds,
        unread_seconds=unread_seconds,
        refused=app[_RECEIVER].count_rejected,
        shown=metrics.receiver_connections.set_function,
        shown_heads=metrics.receiver_heads.set_function,
    ) as site:
        log.info("receiver is open", host=site.host, port=site.port, public_url=settings.public_url)
        yield site


def receiver_app(
    settings: ReceiverSettings, gatekeeper: Gatekeeper, store: NotificationStore, metrics: Metrics, clock: Clock
) -> web.Application:
    """The site's routes."""
    receiver = _Receiver(settings, gatekeeper, store, metrics, clock)
    # Bodies are bounded where they are read, so that a chunked one is too.
    app = web.Application(middlewares=[receiver.answer_errors])
    app.router.add_routes([web.post(path, receiver.post) for path in PATHS])
    app.on_response_prepare.append(receiver.prepare)
    app[_RECEIVER] = receiver
    return app


class _Bodies:
    """Reads bodies, and bounds what all POSTs hold together until they are answered: anyone can post, and a thousand
    connections with the largest body each, being read, judged or waiting for Kafka, would be gigabytes. Small ones
    always pass, so a flood of large ones does not shut Graph out, whose own are some kilobytes.
    """

    def __init__(self, settings: ReceiverSettings, held: Gauge) -> None:
        """`held` shows the bytes."""
        self._most_bytes = settings.max_body_bytes
        self._timeout_seconds = settings.read_timeout_seconds
        self._most_held_bytes = max(settings.max_held_bytes, settings.max_body_bytes)  # one body alone must fit
        self._held_bytes = 0
        held.set_function(lambda: self._held_bytes)

    @asynccontextmanager
    async def whole(self, request: web.Request) -> AsyncIterator[bytes]:
        """The whole body; its bytes count until the block is left. Raises `Rejected`."""
        if (request.content_length or 0) > self._most_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            await self._read(request, body)
            yield bytes(body)
        finally:
            self._held_bytes -= len(body)

    async def _read(self, request: web.Request, body: bytearray) -> None:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                async for chunk in request.content.iter_any():
                    body += chunk
                    self._held_bytes += len(chunk)
                    self._check(len(body))
        except TimeoutError:
            raise Rejected(408, "too_slow", f"The body took longer than {self._timeout_seconds:g} s.") from None
        except (web.RequestPayloadError, ConnectionError):
            raise Rejected(400, "cut", "The body ended early or is not framed as HTTP demands.") from None

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._most_bytes:
            raise self._too_large()
        if size_bytes > SMALL_BODY_BYTES and self._held_bytes > self._most_held_bytes:
            raise Rejected(503, "busy", "Too many large bodies are under way at once; send it again.")

    def _too_large(self) -> Rejected:
        return Rejected(413, "too_large", f"The body is larger than {self._most_bytes} bytes.")


class _Receiver:
    def __init__(
        self,
        settings: ReceiverSettings,
        gatekeeper: Gatekeeper,
        store: NotificationStore,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._gatekeeper = gatekeeper
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._bodies = _Bodies(settings, metrics.receiver_held)
        self._limit = RateLimit(SECONDS_BETWEEN_LINES)

    async def post(self, request: web.Request) -> web.StreamResponse:
        """A handshake is answered before anything is looked up: Graph sends it while we create the subscription."""
        token = validation_token(request.raw_path)
        if token is not None:
            self._metrics.handshakes.inc()
            headers = {"X-Content-Type-Options": "nosniff"}
            return web.Response(body=token, content_type="text/plain", headers=headers)
        with self._metrics.receive_seconds.time():
            _check_headers(request)
            async with self._bodies.whole(request) as body:
                _connection(request).has_whole()
                await self._take(body)
        return web.Response(status=202)

    async def _take(self, body: bytes) -> None:
        """Judges and stores what one POST carries. Raises `Rejected`."""
        try:
            items = bounded_collection(body, self._settings.max_items)
        except TooManyItems as exc:
            raise Rejected(413, exc.kind, str(exc)) from None
        except NotACollection as exc:
            raise Rejected(400, exc.kind, f"{exc} Expected a changeNotificationCollection.") from None
        received_at = iso(self._clock.now())
        judged = Judged()
        async for raw_item in unhurried(items):
            item = judge(raw_item, self._gatekeeper, received_at)
            judged.add(item)
            if isinstance(item, Refused):
                log_refused(item, self._limit, todo=_WHAT_TO_DO.get(item.reason, "None, if it stays rare."))
        await self._settle(judged)

    async def _settle(self, judged: Judged) -> None:
        """Stores the good items and counts each item once, whatever happens here (a cancellation too).

        One status answers for the whole POST, so when a part is not acknowledged all of it counts as not stored.
        """
        is_stored = False
        try:
            if judged.good:
                with self._metrics.receiver_storing.track_inprogress():
                    await self._store.store(judged.notifications, judged.events)
            is_stored = True
        except StoreUnavailable:
            raise Rejected(503, "not_stored", "The notifications cannot be stored now; send them again.") from None
        finally:
            judged.count(self._metrics, is_stored=is_stored)

    @web.middleware
    async def answer_errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error becomes one JSON sentence; nothing of what went wrong inside shows."""
        try:
            return await handler(request)
        except Rejected as exc:
            return self._reject(exc)
        except web.HTTPMethodNotAllowed as exc:
            self.count_rejected("method")
            return _sentence(405, "Only POST is understood here.", {"Allow": exc.headers["Allow"]})
        except web.HTTPNotFound:
            sentence = f"There is nothing at this path; Graph posts to {PATHS[0]} and {PATHS[1]}."
            return self._reject(Rejected(404, "path", sentence))
        except web.HTTPException as exc:
            return _sentence(exc.status, f"{exc.reason}.")
        except Exception:
            log.exception("the receiver failed; this is a bug")
            return self._reject(Rejected(500, "internal", "The receiver failed; send it again."))
        finally:
            _connection(request).awaits()

    async def prepare(self, _: web.Request, response: web.StreamResponse) -> None:
        """The last word on every answer. The default `Server` names the versions of Python and aiohttp."""
        response.headers["Server"] = SERVER
        if isinstance(response, web.HTTPException):
            # Raised before the middleware, by an `Expect` that nobody knows; its text is what the client sent.
            self.count_rejected("not_http")
            response.text = "The request cannot be understood."

    def count_rejected(self, label: str) -> None:
        """Counts one request, or connection, that was not served; one line a second for each label at most."""
        self._metrics.rejected.labels(label).inc()
        if label not in _UNSAID and (count := self._limit.admit(label)):
            log.warning("requests rejected", reason=label, count=count)

    def _reject(self, rejected: Rejected) -> web.Response:
        self.count_rejected(rejected.label)
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if rejected.status == 503 else None
        response = _sentence(rejected.status, str(rejected), headers)
        if rejected.label in _BODY_UNREAD:
            response.force_close()
        return response


# Said elsewhere, or what any probe of a balancer or a scanner does all day.
_UNSAID = ("not_stored", "internal", "method", "path")
_BODY_UNREAD = ("too_large", "too_slow", "content_type", "path", "cut", "busy")
_WHAT_TO_DO = {
    "tenant": "Add the tenant to the settings, or delete the subscription that someone else left on this URL.",
    "client_state": "Is this subscription older than the clientState keys in the settings? Then delete it.",
    "resource": "This URL is for communications/callRecords alone; delete subscriptions to anything else.",
}


def validation_token(raw_path: str) -> bytes | None:
    """The handshake's token in a request target as it came over the wire, decoded exactly once; None if there is none.

    `+` is a space and `%2B` a plus; bytes that are no UTF-8 stay as they are. Source:
    https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
    """
    _, _, query = raw_path.partition("?")
    for pair in query.partition("#")[0].encode("utf-8", "surrogateescape").split(b"&"):
        name, _, value = pair.partition(b"=")
        if unquote_to_bytes(name).lower() == b"validationtoken":
            return unquote_to_bytes(value.replace(b"+", b" "))
    return None


def _check_headers(request: web.Request) -> None:
    if request.content_type != "application/json":
        raise Rejected(415, "content_type", "The content type must be application/json.")
    encodings = request.headers.getall("Content-Encoding", ())
    if any(one.strip().lower() not in ("identity", "") for one in encodings):
        raise Rejected(415, "content_type", "The body must not be compressed.")


def _sentence(status: int, sentence: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=headers)


def _connection(request: web.Request) -> Connection:
    connection = request.protocol
    if not isinstance(connection, Connection):
        raise TypeError("the receiver is served by open_site")
    return connection


_RECEIVER = web.AppKey("receiver", _Receiver)
