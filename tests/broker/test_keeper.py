"""The keeper between a real Kafka, the receiver and the emulator's strict subscriptions."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from service.clock import Clock, iso
from service.emulator.options import EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.subscription import Subscription
from service.graph.auth import ClientSecretTokens
from service.graph.subscription import NewSubscription, SubscriptionGone
from service.graph.subscriptions import Subscriptions
from service.kafka.topics import Topics
from service.keeper import WOKEN_SECONDS, keep
from service.metrics import Metrics
from service.notification import Gatekeeper, LifecycleEvent, client_state
from service.outbound.session import http_session
from service.receiver import KafkaStore, receiver_site
from service.settings import ClientState, Graph, Keeper, Receiver, Secret, Settings, Tenant
from service.signin.clouds import endpoints
from tests.broker.test_receiver_kafka import create_topics, kafka_settings

SECONDS = 60.0
KEY = "a key of at least sixteen"
CONTOSO = TenantOptions()
FABRIKAM = TenantOptions(id="fab00000-1111-4222-8333-444455556666", name="fabrikam")


@dataclass
class World:
    """Everything around the keeper."""

    settings: Settings
    emulator: Emulator
    http: aiohttp.ClientSession
    store: KafkaStore
    gatekeeper: Gatekeeper
    clock: Clock

    @asynccontextmanager
    async def keeping(self, **changes: Any) -> AsyncIterator[Metrics]:
        """A running keeper of its own; cancelled at the end, which must take no time."""
        metrics = Metrics(CollectorRegistry(), self.settings.tenants)
        settings = msgspec.structs.replace(self.settings, **changes)
        calls = self.subscriptions(metrics)
        work = keep(settings, Topics(settings.kafka.topic_prefix), calls, self.gatekeeper, metrics, self.clock)
        task = asyncio.create_task(work)
        try:
            yield metrics
        finally:
            assert not task.done(), task
            task.cancel()
            await asyncio.wait({task})

    def subscriptions(self, metrics: Metrics | None = None) -> Subscriptions:
        graph = Graph(cloud="custom", root_url=self.emulator.url, login_url=self.emulator.url)
        metrics = metrics or Metrics()
        tokens = ClientSecretTokens(self.http, endpoints(graph), self.clock, metrics)
        return Subscriptions(self.http, tokens, self.emulator.url, metrics, self.clock)

    def live(self, tenant: TenantOptions = CONTOSO) -> list[Subscription]:
        found = self.emulator.world.subscriptions.live()
        return [one for one in found if one.principal.tenant_id == tenant.id]

    @property
    def url(self) -> str:
        return self.settings.receiver.public_url

    async def make(self, query: str = "?k=1", **changes: Any) -> str:
        """A subscription that was there before the keeper; its id."""
        new = NewSubscription(
            notification_url=self.url + "/notifications" + query,
            lifecycle_notification_url=self.url + "/lifecycle?k=1",
            client_state=client_state(1, KEY.encode(), CONTOSO.id),
            expiration_date_time=iso(self.clock.now() + 200_000),
        )
        created = await self.subscriptions().create(
            self.settings.tenants["contoso"], msgspec.structs.replace(new, **changes)
        )
        return created.id


@asynccontextmanager
async def open_world(
    kafka: str, prefix: str, speed: float = 1.0, minutes: int = 4230, **options: Any
) -> AsyncIterator[World]:
    clock = Clock(speed)
    chosen = EmulatorOptions(port=0, **options)
    tenants = {
        one.name: Tenant(id=one.id, client_id=one.client_id, client_secret=Secret(one.client_secret))
        for one in chosen.tenants
    }
    kafka_part = kafka_settings(kafka, prefix)
    await create_topics(kafka_part)
    gatekeeper = Gatekeeper({one.id: name for name, one in tenants.items()}, {1: KEY.encode()})
    async with (
        http_session() as http,
        open_emulator(chosen, clock) as emulator,
        KafkaStore(kafka_part, Topics(prefix), 2.0) as store,
        receiver_site(Receiver(host="127.0.0.1", port=0), gatekeeper, store, Metrics(), clock) as site,
    ):
        settings = Settings(
            kafka=kafka_part,
            receiver=Receiver(public_url=site.url),
            client_state=ClientState(keys={"1": Secret(KEY)}),
            tenants=tenants,
            keeper=Keeper(subscription_minutes=minutes, period_seconds=0.2 * speed),
        )
        yield World(settings, emulator, http, store, gatekeeper, clock)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - it happens in Kafka and in the emulator
            await asyncio.sleep(0.02)


def calls(metrics: Metrics, kind: str, outcome: str = "ok") -> float:
    labels = {"kind": kind, "outcome": outcome}
    return metrics.registry.get_sample_value("callstream_subscription_calls_total", labels) or 0.0


def active(metrics: Metrics) -> bool:
    return metrics.registry.get_sample_value("callstream_keeper_active") == 1


def expiry(metrics: Metrics, tenant: str = "contoso") -> float:
    found = metrics.registry.get_sample_value("callstream_subscription_expiry_timestamp_seconds", {"tenant": tenant})
    return found or 0.0


async def test_missing_subscription_is_created(kafka: str, prefix: str) -> None:
    """With both URLs, our clientState and the longest lifetime; the receiver of this very process shakes hands."""
    async with open_world(kafka, prefix) as world:
        async with world.keeping() as metrics:
            await until(lambda: expiry(metrics) > 0)
            [one] = world.live()
            assert one.resource == "communications/callRecords"
            assert one.change_type == "updated"
            assert one.notification_url == world.url + "/notifications?k=1"
            assert one.lifecycle_url == world.url + "/lifecycle?k=1"
            assert one.client_state == client_state(1, KEY.encode(), CONTOSO.id)
            assert one.tls_version == "v1_2"
            assert one.expires_at - world.clock.now() > 4000 * 60
            assert expiry(metrics) == pytest.approx(one.expires_at, abs=1)
            assert active(metrics)
        assert not active(metrics)


async def test_existing_subscription_is_adopted(kafka: str, prefix: str) -> None:
    """A restart changes nothing at Graph."""
    async with open_world(kafka, prefix) as world:
        made = await world.make()
        for _ in range(2):
            async with world.keeping() as metrics:
                await until(lambda: calls(metrics, "adopt") == 1 and calls(metrics, "list") > 2)
                assert calls(metrics, "create") == calls(metrics, "renew") == calls(metrics, "delete") == 0
        assert [one.id for one in world.live()] == [made]


async def test_subscription_that_vanished_is_created_again(kafka: str, prefix: str) -> None:
    """Graph may drop it with no event at all (graph-contract 4)."""
    async with open_world(kafka, prefix) as world, world.keeping() as metrics:
        await until(lambda: expiry(metrics) > 0)
        [old] = world.live()
        world.emulator.world.subscriptions.remove(old.principal, old.id)
        await until(lambda: bool(world.live()))

        assert world.live()[0].id != old.id


async def test_subscription_is_renewed_at_half_of_its_lifetime(kafka: str, prefix: str) -> None:
    """One subscription, never expired, over several lifetimes."""
    async with open_world(kafka, prefix, speed=1000.0, minutes=45) as world, world.keeping() as metrics:
        await until(lambda: expiry(metrics) > 0)
        [first] = world.live()
        await until(lambda: calls(metrics, "renew") >= 4)

        assert [one.id for one in world.live()] == [first.id]
        assert calls(metrics, "create") == 1
        assert calls(metrics, "reauthorize") == 0


async def test_reauthorization_is_answered_by_renewing(kafka: str, prefix: str) -> None:
    """Graph's notice travels through the receiver and Kafka; delivery never pauses."""
    async with (
        open_world(kafka, prefix, speed=1000.0, authorization_seconds=6000.0) as world,
        world.keeping() as metrics,
    ):
        await until(lambda: expiry(metrics) > 0)
        first = expiry(metrics)
        await until(lambda: calls(metrics, "renew") >= 2)

        [one] = world.live()
        assert world.emulator.world.subscriptions.may_deliver(one)
        assert expiry(metrics) > first
        assert calls(metrics, "create") == 1
        assert calls(metrics, "reauthorize") == 0


