"""One run from its first midnight to the verdict."""

import asyncio
import tempfile
import time
from pathlib import Path

from bench.simulation.outcome import Outcome, outcome_of
from bench.simulation.pace import PacedClock
from bench.simulation.script import DAY, Script
from bench.simulation.stage import Deployment, Stage, options_for
from bench.simulation.watching import Watching, verdict
from service.emulator.server import open_emulator
from service.kafka.topics import Topics

# The machine's seconds before the first midnight: so long a service may take to start.
LEAD_REAL_SECONDS = 4.0


async def simulate(servers: str, prefix: str, script: Script) -> Outcome:
    """Runs the script against a real Kafka at `servers`. Raises what ends a part of the service."""
    midnight = time.time() // DAY * DAY
    clock = PacedClock(script.speed, start=midnight - LEAD_REAL_SECONDS * script.speed)
    topics = Topics(prefix)
    with tempfile.TemporaryDirectory(prefix="callstream-secrets-") as folder:
        async with open_emulator(options_for(script), clock) as emulator:
            deployment = Deployment(script, emulator, clock, servers, prefix, Path(folder))
            stage = Stage(script, clock, emulator, deployment)
            watching = Watching(stage, servers, topics)
            async with clock.running(servers):
                try:
                    await deployment.start()
                    await stage.until_kept()
                    stage.begin = -(-clock.now() // DAY) * DAY
                    await _play(stage, watching)
                finally:
                    await deployment.stop()
            # The clock stands: judging takes as long as it takes.
            return outcome_of(stage, watching, await verdict(stage, servers, topics))


async def _play(stage: Stage, watching: Watching) -> None:
    """Calls, operator and time until everything is whole; whoever watches is ended then."""
    async with asyncio.TaskGroup() as watchers:
        following = [watchers.create_task(watching.follow()), watchers.create_task(watching.look())]
        await asyncio.gather(stage.make_calls(), stage.operate())
        await watching.until_whole(stage.script.settle_days)
        watching.samples.append(watching.sample())
        for task in following:
            task.cancel()
