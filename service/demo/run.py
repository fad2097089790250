"""Shell: the demo: opens Kafka, the emulated Graph and the service, makes calls happen, waits, judges.

The calls come as Graph brings them: some notices twice, some records late (404 at first), some in a second version. The
verdict comes from reading the topics and comparing with the generator's own records, not with our flatten.
"""

import asyncio
import logging
import random
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from service import logs
from service.app import Service, open_service, running
from service.clock import Clock
from service.demo.story import Story
from service.demo.watch import Watch
from service.embedded import embedded_kafka
from service.emulator.generator import generate_call, mixed_specs
from service.emulator.judge import Verdict
from service.emulator.options import DeliveryOptions, EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.errors import UserError
from service.kafka.topics import Topics
from service.settings import Admin, ClientState, Graph, Kafka, Log, Receiver, Retry, Secret, Settings, Tenant

PARTITIONS = 6
# Seconds where a real tenant has minutes: 404s and second looks are over while one watches.
RETRY_DELAYS = ("1s", "3s", "10s")
LATE_SHARE, LATE_SECONDS = 0.08, 2.0
NEWER_SHARE, NEWER_SECONDS = 0.15, 4.0
DUPLICATE_SHARE = 0.10
SPREAD_SECONDS = 4.0
"""The calls are announced over so many seconds."""
STALL_SECONDS = 90.0
QUIET_SECONDS = 4.0
"""So long nothing more may come after all is there: second looks are over, a duplicate would have shown."""
STORE_SECONDS = 10.0
"""A broker that has just started, on a laptop that does other things too, may need longer than a real one has."""
INTERRUPTED = 130


@dataclass(frozen=True)
class Opened:
    """The three that run."""

    servers: str
    emulator: Emulator
    service: Service
    settings: Settings


async def demo_command(*, calls: int, seed: int, keep: bool, as_json: bool) -> int:
    """Runs the demo; 0 when nothing is lost, duplicated or wrong, 1 otherwise. `UserError` when it cannot start.

    Ctrl-C before the verdict gives `INTERRUPTED`; after it, with `keep`, the verdict's own code.
    """
    logs.set_up(Log(level="warning"))
    # A broker that has just started makes its clients say things that pass; the verdict tells whether they did.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    story = Story(as_json=as_json)
    run = asyncio.ensure_future(_run(story, calls, seed, keep))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, run.cancel)
    try:
        return await run
    except asyncio.CancelledError:
        if story.is_right is None:
            story.step("Interrupted; everything has been ended.")
            return INTERRUPTED
        story.step("Everything has been ended.")
        return 0 if story.is_right else 1


async def _run(story: Story, calls: int, seed: int, keep: bool) -> int:
    async with _open(story) as opened:
        topics = Topics(opened.settings.kafka.topic_prefix, RETRY_DELAYS)
        watch = Watch(opened.servers, topics, PARTITIONS, story.event)
        async with running(watch.run(), "watch") as reading, running(opened.service.failed(), "service") as failing:
            telling = _tell(opened, watch, story, calls=calls, seed=seed, keep=keep)
            async with running(telling, "calls") as told:
                await asyncio.wait({told, reading, failing}, return_when=asyncio.FIRST_COMPLETED)
                for ended in (reading, failing):
                    if ended.done():
                        ended.result()
                return await told


async def _tell(opened: Opened, watch: Watch, story: Story, *, calls: int, seed: int, keep: bool) -> int:
    await _subscribed(opened.emulator)
    story.step(f"Subscribed. {calls} calls of all kinds happen now, some with late records and later versions.")
    _make_calls(opened.emulator, calls, seed)
    verdict = await _until_complete(watch, opened, story)
    story.verdict(verdict)
    settings = opened.settings
    story.where_next(settings.kafka, settings.retry, opened.service.admin_url, opened.emulator.url, is_up=keep)
    if keep:
        await _keep_calling(opened.emulator, calls, seed)
    return 0 if verdict.is_right else 1


