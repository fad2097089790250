"""A new clientState key: the keeper replaces the subscription and has the gap between the two looked through."""

import asyncio
from collections.abc import Callable
from typing import Any

from service.kafka.topics import Topics
from service.keeper import keep
from service.metrics import Metrics
from service.notification import Gatekeeper, client_state
from tests.broker.test_keeper import CONTOSO, KEY, expiry, open_world, until

NEW_KEY = "another key of sixteen"


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
