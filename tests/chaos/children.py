"""Processes of a run: started as often as they are killed, and none of them outlives the run."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.freezing import freeze

ROOT = Path(__file__).parents[2]
TERM_SECONDS = 45.0
AGAIN_SECONDS = 0.5


@dataclass(eq=False)
class Child:
    """One Python program of the run. `on_change` is called whenever it starts or has ended."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    on_change: Callable[[], None]
    crashes: list[int] = field(default_factory=list)
    """Exit codes of the times it ended although nobody had ended it."""
    _process: asyncio.subprocess.Process | None = None
    _watcher: asyncio.Task[None] | None = None
    _is_wanted: bool = False

    @property
    def pid(self) -> int | None:
        """The process, or None when it is not running."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts it; it may take a moment to be ready. One that ends by itself is started again and counted."""
        self._is_wanted = True
        await self._spawn()
        self._watcher = asyncio.create_task(self._watch())

    async def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self.arguments,
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C goes to the run, which ends its children
            )
        self.on_change()

    async def _watch(self) -> None:
        """Ends only when the process has, though it be told to end before this has begun."""
        while self._process is not None:
            code = await self._process.wait()
            self.on_change()
            if not self._is_wanted:
                return
            self.crashes.append(code)
            await asyncio.sleep(AGAIN_SECONDS)
            if not self._is_wanted:
                return
            await self._spawn()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if it runs."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP, if it runs; returns when it stands."""
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                freeze(self.pid)

    async def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        await self._end(signal.SIGKILL, TERM_SECONDS)

    async def terminate(self) -> None:
        """SIGTERM; returns when it has drained, or was killed because it did not."""
        self.send(signal.SIGCONT)
        await self._end(signal.SIGTERM, TERM_SECONDS)

    async def _end(self, number: signal.Signals, seconds: float) -> None:
        self._is_wanted = False
        self.send(number)
        if self._watcher is None:
            return
        done, _ = await asyncio.wait({self._watcher}, timeout=seconds)
        if not done:
            self.crashes.append(-1)  # it did not drain in time
            self.send(signal.SIGKILL)
            await self._watcher
        self._watcher = None

    def tail(self, size: int = 3000) -> str:
        """The last of its log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""
