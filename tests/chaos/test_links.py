"""The proxies of a chaos run do to connections what they say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.chaos.links import HOST, Front, Link, free_port

SECONDS = 20.0
SILENCE = 0.3


@asynccontextmanager
async def echo(port: int, mark: bytes = b"") -> AsyncIterator[list[bytes]]:
    """A listener that answers with what it was sent, and keeps it."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while content := await reader.read(1000):
            heard.append(content)
            writer.write(mark + content)
        writer.close()

    server = await asyncio.start_server(answer, HOST, port)
    try:
        yield heard
    finally:
        server.close()


@asynccontextmanager
async def opened(*links: Link) -> AsyncIterator[int]:
    """A front before these links; its port."""
    front = Front(links)
    try:
        yield await front.open()
    finally:
        await front.close()


async def said(port: int, word: bytes = b"word") -> bytes:
    """What comes back for one word on a new connection; empty when the connection ends."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(word)
        async with asyncio.timeout(SECONDS):
            return await reader.read(1000)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_whole_link_carries_both_ways() -> None:
    """More than one chunk, and the end of a side is passed on."""
    port, large = free_port(), b"x" * 300_000
    link = Link("whole", port)
    async with echo(port), opened(link) as front:
        reader, writer = await asyncio.open_connection(HOST, front)
        writer.write(large)
        writer.write_eof()

        assert await reader.read(-1) == large
        writer.close()


async def test_a_cut_link_refuses_until_it_is_mended() -> None:
    """Connections that exist end at once, mid-word."""
    port = free_port()
    link = Link("cut", port)
    async with echo(port), opened(link) as front:
        reader, writer = await asyncio.open_connection(HOST, front)
        writer.write(b"word")
        assert await reader.read(1000) == b"word"
        link.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read(1000)
        assert await said(front) == b""
        link.mend()

        assert await said(front) == b"word"


async def test_a_stalled_link_goes_on_where_it_was() -> None:
    """Nothing is lost, nothing moves meanwhile."""
    port = free_port()
    link = Link("stalled", port)
    async with echo(port) as heard, opened(link) as front:
        link.stall()
        waiting = asyncio.create_task(said(front))
        done, _ = await asyncio.wait({waiting}, timeout=SILENCE)
        assert not done
        assert heard == []
        link.mend()

        assert await waiting == b"word"


async def test_a_deaf_link_delivers_what_is_asked_and_never_the_answer() -> None:
    """How a commit succeeds of which its owner does not hear."""
    port = free_port()
    link = Link("deaf", port)
    async with echo(port) as heard, opened(link) as front:
        link.deafen()
        waiting = asyncio.create_task(said(front))
        async with asyncio.timeout(SECONDS):
            while not heard:  # noqa: ASYNC110 - the listener tells nobody
                await asyncio.sleep(0.01)
        done, _ = await asyncio.wait({waiting}, timeout=SILENCE)
        assert not done
        link.mend()

        assert await waiting == b""
        assert await said(front) == b"word"


async def test_a_front_takes_turns_and_passes_over_a_dead_listener() -> None:
    """Two receivers behind one address."""
    first, second = free_port(), free_port()
    async with opened(Link("first", first), Link("second", second)) as front:
        async with echo(first, b"1"), echo(second, b"2"):
            assert {await said(front) for _ in range(4)} == {b"1word", b"2word"}
        async with echo(second, b"2"):
            assert {await said(front) for _ in range(4)} == {b"2word"}
        assert await said(front) == b"", "nobody is there"


async def test_a_patient_link_waits_for_its_listener() -> None:
    """A machine of Graph's is replaced: the connection is not refused."""
    port = free_port()
    async with opened(Link("patient", port, patience_seconds=SECONDS)) as front:
        waiting = asyncio.create_task(said(front))
        done, _ = await asyncio.wait({waiting}, timeout=SILENCE)
        assert not done
        async with echo(port):
            assert await waiting == b"word"
