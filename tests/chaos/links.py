"""TCP proxies on 127.0.0.1: a front listens, a link leads to one listener behind it and can be hurt.

What can be done to a link: `reset` its connections; `cut` it, so that new ones are refused as well; `slow` it down;
`stall` it, so that connections stay open and nothing moves; make it `deaf`: what is asked arrives, no answer comes
back, and then the connections end. The last is how a commit succeeds of which its owner never hears.
"""

import asyncio
import contextlib
import itertools
import random
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024
DIAL_AGAIN_SECONDS = 0.05
PORTS = range(20_000, 30_000)
"""Below those of outgoing connections: a proxy that dials a dead listener there might be given that very port."""


def free_port() -> int:
    """A port that nobody listens on now."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise OSError("no free port")


@dataclass(eq=False)
class Link:
    """The way to one listener. `patience_seconds`: how long a new connection waits for a listener that is away."""

    name: str
    target_port: int
    patience_seconds: float = 0.0
    delay_seconds: float = 0.0
    is_cut: bool = False
    _asking: asyncio.Event = field(default_factory=asyncio.Event)
    _answering: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._asking.set()
        self._answering.set()

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the listener. OSError while it is away or the link is cut."""
        loop = asyncio.get_running_loop()
        last = loop.time() + self.patience_seconds
        while True:
            if self.is_cut:
                raise ConnectionRefusedError(self.name)
            try:
                return await asyncio.open_connection(HOST, self.target_port)
            except OSError:
                if loop.time() >= last:
                    raise
            await asyncio.sleep(DIAL_AGAIN_SECONDS)

    async def carry(
        self,
        near: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        far: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Moves bytes both ways until both sides have ended, or the connection is cut."""
        mine = {near[1], far[1]}
        self._writers |= mine
        try:
            await asyncio.gather(
                self._move(near[0], far[1], self._asking), self._move(far[0], near[1], self._answering)
            )
        except OSError:
            pass
        finally:
            self._writers -= mine
            for writer in mine:
                _abort(writer)

    async def _move(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may: asyncio.Event) -> None:
        while content := await reader.read(CHUNK_BYTES):
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            await may.wait()
            writer.write(content)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    def reset(self) -> None:
        """Every connection ends with RST, mid-word."""
        for writer in list(self._writers):
            _abort(writer)

    def cut(self) -> None:
        """No connections until `mend`."""
        self.is_cut = True
        self.reset()

    def slow(self) -> None:
        """Every piece takes a fifth of a second more, until `mend`."""
        self.delay_seconds = 0.2

    def stall(self) -> None:
        """Nothing moves until `mend`; then it goes on."""
        self._asking.clear()
        self._answering.clear()

    def deafen(self) -> None:
        """What is asked arrives and no answer comes; `mend` ends these connections."""
        self._answering.clear()

    def mend(self) -> None:
        """As it was."""
        if self._asking.is_set() and not self._answering.is_set():
            self.reset()
        self.is_cut, self.delay_seconds = False, 0.0
        self._asking.set()
        self._answering.set()


class Front:
    """A port behind which one or several links stand; each connection goes to the next that can be dialled."""

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = links
        self._turns = itertools.count()
        self._carrying: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> int:
        """Listens; the port."""
        self._server = await asyncio.start_server(self._accept, HOST, free_port())
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Ends the port and every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._carrying):
            task.cancel()
        if self._carrying:
            await asyncio.wait(self._carrying)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = next(self._turns)
            for number in range(len(self.links)):
                link = self.links[(first + number) % len(self.links)]
                try:
                    far = await link.dial()
                except OSError:
                    continue
                await link.carry((reader, writer), far)
                return
        finally:
            _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with RST: what is under way is gone, as when a machine dies."""
    if writer.transport.is_closing():
        return
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
