"""The composition root: opens everything in order, works until told to stop, drains, closes.

Opened from sink to source, so that leaving closes the source first. On SIGTERM: not ready → the receiver answers what
it has taken and closes → lanes end their batch → Graph's session and the producers close → the private site last, so
that the drain itself can be scraped. Every step has a deadline.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import aiohttp
import structlog

from service import __version__, memory
from service.admin import Probe, Tell, admin_site
from service.clock import Clock, iso
from service.errors import UserError
from service.graph.auth import TenantTokens, tokens_of
from service.graph.budget import TenantGates
from service.graph.client import GraphClient
from service.graph.listing import Lister
from service.graph.room import Room
from service.graph.subscriptions import Subscriptions
from service.hub import HubReader
from service.kafka.security import check_security
from service.kafka.topics import Topics
from service.keeper import keep
from service.lanes.shaping import Shaping, policy_in_force
from service.lanes.worker import Worker, kafka_admin, sure_topics
from service.logs import describe
from service.metrics import Metrics
from service.notification import Gatekeeper
from service.outbound.session import http_session
from service.receiver import receiver_site
from service.reconcile.reconciler import Reconciler
from service.settings import ROLES, Settings
from service.signin.check import check_credentials
from service.signin.clouds import Endpoints, endpoints
from service.store import KafkaStore
from service.upkeep import Standing

log = structlog.get_logger()
T = TypeVar("T")


@dataclass
class Service:
    """An open service."""

    metrics: Metrics
    admin_url: str = ""
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    """The parts that must not end by themselves with an error."""
    ready: dict[str, Probe] = field(default_factory=dict)
    probes: list[Probe] = field(default_factory=list)
    status: dict[str, Tell] = field(default_factory=dict)
    """Parts of the status page."""
    draining: bool = False

    def live(self) -> str | None:
        """Liveness: the first trouble that only a restart mends."""
        return next((trouble for probe in self.probes if (trouble := probe())), None)

    async def failed(self) -> None:
        """Never returns; raises what ended a part of the service."""
        tasks = set(self.tasks)
        while tasks:
            done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        await asyncio.Event().wait()


def check_roles(settings: Settings, roles: Iterable[str]) -> frozenset[str]:
    """The roles as a set; `UserError` for none, an unknown one, or one that the settings do not allow."""
    chosen = frozenset(roles)
    if unknown := chosen - set(ROLES):
        raise UserError(f"Role {min(unknown)!r} is unknown; roles are {', '.join(ROLES)}.")
    if not chosen:
        raise UserError(f"No role is given; roles are {', '.join(ROLES)}.")
    check_security(settings.kafka)
    if settings.event_hub.hub and "receive" in chosen:
        check_security(settings.event_hub)
    if not settings.tenants:
        raise UserError(
            "No tenant is configured: set CALLSTREAM_TENANTS__<NAME>__ID, …__CLIENT_ID and …__CLIENT_SECRET, "
            "or another credential (docs/sign-in.md)."
        )
    if chosen & {"receive", "keep"} and not settings.client_state.keys:
        raise UserError("No clientState key is configured: set CALLSTREAM_CLIENT_STATE__KEYS__1 to a long random text.")
    if chosen & {"work", "keep"}:
        check_credentials(settings, endpoints(settings.graph))
    return chosen


@asynccontextmanager
async def open_service(
    settings: Settings, roles: Iterable[str] = ROLES, clock: Clock | None = None
) -> AsyncIterator[Service]:
    """The running service, until the block is left; then it drains.

    Raises `UserError` for settings that do not fit and ports that cannot be had. Kafka and Graph may come later.
    """
    chosen = check_roles(settings, roles)
    parts = Parts(settings, endpoints(settings.graph), clock or Clock())
    service = Service(parts.metrics)
    async with AsyncExitStack() as stack:
        service.status["service"] = lambda: {
            "version": __version__,
            "roles": sorted(chosen),
            "now": iso(parts.clock.now()),
            "live": service.live() or "ok",
            "checks": {name: probe() or "ok" for name, probe in service.ready.items()},
        }
        service.status["tenants"] = lambda: {name: {"id": tenant.id} for name, tenant in settings.tenants.items()}
        admin = admin_site(settings.admin, parts.metrics, service.live, service.ready, service.status)
        service.admin_url = (await stack.enter_async_context(admin)).url
        service.ready["draining"] = lambda: "Draining." if service.draining else None
        parts.http = await stack.enter_async_context(http_session(settings.graph.ca_file))
        if "work" in chosen:
            await parts.open_worker(service, stack)
        else:
            await parts.open_topics(service, stack)
        if "receive" in chosen:
            await parts.open_receiver(service, stack)
        if "keep" in chosen:
            # After the receiver: creating a subscription makes Graph ask for the handshake at once.
            await parts.open_keeper(service, stack)
        try:
            yield service
        finally:
            service.draining = True


class Parts:
    """What the roles are made of; each `open_…` adds to the stack, so that closing runs the other way round."""

    def __init__(self, settings: Settings, graph: Endpoints, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = Metrics(tenants=settings.tenants)
        self.topics = Topics.of(settings)
        self.graph = graph
        self.http: aiohttp.ClientSession
        tenants = {tenant.id.lower(): name for name, tenant in settings.tenants.items()}
        keys = {int(number): key.reveal().encode() for number, key in settings.client_state.keys.items()}
        self.gatekeeper = Gatekeeper(tenants, keys)

    @cached_property
    def tokens(self) -> TenantTokens:
        """One cache of tokens for all roles of the process."""
        self._show_certificates()
        return tokens_of(self.http, self.graph, self.clock, self.metrics)

    @cached_property
    def room(self) -> Room:
        """One bound on the bytes of records for all roles of the process."""
        return Room(self.settings.lanes.held_bytes, self.metrics)

    def _show_certificates(self) -> None:
        for name, tenant in self.settings.tenants.items():
            if tenant.credential == "certificate":
                # Imported late: it needs the extra `azure`, which such a tenant needs anyway.
                from service.signin.certificate import CertificateEnd

                self.metrics.certificate_end.labels(name).set_function(CertificateEnd(tenant))

    async def open_worker(self, service: Service, stack: AsyncExitStack) -> None:
        """Lanes: fetch, shape, publish."""
        settings, metrics = self.settings, self.metrics
        gates = TenantGates(settings.graph, settings.tenants, self.clock, metrics)
        client = GraphClient(
            self.http,
            self.graph,
            self.tokens,
            settings.graph,
            gates,
            self.room,
            self.clock,
            metrics,
            keeps_pages=settings.raw.enabled,
        )
        shaping = Shaping(client, settings.tenants, self.clock, metrics, policy_in_force(settings.privacy))
        worker = Worker(settings, self.topics, shaping, gates, self.room, self.clock, metrics)
        await stack.enter_async_context(worker)
        service.probes.append(worker.stalled)
        service.ready["lanes"] = worker.trouble
        service.status["outages"] = worker.outages
        service.status["waiting"] = lambda: {name: gates.shown(name) for name in settings.tenants}
        service.status["lanes"] = worker.shown
        service.tasks.append(worker.task)

    async def open_topics(self, service: Service, stack: AsyncExitStack) -> None:
        """Without lanes in this process, somebody must still make sure of the topics."""

        async def make_sure() -> None:
            kafka = self.settings.kafka
            async with kafka_admin(kafka) as admin:
                await sure_topics(admin, self.topics, kafka, create=kafka.create_topics)

        service.tasks.append(await stack.enter_async_context(running(make_sure(), "topics")))

    async def open_keeper(self, service: Service, stack: AsyncExitStack) -> None:
        """Subscriptions, and what Graph never told."""
        subscriptions = Subscriptions(self.http, self.tokens, self.graph.root_url, self.metrics, self.clock)
        settings, metrics, clock = self.settings, self.metrics, self.clock
        lister = Lister(self.http, self.graph, self.tokens, settings.graph, settings.tenants, self.room, clock, metrics)
        reconciler = Reconciler(settings, self.topics, lister, metrics, clock)
        service.status["completeness"] = reconciler.status
        board: dict[str, Standing] = {}
        service.status["subscriptions"] = lambda: {name: one.shown() for name, one in board.items()} or None
        keeping = keep(settings, self.topics, subscriptions, self.gatekeeper, metrics, clock, reconciler, board)
        service.tasks.append(await stack.enter_async_context(running(keeping, "keeper")))

    async def open_receiver(self, service: Service, stack: AsyncExitStack) -> None:
        """The public site, the event hub where there is one, and the store behind both."""
        receiver = self.settings.receiver
        store = KafkaStore(self.settings.kafka, self.topics, receiver.store_timeout_seconds)
        await stack.enter_async_context(store)
        site = receiver_site(receiver, self.gatekeeper, store, self.metrics, self.clock)
        await stack.enter_async_context(site)
        service.ready["store"] = store.trouble
        if self.settings.event_hub.hub:
            hub = self.settings.event_hub
            reader = HubReader(hub, self.gatekeeper, store, self.metrics, self.clock, receiver.max_items)
            service.tasks.append(await stack.enter_async_context(running(reader.run(), "event hub")))
            service.ready["event_hub"] = reader.trouble


@asynccontextmanager
async def running(work: Coroutine[Any, Any, T], name: str) -> AsyncIterator["asyncio.Task[T]"]:
    """A task that is cancelled, and awaited, when the block is left."""
    task = asyncio.create_task(work, name=name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def serve(settings: Settings, roles: Iterable[str]) -> None:
    """Runs until SIGTERM or SIGINT, then drains. Raises `UserError` when it cannot start or cannot go on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    chosen = check_roles(settings, roles)
    log.info("callstream starts", version=__version__, roles=sorted(chosen), **describe(settings))
    async with open_service(settings, chosen) as service:
        memory.settle()
        async with (
            running(memory.stay_small(), "memory"),
            running(service.failed(), "watch") as failed,
            running(wait_for(stop), "signal") as stopped,
        ):
            await asyncio.wait({failed, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result()
        log.info("callstream drains", most_seconds=settings.drain_seconds)
    log.info("callstream has ended")


async def wait_for(event: asyncio.Event) -> None:
    """A coroutine that is done when the event is set."""
    await event.wait()
