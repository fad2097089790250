"""One run: open the world, strike it while calls come, let it settle, hear the verdict."""

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tests.chaos.report import Report
from tests.chaos.schedule import kills, schedule
from tests.chaos.strikes import Striker, Struck
from tests.chaos.world import Size, World, open_world

LINE_SECONDS = 10.0
SETTLE_SECONDS = 420.0


class Progress:
    """Tells how far a run is: one changing line on a terminal, a plain line now and then elsewhere."""

    def __init__(self, size: Size, console: Console) -> None:
        self._size = size
        self._console = console
        self._began = time.monotonic()
        self._shown = 0.0
        self._live = Live(console=console, transient=True, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, trace)

    def step(self, text: str) -> None:
        """One thing that is done now."""
        self._console.print(f"[{time.monotonic() - self._began:6.1f} s] {text}", markup=False)

    def strike(self, struck: Struck) -> None:
        """A strike has fallen."""
        self._console.print(f"  {struck}", style="dim", markup=False)

    def now(self, told: dict[str, Any], kills_so_far: int, all_kills: int) -> None:
        """How far it is."""
        line = (
            f"{told.get('events', 0):,} of about {self._size.events:,} events, {kills_so_far} of {all_kills} kills, "
            f"{told.get('waiting', 0)} versions waiting, {told.get('behind_seconds', 0)} s behind"
        )
        if self._live:
            self._live.update(Text(line))
        elif time.monotonic() - self._shown > LINE_SECONDS:
            self._shown = time.monotonic()
            self.step(line)


async def run(size: Size, folder: Path, progress: Progress) -> Report:
    """The report of a whole run. Raises `UserError` when Kafka cannot start."""
    strikes = schedule(size.seed, size.seconds)
    async with open_world(size, folder, progress.step) as world:
        progress.step(f"Everything is up: {len(strikes)} strikes and {kills(strikes)} kills follow (seed {size.seed})")
        world.begin()
        striker = Striker(world, size.seconds, progress.strike)
        showing = asyncio.create_task(_show(world, striker, kills(strikes), progress))
        try:
            await striker.carry_out(strikes)
            await asyncio.sleep(size.seconds - striker.seconds())
            progress.step("Nobody strikes any more; the rest settles")
            world.settle()
            verdict = await _verdict(world)
        finally:
            showing.cancel()
            await asyncio.wait({showing})
        return Report(size, striker.fallen, striker.left_out, verdict, world.crashes, striker.seconds())


async def _show(world: World, striker: Striker, all_kills: int, progress: Progress) -> None:
    while True:
        progress.now(world.told, striker.kills, all_kills)
        await asyncio.sleep(0.5)


async def _verdict(world: World) -> dict[str, Any]:
    """What the judge says at last."""
    assert world.listening is not None
    async with asyncio.timeout(SETTLE_SECONDS):
        await world.listening
    if "verdict" not in world.told:
        raise RuntimeError(f"the judge ended without a verdict:\n{(world.folder / 'judge.log').read_text()[-3000:]}")
    verdict: dict[str, Any] = world.told["verdict"]
    return verdict