async def test_repeated_events_renew_once(kafka: str, prefix: str) -> None:
    """Within 10 minutes of a renewal another is what Graph asks us not to do."""
    async with open_world(kafka, prefix) as world, world.keeping() as metrics:
        await until(lambda: expiry(metrics) > 0 and world.store.trouble() is None)
        [one] = world.live()
        event = LifecycleEvent(
            tenant_id=CONTOSO.id,
            subscription_id=one.id,
            lifecycle_event="reauthorizationRequired",
            received_at=iso(world.clock.now()),
        )
        with capture_logs() as lines:
            await world.store.store([], [event, event])
            await until(lambda: any(line["event"] == "lifecycle event" for line in lines))
            seen = calls(metrics, "list")
            await until(lambda: calls(metrics, "list") > seen + 1)

        assert calls(metrics, "renew") == 0  # it was created, and so authorized, a moment ago


async def test_a_flood_of_replayed_events_costs_one_look_and_few_lines(kafka: str, prefix: str) -> None:
    """Whoever saw one genuine event can send it again for ever. What comes within the 30 s is acted on at their end."""
    quiet = Keeper(period_seconds=3600.0)
    async with open_world(kafka, prefix, speed=10.0) as world, world.keeping(keeper=quiet) as metrics:
        await until(lambda: expiry(metrics) > 0 and world.store.trouble() is None)
        [one] = world.live()
        removed = LifecycleEvent(
            tenant_id=CONTOSO.id,
            subscription_id=one.id,
            lifecycle_event="subscriptionRemoved",
            received_at=iso(world.clock.now()),
        )
        strange = msgspec.structs.replace(removed, lifecycle_event="\x1b[2Jforged")
        before = calls(metrics, "list")
        with capture_logs() as lines:
            began = world.clock.now()
            await world.store.store([], [removed, strange] * 1000)
            await until(lambda: calls(metrics, "list") == before + 1)
            # The one that was there goes, and Graph says so, when everything seemed to be done.
            world.emulator.world.subscriptions.remove(one.principal, one.id)
            await world.store.store([], [removed] * 500)
            await until(lambda: bool(world.live()))
            took = world.clock.now() - began

        told = [line for line in lines if line["event"] == "lifecycle event"]
        assert calls(metrics, "list") == before + 2
        assert calls(metrics, "create") == 2
        assert took >= WOKEN_SECONDS
        assert len(told) == 2
        assert {line["lifecycle_event"] for line in told} == {"subscriptionRemoved", "other"}


