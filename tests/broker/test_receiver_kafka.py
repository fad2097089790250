"""The public site in front of a real Kafka: what 202 and 503 promise."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry

from service.clock import Clock
from service.embedded import embedded_kafka
from service.kafka.connect import client_options, close_consumer
from service.kafka.topics import Topics, ensure, partition_of
from service.metrics import REFUSED, Metrics
from service.notification import Gatekeeper, LifecycleEvent, Notification, call_key, client_state
from service.receiver import KafkaStore, receiver_site
from service.settings import Kafka, Receiver
from tests.shell.receiving import CALL, KEY, SUBSCRIPTION, TENANT, lifecycle_item
from tests.shell.receiving import item as good_item

SECONDS = 60.0
PARTITIONS = 4


@dataclass
class Running:
    """A receiver that stores in Kafka."""

    url: str
    http: aiohttp.ClientSession
    store: KafkaStore
    metrics: Metrics

    async def post(self, items: list[Any]) -> int:
        body = io.BytesIO(json.dumps({"value": items}).encode())
        headers = {"Content-Type": "application/json"}
        async with self.http.post(self.url + "/notifications", data=body, headers=headers) as reply:
            return reply.status

    def check_sum(self) -> None:
        """received = stored + refused."""

        def value(name: str, **labels: str) -> float:
            return self.metrics.registry.get_sample_value(f"callstream_notifications_{name}_total", labels) or 0.0

        assert value("received") == value("stored") + sum(value("refused", reason=reason) for reason in REFUSED)


def kafka_settings(bootstrap_servers: str, prefix: str) -> Kafka:
    return Kafka(bootstrap_servers=bootstrap_servers, topic_prefix=prefix, partitions=PARTITIONS)


async def create_topics(kafka: Kafka) -> None:
    admin = AIOKafkaAdminClient(**client_options(kafka))
    await admin.start()

    async def is_created() -> bool:
        try:
            await ensure(admin, Topics(kafka.topic_prefix), kafka, create=True)
        except KafkaError:  # a topic that was just created is unknown for a moment
            return False
        return True

    try:
        await until(is_created)
    finally:
        await admin.close()


@asynccontextmanager
async def open_receiver(kafka: Kafka, timeout_seconds: float = 2.0) -> AsyncIterator[Running]:
    metrics = Metrics(CollectorRegistry(), ["contoso"])
    settings = Receiver(host="127.0.0.1", port=0)
    gatekeeper = Gatekeeper({TENANT: "contoso"}, {1: KEY})
    async with (
        aiohttp.ClientSession() as http,
        KafkaStore(kafka, Topics(kafka.topic_prefix), timeout_seconds) as store,
        receiver_site(settings, gatekeeper, store, metrics, Clock()) as site,
    ):
        running = Running(site.url, http, store, metrics)
        yield running
        running.check_sum()


async def read_all(kafka: Kafka, topic: str, count: int) -> list[Any]:
    """The first `count` records of a topic and whatever else is there by then."""
    consumer = AIOKafkaConsumer(**client_options(kafka), auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    try:
        metadata = await consumer._client.fetch_all_metadata()
        consumer.assign([TopicPartition(topic, number) for number in metadata.partitions_for_topic(topic)])
        async with asyncio.timeout(SECONDS):
            while len(found) < count:
                polled = await consumer.getmany(timeout_ms=100)
                found += [record for records in polled.values() for record in records]
    finally:
        await close_consumer(consumer)
    return found


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what only another try can tell."""
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)


def call_id(number: int) -> str:
    return f"a1f3c7d2-0b64-4a0e-9d0f-{number:012x}"


