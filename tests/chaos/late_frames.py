"""A proxy before a Kafka listener that keeps one request back and delivers it later, when nobody waits for it any more.

What networks and busy brokers do to a request whose connection has ended: it is handled all the same, after those that
were sent in its place (KIP-890).
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.links import HOST, free_port

PRODUCE, INIT_PRODUCER_ID, END_TXN, WRITE_TXN_MARKERS = 0, 22, 26, 27
LENGTH = struct.Struct(">i")
KEY = struct.Struct(">h")


@dataclass(eq=False)
class Late:
    """The next request of one kind, whichever way it comes, is kept; its sender's connection ends."""

    _wanted: Callable[[bytes], bool] | None = None
    _kept: tuple[int, bytes] | None = None
    _has_kept: asyncio.Event = field(default_factory=asyncio.Event)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _carrying: set[asyncio.Task[None]] = field(default_factory=set)

    def keep_next(self, api_key: int, holding: bytes = b"") -> None:
        """The next request of this kind in which `holding` occurs."""
        self._has_kept.clear()
        self._wanted = lambda frame: KEY.unpack_from(frame)[0] == api_key and holding in frame

    async def kept(self) -> None:
        """Returns when it has come; a commit is answered before the brokers tell the partitions."""
        await self._has_kept.wait()

    async def deliver(self) -> bytes:
        """Brings the kept request to where it was bound for; the answer, which its sender never sees."""
        assert self._kept is not None
        port, frame = self._kept
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(LENGTH.pack(len(frame)) + frame)
            return await _frame(reader)
        finally:
            writer.close()

    async def front(self, port: int) -> int:
        """Listens in place of `port`: what `embedded_kafka` asks for as `advertise`."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._carry(reader, writer, port)
            writer.close()

        server = await asyncio.start_server(accept, HOST, free_port(), limit=2**24)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Ends every port and connection."""
        for server in self._servers:
            server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port)
        back = asyncio.create_task(_pour(far_reader, writer))
        try:
            while True:
                frame = await _frame(reader)
                if self._wanted is not None and self._wanted(frame):
                    self._wanted, self._kept = None, (port, frame)
                    self._has_kept.set()
                    break
                far_writer.write(LENGTH.pack(len(frame)) + frame)
                await far_writer.drain()
        finally:
            back.cancel()
            far_writer.close()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return await reader.readexactly(size)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while content := await reader.read(65536):
        writer.write(content)
        await writer.drain()
    writer.close()