async def test_tenant_without_consent_does_not_stop_the_others(kafka: str, prefix: str) -> None:
    """It waits on its own, says what to do, and goes on when consent is there."""
    tenants = (TenantOptions(consented=False), FABRIKAM)
    async with open_world(kafka, prefix, speed=20.0, tenants=tenants) as world:
        with capture_logs() as lines:
            async with world.keeping() as metrics:
                await until(lambda: expiry(metrics, "fabrikam") > 0 and calls(metrics, "create", "failed") >= 2)
                assert not world.live(CONTOSO)
                world.emulator.world.tenants.set_consent(CONTOSO.id, is_consented=True)
                await until(lambda: expiry(metrics, "contoso") > 0)
        failures = [line for line in lines if line["event"] == "the subscription cannot be kept"]

    assert {line["tenant"] for line in failures} == {"contoso"}
    assert "CallRecords.Read.All" in failures[0]["todo"]
    waits = [line["again_in_seconds"] for line in failures]
    assert waits == sorted(waits)


async def test_older_url_of_ours_is_replaced(kafka: str, prefix: str) -> None:
    """Graph answers 409 until the one with the old URL is gone."""
    async with open_world(kafka, prefix) as world:
        old = await world.make(query="?code=old")
        async with world.keeping() as metrics:
            await until(lambda: expiry(metrics) > 0)

        [one] = world.live()
        assert one.id != old
        assert one.notification_url == world.url + "/notifications?k=1"


