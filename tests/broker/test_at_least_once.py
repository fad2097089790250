"""Brokers without transactions: the same lanes, nothing lost, and what is repeated is told by its id."""

import asyncio
import os
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import AIOKafkaConnection

from service.clock import Clock, iso
from service.emulator.expect import expected_events
from service.emulator.generator import CallSpec, generate_call
from service.emulator.options import EmulatorOptions, TenantOptions
from service.emulator.server import open_emulator
from service.errors import RecordNotFound
from service.kafka.delivery import open_publisher
from service.kafka.records import KafkaRecord
from service.kafka.topics import Topics, ensure, partition_of
from service.letters.desk import Desk
from service.letters.letter import Selection, State
from service.notification import Notification
from service.settings import Retry, Settings
from tests.broker.lane_bench import (
    PARTITIONS,
    Bench,
    ScriptedGraph,
    bench,
    call_id,
    eventually,
    notice,
    read_all,
    set_limit,
    settings_for,
    shaped,
    text,
)

# InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit.
TRANSACTIONAL = {22, 24, 25, 26, 28}
CALLS = 60
BATCH = 5


def at_least_once(servers: str, prefix: str, **groups: msgspec.Struct) -> Settings:
    """Three lanes that use no transactions."""
    settings = settings_for(servers, prefix, **groups)
    return msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, delivery="at-least-once"))


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each kind of request was sent to the broker, by all clients of this process."""
    seen: Counter[int] = Counter()
    send = AIOKafkaConnection.send

    def counting(self: AIOKafkaConnection, request: object, *given: object, **more: object) -> object:
        seen[request.API_KEY] += 1  # type: ignore[attr-defined]
        return send(self, request, *given, **more)

    monkeypatch.setattr(AIOKafkaConnection, "send", counting)
    return seen


async def _published(lanes: Bench, count: int) -> bool:
    return len(await lanes.read(lanes.topics.calls)) >= count


async def _dead(lanes: Bench, count: int) -> bool:
    return len(await lanes.read(lanes.topics.dead_letter)) >= count


async def test_no_request_of_a_transactional_producer_is_made(kafka: str, prefix: str, requests: Counter[int]) -> None:
    """Published, retried, set aside, replayed, begun again where it was; and the keeper's writing, too."""
    settings, graph = at_least_once(kafka, prefix), ScriptedGraph()
    graph.say("good", RecordNotFound("not yet"), shaped("good", 1))
    graph.say("gone", RecordNotFound("gone"))
    async with bench(settings, graph) as lanes:
        topics = lanes.topics
        await lanes.put(notice("good"), notice("gone", received_at="2020-01-01T00:00:00Z"))
        await eventually(lambda: _published(lanes, 1), "published after a retry")
        await eventually(lambda: _dead(lanes, 1), "set aside")
        graph.say("gone", shaped("gone", 1))
        desk = Desk(settings.kafka, topics, Clock())
        judged = await desk.judged(Selection(), lambda done, total: None)
        await desk.queue([one.letter for one in judged], lambda done, total: None)
        await eventually(lambda: _published(lanes, 2), "the replay is published")
        async with open_publisher(settings.kafka, topics, topics.keeper_transactional_id, "keeper") as publisher:
            await publisher.commit([KafkaRecord(topics.state, 0, b"k", b"v", [])], {})
    looks = sum(graph.looks.values())
    async with bench(settings, graph) as lanes:
        graph.say("new", shaped("new", 1))
        await lanes.put(notice("new"))
        await eventually(lambda: _published(lanes, 3), "a new worker goes on")
        versions = await lanes.versions()
    states = [one.state for one in await desk.judged(Selection(), lambda done, total: None)]
    without = {key: requests[key] for key in TRANSACTIONAL}
    async with open_publisher(settings_for(kafka, prefix).kafka, topics, "x", "y") as publisher:
        await publisher.commit([KafkaRecord(topics.state, 0, b"k", b"v", [])], {})

    assert sorted(versions) == sorted((call_id(name), 1) for name in ("good", "gone", "new"))
    assert graph.looks_at("new") == 1
    assert sum(graph.looks.values()) == looks + 1, "offsets were committed: nothing is looked at again"
    assert states == [State.PUBLISHED]
    assert without == dict.fromkeys(TRANSACTIONAL, 0)
    assert all(requests[key] for key in (22, 24, 26)), "the counting sees them where they are made"


