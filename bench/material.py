"""Page bodies of whole call records, byte for byte as the service gets them from Graph.

Each round has records of its own: instants never repeat in production, and a pipeline that remembers texts it has seen
must not profit from a benchmark that shows the same ones twice.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
from yarl import URL

from service.clock import Clock
from service.emulator.making import CallWish
from service.emulator.options import DEMO_TENANT_ID, EmulatorOptions, Limits
from service.emulator.server import Emulator, open_emulator
from service.graph.protocol import EXPAND_ALL, read_headers, record_url

SIZE = "M"
"""20 sessions with 80 streams: one page, so that a body is a record."""
STREAMS = 80
READERS = 4


class Page(msgspec.Struct, frozen=True):
    """A record of one page."""

    call_id: str
    body: bytes


async def write_rounds(folder: Path, rounds: int, records: int) -> list[Path]:
    """One file for each round, with so many records."""
    async with _emulator() as emulator, aiohttp.ClientSession() as http:
        files = []
        for number in range(rounds):
            pages = await _pages(emulator, http, records)
            files.append(folder / f"round-{number}.msgpack")
            files[-1].write_bytes(msgspec.msgpack.encode(pages))
        return files


def read_round(file: Path) -> list[Page]:
    """The records of one round, in memory."""
    return msgspec.msgpack.decode(file.read_bytes(), type=list[Page])


@asynccontextmanager
async def _emulator() -> AsyncIterator[Emulator]:
    # A body is asked for once, so none is kept.
    options = EmulatorOptions(port=0, calls=0, open=True, limits=Limits(enforced=False), body_cache_bytes=1)
    async with open_emulator(options, Clock()) as emulator:
        yield emulator


async def _pages(emulator: Emulator, http: aiohttp.ClientSession, records: int) -> list[Page]:
    calls = [emulator.maker.make(CallWish(DEMO_TENANT_ID, size=SIZE)) for _ in range(records)]
    limit = asyncio.Semaphore(READERS)
    headers = read_headers("", "bench")
    del headers["Authorization"]

    async def page(call_id: str) -> Page:
        async with limit:
            url = URL(record_url(emulator.url, call_id, EXPAND_ALL), encoded=True)
            async with http.get(url, headers=headers, raise_for_status=True) as response:
                return Page(call_id, await response.read())

    return list(await asyncio.gather(*(page(call.id) for call in calls)))
