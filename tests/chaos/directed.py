"""Directed schedules: a strike at exactly the moment that one protection is there for, with the same judge as a run.

One lane, one emulator, one or two processes of a build.
"""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from service.clock import Clock
from service.embedded import embedded_kafka
from service.emulator.generator import CallSpec, generate_call
from service.emulator.options import EmulatorOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.store import Call
from tests.chaos.broken import HOLDS_VARIABLE
from tests.chaos.children import Child
from tests.chaos.graph import DELIVERY
from tests.chaos.judging import Court, Reader, Task
from tests.chaos.late_frames import END_TXN, Late
from tests.chaos.links import free_port
from tests.chaos.world import TENANTS, service_environment

CALLS = 6
DEADLINE_SECONDS = 90.0
QUIET_SECONDS = 1.5
LOOK_SECONDS = 0.05


@dataclass
class Stage:
    """A build at work, its Graph and its judge. `children[0]` receives; all of them work."""

    emulator: Emulator
    court: Court
    reader: Reader
    children: list[Child]
    holds: Path
    late: Late
    """Stands before the broker, where that is the stage's own."""
    transactional_id: str
    """Of the one lane."""
    seen_half: int = 0
    """Half versions that a consumer could see when a process had died in the middle."""
    _made: int = 0

    def announce(self, count: int = CALLS) -> list[Call]:
        """So many small calls happen now."""
        store, tenant = self.emulator.store, TENANTS[0].id
        start = self.emulator.world.clock.now() - 3 * 3600
        numbers = range(self._made, self._made + count)
        self._made += count
        return [store.add_call(tenant, generate_call(CallSpec(tenant, 1, n, start=start))) for n in numbers]

    async def until(self, claim: Callable[[], bool], what: str) -> None:
        """Waits for a claim while the judge reads on; AssertionError with the logs at the deadline."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not claim():
                    self.court.read_record()
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            logs = "\n".join(child.tail() for child in self.children)
            raise AssertionError(f"not within {DEADLINE_SECONDS:.0f} s: {what}\n{logs}") from None

    @contextlib.asynccontextmanager
    async def holding(self, point: str) -> AsyncIterator[Callable[[], Awaitable[Child]]]:
        """While the block lasts whoever comes to `point` is held there; gives a way to wait for the first."""
        (self.holds / point).touch()

        async def caught() -> Child:
            await self.until(lambda: any(self.holds.glob(f"{point}.*")), f"somebody is held at {point}")
            [mark, *_] = self.holds.glob(f"{point}.*")
            return next(child for child in self.children if str(child.pid) == mark.suffix[1:])

        try:
            yield caught
        finally:
            (self.holds / point).unlink()

    async def over(self) -> None:
        """Until everything is published that will be: a call that is announced when all others have been delivered
        comes out of the one lane after them, and what has not come by then is lost."""
        await self.until(lambda: self.court.is_delivered, "every notice is delivered")
        [witness] = self.announce(1)
        place = (witness.tenant_id, witness.id)
        await self.until(lambda: place in self.court.calls.published, "the last call is published")

    async def faults(self) -> dict[str, int]:
        """What the judge finds when nothing has come for a while; only what is not 0."""
        loop = asyncio.get_running_loop()
        moved, seen = loop.time(), -1
        while loop.time() - moved < QUIET_SECONDS:
            if self.court.streams != seen:
                moved, seen = loop.time(), self.court.streams
            self.court.read_record()
            await asyncio.sleep(LOOK_SECONDS)
        return {name: count for name, count in self.court.verdict()["faults"].items() if count}


@asynccontextmanager
async def stage(kafka: str, prefix: str, folder: Path, build: str, processes: int = 1) -> AsyncIterator[Stage]:
    """The build at work on the broker `kafka`, or on one of its own behind a proxy if that is empty."""
    holds = folder / "holds"
    holds.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        late = Late()
        if not kafka:
            stack.push_async_callback(late.close)
            kafka = (await stack.enter_async_context(embedded_kafka(advertise=late.front))).bootstrap_servers
        options = EmulatorOptions(port=0, tenants=tuple(TENANTS[:1]), delivery=DELIVERY, state_file=folder / "state")
        emulator = await stack.enter_async_context(open_emulator(options, Clock()))
        task = Task(kafka, prefix, 1, str(folder / "state"), "", calls=0)
        children = _children(kafka, prefix, folder, build, emulator)
        built = Stage(emulator, Court(task), Reader(task), children, holds, late, f"{prefix}.lane.0")
        del built.children[processes:]
        for child in built.children:
            await child.start()
            stack.push_async_callback(child.kill)
        await built.until(lambda: any(emulator.world.subscriptions.live()), "a subscription is there")
        reading = asyncio.create_task(built.reader.run(built.court))
        try:
            yield built
        finally:
            reading.cancel()
            await asyncio.wait({reading})


def _children(kafka: str, prefix: str, folder: Path, build: str, emulator: Emulator) -> list[Child]:
    port = free_port()
    environment = service_environment(kafka, emulator.url) | {
        HOLDS_VARIABLE: str(folder / "holds"),
        "CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix,
        "CALLSTREAM_KAFKA__PARTITIONS": "1",
        "CALLSTREAM_KEEPER__PERIOD_SECONDS": "1",
        "CALLSTREAM_RECEIVER__PORT": str(port),
        "CALLSTREAM_RECEIVER__PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    return [
        Child(
            f"{build}-{number}",
            ["-m", "tests.chaos.broken", build, "serve", "--role", roles],
            environment,
            folder / f"{build}-{number}.log",
            lambda: None,
        )
        for number, roles in enumerate(("receive,work,keep", "work"))
    ]


async def killed_before_the_commit(stage: Stage) -> None:
    """SIGKILL when every record of a batch is in Kafka and nothing is committed."""
    async with stage.holding("commit") as caught:
        stage.announce()
        victim = await caught()
        await victim.kill()
    await victim.start()
    await stage.over()


async def killed_half_way(stage: Stage) -> None:
    """SIGKILL when the events of one topic are in Kafka and those of the others are not; the judge looks before the
    next process comes."""
    async with stage.holding("half") as caught:
        stage.announce()
        victim = await caught()
        await asyncio.sleep(QUIET_SECONDS)  # what was sent beside it has arrived
        await victim.kill()
    stage.seen_half = (await stage.faults()).get("half versions", 0)
    await victim.start()
    await stage.over()


async def restarted_and_told_again(stage: Stage) -> None:
    """SIGKILL when all is published; then Graph repeats every notice, and a new call follows."""
    calls = stage.announce()
    await stage.over()
    for child in stage.children:
        await child.kill()
        await child.start()
    for call in calls:
        stage.emulator.store.announce(call)
    await stage.over()


async def woken_after_its_lane_moved(stage: Stage) -> None:
    """SIGSTOP with a batch in hand; another process takes the lane and publishes it; then SIGCONT."""
    async with stage.holding("begin") as caught:
        stage.announce()
        zombie = await caught()
        # It may be the one that receives.
        await stage.until(lambda: stage.court.is_delivered, "every notice is delivered")
        zombie.freeze()
    try:
        await stage.until(lambda: stage.court.is_complete, "another process publishes it")
    finally:
        zombie.send(signal.SIGCONT)
    await stage.until(lambda: any(stage.holds.glob("past-begin.*")), "the zombie has tried")


async def told_late_that_it_had_ended(stage: Stage) -> None:
    """A commit whose connection ends is asked for again; the first request is handled when the next transaction has
    one topic's records in Kafka. SIGKILL then."""
    await stage.over()  # the lane is open
    stage.late.keep_next(END_TXN, holding=stage.transactional_id.encode())
    await stage.over()
    await stage.late.kept()
    async with stage.holding("half") as caught:
        stage.announce()
        victim = await caught()
        await asyncio.sleep(QUIET_SECONDS)  # what was sent beside it has arrived
        await stage.late.deliver()
        await victim.kill()
    await victim.start()
    await stage.over()


async def killed_before_it_stored(stage: Stage) -> None:
    """SIGKILL of the receiver when a notification has come and is not in Kafka."""
    async with stage.holding("store") as caught:
        stage.announce()
        victim = await caught()
        await asyncio.sleep(QUIET_SECONDS)  # what is answered has been answered
        await victim.kill()
    await victim.start()
    await stage.over()


Directed = Callable[[Stage], Awaitable[None]]

DIRECTED: dict[str, Directed] = {
    "offsets-outside": killed_before_the_commit,
    "no-transaction": killed_half_way,
    "shared-epoch": told_late_that_it_had_ended,
    "no-ledger": restarted_and_told_again,
    "no-fencing": woken_after_its_lane_moved,
    "early-answer": killed_before_it_stored,
}
"""A broken build → the schedule that finds it out. The sound build passes all of them."""
