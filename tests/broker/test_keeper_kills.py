"""The keeper killed before and after each of its calls to Graph: the next one finds its way, whatever was done."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.clock import iso
from service.graph.auth import ClientSecretTokens
from service.graph.clouds import endpoints
from service.graph.subscriptions import Subscriptions
from service.keeper import keep
from service.metrics import Metrics
from service.notification import Gatekeeper, client_state
from service.settings import Graph
from service.stream.topics import Topics
from tests.broker.test_keeper import CONTOSO, KEY, World, calls, expiry, open_world, until

NEW_KEY = "another key of sixteen"
# Each call is a place to die before it is made and one to die after Graph has done it.
SCENARIOS = {"create": 2, "renew": 2, "rotate": 3, "duplicate": 2}


class Mortal(Subscriptions):
    """Stands still for ever before or after its `step`-th moment: the process was killed there."""

    step: int
    moments: int
    stopped: asyncio.Event

    async def _call(self, *given: Any, **named: Any) -> Any:
        await self._moment()
        answer = await super()._call(*given, **named)
        await self._moment()
        return answer

    async def _moment(self) -> None:
        if self.moments == self.step:
            self.stopped.set()
            await asyncio.Event().wait()
        self.moments += 1


def mortal(world: World, step: int) -> Mortal:
    graph = Graph(cloud="custom", root_url=world.emulator.url, login_url=world.emulator.url)
    metrics = Metrics()
    tokens = ClientSecretTokens(world.http, endpoints(graph), world.clock, metrics)
    made = Mortal(world.http, tokens, world.emulator.url, metrics, world.clock)
    made.step, made.moments, made.stopped = step, 0, asyncio.Event()
    return made


async def prepare(world: World, scenario: str) -> None:
    """What is there before the keeper that will die."""
    soon = iso(world.clock.now() + 3000)
    match scenario:
        case "renew":
            await world.make(expiration_date_time=soon)
        case "rotate":
            old = client_state(2, NEW_KEY.encode(), CONTOSO.id)
            await world.make(query="?k=2", client_state=old)
        case "duplicate":
            await world.make()
            await world.make(change_type="created,updated")


async def die(world: World, step: int) -> bool:
    """Runs a keeper up to its step; False when it never comes so far."""
    dying = mortal(world, step)
    settings, clock = world.settings, world.clock
    work = keep(settings, Topics(settings.kafka.topic_prefix), dying, world.gatekeeper, Metrics(), clock)
    task = asyncio.create_task(work)
    try:
        await until(lambda: dying.stopped.is_set() or dying.moments > step)
        return dying.stopped.is_set()
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_killed_at_every_step_one_subscription_is_left(kafka: str, prefix: str, scenario: str) -> None:
    """The keeper that follows has exactly one, right and lasting, when its first look is over."""
    async with open_world(kafka, prefix) as world:
        for step in range(2 * SCENARIOS[scenario]):
            for one in world.live():
                world.emulator.world.subscriptions.remove(one.principal, one.id)
            await prepare(world, scenario)
            assert await die(world, step), f"{scenario} has no step {step}"
            async with world.keeping() as metrics:
                await until(lambda metrics=metrics: expiry(metrics) > 0)  # type: ignore[misc]
                [left] = world.live()

                assert calls(metrics, "list") <= 2  # it took one look, not a period
                assert left.notification_url == world.url + "/notifications?k=1"
                assert left.client_state == client_state(1, KEY.encode(), CONTOSO.id)
                assert left.expires_at - world.clock.now() > 4000 * 60 or scenario == "duplicate"


async def test_a_new_key_replaces_the_subscription_and_the_gap_is_looked_through(kafka: str, prefix: str) -> None:
    """Delete, create; what nobody was told of in between is asked of the list; the old key stays accepted."""
    async with open_world(kafka, prefix) as world:
        await world.make()
        told: list[bool] = []
        keys = {1: KEY.encode(), 2: NEW_KEY.encode()}
        world.gatekeeper = Gatekeeper({CONTOSO.id: "contoso"}, keys)
        reconciler: Any = _Told(told.append)
        metrics = Metrics(tenants=["contoso"])
        work = keep(
            world.settings,
            Topics(world.settings.kafka.topic_prefix),
            world.subscriptions(metrics),
            Gatekeeper({CONTOSO.id: "contoso"}, {1: KEY.encode(), 2: NEW_KEY.encode()}),
            metrics,
            world.clock,
            reconciler,
        )
        task = asyncio.create_task(work)
        # The receiver of this world knows the old key only; the handshake does not depend on keys.
        await until(lambda: expiry(metrics) > 0)
        task.cancel()
        await asyncio.wait({task})

        [one] = world.live()
        assert one.notification_url.endswith("/notifications?k=2")
        assert one.client_state == client_state(2, NEW_KEY.encode(), CONTOSO.id)
        assert told[0] is True
        assert world.gatekeeper.accepts(CONTOSO.id, client_state(1, KEY.encode(), CONTOSO.id))


class _Told:
    """Stands for the reconciler: what the keeper tells it."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self._tell = tell

    def opened(self) -> Any:
        return _Nothing()

    async def run(self) -> None:
        await asyncio.Event().wait()

    def saw_subscription(self, _: Any, *, after_gap: bool) -> None:
        self._tell(after_gap)


class _Nothing:
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None
