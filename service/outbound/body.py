"""Shell: the body of one answer, never more of it than allowed, however small it was on the wire.

aiohttp would decompress what has arrived in one piece; a few kilobytes of gzip can hold gigabytes. So requests are made
with `auto_decompress=False`, and what comes out is counted here while it comes out.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp

from service.clock import Clock

# A clock that runs fast must not judge the machine: no request is given up before so many of the machine's seconds.
LEAST_REAL_SECONDS: Final = 0.5
GZIP: Final = 16 + zlib.MAX_WBITS
# What is unpacked at once: a piece of gzip as it comes from the wire can hold a thousand times as much.
PIECE_BYTES: Final = 256 * 1024


class BodyCut(Exception):
    """The body ended early or cannot be decompressed."""


class BodyTooLarge(Exception):
    """The body has more bytes than allowed."""

    setting = "graph.max_body_bytes"
    """Which setting allows so many, where it was one of Graph's records."""


class Unpacker:
    """Collects a body from its pieces. `limit_bytes` is counted after decompression."""

    def __init__(self, limit_bytes: int, is_gzip: bool) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._pieces: list[bytes] = []
        self._stream = zlib.decompressobj(GZIP) if is_gzip else None
        self._has_begun = False

    def feed(self, piece: bytes) -> Iterator[int]:
        """Takes the next piece from the wire; yields how many bytes it has come to hold more, again and again.

        Raises BodyTooLarge, BodyCut. Nothing is taken unless it is walked through.
        """
        if self._stream is None:
            yield self._add(piece)
            return
        try:
            while piece:
                self._has_begun = True
                if self._stream.eof:  # a gzip body may consist of several members
                    self._stream = zlib.decompressobj(GZIP)
                yield self._add(self._stream.decompress(piece, min(PIECE_BYTES, self._limit - self._size + 1)))
                piece = self._stream.unconsumed_tail or self._stream.unused_data
        except zlib.error as exc:
            raise BodyCut("the body is not valid gzip") from exc

    def finish(self) -> bytes:
        """The whole body; BodyCut when its end is missing."""
        if self._stream is not None and self._has_begun and not self._stream.eof:
            raise BodyCut("the gzip body ends early")
        return b"".join(self._pieces)

    def _add(self, piece: bytes) -> int:
        self._size += len(piece)
        if self._size > self._limit:
            raise BodyTooLarge(f"the body is larger than {self._limit} bytes")
        if piece:
            self._pieces.append(piece)
        return len(piece)


def real_timeout(clock: Clock, seconds: float) -> asyncio.Timeout:
    """TimeoutError after `seconds` of the clock, but not before `LEAST_REAL_SECONDS`."""
    return asyncio.timeout(max(clock.real_seconds(seconds), LEAST_REAL_SECONDS))


@contextmanager
def paused(timeout: asyncio.Timeout) -> Iterator[None]:
    """Time in the block does not count: it is not the peer that is slow."""
    loop, due = asyncio.get_running_loop(), timeout.when()
    if due is None:
        yield
        return
    left = due - loop.time()
    timeout.reschedule(None)
    try:
        yield
    finally:
        timeout.reschedule(loop.time() + left)


async def read_body(
    response: aiohttp.ClientResponse, limit_bytes: int, took: Callable[[int], Awaitable[None]] | None = None
) -> bytes:
    """The decompressed body of a response that was asked for with `auto_decompress=False`.

    `took` is told of the bytes as they come, uncompressed; while it waits nothing more is read.
    Raises BodyTooLarge, BodyCut, and what aiohttp raises (ClientPayloadError for a connection that was cut).
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise BodyCut("the body is compressed in a way that was not asked for")
    if (response.content_length or 0) > limit_bytes:
        raise BodyTooLarge(f"the body is larger than {limit_bytes} bytes")
    unpacker = Unpacker(limit_bytes, encoding.endswith("gzip"))
    async for piece in response.content.iter_any():
        for size in unpacker.feed(piece):
            if took is not None:
                await took(size)
    return unpacker.finish()
