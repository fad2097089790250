"""Processes of their own: started with their output kept, ended in good order, killed when that does not help."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

END_SECONDS = 40.0
SHOWN_CHARACTERS = 2000


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running(
    *arguments: str, log: Path, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m arguments…` until the block is left; its output goes to the file `log`.

    RuntimeError with the end of its output when it does not end well.
    """
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *arguments, stdout=output, stderr=output, env=dict(environment)
        )
    try:
        yield process
    finally:
        code = await _end(process)
    if code != 0:
        raise RuntimeError(f"{' '.join(arguments)} ended with {code}: {_last_words(log)}")


def _last_words(log: Path) -> str:
    return log.read_text()[-SHOWN_CHARACTERS:].strip()


async def _end(process: asyncio.subprocess.Process) -> int:
    if process.returncode is None:
        process.terminate()
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode
