"""Shell: the body of one answer, never more of it than allowed, however small it was on the wire.

aiohttp would decompress what has arrived in one piece; a few kilobytes of gzip can hold gigabytes. So requests are made
with `auto_decompress=False`, and what comes out is counted here while it comes out.
"""

import asyncio
import zlib
from typing import Final

import aiohttp

from service.clock import Clock

# A clock that runs fast must not judge the machine: no request is given up before so many of the machine's seconds.
LEAST_REAL_SECONDS: Final = 0.5
GZIP: Final = 16 + zlib.MAX_WBITS


class BodyCut(Exception):
    """The body ended early or cannot be decompressed."""


class BodyTooLarge(Exception):
    """The body has more bytes than allowed."""


class Unpacker:
    """Collects a body from its pieces. `limit_bytes` is counted after decompression."""

    def __init__(self, limit_bytes: int, is_gzip: bool) -> None:
        self._limit = limit_bytes
        self._size = 0
        self._pieces: list[bytes] = []
        self._stream = zlib.decompressobj(GZIP) if is_gzip else None
        self._has_begun = False

    def feed(self, piece: bytes) -> None:
        """Takes the next piece from the wire. Raises BodyTooLarge, BodyCut."""
        if self._stream is None:
            self._add(piece)
            return
        try:
            while piece:
                self._has_begun = True
                if self._stream.eof:  # a gzip body may consist of several members
                    self._stream = zlib.decompressobj(GZIP)
                self._add(self._stream.decompress(piece, self._limit - self._size + 1))
                piece = self._stream.unconsumed_tail or self._stream.unused_data
        except zlib.error as exc:
            raise BodyCut("the body is not valid gzip") from exc

    def finish(self) -> bytes:
        """The whole body; BodyCut when its end is missing."""
        if self._stream is not None and self._has_begun and not self._stream.eof:
            raise BodyCut("the gzip body ends early")
        return b"".join(self._pieces)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise BodyTooLarge(f"the body is larger than {self._limit} bytes")
        if piece:
            self._pieces.append(piece)


def real_timeout(clock: Clock, seconds: float) -> asyncio.Timeout:
    """TimeoutError after `seconds` of the clock, but not before `LEAST_REAL_SECONDS`."""
    return asyncio.timeout(max(clock.real_seconds(seconds), LEAST_REAL_SECONDS))


async def read_body(response: aiohttp.ClientResponse, limit_bytes: int) -> bytes:
    """The decompressed body of a response that was asked for with `auto_decompress=False`.

    Raises BodyTooLarge, BodyCut, and what aiohttp raises (ClientPayloadError for a connection that was cut).
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip", ""):
        raise BodyCut("the body is compressed in a way that was not asked for")
    if (response.content_length or 0) > limit_bytes:
        raise BodyTooLarge(f"the body is larger than {limit_bytes} bytes")
    unpacker = Unpacker(limit_bytes, encoding.endswith("gzip"))
    async for piece in response.content.iter_any():
        unpacker.feed(piece)
    return unpacker.finish()
