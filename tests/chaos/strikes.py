"""Carries a schedule out: on each track one strike after the other, never before its time."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.embedded import Broker
from service.errors import UserError
from tests.chaos.children import Child
from tests.chaos.links import Link
from tests.chaos.schedule import KILLS, Strike
from tests.chaos.world import World

LATEST_SECONDS = 5.0
"""After the end of the run: a strike that is late by then, since the one before it took too long, is left out."""


@dataclass(frozen=True)
class Struck:
    """A strike that fell: when, and whom it met."""

    strike: Strike
    at: float
    whom: str

    def __str__(self) -> str:
        return f"{self.strike} (at {self.at:.1f} s: {self.whom})"


class Striker:
    """Strikes a world for `seconds`. `fallen` is what has fallen so far, in order; `left_out` what came too late."""

    def __init__(self, world: World, seconds: float, tell: Callable[[Struck], None]) -> None:
        self._world = world
        self._last = seconds + LATEST_SECONDS
        self._tell = tell
        self._begun = asyncio.get_running_loop().time()
        self.fallen: list[Struck] = []
        self.left_out: list[Strike] = []

    @property
    def kills(self) -> int:
        """Processes ended so far."""
        return sum(one.strike.what in KILLS for one in self.fallen)

    def seconds(self) -> float:
        """Since the run began."""
        return asyncio.get_running_loop().time() - self._begun

    async def carry_out(self, strikes: Sequence[Strike]) -> None:
        """Returns when all have fallen, or it is too late for them, and everything is on its feet again."""
        async with asyncio.TaskGroup() as tracks:
            for name in sorted({strike.track for strike in strikes}):
                tracks.create_task(self._track([strike for strike in strikes if strike.track == name]))

    async def _track(self, strikes: Sequence[Strike]) -> None:
        for strike in strikes:
            await asyncio.sleep(strike.at - self.seconds())
            if self.seconds() > self._last:
                self.left_out.append(strike)
            else:
                await self._strike(strike)

    async def _strike(self, strike: Strike) -> None:
        world, whom = self._world, strike.whom
        if strike.track == "brokers" and world.broker(whom) is None:
            whom = await world.broker_who(whom, strike.otherwise)
        struck = Struck(strike, round(self.seconds(), 1), whom)
        self.fallen.append(struck)
        self._tell(struck)
        if strike.track == "links":
            await _hurt(world.links[whom], strike)
        elif (broker := world.broker(whom)) is not None:
            await _strike_broker(broker, strike)
        else:
            await _strike_child(world.children[whom], strike)


async def _hurt(link: Link, strike: Strike) -> None:
    match strike.what:
        case "reset":
            link.reset()
        case "cut":
            link.cut()
        case "slow":
            link.slow()
        case "stall":
            link.stall()
        case "deaf":
            link.deafen()
    await asyncio.sleep(strike.seconds)
    link.mend()


async def _strike_child(child: Child, strike: Strike) -> None:
    if strike.what == "stop":
        child.freeze()
        await asyncio.sleep(strike.seconds)
        child.send(signal.SIGCONT)
        return
    await (child.kill() if strike.what == "kill" else child.terminate())
    await asyncio.sleep(strike.seconds)
    await child.start()


async def _strike_broker(broker: Broker, strike: Strike) -> None:
    if strike.what == "stop":
        broker.pause()
        await asyncio.sleep(strike.seconds)
        broker.resume()
        return
    await (broker.kill() if strike.what == "kill" else broker.stop())
    await asyncio.sleep(strike.seconds)
    try:
        await broker.start()
    except UserError:
        # The machine was too busy or too much was hurt at once; a second failure ends the run.
        await broker.start()