async def test_somebody_elses_subscription_is_left_alone(kafka: str, prefix: str) -> None:
    """Another host's is never deleted; the log says what stands in the way."""
    async with open_world(kafka, prefix) as world, open_world(kafka, prefix + "b") as elsewhere:
        other = await world.make(notification_url=elsewhere.url + "/notifications")
        with capture_logs() as lines:
            async with world.keeping() as metrics:
                await until(lambda: calls(metrics, "create", "failed") >= 1 and bool(_failures(lines)))

        assert [one.id for one in world.live()] == [other]
        assert "stands in the way" in _failures(lines)[0]["todo"]


async def test_duplicate_of_ours_is_deleted(kafka: str, prefix: str) -> None:
    """Two would deliver everything twice."""
    async with open_world(kafka, prefix) as world:
        await world.make()
        await world.make(change_type="created,updated", expiration_date_time=iso(world.clock.now() + 100_000))
        async with world.keeping() as metrics:
            await until(lambda: expiry(metrics) > 0)

        assert [one.change_type for one in world.live()] == ["updated"]


async def test_one_keeper_is_active_and_the_other_takes_over(kafka: str, prefix: str) -> None:
    """Leaving the group hands over at once; the subscription stays the same."""
    async with open_world(kafka, prefix) as world:
        async with world.keeping() as second:
            async with world.keeping() as first:
                await until(lambda: active(first) or active(second))
                seen = calls(first, "list") + calls(second, "list")
                await until(lambda: calls(first, "list") + calls(second, "list") > seen + 3)
                assert not (active(first) and active(second))
            await until(lambda: active(second) and expiry(second) > 0)
        assert len(world.live()) == 1


async def test_graph_out_of_order_is_waited_for(kafka: str, prefix: str) -> None:
    """5xx and 429 are waits, not ends."""
    async with open_world(kafka, prefix, speed=20.0) as world:
        faults = world.emulator.world.faults
        faults.add({"kind": "subscriptions", "status": 503, "count": 2})
        faults.add({"kind": "subscriptions", "status": 429, "retryAfter": 5, "count": 1})
        faults.add({"kind": "subscriptions", "action": "html", "count": 1})
        async with world.keeping() as metrics:
            await until(lambda: expiry(metrics) > 0)
        assert calls(metrics, "list", "failed") == 4


async def test_revoked_token_is_replaced_at_once(kafka: str, prefix: str) -> None:
    """401 is answered with a new token and the same request, once."""
    async with open_world(kafka, prefix) as world, world.keeping() as metrics:
        await until(lambda: expiry(metrics) > 0)
        seen = calls(metrics, "list")
        world.emulator.world.tokens.expire_all()
        await until(lambda: calls(metrics, "list") > seen + 2)

        assert calls(metrics, "list", "failed") == 0


async def test_without_public_url_it_is_idle_and_says_so(kafka: str, prefix: str) -> None:
    """One warning, no call to Graph."""
    async with open_world(kafka, prefix) as world:
        with capture_logs() as lines:
            async with world.keeping(receiver=Receiver()) as metrics:
                # Not earlier: aiokafka leaves its first connection open when it is broken off on it.
                await until(lambda: active(metrics))
        assert sum("public_url" in line["event"] for line in lines) == 1
        assert calls(metrics, "list") == 0


async def test_it_waits_for_kafka_and_ends_at_once(kafka: str, prefix: str) -> None:
    """No broker at start is no end, and cancelling takes no time."""
    async with open_world(kafka, prefix) as world:
        with capture_logs() as lines:
            async with world.keeping(kafka=kafka_settings("127.0.0.1:1", prefix)):
                await until(lambda: any(line["event"] == "the keeper waits for Kafka" for line in lines))


async def test_calls_that_name_nothing_are_refused_before_they_are_made(kafka: str, prefix: str) -> None:
    """An id from a notification never becomes a path."""
    async with open_world(kafka, prefix) as world:
        with pytest.raises(SubscriptionGone):
            await world.subscriptions().get(world.settings.tenants["contoso"], "../users")


def _failures(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "the subscription cannot be kept"]
