"""Shell: the connections of a site: how many, which one goes when all places are taken, and what is no HTTP at all.

Either we wait for a peer (for its request, or for the rest of it) or it waits for us. When every place is taken, the
one that we have waited for longest gives up its place: slow and silent peers, of which an attacker can have any number,
cannot shut out one that has something to say. A peer that has sent a whole request keeps its place until its answer.
"""

from asyncio import BaseTransport
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

SERVER = "callstream"
Refused = Callable[[str], None]
"""Told the label of each refusal that no handler sees: `not_http`, `unfinished`, `connections`."""


class Connections:
    """All connections of one site."""

    def __init__(self, most: int, refused: Refused) -> None:
        self._most = most
        self.refused = refused
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
    """One connection, as aiohttp serves it; with its place, and with our own words for what is no HTTP."""

    __slots__ = ("_connections", "_is_given_up", "_was_heard", "_was_understood")

    def __init__(self, manager: web.Server, connections: Connections, **options: Any) -> None:
        super().__init__(manager, **options)
        self._connections = connections
        self._is_given_up = self._was_heard = self._was_understood = False

    def connection_made(self, transport: BaseTransport) -> None:
        """Takes its place."""
        super().connection_made(transport)
        self._connections.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Gives its place back; a peer that began a first request and never ended it was refused."""
        self._connections.closed(self)
        if self._was_heard and not self._was_understood and not self._is_given_up:
            self._connections.refused("unfinished")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Remembers that something came."""
        self._was_heard = True
        super().data_received(data)

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
        self._was_understood = True
        self._connections.refused("not_http")
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        return closing_sentence(400, "This is no HTTP request that can be read.")

    def understood(self) -> None:
        """Its first request has come as far as a handler."""
        self._was_understood = True

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
        if self.transport is not None:
            self.transport.abort()


def closing_sentence(status: int, sentence: str) -> web.Response:
    """An answer after which the connection is of no more use."""
    response = web.json_response({"error": sentence}, status=status, headers={"Server": SERVER})
    response.force_close()
    return response
