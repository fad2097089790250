"""Shell: who listens at an address that should be a Kafka broker's: asked for its API versions over a bare connection.

Kafka's protocol: a length, then api key 18 (ApiVersions), version 0, a number that comes back, a client id
(https://kafka.apache.org/protocol#The_Messages_ApiVersions). Every broker answers it before any login.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Literal

from service.kafka.knock import speaks_tls

Answer = Literal["kafka", "tls", "http", "closed", "silent", "other"]
CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 3.0
CORRELATION = 4711
_CLIENT = b"callstream"
REQUEST = struct.pack(">hhih", 18, 0, CORRELATION, len(_CLIENT)) + _CLIENT
LARGEST_ANSWER = 1_000_000
TLS_ALERT, TLS_HANDSHAKE = 0x15, 0x16


class Unreachable(Exception):
    """Nobody takes a connection; the text says why."""


async def reach(host: str, port: int) -> None:
    """Whether a connection is taken; `Unreachable` when not."""
    _, writer = await _connect(host, port)
    await _close(writer)


async def ask(host: str, port: int) -> Answer:
    """What kind of server answers. Raises `Unreachable`."""
    answer = await _ask(host, port)
    # Who wants TLS hangs up on anything else, often without a word.
    return "tls" if answer in ("closed", "silent") and await speaks_tls(host, port, CONNECT_SECONDS) else answer


async def _ask(host: str, port: int) -> Answer:
    reader, writer = await _connect(host, port)
    try:
        writer.write(struct.pack(">i", len(REQUEST)) + REQUEST)
        async with asyncio.timeout(ANSWER_SECONDS):
            await writer.drain()
            return judge(await reader.readexactly(8))
    except TimeoutError:
        return "silent"
    except asyncio.IncompleteReadError as exc:
        return judge(exc.partial)
    except OSError:
        return "closed"
    finally:
        await _close(writer)


def judge(first: bytes) -> Answer:
    """By the first bytes that came back."""
    if not first:
        return "closed"
    if first.startswith((b"HTTP", b"<htm", b"<!DO")):
        return "http"
    if first[0] in (TLS_ALERT, TLS_HANDSHAKE) and first[1:2] == b"\x03":
        return "tls"
    if len(first) == 8:
        size, number = struct.unpack(">ii", first)
        if number == CORRELATION and 0 < size < LARGEST_ANSWER:
            return "kafka"
    return "other"


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection(host, port)
    except TimeoutError:
        raise Unreachable(f"no answer within {CONNECT_SECONDS:g} s") from None
    except socket.gaierror:
        raise Unreachable("its name does not resolve") from None
    except ConnectionRefusedError:
        raise Unreachable("the connection is refused") from None
    except OSError as exc:
        raise Unreachable(exc.strerror or type(exc).__name__) from None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
