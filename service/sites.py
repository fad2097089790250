"""Shell: opening an HTTP site on a port: what the public and the private site share.

What holds a connection is bounded: a connection whose next headers are not complete within `IDLE_SECONDS` is closed
(aiohttp's keep-alive timer runs from the connection's first moment), a body nobody wants is read for
`LINGERING_SECONDS` at most, and there are never more than `max_connections`: whoever has kept us waiting longest goes
(`connections.py`), or the new one is turned away, so a flood takes no memory. Heads are bounded one by one and together
(`heads.py`), and whoever does not take an answer within `UNREAD_SECONDS` is closed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from service.connections import UNREAD_SECONDS, Connection, Connections, Refused
from service.errors import UserError
from service.heads import MOST_BYTES, Heads

IDLE_SECONDS = 75.0
LINGERING_SECONDS = 2.0
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
Shown = Callable[[Callable[[], float]], object]
"""Gets a function that a gauge asks."""


@dataclass(frozen=True)
class Site:
    """An open site; `port` is the real one where the setting was 0."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Base URL for a client on this machine, without a slash at the end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


@asynccontextmanager
async def open_site(
    app: web.Application,
    host: str,
    port: int,
    setting: str,
    *,
    max_connections: int,
    drain_seconds: float,
    max_head_bytes: int = MOST_BYTES,
    idle_seconds: float = IDLE_SECONDS,
    unread_seconds: float = UNREAD_SECONDS,
    refused: Refused = lambda _: None,
    shown: Shown = lambda _: None,
    shown_heads: Shown = lambda _: None,
) -> AsyncIterator[Site]:
    """Serves `app` until the block ends; requests in flight then have `drain_seconds` to finish.

    `setting` is the group whose `host` and `port` these are; `refused` is told of what no handler of `app` sees;
    `shown` gets the function that counts the open connections, `shown_heads` the one for the bytes of
    their heads. Raises `UserError` when the port cannot be had.
    """
    options: dict[str, Any] = {
        "access_log": None,
        "keepalive_timeout": idle_seconds,
        "lingering_time": LINGERING_SECONDS,
        "unread_seconds": unread_seconds,
    }
    runner = web.AppRunner(app, shutdown_timeout=drain_seconds)
    await runner.setup()
    heads = Heads(max_head_bytes)
    connections = Connections(max_connections, refused, heads)
    shown(lambda: float(len(connections)))
    shown_heads(lambda: float(heads.held_bytes))

    def connect() -> asyncio.BaseProtocol:
        if runner.server is None or not connections.make_room():
            return _TurnedAway()
        return Connection(runner.server, connections, loop=asyncio.get_running_loop(), **options)

    try:
        server = await _listen(connect, host, port, setting)
        try:
            yield Site(host, server.sockets[0].getsockname()[1])
        finally:
            server.close()
    finally:
        await runner.cleanup()


async def _listen(connect: Callable[[], asyncio.BaseProtocol], host: str, port: int, setting: str) -> asyncio.Server:
    try:
        return await _create_server(connect, host, port)
    except OSError as exc:
        cause = exc.strerror or str(exc)
        raise UserError(
            f"Cannot listen on {host}:{port} ({cause}): change {setting}.host or {setting}.port.", exit_code=1
        ) from None


async def _create_server(protocol: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(protocol, host or None, port, backlog=1024)


class _TurnedAway(asyncio.Protocol):
    """Answers 503 without reading anything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(_FULL)
        transport.close()
