"""Who answers in Kafka's place, and what a command says of it: one sentence, soon, never a traceback."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from service.cli.common import answering
from service.errors import UserError
from service.kafka.scan import open_admin
from service.settings import Kafka

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def peer(behaves: Peer) -> AsyncIterator[str]:
    """An address at which somebody behaves so."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await behaves(reader, writer)
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answers(answer: bytes, then: float = 60.0) -> Peer:
    """Says this to the first question, and keeps the line open for a while."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        await writer.drain()
        await asyncio.sleep(then)

    return behave


async def talks_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Before it was asked anything."""
    writer.write(b"\0\0\0\4abcd")
    await asyncio.sleep(60)


async def never_ends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Announces the largest frame that can be, and sends it."""
    await reader.read(1000)
    writer.write(b"\x7f\xff\xff\xff\0\0\0\1")
    while True:
        writer.write(bytes(100_000))
        await writer.drain()


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """At once."""


NONE_OF_KAFKA = "does not speak Kafka's protocol"
PEERS: dict[str, tuple[Peer, str]] = {
    "no array": (answers(b"\0\0\0\x14\0\0\0\1" + b"\xff" * 16), NONE_OF_KAFKA),
    "too short": (answers(b"\0\0\0\5\0\0\0\1\0"), NONE_OF_KAFKA),
    "another's answer": (answers(b"\0\0\0\4\xff\xff\xff\xff"), NONE_OF_KAFKA),
    "negative size": (answers(b"\xff\xff\xff\xff"), NONE_OF_KAFKA),
    "unasked": (talks_at_once, NONE_OF_KAFKA),
    "endless": (never_ends, NONE_OF_KAFKA),
    "web server": (answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", 0), "speaks HTTP, not Kafka's protocol"),
    "alert of TLS": (answers(b"\x15\x03\x03\0\2\2\x46", 0), "seems to want TLS"),
    "hangs up": (hangs_up, "hangs up without an answer: compare kafka.bootstrap_servers"),
}


@pytest.mark.parametrize("name", PEERS)
async def test_whoever_is_no_kafka_is_told_so(name: str) -> None:
    """By what it does; a peer that hangs up is not said to want TLS."""
    behaves, words = PEERS[name]
    async with peer(behaves) as address:
        began = time.monotonic()
        with pytest.raises(UserError) as raised:
            async with answering(kafka := Kafka(bootstrap_servers=address)), open_admin(kafka):
                pass
        took = time.monotonic() - began

    assert words in str(raised.value)
    assert address in str(raised.value)
    assert raised.value.exit_code == 1
    assert ("TLS" in str(raised.value)) == (name == "alert of TLS")
    assert took < 27  # what a silent one takes: `CONNECT_SECONDS` and `KNOCK_SECONDS`
