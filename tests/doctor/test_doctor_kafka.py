"""Broken at Kafka or behind it: who answers, topics, groups, what waits, what was set aside, what is missing. Each
set-up is made in a real broker, and the first line that is not ok names it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from service.admin import admin_site
from service.app import open_service
from service.doctor import wire
from service.kafka.epochs import EpochRequest
from service.metrics import Metrics
from service.reconcile.hours import Hour
from service.settings import Admin, load
from tests.doctor.page import check
from tests.doctor.scene import Made, Scene, free_port, front, root_authority, site
from tests.doctor.stand_ins import stand_in
from tests.doctor.test_doctor_outside import is_broken


async def test_no_kafka_is_named(scene: Scene) -> None:
    """The address leads nowhere."""
    found = await scene.first(kafka__bootstrap_servers=f"127.0.0.1:{free_port()}")

    is_broken(found, "kafka", "the connection is refused")
    check("No Kafka", found)


async def test_a_web_server_in_kafka_s_place_is_named(scene: Scene) -> None:
    """The port of something else."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text="I am no Kafka")

    async with site(answer) as url:
        found = await scene.first(kafka__bootstrap_servers=url.removeprefix("http://"))

    is_broken(found, "kafka", "speaks HTTP, not Kafka's protocol")
    check("A web server where Kafka should be", found)


async def test_a_listener_with_tls_is_named(scene: Scene) -> None:
    """The settings speak plainly."""
    async with front(Made().context(root_authority())) as url:
        found = await scene.first(kafka__bootstrap_servers=url.removeprefix("https://"))

    is_broken(found, "kafka", "seems to want TLS")
    check("A listener of Kafka with TLS, and settings without", found)


async def test_one_of_two_addresses_being_away_is_a_warning(scene: Scene) -> None:
    """The other one will do, until it is away too."""
    kafka = scene.environ["CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS"]
    found = await scene.first(kafka__bootstrap_servers=f"127.0.0.1:{free_port()},{kafka}")

    assert (found.link, found.status) == ("kafka", "warn")
    check("One of two addresses of Kafka leads nowhere", found)


