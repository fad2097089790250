"""`callstream kafka`: the embedded broker alone, for development."""

import asyncio
import signal
from pathlib import Path

from rich.console import Console

from service.embedded import Cluster, embedded_kafka

DEFAULT_PORT = 9092
"""The first broker's; further ones take the ports after it."""


async def kafka_command(brokers: int, port: int | None, data: Path | None) -> int:
    """Runs 1 or 3 brokers until SIGINT or SIGTERM; the exit code. UserError when Kafka cannot start or dies."""
    console = Console(highlight=False, soft_wrap=True)
    running = asyncio.ensure_future(_run(brokers, DEFAULT_PORT if port is None else port, data, console))
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, running.cancel)
    try:
        await asyncio.wait({running})
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    if running.cancelled():
        console.print("Kafka has ended.")
        return 0
    return running.result()


async def _run(brokers: int, port: int, data: Path | None, console: Console) -> int:
    """Until it is cancelled, or UserError."""
    with console.status("Starting Apache Kafka") as status:
        tell = status.update if console.is_terminal else console.print
        ports = range(port, port + brokers)
        async with embedded_kafka(brokers, ports, data, on_progress=lambda line: tell(line)) as cluster:
            status.stop()
            console.print(_welcome(cluster, data is None))
            await cluster.watch()


def _welcome(cluster: Cluster, is_temporary: bool) -> str:
    """What a person needs to use the brokers."""
    count = len(cluster.brokers)
    servers = cluster.bootstrap_servers
    fate = "removed at the end" if is_temporary else "kept"
    return (
        f"Apache Kafka {cluster.version} is up: {count} broker{'s' * (count > 1)} at {servers}\n"
        f"  use it with  CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS={servers}\n"
        f"  data, logs   {cluster.data_folder} ({fate})\n"
        "  Ctrl-C ends it."
    )
