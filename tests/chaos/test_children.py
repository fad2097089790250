"""The processes of a chaos run: struck, started again, never left behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.chaos.children import Child

SECONDS = 30.0
FOR_EVER = "import signal, time; print('up', flush=True); time.sleep(1000)"


@asynccontextmanager
async def started(folder: Path, program: str) -> AsyncIterator[Child]:
    """A child that runs `program`, killed at the end."""
    child = Child("child", ["-c", program], {}, folder / "child.log", lambda: None)
    await child.start()
    try:
        yield child
    finally:
        await child.kill()


async def until_up(child: Child, times: int = 1) -> None:
    """Waits until it has said so."""
    async with asyncio.timeout(SECONDS):
        while child.tail().count("up") < times:  # noqa: ASYNC110 - a log tells nobody
            await asyncio.sleep(0.01)


async def test_one_that_ends_by_itself_is_counted_and_started_again(tmp_path: Path) -> None:
    """As Kubernetes would; a run in which it happens is not right."""
    async with started(tmp_path, f"{FOR_EVER.replace('1000', '0')}; raise SystemExit(3)") as child:
        await until_up(child, times=2)

        assert child.crashes[0] == 3


async def test_killed_and_ended_ones_are_no_crashes(tmp_path: Path) -> None:
    """They can be started again each time."""
    async with started(tmp_path, FOR_EVER) as child:
        await until_up(child)
        await child.kill()
        assert child.pid is None
        await child.start()
        await until_up(child, times=2)
        await child.terminate()

        assert child.pid is None
        assert child.crashes == []


async def test_one_that_is_killed_at_once_is_gone(tmp_path: Path) -> None:
    """Before anything has begun to watch it."""
    child = Child("child", ["-c", FOR_EVER], {}, tmp_path / "child.log", lambda: None)
    await child.start()
    await child.kill()

    assert child.pid is None
    assert child.crashes == []


async def test_a_frozen_one_can_be_ended(tmp_path: Path) -> None:
    """SIGTERM reaches nobody who sleeps: it is woken for it."""
    async with started(tmp_path, FOR_EVER) as child:
        await until_up(child)
        assert child.pid is not None
        process = psutil.Process(child.pid)
        child.freeze()
        assert process.status() == psutil.STATUS_STOPPED
        await child.terminate()

        assert not psutil.pid_exists(process.pid)