@asynccontextmanager
async def forwarded(kafka: str) -> AsyncIterator[str]:
    """A way to the broker on which it calls itself by an address that leads nowhere, as behind a forwarded port."""
    host, _, port = kafka.rpartition(":")
    own = host.encode() + int(port).to_bytes(4, "big")
    other = host.encode() + free_port().to_bytes(4, "big")
    serving: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.replace(own, other))
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())  # type: ignore[arg-type]
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer))
        finally:
            for one in (writer, inner_writer):
                one.transport.abort()
            await asyncio.gather(*(one.wait_closed() for one in (writer, inner_writer)), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def test_a_broker_s_wrong_name_for_itself_is_named(scene: Scene) -> None:
    """Bootstrap works, and then every client goes where nobody is."""
    async with forwarded(scene.environ["CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS"]) as address:
        found = await scene.first(kafka__bootstrap_servers=address)

    is_broken(found, "kafka", "Broker 1 calls itself 127.0.0.1:")
    assert "advertised.listeners" in found.todo
    check("A broker whose advertised address leads nowhere", found)


async def test_a_wrong_prefix_is_named(scene: Scene) -> None:
    """Topics are there, under another one."""
    found = await scene.first(kafka__topic_prefix="no-such-prefix")

    is_broken(found, "topics", "None of the 15 topics no-such-prefix.* exists.")
    assert "is kafka.topic_prefix right?" in found.seen
    check("No topics, or another prefix", found)


async def test_a_missing_topic_is_named(scene: Scene) -> None:
    """A release that brings a topic, and brokers where nobody may create one."""
    async with stand_in(scene, members="", left_out=("keeper_inbox",)) as beside:
        found = await scene.first(**beside.changes)

    is_broken(found, "topics", ".keeper-inbox does not exist")
    check("One topic is missing", found)


async def test_other_partition_counts_are_named(scene: Scene) -> None:
    """They cannot grow."""
    found = await scene.first(kafka__partitions="3")

    is_broken(found, "topics", "has 2 partitions where 3 are needed")
    check("More partitions in the settings than the topics have", found)


CONFIGS = (
    (
        "A queue that compacts",
        {"notifications": {"cleanup.policy": "compact"}},
        "broken",
        "has cleanup.policy=compact where delete is usual",
    ),
    ("A shorter retention than usual", {"calls": {"retention.ms": "1000"}}, "warn", "retention.ms=1000"),
    (
        "A topic that takes small messages alone",
        {"streams_audio": {"max.message.bytes": "10000"}},
        "warn",
        "takes messages of at most 10,000 bytes",
    ),
    (
        "More copies demanded than there are",
        {"ledger": {"min.insync.replicas": "2"}},
        "broken",
        "takes no writes: 1 copies are in sync",
    ),
)


@pytest.mark.parametrize(("set_up", "configs", "status", "named"), CONFIGS, ids=[one[0] for one in CONFIGS])
async def test_a_topic_s_wrong_configuration_is_named(
    scene: Scene, set_up: str, configs: dict[str, dict[str, str]], status: str, named: str
) -> None:
    """Broken where the lanes would not work, a warning where they would."""
    async with stand_in(scene, members="", **configs) as beside:
        found = await scene.first(**beside.changes)

    assert (found.link, found.status) == ("topics", status), found
    assert named in found.seen
    check(set_up, found)


async def test_no_keeper_is_named(scene: Scene) -> None:
    """A deployment without the role keep."""
    async with stand_in(scene, members="lanes") as beside:
        found = await scene.first(**beside.changes)

    is_broken(found, "keeper", "No process is the keeper")
    check("No process with the role keep", found)


async def test_no_worker_is_named(scene: Scene) -> None:
    """Receivers alone."""
    async with stand_in(scene, members="keeper") as beside:
        found = await scene.first(**beside.changes)

    is_broken(found, "workers", "No worker runs")
    check("No process with the role work", found)


async def test_an_open_transaction_is_named(scene: Scene) -> None:
    """It holds back whoever reads committed events, and nothing else shows it."""
    async with stand_in(scene, members="") as beside:
        producer = AIOKafkaProducer(bootstrap_servers=beside.kafka, transactional_id=f"{beside.topics.prefix}.lane.0")
        await producer.start()
        try:
            async with producer.transaction():
                ten_minutes_ago = int((time.time() - 600) * 1000)
                topic = beside.topics.streams["audio"]
                await producer.send_and_wait(topic, b"{}", partition=0, timestamp_ms=ten_minutes_ago)
                found = await scene.first(**beside.changes)
        finally:
            await producer.stop()

    is_broken(found, "transactions", "has been open for 10 minutes")
    check("A transaction that hangs", found)


@pytest.mark.parametrize(
    ("set_up", "known", "todo"),
    [
        ("Kafka before 2.5", {22: (0, 2)}, "Use Kafka 2.5 or later, or"),
        ("A broker without transactions", {}, "Use brokers with transactions, or"),
    ],
)
async def test_brokers_that_know_too_little_of_transactions_are_named(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, set_up: str, known: dict[int, tuple[int, int]], todo: str
) -> None:
    """Who has transactions and not in the version that is needed looks for another Kafka, and not for a setting."""

    class Asked(EpochRequest):
        def prepare(self, _: object) -> Any:
            return super().prepare(known)

    monkeypatch.setattr(wire, "EpochRequest", Asked)
    async with stand_in(scene) as beside:
        found = await scene.first(**beside.changes)

    is_broken(found, "transactions", "transactions" if known else "no transactional producer")
    assert found.todo.startswith(todo)
    check(set_up, found)


async def test_no_service_here_is_a_warning(scene: Scene) -> None:
    """The doctor ran elsewhere."""
    found = await scene.first(admin__port=str(free_port()))

    assert (found.link, found.status) == ("service", "warn")
    check("The doctor runs where no service does", found)


async def test_a_service_that_is_not_ready_is_named(scene: Scene) -> None:
    """In its own words."""
    ready = {"store": lambda: "Kafka does not take notifications: timeout."}
    async with admin_site(Admin(port=0), Metrics(), lambda: None, ready) as private:
        found = await scene.first(admin__port=str(private.port))

    is_broken(found, "service", "Kafka does not take notifications")
    check("A service that is not ready", found)


async def test_a_stuck_service_is_named(scene: Scene) -> None:
    """A lane that has work and does not move."""
    async with admin_site(Admin(port=0), Metrics(), lambda: "Lane 3 has not moved for 400 s.", {}) as private:
        found = await scene.first(admin__port=str(private.port))

    is_broken(found, "service", "Lane 3 has not moved")
    check("A lane that stands still", found)


async def test_refused_notifications_are_named(scene: Scene) -> None:
    """Every one of them carries a clientState of another deployment."""
    async with stand_in(scene) as beside:
        ports = {"receiver__port": str(free_port()), "admin__port": str(free_port())}
        environ = scene.with_environ(**beside.changes, **ports)
        async with open_service(load(environ), ["receive"]), aiohttp.ClientSession() as http:
            await _post_forged(http, f"http://127.0.0.1:{ports['receiver__port']}/notifications", count=3)
            found = await scene.first(**beside.changes, admin__port=ports["admin__port"])

    is_broken(found, "refusals", "3 notifications were refused since this process started (0 stored): the clientState")
    check("Notifications with a clientState of another deployment", found)


async def test_refusals_are_a_receiver_s_affair(scene: Scene) -> None:
    """A worker has none to tell of; that is no good news."""
    status = {"service": lambda: {"roles": ["keep", "work"]}}
    async with admin_site(Admin(port=0), Metrics(), lambda: None, {}, status) as private:
        found = await scene.line("refusals", admin__port=str(private.port))

    assert found.status == "skipped"
    assert "has not the role receive" in found.seen


async def _post_forged(http: aiohttp.ClientSession, url: str, count: int) -> None:
    item = {
        "tenantId": "c0ffee00-1111-4222-8333-444455556666",
        "subscriptionId": "5d0c6f6e-95d4-4d0a-8a55-0f3a7c1b2e90",
        "clientState": "k1.of-another-deployment",
        "changeType": "updated",
        "resource": "communications/callRecords/a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33",
    }
    async with http.post(url, json={"value": [item] * count}) as reply:
        assert reply.status == 202


async def test_notices_that_wait_are_named(scene: Scene) -> None:
    """A worker has the lane and does nothing."""
    async with stand_in(scene) as beside:
        await beside.notice(beside.topics.notifications, age_seconds=3600)
        found = await scene.first(**beside.changes)

    is_broken(found, "lag", "the oldest for 60 min")
    check("A lane that does not work off its notices", found)


async def test_notices_that_do_not_come_are_named(scene: Scene) -> None:
    """Graph lists calls, and told of none: only the list can show it."""
    async with stand_in(scene) as beside:
        hours = {ago: Hour(look=int(time.time()), listed=5, healed=5) for ago in range(6, 20)}
        await beside.remember(hours, notice=time.time() - 48 * 3600)
        found = await scene.first(**beside.changes)

    is_broken(found, "notices", "Graph lists 70 calls since then, of which none came")
    check("Notices that do not come", found)


async def test_a_quiet_day_is_a_warning(scene: Scene) -> None:
    """A Sunday, perhaps."""
    async with stand_in(scene) as beside:
        await beside.remember({1: Hour(look=int(time.time()))}, notice=time.time() - 30 * 3600)
        found = await scene.first(**beside.changes)

    assert (found.link, found.status) == ("notices", "warn")
    assert "30 h ago" in found.seen
    check("A day without notices, and without calls", found)


async def test_retries_are_named_by_reason(scene: Scene) -> None:
    """What passes by itself is ok, what needs a person is a warning."""
    async with stand_in(scene) as beside:
        minute, *_ = beside.topics.retry
        await beside.notice(minute, reason="not_found", due_at="2999-01-01T00:00:00.000Z")
        patient = await scene.line("retries", **beside.changes)
        await beside.notice(minute, reason="tenant_waits", due_at="2999-01-01T00:00:00.000Z")
        found = await scene.first(**beside.changes)

    assert patient.status == "ok"
    assert "1 not_found (Graph has no record yet)" in patient.seen
    assert (found.link, found.status) == ("retries", "warn")
    assert "1 tenant_waits" in found.seen
    check("Retries that wait for their tenant", found)


async def test_a_retry_past_its_time_is_named(scene: Scene) -> None:
    """Its lane does not move."""
    async with stand_in(scene) as beside:
        await beside.notice(beside.topics.retry[0], reason="not_found", due_at="2026-01-01T00:00:00.000Z")
        found = await scene.first(**beside.changes)

    is_broken(found, "retries", "past its time")


async def test_dead_letters_are_named_by_reason(scene: Scene) -> None:
    """In words, with what to do about each."""
    async with stand_in(scene) as beside:
        for reason in ("unpublishable", "unpublishable", "unavailable"):
            await beside.letter(reason)
        found = [one for one in await scene.walk(**beside.changes) if one.status != "ok"]

    assert [one.link for one in found] == ["dead letters", "dead letters"]
    assert "2 of the last 24 hours: unpublishable. Kafka does not take this version." in found[0].seen
    assert "1 of the last 24 hours: unavailable." in found[1].seen
    check("Messages that Kafka refuses", found[0])


async def test_calls_that_are_missing_are_named(scene: Scene) -> None:
    """Four days old, listed, and nowhere."""
    async with stand_in(scene) as beside:
        now = int(time.time())
        hours = {1: Hour(look=now, listed=1, known=1), 97: Hour(look=now, listed=8, known=5)}
        await beside.remember(hours, notice=time.time())
        found = await scene.first(**beside.changes)

    is_broken(found, "completeness", "3 calls of")
    check("Calls that are listed and not published", found)


def hub(kafka: str, name: str) -> dict[str, str | None]:
    """Settings of an event hub that a topic stands in for."""
    return {
        "event_hub__hub": name,
        "event_hub__namespace": "calls.servicebus.windows.net",
        "event_hub__tenant_domain": "contoso.com",
        "event_hub__bootstrap_servers": kafka,
        "event_hub__security_protocol": "PLAINTEXT",
    }


async def test_a_missing_event_hub_is_named(scene: Scene) -> None:
    """The public URL is not needed then, and not looked at."""
    kafka = scene.environ["CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS"]
    found = await scene.first(**hub(kafka, "no-such-hub"), receiver__public_url=None)

    is_broken(found, "event hub", "There is no event hub no-such-hub")
    check("An event hub that is not there", found)


async def test_an_event_hub_s_namespace_that_is_away_is_named(scene: Scene) -> None:
    """In the words that the service has for it."""
    found = await scene.first(**hub(f"127.0.0.1:{free_port()}", "calls"), receiver__public_url=None)

    is_broken(found, "event hub", "does not answer at 127.0.0.1:")
    check("An event hub that cannot be reached", found)


async def test_a_subscription_that_still_posts_while_there_is_a_hub_is_named(scene: Scene) -> None:
    """The hub is there, and Graph was never told of it."""
    async with stand_in(scene) as beside:
        there = hub(beside.kafka, beside.topics.lifecycle)
        found = await scene.first(**beside.changes, **there)

    is_broken(found, "subscription", "not to EventHub:https://calls.servicebus.windows.net")
    check("An event hub that no subscription names", found)
