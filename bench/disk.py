"""What a call takes on Kafka's disk: `python -m bench.disk`.

The whole service in one process, a real Kafka, the emulated Graph. The same calls, of all kinds in usual shares, are
announced all at once, so that they share transactions and batches, and one after the other, each on its own. What the
segments of each topic then hold is added up; index files are not: Kafka makes them large and leaves them empty.
"""

import argparse
import asyncio
import logging
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from bench.processes import free_port
from service import logs
from service.app import open_service
from service.clock import Clock
from service.demo.watch import Watch
from service.embedded import embedded_kafka
from service.emulator.generator import generate_call, mixed_specs
from service.emulator.options import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, DEMO_TENANT_ID, EmulatorOptions
from service.emulator.server import Emulator, open_emulator
from service.kafka.topics import Topics
from service.settings import Admin, ClientState, Graph, Kafka, Log, Receiver, Secret, Settings, Tenant

PREFIX = "callrecords"
PARTITIONS = 12
GROUPS = {"events": ".streams.", "summaries": ".calls", "ledger": ".ledger"}
STALL_SECONDS = 120.0


async def measure(calls: int, apart_seconds: float) -> tuple[int, Counter[str]]:
    """Events published, and bytes by group of topics, for so many calls so far apart."""
    with tempfile.TemporaryDirectory(prefix="callstream-disk-") as folder:
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(embedded_kafka(data_folder=Path(folder) / "kafka"))
            emulator = await stack.enter_async_context(open_emulator(EmulatorOptions(port=0), Clock()))
            await stack.enter_async_context(open_service(_settings(cluster.bootstrap_servers, emulator.url)))
            watch = Watch(cluster.bootstrap_servers, Topics(PREFIX, ("1m", "10m", "1h")), PARTITIONS, lambda _: None)
            reading = asyncio.create_task(watch.run())
            try:
                await _publish(emulator, watch, calls, apart_seconds)
            finally:
                reading.cancel()
                await asyncio.wait({reading})
        return watch.events, _sizes(Path(folder))


async def _publish(emulator: Emulator, watch: Watch, calls: int, apart_seconds: float) -> None:
    """Announces the calls once somebody is subscribed; returns when all that must be there is there."""
    async with asyncio.timeout(calls * apart_seconds + STALL_SECONDS):
        while not any(emulator.world.subscriptions.live()):  # noqa: ASYNC110 - the emulator tells nobody
            await asyncio.sleep(0.1)
        now = emulator.world.clock.now()
        for number, spec in enumerate(mixed_specs(calls, [DEMO_TENANT_ID], 1, now - 3 * 3600, 3600.0)):
            emulator.store.add_call(spec.tenant_id, generate_call(spec), notify_at=now + number * apart_seconds)
        while emulator.store.waiting or not watch.events or watch.verdict(emulator.store).lost:  # noqa: ASYNC110
            await asyncio.sleep(0.5)


def _settings(servers: str, graph_url: str) -> Settings:
    port = free_port()
    tenant = Tenant(id=DEMO_TENANT_ID, client_id=DEMO_CLIENT_ID, client_secret=Secret(DEMO_CLIENT_SECRET))
    return Settings(
        kafka=Kafka(bootstrap_servers=servers, partitions=PARTITIONS, topic_prefix=PREFIX),
        receiver=Receiver(host="127.0.0.1", port=port, public_url=f"http://127.0.0.1:{port}"),
        admin=Admin(port=0),
        client_state=ClientState(keys={"1": Secret("a-key-for-the-benchmark")}),
        tenants={"contoso": tenant},
        graph=Graph(cloud="custom", root_url=graph_url, login_url=graph_url),
    )


def _sizes(folder: Path) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for segment in folder.rglob(f"{PREFIX}.*/*.log"):
        topic = segment.parent.name
        group = next((name for name, part in GROUPS.items() if part in topic), "everything else")
        sizes[group] += segment.stat().st_size
    return sizes


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.disk", description="Bytes on Kafka's disk for a call.")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--apart", type=float, default=0.2, help="Seconds between calls that come one by one.")
    options = parser.parse_args()
    logs.set_up(Log(level="error"))
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    for name, apart in (("all at once", 0.0), ("one by one", options.apart)):
        events, sizes = asyncio.run(measure(options.calls, apart))
        print(f"{options.calls} calls {name}: {events} events, {events / options.calls:.1f} a call")
        print(f"  {sizes['events'] / events:.0f} bytes an event in the topics of streams")
        for group, size in sorted(sizes.items()):
            print(f"  {size / options.calls:,.0f} bytes a call: {group}")
        print(f"  {sizes.total() / options.calls:,.0f} bytes a call: together")


if __name__ == "__main__":
    main()
