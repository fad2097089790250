"""`callstream serve` with all roles on a clock that runs faster: `python -m bench.fast_serve SPEED`.

Settings come from the environment, as for `serve`. Kafka and its timeouts stay real.
"""

import asyncio
import signal
import sys

from service import logs, memory
from service.app import open_service, running
from service.cli.common import settings_of
from service.clock import Clock


async def main(speed: float) -> None:
    """Until SIGTERM."""
    settings = settings_of(None)
    logs.set_up(settings.log)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with open_service(settings, clock=Clock(speed)) as service:
        memory.settle()
        async with running(service.failed(), "watch") as failed, running(stop.wait(), "signal") as stopped:
            await asyncio.wait({failed, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
