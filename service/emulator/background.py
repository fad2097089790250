"""Tasks that live as long as the emulator. An error in one is kept and raised when the emulator closes, never lost."""

import asyncio
from collections.abc import Coroutine


class Background:
    """Starts tasks, ends them all."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self.failed = asyncio.Event()
        """Set when a task ended with an error: the emulator is then no longer whole."""

    def start(self, work: Coroutine[None, None, None], name: str) -> None:
        """Runs `work` until it ends or the emulator closes."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Cancels what still runs, waits for it, and raises the first error that any task had."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._errors:
            raise self._errors[0]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._errors.append(error)
            self.failed.set()