async def test_worker_kills_lose_nothing_and_what_is_repeated_has_its_id(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """kill -9 of a real process between events and ledger, and once more under way: repeated byte for byte."""
    topics = Topics(prefix, ("1s", "3s"))
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(open_emulator(EmulatorOptions(port=0), Clock()))
        tenant = emulator.world.options.tenants[0]
        start = Clock().now() - 3 * 3600
        calls = [
            emulator.store.add_call(tenant.id, generate_call(CallSpec(tenant.id, 1, number, start=start)))
            for number in range(CALLS)
        ]
        expected = {one for call in calls for one in expected_events(tenant.id, call.current.unpack())}
        settings = at_least_once(kafka, prefix, retry=Retry(delays=("1s", "3s")))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        stack.push_async_callback(admin.close)
        await ensure(admin, topics, settings.kafka, create=True)
        # So small that Kafka takes no entry, and not so small that the worker would see it beforehand.
        await set_limit(admin, topics, topics.ledger, 30)
        await _announce(kafka, topics, [call.id for call in calls], tenant.id)

        async def start() -> asyncio.subprocess.Process:
            return await stack.enter_async_context(_worker(tmp_path / "log", kafka, prefix, emulator.url, tenant))

        worker = await start()
        await eventually(lambda: _events(kafka, topics, 1), "events are there, and no ledger")
        worker.kill()
        await worker.wait()
        assert await read_all(kafka, topics.ledger, PARTITIONS) == []
        await set_limit(admin, topics, topics.ledger, 1_000_000)
        worker = await start()
        await eventually(lambda: _entries(kafka, topics, 1), "the work goes on")
        worker.kill()
        await worker.wait()
        await start()
        await eventually(lambda: _entries(kafka, topics, CALLS), "all are in the ledger")
        found = await _by_id(kafka, topics)
        summaries = await read_all(kafka, topics.calls, PARTITIONS)

    repeated = sum(len(copies) - 1 for copies in found.values())
    assert set(found) == expected, "0 lost"
    assert repeated > 0, "without transactions something is repeated here"
    reopened = (tmp_path / "log").read_text(encoding="utf-8").count("lane opens again")
    assert len(summaries) - CALLS <= (reopened + 2 * PARTITIONS) * BATCH, (
        "a batch of a lane for each time it breaks off"
    )
    assert all(len(set(copies)) == 1 for copies in found.values()), "and it is the same, byte for byte"


async def _announce(servers: str, topics: Topics, call_ids: list[str], tenant_id: str) -> None:
    """As the receiver does."""
    async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
        for call_id in call_ids:
            note = Notification(tenant_id=tenant_id, call_id=call_id, source="webhook", received_at=iso(Clock().now()))
            place = partition_of(note.key, PARTITIONS)
            await producer.send(topics.notifications, msgspec.json.encode(note), key=note.key, partition=place)


@asynccontextmanager
async def _worker(
    log: Path, servers: str, prefix: str, graph: str, tenant: TenantOptions
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`callstream serve --role work`, dead when the block is left."""
    environment = {
        "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": servers,
        "CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix,
        "CALLSTREAM_KAFKA__PARTITIONS": str(PARTITIONS),
        "CALLSTREAM_KAFKA__DELIVERY": "at-least-once",
        "CALLSTREAM_KAFKA__SESSION_TIMEOUT_SECONDS": "3",
        "CALLSTREAM_RETRY__DELAYS": "1s,3s",
        "CALLSTREAM_LANES__BATCH_NOTIFICATIONS": str(BATCH),
        "CALLSTREAM_ADMIN__PORT": "0",
        "CALLSTREAM_GRAPH__CLOUD": "custom",
        "CALLSTREAM_GRAPH__ROOT_URL": graph,
        "CALLSTREAM_GRAPH__LOGIN_URL": graph,
        "CALLSTREAM_TENANTS__CONTOSO__ID": tenant.id,
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": tenant.client_id,
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET": tenant.client_secret,
    }
    with log.open("ab") as written:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "serve", "--role", "work"), env=os.environ | environment, stderr=written
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _by_id(servers: str, topics: Topics) -> dict[str, list[bytes]]:
    """Event id → its copies."""
    found: defaultdict[str, list[bytes]] = defaultdict(list)
    for topic in topics.streams.values():
        for record in await read_all(servers, topic, PARTITIONS):
            found[text(record, "ce_id")].append(record.value)
    return found


async def _events(servers: str, topics: Topics, count: int) -> bool:
    return len(await _by_id(servers, topics)) >= count


async def _entries(servers: str, topics: Topics, count: int) -> bool:
    return len({record.key for record in await read_all(servers, topics.ledger, PARTITIONS)}) >= count
