"""The emulator's heartbeat: subscribers are told of versions whose time has come, and of subscriptions that run out."""

import asyncio

from service.emulator.site import World

LIFECYCLE_LOOK_SECONDS = 15.0  # of the clock; Graph repeats a reminder about every 15 minutes


class Announcer:
    """Takes due announcements from the store to delivery."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._wake = asyncio.Event()
        world.store.on_announcement = self._wake.set

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            for announcement in self._world.store.take_due():
                self._world.delivery.notify(announcement)
            for subscription in self._world.subscriptions.due_for_lifecycle():
                self._world.delivery.remind(subscription)
            await self._wait()

    async def _wait(self) -> None:
        clock, due = self._world.clock, self._world.store.next_due()
        seconds = LIFECYCLE_LOOK_SECONDS if due is None else min(due - clock.now(), LIFECYCLE_LOOK_SECONDS)
        try:
            async with clock.timeout(max(0.0, seconds)):
                await self._wake.wait()
        except TimeoutError:
            pass
