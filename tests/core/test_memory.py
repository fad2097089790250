"""What fails leaves cycles behind; they are collected although they are too few to make the collector look."""

import asyncio
import gc
import weakref

import pytest

from service import memory


class Cycle:
    """Refers to itself, as an error and the frames it has passed do."""

    def __init__(self) -> None:
        self.me = self


async def test_cycles_go_though_nothing_else_makes_the_collector_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline far above what is needed; the collector's own turn never comes."""
    monkeypatch.setattr(memory, "TIDY_SECONDS", 0.01)
    gc.disable()
    try:
        gone = weakref.ref(Cycle())
        assert gone() is not None
        staying = asyncio.create_task(memory.stay_small())
        async with asyncio.timeout(10):
            while gone() is not None:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.01)
        staying.cancel()
        await asyncio.wait({staying})
    finally:
        gc.enable()

    assert gone() is None
