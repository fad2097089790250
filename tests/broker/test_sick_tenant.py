"""Two processes, two tenants, one of them refused by Graph for an hour: the other must not notice."""

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.app import Service
from service.emulator.making import CallWish
from service.emulator.options import DeliveryOptions
from service.kafka.topics import Topics
from service.settings import Graph, Keeper, Lanes
from tests.broker.lane_bench import PARTITIONS, eventually, read_all
from tests.broker.test_reconcile import CONTOSO, FABRIKAM, World, world_of

SICK, WELL = CONTOSO, FABRIKAM
SPEED = 720.0
STEP_SECONDS = 60.0
MINUTES_BEFORE, MINUTES_FORBIDDEN, MINUTES_THROTTLED = 40, 10, 60
# Waits on a clock so fast would judge the machine.
LANES = Lanes(patience_seconds=5000.0)
# A receiver that is slower than this loses its notices, as with Graph; a busy machine may hold a broker up for seconds.
PATIENT = DeliveryOptions(least_real_seconds=30.0)
# Machines are shared: between two phases of one run all may become slower. A tenant that waits for another is later by
# the minutes and hours that the other has to wait, a hundred times and more.
MOST_TIMES_SLOWER = 5.0


@dataclass
class Diary:
    """When each call was made and when its summary was first seen: the machine's seconds."""

    made: dict[str, float] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)

    def median(self, ids: list[str]) -> float:
        """From a notice to its events."""
        return statistics.median(self.seen[one] - self.made[one] for one in ids)

    async def until_seen(self, ids: list[str], what: str) -> None:
        """All of them are published."""

        async def all_seen() -> bool:
            return set(ids) <= set(self.seen)

        await eventually(all_seen, what)


@asynccontextmanager
async def diary_of(world: World) -> AsyncIterator[Diary]:
    """A consumer of the calls topic, from its beginning."""
    diary, topic = Diary(), Topics(world.settings.kafka.topic_prefix).calls
    consumer = AIOKafkaConsumer(
        bootstrap_servers=world.settings.kafka.bootstrap_servers,
        group_id=None,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )

    async def follow() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    call = record.key.decode().split("/")[1]
                    diary.seen.setdefault(call, time.monotonic())
                    diary.times[call] += 1

    async with consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        following = asyncio.create_task(follow())
        try:
            yield diary
        finally:
            following.cancel()
            await asyncio.wait({following})


async def some_minutes(world: World, diary: Diary, minutes: int) -> tuple[list[str], list[str]]:
    """A call a minute of each tenant; the ids of the sick one's, then of the other's."""
    ids: tuple[list[str], list[str]] = ([], [])
    for _ in range(minutes):
        for tenant, made in zip((SICK, WELL), ids, strict=True):
            call = world.emulator.maker.make(CallWish(tenant.id, kind="peerToPeer"))
            diary.made[call.id] = time.monotonic()
            made.append(call.id)
        await world.clock.sleep(STEP_SECONDS)
    return ids


async def until_both_work(world: World, *services: Service) -> None:
    """The lanes are shared out, and both tenants are subscribed."""

    async def shared() -> bool:
        lanes = [service.metrics.registry.get_sample_value("callstream_lanes_owned") for service in services]
        return sum(filter(None, lanes)) == PARTITIONS and all(lanes)

    async def subscribed() -> bool:
        return len(list(world.emulator.world.subscriptions.live())) == 2

    await eventually(shared, "both processes have lanes")
    await eventually(subscribed, "both tenants are subscribed")


async def put_off(world: World) -> dict[str, list[dict[str, Any]]]:
    """Tenant id → every notification of it that was ever written into a retry topic."""
    found: dict[str, list[dict[str, Any]]] = {SICK.id: [], WELL.id: []}
    for topic in Topics(world.settings.kafka.topic_prefix).retry:
        for record in await read_all(world.settings.kafka.bootstrap_servers, topic, PARTITIONS):
            notification = json.loads(record.value)
            found[notification["tenantId"]].append(notification)
    return found


async def test_a_sick_tenant_never_delays_another(kafka: str, prefix: str) -> None:
    """403, then 429 for an hour: the other's events all come meanwhile, none is put off, none is slower; and the sick
    one's come when it is well, each once, with no attempt counted."""
    async with world_of(
        kafka, prefix, SPEED, Keeper(reconcile_days=0), tenants=(SICK, WELL), delivery=PATIENT
    ) as world:
        graph = Graph(
            cloud="custom",
            root_url=world.emulator.url,
            login_url=world.emulator.url,
            request_timeout_seconds=4000.0,
            record_deadline_seconds=5000.0,
        )
        faults = world.emulator.world.faults
        async with (
            world.serving("work,keep", graph=graph, lanes=LANES) as first,
            world.serving("receive,work,keep", graph=graph, lanes=LANES) as second,
        ):
            await until_both_work(world, first, second)
            async with diary_of(world) as diary:
                early, before = await some_minutes(world, diary, MINUTES_BEFORE)
                await diary.until_seen(early + before, "all is published while all is well")

                faults.add({"status": 403, "tenantId": SICK.id})
                forbidden, meanwhile = await some_minutes(world, diary, MINUTES_FORBIDDEN)
                faults.remove()
                faults.add({"status": 429, "retryAfter": 30, "tenantId": SICK.id})
                throttled, during = await some_minutes(world, diary, MINUTES_THROTTLED)
                healthy = meanwhile + during
                await diary.until_seen(healthy, "the other's calls are published while the sick one still waits")

                assert not set(diary.seen) & set(throttled), "a tenant that is throttled publishes nothing"
                assert faults.rules[0].acted > 0
                faults.remove()
                await diary.until_seen(early + forbidden + throttled, "the sick one's calls, now that it is well")

        waited = await put_off(world)
        assert [one for one in waited[WELL.id] if one.get("reason") not in ("unchanged", "long_fetch")] == []
        assert "tenant_waits" in {one["reason"] for one in waited[SICK.id]}
        assert {one.get("attempt", 0) for one in waited[SICK.id]} == {0}
        assert set(diary.times) == set(diary.made)
        assert set(diary.times.values()) == {1}
        dead = await read_all(kafka, Topics(prefix).dead_letter, 1)
        assert dead == []
        assert diary.median(healthy) <= MOST_TIMES_SLOWER * diary.median(before)
