"""What every test may ask for, and the guards that stand around each of them."""

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from service.emulator.limits import Counters
from tests.kafka_fixture import kafka, kafka_packages, prefix

__all__ = ["kafka", "kafka_packages", "no_leaked_tasks", "prefix"]
LEAK_SECONDS = 5.0


def pytest_configure() -> None:
    """A shell starts what it runs in the background with SIGINT ignored, and children inherit that; some are to be
    ended by it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """What tests left behind ends here, and not while a plugin is loaded for its last words: a future that nobody has
    asked writes a traceback, which parses source, and CPython 3.11 cannot parse in the middle of parsing
    (`SystemError: AST constructor recursion depth mismatch`)."""
    gc.collect()


@pytest.fixture(autouse=True)
def _guards(request: pytest.FixtureRequest) -> None:
    """Puts `no_leaked_tasks` around every asynchronous test, and around no other: it would need a loop of its own."""
    if request.node.get_closest_marker("asyncio"):
        request.getfixturevalue("no_leaked_tasks")


@pytest.fixture(autouse=True)
def _kafka_speaks_as_before() -> Iterator[None]:
    """A command silences aiokafka for its process; one that a test calls here must not do so for other tests."""
    logger, loop_logger = logging.getLogger("aiokafka"), logging.getLogger("asyncio")
    level, filters = logger.level, list(loop_logger.filters)
    yield
    logger.setLevel(level)
    loop_logger.filters[:] = filters


@pytest.fixture(autouse=True)
def _limits_of_graph(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No emulator of any test ever sees one of Graph's limits passed, unless the test says that it means to."""
    opened: list[Counters] = []
    make = Counters.__init__

    def remember(counters: Counters, *given: Any) -> None:
        make(counters, *given)
        opened.append(counters)

    monkeypatch.setattr(Counters, "__init__", remember)
    yield
    passed = [counters.report() for counters in opened if not counters.is_kept]
    if request.node.get_closest_marker("may_pass_limits"):
        return

    assert bool(passed) == bool(request.node.get_closest_marker("passes_limits")), passed


@pytest_asyncio.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    """Fails a test that leaves tasks behind: nobody would hear of their errors."""
    before = asyncio.all_tasks()
    yield
    for _ in range(10):  # callbacks of what has just been closed may still be due
        await asyncio.sleep(0)
    leaked = asyncio.all_tasks() - before - {asyncio.current_task()}
    if leaked:  # what a busy machine has not closed in time closes a moment later
        await asyncio.wait(leaked, timeout=LEAK_SECONDS)
        leaked = {task for task in leaked if not task.done()}

    assert not leaked, f"the test left tasks behind: {sorted(str(task.get_coro()) for task in leaked)}"
