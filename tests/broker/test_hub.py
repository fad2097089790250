"""Notifications through an event hub: a topic of a real broker, reached over TLS with an account, stands in for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from service.app import running
from service.clock import Clock
from service.demo.watch import Watch
from service.emulator.making import CallWish
from service.emulator.options import DeliveryOptions, HubOptions
from service.hub import HubReader
from service.kafka.rights import Right, merged, rights_of
from service.kafka.topics import Topics
from service.metrics import Metrics
from service.notification import Gatekeeper, LifecycleEvent, Notification
from service.settings import ClientState, EventHub, Receiver, Secret
from service.store import StoreUnavailable
from tests.broker.lane_bench import PARTITIONS, eventually
from tests.broker.security_fixture import PASSWORD, ROLES, USER, Secured, all_closed, allow, secured
from tests.broker.test_keeper import calls, open_world
from tests.broker.test_receiver_kafka import create_topics
from tests.broker.test_reconcile import CONTOSO, world_of
from tests.shell.receiving import KEY, TENANT
from tests.shell.receiving import item as good_item

__all__ = ["all_closed", "secured"]

NAMESPACE = "calls.servicebus.windows.net"
HUB_PARTITIONS = 3
NA = dict.fromkeys(("subscriptionId", "clientState", "resource", "resourceData", "tenantId"), "NA")
PROBE = NA | {"changeType": "Validation: Testing client application reachability for subscription Request-Id: 1"}


def hub_settings(secured: Secured, prefix: str, **more: Any) -> EventHub:
    """As an event hub of Azure is reached: SASL_SSL, PLAIN."""
    return EventHub(
        hub=f"{prefix}-hub",
        namespace=NAMESPACE,
        tenant_domain="contoso.example",
        consumer_group=f"{prefix}-readers",
        bootstrap_servers=secured.cluster.servers("SCRAM"),
        ca_file=secured.file("ca"),
        sasl_mechanism="PLAIN",
        sasl_username=USER,
        sasl_password=Secret(PASSWORD),
        session_timeout_seconds=6,
        **more,
    )


@pytest.fixture
async def hub(secured: Secured, prefix: str, all_closed: None) -> EventHub:
    """A new hub."""
    settings = hub_settings(secured, prefix, request_timeout_seconds=2.0)
    admin = AIOKafkaAdminClient(bootstrap_servers=secured.cluster.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(settings.hub, HUB_PARTITIONS, 1)])
    await admin.close()
    await allow(
        secured, USER, [Right("topic", settings.hub, ("Read",)), Right("group", settings.consumer_group, ("Read",))]
    )
    return settings


async def write(secured: Secured, hub: EventHub, *bodies: bytes, partition: int | None = None) -> None:
    """Events as anybody who may send can write them."""
    async with AIOKafkaProducer(bootstrap_servers=secured.cluster.bootstrap_servers) as producer:
        for body in bodies:
            await producer.send_and_wait(hub.hub, body, partition=partition)


def collection(*items: Any) -> bytes:
    return json.dumps({"value": items}).encode()


@dataclass
class Shelf:
    """A store that remembers; it can refuse, or end the reader that uses it."""

    held: list[Notification | LifecycleEvent]
    refusals: int = 0
    kill: str = ""

    async def store(self, notifications: Sequence[Notification], events: Sequence[LifecycleEvent]) -> None:
        if self.kill == "before":
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(0)
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("no")
        self.held += [*notifications, *events]
        if self.kill == "after":
            asyncio.current_task().cancel()  # type: ignore[union-attr]
            await asyncio.sleep(0)

    def calls(self) -> list[str]:
        return [one.call_id for one in self.held if isinstance(one, Notification)]


@dataclass
class Reading:
    """A running reader."""

    reader: HubReader
    task: "asyncio.Task[None]"
    metrics: Metrics

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"callstream_{name}", labels) or 0.0


@asynccontextmanager
async def reading(hub: EventHub, shelf: Shelf, max_items: int = 10_000) -> AsyncIterator[Reading]:
    metrics = Metrics(CollectorRegistry())
    gatekeeper = Gatekeeper({TENANT: "contoso"}, {1: KEY})
    reader = HubReader(hub, gatekeeper, shelf, metrics, Clock(), max_items)
    async with running(reader.run(), "event hub") as task:
        yield Reading(reader, task, metrics)


async def until(claim: Any, what: str) -> None:
    async def holds() -> bool:
        return bool(claim())

    await eventually(holds, what)


def call(number: int) -> str:
    return f"a1f3c7d2-0b64-4a0e-9d0f-{number:012d}"


async def test_calls_told_through_a_hub_are_published_whole(secured: Secured, prefix: str, hub: EventHub) -> None:
    """Subscription of the EventHub form, probe, duplicates, no public address, the judge agrees.

    Three processes, each with an account of its own that may do what its role needs and nothing else.
    """
    servers = secured.cluster.bootstrap_servers
    delivery = DeliveryOptions(duplicate_share=0.3, reorder_seconds=1.0)
    emulated = HubOptions(NAMESPACE, hub.hub, servers)
    async with world_of(servers, prefix, hubs=(emulated,), delivery=delivery) as world:
        receiver = Receiver(host="127.0.0.1", port=0)
        topics, seen = Topics(prefix), Watch(servers, Topics(prefix), PARTITIONS, lambda _: None)
        await create_topics(world.settings.kafka)
        async with AsyncExitStack() as stack:
            services = {}
            for role in ROLES:
                await allow(secured, role, merged(rights_of(role, topics)))
                kafka = secured.scram(
                    topic_prefix=prefix,
                    partitions=PARTITIONS,
                    session_timeout_seconds=6,
                    sasl_username=role,
                    create_topics=False,
                )
                changes = {"kafka": kafka, "event_hub": hub, "receiver": receiver}
                services[role] = await stack.enter_async_context(world.serving(role, **changes))
            live = world.emulator.world.subscriptions.live
            await until(lambda: any(live()), "a subscription is made")
            [subscription] = live()
            assert subscription.notification_url == subscription.lifecycle_url == hub.url
            ids = [world.emulator.maker.make(CallWish(CONTOSO.id, kind="group")).id for _ in range(4)]
            await world.until_published(ids)
            value = services["receive"].metrics.registry.get_sample_value
            assert value("callstream_hub_events_total", {"outcome": "probe"}) == 2
            assert value("callstream_notifications_stored_total") >= 4
            assert value("callstream_hub_lag_events") == 0
            async with running(seen.run(), "watch"):
                await until(lambda: seen.events and not seen.verdict(world.emulator.store).lost, topics.calls)
        verdict = seen.verdict(world.emulator.store)

    assert verdict.is_right, verdict.problems
    assert verdict.calls == 4


async def test_a_hub_that_graph_cannot_write_into_is_named(secured: Secured, prefix: str, hub: EventHub) -> None:
    """The keeper says which role is missing, not that a web address cannot be reached."""
    async with open_world(secured.cluster.bootstrap_servers, prefix) as world:
        with capture_logs() as lines:
            async with world.keeping(event_hub=hub, receiver=Receiver()):
                await until(lambda: any("again_in_seconds" in line for line in lines), "the keeper has tried")
        [first, *_] = [line for line in lines if line["event"] == "the subscription cannot be kept"]

        assert first["reason"].startswith("handshake_failed")
        assert "'Microsoft Graph Change Tracking' the role Azure Event Hubs Data Sender" in first["todo"]
        assert world.live() == []


async def test_a_new_key_replaces_the_subscription_once(secured: Secured, prefix: str, hub: EventHub) -> None:
    """A hub's URL cannot hold the key's number: while there are two keys only what this keeper made is right."""
    servers = secured.cluster.bootstrap_servers
    both = ClientState(keys={"1": Secret(KEY.decode()), "2": Secret("another key of some length")})
    async with open_world(servers, prefix, hubs=(HubOptions(NAMESPACE, hub.hub, servers),)) as world:
        async with world.keeping(event_hub=hub, receiver=Receiver()):
            await until(world.live, "it is made with the only key")
        [old] = world.live()
        async with world.keeping(event_hub=hub, receiver=Receiver()) as metrics:
            await until(lambda: calls(metrics, "adopt"), "one that was there is adopted")
        assert world.live() == [old]
        world.gatekeeper = Gatekeeper({TENANT: "contoso"}, {1: KEY, 2: b"another key of some length"})
        async with world.keeping(event_hub=hub, receiver=Receiver(), client_state=both) as metrics:
            await until(lambda: calls(metrics, "list") >= 4, "the keeper has looked again and again")

        [new] = world.live()
        assert new.id != old.id
        assert (new.client_state or "").startswith("k2.")
        assert calls(metrics, "create") == 1


async def test_what_is_no_notification_of_ours_is_counted_and_passed_over(secured: Secured, hub: EventHub) -> None:
    """Forged, foreign, broken and probing events; good items beside them are kept, and the sums hold."""
    await write(
        secured,
        hub,
        b"not json",
        b"[]",
        collection(PROBE),
        json.dumps(PROBE).encode(),
        collection(good_item(call(1)), good_item(call(2), clientState="forged"), good_item(call(3), tenantId=call(9))),
        collection(good_item(call(4), resource="users/1"), 7),
        collection(good_item(call(5))),
    )
    shelf = Shelf([])
    async with reading(hub, shelf) as run:
        await until(lambda: run.count("notifications_received_total") == 6, "all are judged")

        assert sorted(shelf.calls()) == [call(1), call(5)]
        assert all(one.source == "eventhub" for one in shelf.held if isinstance(one, Notification))
        outcomes = {
            one: run.count("hub_events_total", outcome=one) for one in ("probe", "not_json", "not_a_collection")
        }
        assert outcomes == {"probe": 2, "not_json": 1, "not_a_collection": 1}
        refused = [
            run.count("notifications_refused_total", reason=one) for one in ("client_state", "tenant", "resource")
        ]
        assert [*refused, run.count("notifications_refused_total", reason="malformed")] == [1, 1, 1, 1]
        assert run.count("notifications_stored_total") == 2
        assert run.reader.trouble() is None


async def test_a_flood_of_probes_makes_few_lines(secured: Secured, hub: EventHub) -> None:
    """Whoever may send could fill the disk with them; all are counted."""
    await write(secured, hub, *[collection(PROBE)] * 300, collection(good_item(call(1))))
    shelf = Shelf([])
    with capture_logs() as lines:
        async with reading(hub, shelf) as run:
            await until(lambda: run.count("hub_events_total", outcome="probe") == 300, "all are counted")
            await until(lambda: shelf.calls() == [call(1)], "the good one beside them is kept")
    said = [line for line in lines if "has tried whether it can write" in line["event"]]

    assert 1 <= len(said) <= 2
    assert all(line["count"] >= 1 for line in said)


async def test_an_event_of_too_many_items_is_refused_and_the_next_one_read(secured: Secured, hub: EventHub) -> None:
    """As a POST would be: before or after it is taken apart; nothing of it is kept. As many as allowed are."""
    goods = [good_item(call(number)) for number in range(11)]
    wide = b'{"value":[' + b"0," * 500_000 + b"0]}"
    await write(secured, hub, wide, collection(*goods), collection(*goods[:10]), partition=0)
    shelf = Shelf([])
    with capture_logs() as lines:
        async with reading(hub, shelf, max_items=10) as run:
            await until(lambda: run.count("hub_events_total", outcome="notifications") == 1, "the last one is read")
            await until(lambda: run.count("hub_events_total", outcome="too_many") == 2, "the others are refused")

            assert run.count("notifications_received_total") == run.count("notifications_stored_total") == 10
    said = [line for line in lines if "is no notification" in line["event"]]

    assert sorted(shelf.calls()) == [call(number) for number in range(10)]
    assert [line["reason"] for line in said] == ["too_many"]


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_reader_that_dies_loses_nothing(secured: Secured, hub: EventHub, moment: str) -> None:
    """Right before Kafka has the items and right after, offsets uncommitted: the next reader reads them again."""
    await write(secured, hub, *(collection(good_item(call(number))) for number in range(6)))
    shelf = Shelf([], kill=moment)
    async with reading(hub, shelf) as run:
        await asyncio.wait({run.task})
    stored_then = set(shelf.calls())
    shelf.kill, shelf.refusals = "", 1  # and Kafka is away for a moment, too
    async with reading(hub, shelf) as run:
        await until(lambda: run.count("notifications_stored_total") == 6, "all are stored again")

    assert bool(stored_then) == (moment == "after")
    assert set(shelf.calls()) == {call(number) for number in range(6)}


async def test_a_hub_that_goes_away_is_read_again_when_it_is_back(secured: Secured, hub: EventHub) -> None:
    """Readiness says why meanwhile; nothing is missed."""
    wrong = msgspec.structs.replace(hub, sasl_password=Secret("a wrong one"))
    shelf = Shelf([])
    async with reading(wrong, shelf) as run:
        await until(lambda: "set event_hub.sasl_username" in (run.reader.trouble() or ""), "it says what to change")
        assert not run.task.done()
    async with reading(hub, shelf) as run:
        await until(lambda: run.reader.trouble() is None, "the hub is read")
        broker = secured.cluster.brokers[0]
        broker.pause()
        try:
            await until(lambda: run.reader.trouble() is not None, "the loss is noticed")
        finally:
            broker.resume()
        await write(secured, hub, *(collection(good_item(call(number))) for number in range(3)))
        # A place in the group that was lost meanwhile means that some are read again.
        await until(lambda: set(shelf.calls()) == {call(number) for number in range(3)}, "what came later is read")