async def test_202_means_that_kafka_has_every_good_item(kafka: str, prefix: str) -> None:
    """One record for each, under its call's key, in the partition that Java's clients would choose."""
    chosen = kafka_settings(kafka, prefix)
    await create_topics(chosen)
    async with open_receiver(chosen, timeout_seconds=SECONDS) as running:  # leaders of new topics may take a while
        await until(lambda: _ready(running))
        items = [good_item(call_id(number)) for number in range(200)] + [good_item(clientState="forged")]
        assert await running.post([*items, lifecycle_item()]) == 202

    topics = Topics(prefix)
    records = await read_all(chosen, topics.notifications, 200)
    assert len(records) == 200
    for record in records:
        notification = msgspec.json.decode(record.value, type=Notification)
        assert record.key == call_key(TENANT, notification.call_id) == notification.key
        assert record.partition == partition_of(record.key, PARTITIONS)
        assert (notification.source, notification.subscription_id) == ("webhook", SUBSCRIPTION)
    [event] = await read_all(chosen, topics.lifecycle, 1)
    assert msgspec.json.decode(event.value, type=LifecycleEvent).lifecycle_event == "reauthorizationRequired"


async def test_ten_thousand_items_in_one_post_are_stored_in_time(kafka: str, prefix: str) -> None:
    """The largest POST that is taken fits into the store's timeout."""
    chosen = kafka_settings(kafka, prefix)
    await create_topics(chosen)
    async with open_receiver(chosen) as running:
        await until(lambda: _ready(running))
        assert await running.post([good_item(call_id(number)) for number in range(10_000)]) == 202

    assert len(await read_all(chosen, Topics(prefix).notifications, 10_000)) == 10_000


async def test_missing_topic_is_503_until_it_is_there(kafka: str, prefix: str) -> None:
    """Nothing is acknowledged that has no place; once the topic exists it goes on by itself."""
    chosen = kafka_settings(kafka, prefix)
    async with open_receiver(chosen) as running:
        assert await running.post([good_item()]) == 503
        assert running.store.trouble() is not None
        await create_topics(chosen)
        await until(lambda: _takes(running))
        await until(lambda: _ready(running))

    assert await read_all(chosen, Topics(prefix).notifications, 1)


async def test_receiver_starts_without_kafka_and_recovers_from_its_outages(kafka_packages: None) -> None:
    """Start with no broker: 503. Broker up: 202. Stopped: 503. Up again: 202. What was acknowledged is there."""
    acknowledged: list[str] = []
    async with embedded_kafka() as cluster:
        chosen = kafka_settings(cluster.bootstrap_servers, "outage")
        await create_topics(chosen)
        await cluster.stop()
        async with open_receiver(chosen, timeout_seconds=1.0) as running:
            assert await running.post([good_item()]) == 503
            for outage in range(2):
                await cluster.start()

                async def takes(number: int = outage) -> bool:
                    is_taken = await running.post([good_item(call_id(number))]) == 202
                    if is_taken:
                        acknowledged.append(call_id(number))
                    return is_taken

                await until(takes)
                await until(lambda: _ready(running))
                await cluster.stop()
                assert await running.post([good_item(call_id(99))]) == 503
                assert running.store.trouble() is not None
                running.check_sum()
            await cluster.start()
            await until(lambda: _ready(running))  # without any traffic
        records = await read_all(chosen, Topics("outage").notifications, len(acknowledged))

    assert len(acknowledged) == 2
    stored = {msgspec.json.decode(record.value, type=Notification).call_id for record in records}
    assert stored >= set(acknowledged)


async def test_store_closes_at_once_without_kafka(prefix: str) -> None:
    """A process that never found its broker still ends when it is told to."""
    async with asyncio.timeout(SECONDS), open_receiver(kafka_settings("127.0.0.1:1", prefix)) as running:
        assert await running.post([good_item(CALL)]) == 503
        assert await running.post([]) == 202


async def _ready(running: Running) -> bool:
    return running.store.trouble() is None


async def _takes(running: Running) -> bool:
    return await running.post([good_item()]) == 202


def test_states_in_these_tests_are_the_real_ones() -> None:
    """The shared items carry what a subscription of ours would send."""
    assert good_item()["clientState"] == client_state(1, KEY, TENANT)
