"""Two keepers never fight: the later one fences the earlier, whose writes then fail as a whole."""

import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError

from service.clock import Clock
from service.graph.listing import Listed, ListPage
from service.kafka.topics import Topics
from service.kafka.whole import read_whole
from service.metrics import Metrics
from service.reconcile.memory import Memory
from service.reconcile.reconciler import Reconciler
from service.settings import Settings
from tests.broker.lane_bench import PARTITIONS, TENANT, bench, call_id, eventually, read_all, settings_for


class ScriptedLister:
    """A list of one page with one call, whatever is asked."""

    def __init__(self, name: str) -> None:
        self.page = ListPage([Listed(call_id(name), 1, None)], None, 0)

    async def pages(self, *_: Any) -> AsyncGenerator[ListPage, None]:
        yield self.page


def reconciler(settings: Settings, name: str, clock: Clock) -> Reconciler:
    lister: Any = ScriptedLister(name)
    return Reconciler(settings, Topics(settings.kafka.topic_prefix), lister, Metrics(tenants=["contoso"]), clock)


async def queued(settings: Settings) -> set[str]:
    records = await read_all(settings.kafka.bootstrap_servers, Topics(settings.kafka.topic_prefix).backfill, PARTITIONS)
    return {record.key.decode().split("/")[1] for record in records}


async def remembered(settings: Settings) -> Memory:
    memory = Memory(time.time())
    await read_whole(settings.kafka, TopicPartition(Topics(settings.kafka.topic_prefix).state, 0), memory)
    return memory


async def test_the_later_keeper_fences_the_earlier(kafka: str, prefix: str) -> None:
    """What the fenced one lists afterwards is neither queued nor remembered; what it wrote before is kept."""
    settings = settings_for(kafka, prefix)
    async with bench(settings):
        clock = Clock()
        first, second = reconciler(settings, "first", clock), reconciler(settings, "second", clock)
        async with first.opened():
            one = first._tenants[0]
            plan = first._plan(one)
            assert plan.look is not None
            await first._look(one, plan.look)
            async with second.opened():
                assert second.status() == first.status()
                behind = first._plan(one)
                assert behind.look is not None
                first._lister = reconciler(settings, "late", clock)._lister
                with pytest.raises(KafkaError):
                    await first._look(one, behind.look)
                other = second._plan(second._tenants[0])
                assert other.look is not None
                await second._look(second._tenants[0], other.look)

                async def both() -> bool:
                    return await queued(settings) >= {call_id("first"), call_id("second")}

                await eventually(both, "both looks are queued")
                assert call_id("late") not in await queued(settings)
                seen = (await remembered(settings)).tenants[TENANT]
                assert sum(1 for hour in seen.hours.values() if hour.look) == (
                    plan.look.end - plan.look.first + other.look.end - other.look.first
                )
        assert first.status() is None


async def test_what_a_keeper_left_complete_is_committed_by_the_next(kafka: str, prefix: str) -> None:
    """It died before it asked for the commit: what it queued is queued, and the memory says so."""
    settings = settings_for(kafka, prefix)
    async with bench(settings):
        clock = Clock()
        first, second = reconciler(settings, "first", clock), reconciler(settings, "second", clock)
        async with first.opened():
            assert first._open is not None
            producer = first._open.publisher._producer

            async def dies() -> None:
                raise KafkaConnectionError("it dies here")

            producer.commit_transaction = dies
            plan = first._plan(first._tenants[0])
            assert plan.look is not None
            with pytest.raises(KafkaConnectionError):
                await first._look(first._tenants[0], plan.look)
        assert await queued(settings) == set()
        async with second.opened():
            assert await queued(settings) == {call_id("first")}
            seen = (await remembered(settings)).tenants[TENANT]
            assert any(hour.look for hour in seen.hours.values())
