"""Shell: the connections of a site: how many, what they may hold, which one goes when all places are taken, and what is
no HTTP at all.

Either we wait for a peer (for its request, or for the rest of it) or it waits for us. When every place is taken, the
one that we have waited for longest gives up its place: slow and silent peers, of which an attacker can have any number,
cannot shut out one that has something to say. A peer that has sent a whole request keeps its place until its answer.

A peer that does not take its answers is closed: they would be kept for it.
"""

import asyncio
import socket
from asyncio import BaseTransport
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from service.heads import MOST_AHEAD, READ_BYTES, HeadParser, Heads, TooManyHeads

SERVER = "callstream"
UNREAD_SECONDS = 10.0
# Answers that are not taken wait here, outside the process: more of them than one, and not the system's megabytes.
SEND_BUFFER_BYTES = 64 * 1024
ENDING = 0.1  # of the time to close in: what is left for a handler that was told to end
Refused = Callable[[str], None]
"""Told the label of each refusal that no handler sees: `not_http`, `unfinished`, `unread`, `busy`, `connections`."""


class Connections:
    """All connections of one site."""

    def __init__(self, most: int, refused: Refused, heads: Heads | None = None) -> None:
        self._most = most
        self.refused = refused
        self.heads = heads or Heads()
        self._open: set[Connection] = set()
        # A dict for its order: the peer that we have waited for longest comes first.
        self._awaited: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def make_room(self) -> bool:
        """Whether one more may come in; the longest awaited may have to go for it."""
        if len(self._open) < self._most:
            return True
        self.refused("connections")
        longest = next(iter(self._awaited), None)
        if longest is None:
            return False
        longest.give_up()
        return True

    def opened(self, connection: "Connection") -> None:
        """Its peer is awaited from now on."""
        self._open.add(connection)
        self._awaited[connection] = None

    def closed(self, connection: "Connection") -> None:
        """Forgets it; harmless when it is done twice."""
        self._open.discard(connection)
        self._awaited.pop(connection, None)

    def awaits(self, connection: "Connection") -> None:
        """It was answered: its peer is awaited again, the last in the row."""
        if connection in self._open:
            self._awaited.pop(connection, None)
            self._awaited[connection] = None

    def has_whole(self, connection: "Connection") -> None:
        """Its peer has sent a whole request and waits for us."""
        self._awaited.pop(connection, None)


class Connection(RequestHandler):
    """One connection, as aiohttp serves it; with its place, its bounds, and our own words for what is no HTTP."""

    __slots__ = ("_connections", "_heads", "_is_given_up", "_unread", "_unread_seconds", "_wire")

    def __init__(
        self,
        manager: web.Server,
        connections: Connections,
        *,
        loop: asyncio.AbstractEventLoop,
        unread_seconds: float = UNREAD_SECONDS,
        **options: Any,
    ) -> None:
        super().__init__(manager, loop=loop, read_bufsize=READ_BYTES, **options)
        self._connections = connections
        self._heads = HeadParser(self, loop, RequestPayloadError, connections.heads)
        self._parser = self._heads  # type: ignore[assignment]  # has the methods that are called
        self._max_msg_queue_size, self._msg_queue_resume_size = MOST_AHEAD, MOST_AHEAD - 1
        self._is_given_up = False
        self._unread: asyncio.TimerHandle | None = None
        self._unread_seconds = unread_seconds
        self._wire: asyncio.Transport | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Takes its place."""
        super().connection_made(transport)
        self._connections.opened(self)
        self._wire = self.transport
        if self._wire is not None:
            _bound(self._wire)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives its place back; a peer that began a request and never ended it was refused."""
        self._connections.closed(self)
        if self._heads.has_begun and not self._is_given_up:
            self._connections.refused("unfinished")
        self._heads.drop()
        for message, _ in self._messages:
            _forget(getattr(message, "exc", None))
        self._wire = None
        self._stop_clock()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The peer has not taken an answer whole: it gets some time to."""
        super().pause_writing()
        self._unread = self._loop.call_later(self._unread_seconds, self._is_unread)

    def resume_writing(self) -> None:
        """It has."""
        self._stop_clock()
        super().resume_writing()

    def _stop_clock(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _is_unread(self) -> None:
        self._connections.refused("unread")
        self.give_up()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Gives back what the request held, once its answer is written."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._heads.answered(self._messages)

    async def shutdown(self, timeout: float | None = 15.0) -> None:
        """Lets the request in flight finish. aiohttp takes `timeout` twice, for the handler and then for its end."""
        task = self._task_handler
        try:
            async with asyncio.timeout(timeout):
                await super().shutdown(timeout and timeout * (1 - ENDING))
        except TimeoutError:
            if task is not None:
                task.cancel()
            self.force_close()
        if self._wire is not None and self._unread is not None:
            self._wire.abort()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """A body that is refused after its answer is nothing to tell."""
        if not isinstance(kw.get("exc_info"), RequestPayloadError):
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A request that the parser refuses is answered in a sentence of ours: aiohttp's shows what was sent, and the
        versions of Python and itself, and logs a traceback each time.
        """
        if status != HTTPStatus.BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        _forget(exc)
        is_busy = isinstance(exc, TooManyHeads)
        self._connections.refused("busy" if is_busy else "not_http")
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if is_busy:
            return closing_sentence(503, "Too many large requests are under way at once; send it again.")
        return closing_sentence(400, "This is no HTTP request that can be read.")

    def has_whole(self) -> None:
        """Its peer waits for us now."""
        self._connections.has_whole(self)

    def awaits(self) -> None:
        """We wait for its peer again."""
        self._connections.awaits(self)

    def give_up(self) -> None:
        """Closes at once, for the sake of another."""
        self._is_given_up = True
        self._connections.closed(self)
        if self._wire is not None:
            self._wire.abort()


def _forget(exc: BaseException | None) -> None:
    """Its frames refer to it, to the connection and to what was read: all of them would stay."""
    if exc is not None:
        exc.__traceback__ = None


def _bound(transport: asyncio.Transport) -> None:
    """Small reads, since the parser keeps a read that has to wait; and `pause_writing` as soon as anything waits."""
    transport.max_size = READ_BYTES  # type: ignore[attr-defined]  # of asyncio's own sockets: 256 KiB
    transport.set_write_buffer_limits(high=0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def closing_sentence(status: int, sentence: str) -> web.Response:
    """An answer after which the connection is of no more use."""
    response = web.json_response({"error": sentence}, status=status, headers={"Server": SERVER})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = "10"
    response.force_close()
    return response