@asynccontextmanager
async def _open(story: Story) -> AsyncIterator[Opened]:
    tenant = TenantOptions()
    delivery = DeliveryOptions(duplicate_share=DUPLICATE_SHARE, reorder_seconds=1.0)
    options = EmulatorOptions(port=0, tenants=(tenant,), delivery=delivery, nextlink_form="metadata")
    async with AsyncExitStack() as stack:
        story.step("Starting Apache Kafka (the first time its parts are fetched)")
        cluster = await stack.enter_async_context(embedded_kafka(on_progress=story.step))
        emulator = await stack.enter_async_context(open_emulator(options, Clock()))
        story.step(f"Apache Kafka is up at {cluster.bootstrap_servers}, an emulated Graph at {emulator.url}")
        settings = _settings(cluster.bootstrap_servers, emulator.url, tenant)
        service = await stack.enter_async_context(open_service(settings))
        yield Opened(cluster.bootstrap_servers, emulator, service, settings)


def _settings(servers: str, graph_url: str, tenant: TenantOptions) -> Settings:
    port = _free_port()
    return Settings(
        kafka=Kafka(bootstrap_servers=servers, partitions=PARTITIONS),
        receiver=Receiver(
            host="127.0.0.1",
            port=port,
            public_url=f"http://127.0.0.1:{port}",
            store_timeout_seconds=STORE_SECONDS,
        ),
        admin=Admin(port=0),
        client_state=ClientState(keys={"1": Secret(secrets.token_hex(16))}),
        tenants={
            tenant.name: Tenant(id=tenant.id, client_id=tenant.client_id, client_secret=Secret(tenant.client_secret))
        },
        graph=Graph(cloud="custom", root_url=graph_url, login_url=graph_url),
        retry=Retry(delays=RETRY_DELAYS),
    )


def _free_port() -> int:
    """The subscription names the receiver's address before the receiver is open."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _subscribed(emulator: Emulator) -> None:
    try:
        async with asyncio.timeout(STALL_SECONDS):
            while not any(emulator.world.subscriptions.live()):  # noqa: ASYNC110 - the emulator tells nobody
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise UserError(f"No subscription was made within {STALL_SECONDS:.0f} s.", exit_code=1) from None


def _make_calls(emulator: Emulator, calls: int, seed: int) -> None:
    """Puts the calls into the emulator: announced over a few seconds, some not ready at once, some changed later."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    store, now = emulator.store, emulator.world.clock.now()
    tenant = emulator.world.options.tenants[0].id
    for spec in mixed_specs(calls, [tenant], seed, start=now - 3 * 3600, span_seconds=3600):
        at = now + chance.random() * SPREAD_SECONDS
        late = LATE_SECONDS if chance.random() < LATE_SHARE else 0.0
        call = store.add_call(spec.tenant_id, generate_call(spec), visible_at=at + late, notify_at=at)
        if chance.random() < NEWER_SHARE:
            store.schedule(call, at + late + NEWER_SECONDS, emulator.maker.later_version)


async def _until_complete(watch: Watch, opened: Opened, story: Story) -> Verdict:
    """Until every version that must be there is there and nothing more has come for a while, or nothing moves."""
    loop = asyncio.get_running_loop()
    moved, events, shown = loop.time(), -1, loop.time()
    while True:
        await asyncio.sleep(0.25)
        now = loop.time()
        if watch.events != events:
            moved, events = now, watch.events
        is_silent = now - moved > QUIET_SECONDS and not _is_expected(opened.emulator)
        if is_silent or now - shown > 5.0:
            verdict = watch.verdict(opened.emulator.store)
            if (is_silent and not verdict.lost) or now - moved > STALL_SECONDS:
                return verdict
            story.progress(verdict)
            shown = now


def _is_expected(emulator: Emulator) -> bool:
    """Whether the emulator still has versions to come or notifications to deliver."""
    return bool(emulator.store.waiting or emulator.world.delivery.waiting)


async def _keep_calling(emulator: Emulator, calls: int, seed: int) -> None:
    """A new call every second, until interrupted."""
    while True:
        await asyncio.sleep(1.0)
        specs = mixed_specs(100, [emulator.world.options.tenants[0].id], seed + calls)
        calls += 1
        spec = random.choice(specs)  # noqa: S311 - variety
        start = emulator.world.clock.now() - 3600
        fresh = type(spec)(spec.tenant_id, seed, calls, spec.kind, spec.size, spec.sessions, start, spec.failed)
        emulator.store.add_call(fresh.tenant_id, generate_call(fresh))
