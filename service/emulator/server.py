"""Composition root of the emulator: everything opened in order, closed in the opposite one."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from service.clock import Clock
from service.emulator import (
    application_api,
    control_api,
    directory_api,
    identity_api,
    login_api,
    read_api,
    registration_api,
    subscription_api,
    write_api,
)
from service.emulator.announcing import Announcer
from service.emulator.background import Background
from service.emulator.bodies import BodyCache
from service.emulator.delivery import Delivery
from service.emulator.faults import Faults, ShownClock
from service.emulator.hubs import Hubs
from service.emulator.journal import Journal
from service.emulator.limits import Counters
from service.emulator.making import MAKER, Maker
from service.emulator.odata import SkipTokens
from service.emulator.options import EmulatorOptions
from service.emulator.posting import Poster
from service.emulator.remembering import remember
from service.emulator.site import WORLD, World, graph_manners
from service.emulator.statefile import NoState, State, StateFile
from service.emulator.store import Store
from service.emulator.subscriptions import Subscriptions
from service.emulator.tokens import Tenants, Tokens
from service.errors import UserError

LARGEST_REQUEST_BYTES = 16 * 1024 * 1024
SHUTDOWN_REAL_SECONDS = 1.0
SETTLING_TURNS = 4
BACKLOG = 512


@dataclass(frozen=True)
class Emulator:
    """A running emulator."""

    url: str
    """Scheme, host and port: Graph root and login host in one."""
    world: World
    maker: Maker
    background: Background
    is_new: bool = True
    """False when it goes on with the calls of an earlier one."""

    @property
    def store(self) -> Store:
        """All calls with all their versions: the truth of a run."""
        return self.world.store


@asynccontextmanager
async def open_emulator(options: EmulatorOptions, clock: Clock) -> AsyncIterator[Emulator]:
    """A Graph that listens until the block is left. `UserError` when its port is taken or a fault makes no sense.

    Leaving stops accepting, ends answers under way after a second, and throws away notifications not yet delivered.
    """
    background = Background()
    timeout = aiohttp.ClientTimeout(total=None)  # each POST has its own limits, on the clock
    async with AsyncExitStack() as stack:
        state = _state_of(options, stack)
        session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        await stack.enter_async_context(session)
        hubs = Hubs(options.hubs)
        world = _build(options, clock, session, hubs, background, state or NoState())
        maker = Maker(options, world.store, world.clock, clock)
        made = 0
        if state is not None:
            made = remember(state.frames(), world.store, world.subscriptions, maker.later_version)
            maker.go_on(made)
        runner = web.AppRunner(
            _application(world, maker),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_REAL_SECONDS,
        )
        listener = _listen(options)
        try:
            await runner.setup()
            await web.SockSite(runner, listener, ssl_context=options.ssl_context).start()
            if not made:
                maker.first_calls()
            background.start(Announcer(world).run(), "announcements")
            if options.rate > 0:
                background.start(maker.keep_making(), "new calls")
            yield Emulator(_url(listener, options), world, maker, background, is_new=not made)
        finally:
            try:
                await _stop_accepting(listener)
                await runner.cleanup()
            finally:
                listener.close()
                await background.close()
                await hubs.close()


def _state_of(options: EmulatorOptions, stack: AsyncExitStack) -> StateFile | None:
    if options.state_file is None:
        return None
    state = StateFile(options.state_file)
    stack.callback(state.close)
    return state


def _build(
    options: EmulatorOptions,
    clock: Clock,
    session: aiohttp.ClientSession,
    hubs: Hubs,
    background: Background,
    state: State,
) -> World:
    """Waits and limits go by the emulator's own `clock`, whatever Graph takes for the time."""
    faults = Faults(options.seed, clock, options.faults)
    shown = ShownClock(clock, faults)
    tenants = Tenants(options.tenants, options.machine, shown)
    subscriptions = Subscriptions(options, shown, tenants, state)
    store = Store(shown, state)
    poster = Poster(options.delivery, clock, session, hubs)
    delivery = Delivery(options.delivery, clock, subscriptions, poster, background, faults, options.seed, store.settled)
    return World(
        options=options,
        clock=shown,
        tenants=tenants,
        tokens=Tokens(tenants, shown, options.token_seconds),
        store=store,
        subscriptions=subscriptions,
        poster=poster,
        delivery=delivery,
        counters=Counters(options.limits, clock),
        faults=faults,
        journal=Journal(clock),
        bodies=BodyCache(options.body_cache_bytes),
        skip_tokens=SkipTokens(options.seed),
    )


def _application(world: World, maker: Maker) -> web.Application:
    app = web.Application(middlewares=[graph_manners], client_max_size=LARGEST_REQUEST_BYTES)
    app[WORLD] = world
    app[MAKER] = maker
    rooms = [control_api, application_api, read_api, write_api, subscription_api, login_api, identity_api]
    for room in [*rooms, directory_api, registration_api]:
        app.add_routes(room.routes())
    return app


def _listen(options: EmulatorOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=BACKLOG)
    except OSError as exc:
        why = "is taken" if exc.errno == errno.EADDRINUSE else f"cannot be opened ({exc.strerror})"
        message = f"Port {options.port} on {options.host} {why}; choose another with --port."
        raise UserError(message, exit_code=1) from None


def _url(listener: socket.socket, options: EmulatorOptions) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104 - only compared
    return f"{'https' if options.ssl_context else 'http'}://{shown}:{port}"


async def _stop_accepting(listener: socket.socket) -> None:
    """Lets connections accepted a moment ago reach aiohttp before its server closes.

    asyncio takes two turns of the loop for that, and a server closed in between leaves the connection open for ever.
    """
    asyncio.get_running_loop().remove_reader(listener)
    for _ in range(SETTLING_TURNS):
        await asyncio.sleep(0)
