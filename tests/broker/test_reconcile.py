"""The whole service between a real Kafka and the emulator: what Graph never told is found, counted, and told."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from service.app import Service, open_service
from service.clock import Clock
from service.emulator.making import CallWish
from service.emulator.options import DeliveryOptions, EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.kafka.topics import Topics
from service.settings import (
    Admin,
    ClientState,
    Graph,
    Kafka,
    Keeper,
    Receiver,
    Retry,
    Secret,
    Settings,
    Tenant,
)
from tests.broker.lane_bench import PARTITIONS, eventually, read_all

CONTOSO = TenantOptions()
FABRIKAM = TenantOptions(id="fab00000-1111-4222-8333-444455556666", name="fabrikam")
DEAF = DeliveryOptions(drop_notification_share=1.0)


@dataclass
class World:
    """An emulated Graph and settings for a service beside it."""

    emulator: Emulator
    settings: Settings
    clock: Clock

    @asynccontextmanager
    async def serving(self, roles: str = "receive,work,keep", **changes: Any) -> AsyncIterator[Service]:
        """A whole service of its own, drained at the end."""
        settings = msgspec.structs.replace(self.settings, **changes)
        async with open_service(settings, roles.split(","), self.clock) as service:
            yield service

    def make(self, count: int, hours_ago: float, tenant: TenantOptions = CONTOSO) -> list[str]:
        """Calls that started so long ago and of which nobody is told any more."""
        wishes = [
            CallWish(tenant.id, kind="peerToPeer", started_seconds_ago=hours_ago * 3600 + number)
            for number in range(count)
        ]
        return [self.emulator.maker.make(wish).id for wish in wishes]

    async def published(self) -> list[str]:
        """Call ids of the committed call summaries, in order."""
        topics = Topics(self.settings.kafka.topic_prefix)
        records = await read_all(self.settings.kafka.bootstrap_servers, topics.calls, PARTITIONS)
        return [json.loads(record.value)["call"]["id"] for record in records]

    async def until_published(self, ids: list[str]) -> None:
        """Each of them once, and nothing else."""

        async def all_there() -> bool:
            return set(await self.published()) >= set(ids)

        await eventually(all_there, f"{len(ids)} calls are published")
        assert sorted(await self.published()) == sorted(ids)


async def status(service: Service, tenant: str = "contoso") -> dict[str, Any]:
    """The tenant's part of the status page; empty while this process is not the keeper."""
    async with aiohttp.ClientSession() as http, http.get(f"{service.admin_url}/status") as reply:
        found: dict[str, Any] = (await reply.json())["completeness"] or {}
        return found.get(tenant, {})


async def until_total(service: Service, tenant: str = "contoso", **wanted: int) -> dict[str, Any]:
    """The status once its sums are as wanted."""
    seen: dict[str, Any] = {}

    async def as_wanted() -> bool:
        seen.update(await status(service, tenant))
        return bool(seen) and wanted.items() <= seen["total"].items()

    try:
        await eventually(as_wanted, f"{wanted}")
    except AssertionError:
        raise AssertionError(f"{wanted}, but {seen.get('total')}") from None
    return seen


@asynccontextmanager
async def world_of(
    kafka: str, prefix: str, speed: float = 20.0, keeper: Keeper | None = None, **options: Any
) -> AsyncIterator[World]:
    clock = Clock(speed)
    async with open_emulator(EmulatorOptions(port=0, **options), clock) as emulator:
        tenants = {
            one.name: Tenant(id=one.id, client_id=one.client_id, client_secret=Secret(one.client_secret))
            for one in emulator.world.options.tenants
        }
        port = _free_port()
        settings = Settings(
            kafka=Kafka(bootstrap_servers=kafka, topic_prefix=prefix, partitions=PARTITIONS, session_timeout_seconds=6),
            receiver=Receiver(host="127.0.0.1", port=port, public_url=f"http://127.0.0.1:{port}"),
            admin=Admin(port=0),
            client_state=ClientState(keys={"1": Secret("a key of at least sixteen")}),
            tenants=tenants,
            graph=Graph(cloud="custom", root_url=emulator.url, login_url=emulator.url),
            keeper=keeper or Keeper(period_seconds=10.0, reconcile_period_seconds=20.0),
            retry=Retry(),
        )
        yield World(emulator, settings, clock)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def budgets_held(emulator: Emulator) -> Callable[[], None]:
    """Fails when any limit of Graph's was touched, or the list was asked more often than we say."""

    def check() -> None:
        report = emulator.world.counters.report()
        assert sum(one["throttled"] for one in report.values()) == 0, report
        assert report["list"]["highest"] <= 8, report["list"]

    return check


async def test_calls_nobody_told_of_are_published_once_and_counted(kafka: str, prefix: str) -> None:
    """Thirty days back; healed is what the look found, and the sums are whole."""
    async with world_of(kafka, prefix, delivery=DEAF) as world:
        ids = [one for hours in (5, 30, 200, 700) for one in world.make(5, hours)]
        async with world.serving() as service:
            await world.until_published(ids)
            seen = await until_total(service, listed=20, published=20, missing=0, healed=20, late=0, set_aside=0)
            metrics = service.metrics.registry

            assert len(seen["days"]) >= 4
            assert seen["say"] == []
            labels = {"tenant": "contoso", "day": str(seen["days"][-1]["age"]), "state": "listed"}
            assert metrics.get_sample_value("callstream_day_calls", labels) is not None
            assert metrics.get_sample_value("callstream_reconcile_fits", {"tenant": "contoso"}) == 1
            budgets_held(world.emulator)()


async def test_a_list_without_versions_ends_complete_too(kafka: str, prefix: str) -> None:
    """Whether Graph's list has them is not verified (graph-contract 6.4): everything listed is fetched, nothing is
    published twice, and a version that nobody told of is found by the next look, here after a gap."""
    async with world_of(kafka, prefix, delivery=DEAF, list_has_version=False) as world:
        ids = world.make(20, 5)
        async with world.serving() as service:
            await until_total(service, listed=20, published=20, missing=0, healed=20)
            for call in list(world.emulator.store.calls())[:5]:
                later = world.emulator.maker.later_version(world.emulator.store.document(call, call.current), 0.0)
                world.emulator.store.add_version(call, later, notify_at=world.clock.now() + 1e9)
            for one in world.emulator.world.subscriptions.live():
                world.emulator.world.subscriptions.remove(one.principal, one.id)
            versions = Counter({call.id: len(call.versions) for call in world.emulator.store.calls()})

            async def all_there() -> bool:
                return len(await world.published()) >= versions.total()

            await eventually(all_there, "every version is published")
            seen = await until_total(service, listed=20, published=20, missing=0)

            assert seen["say"] == []
            assert set(versions) == set(ids)
            assert versions.total() == 25
            assert Counter(await world.published()) == versions, "each version once"


async def test_memory_outlives_the_keeper(kafka: str, prefix: str) -> None:
    """Another process takes over with the same figures and lists nothing again that was listed."""
    async with world_of(kafka, prefix, delivery=DEAF) as world:
        ids = world.make(10, 50)
        async with world.serving("work"), world.serving("receive,keep") as first:

            async def rests() -> bool:
                return (await status(first)).get("plan", {}).get("hoursDue") == 0

            await eventually(rests, "all thirty days are listed")
            await until_total(first, listed=10, published=10, missing=0)
            before = await status(first)
        listed = world.emulator.world.counters.report()["list"]["requests"]
        more = world.make(3, 60)
        async with world.serving() as second:
            await until_total(second, listed=10, published=10, missing=0, healed=10)
            again = world.emulator.world.counters.report()["list"]["requests"] - listed

            assert before["total"] == (await status(second))["total"]
            assert again < 5  # the looks that have come due meanwhile, not the thirty days
            assert not set(more) & set(await world.published())
        assert sorted(await world.published()) == sorted(ids)


async def test_keeper_killed_while_it_lists_loses_nothing(kafka: str, prefix: str) -> None:
    """Cancelled between pages again and again, it begins each look anew; every call once, the sums whole."""
    async with world_of(kafka, prefix, delivery=DEAF, list_page=5) as world:
        ids = world.make(60, 50)
        async with world.serving("work"):
            for pages in (1, 2, 4, 7):
                async with world.serving("receive,keep"):
                    start = world.emulator.world.counters.report()["list"]["requests"]

                    async def some_pages(limit: int = start + pages) -> bool:
                        return world.emulator.world.counters.report()["list"]["requests"] >= limit

                    await eventually(some_pages, "some pages are listed")
            async with world.serving("receive,keep") as last:
                await until_total(last, listed=60, published=60, missing=0)
                await world.until_published(ids)


async def test_a_record_that_appears_after_the_first_look_is_late(kafka: str, prefix: str) -> None:
    """Listed by a later look of its hour only; published because of it."""
    async with world_of(kafka, prefix, speed=4000.0, delivery=DEAF) as world:
        early = world.make(2, 3)
        async with world.serving() as service:
            await until_total(service, listed=2, published=2)
            late = world.make(1, (world.clock.now() - _start(world, early[0])) / 3600)
            seen = await until_total(service, listed=3, published=3, missing=0, late=1)

            assert seen["total"]["healed"] == 3
            assert sorted(await world.published()) == sorted(early + late)


async def test_one_tenant_in_trouble_does_not_stop_the_other(kafka: str, prefix: str) -> None:
    """A list that is refused is a wait of that tenant's list alone."""
    tenants = (TenantOptions(consented=False), FABRIKAM)
    async with world_of(kafka, prefix, tenants=tenants, delivery=DEAF) as world:
        ids = world.make(4, 30, FABRIKAM)
        world.make(4, 30, CONTOSO)
        async with world.serving() as service:
            await until_total(service, "fabrikam", listed=4, published=4, missing=0)
            assert (await status(service, "contoso"))["total"]["listed"] == 0
            assert sorted(await world.published()) == sorted(ids)


async def test_last_notice_is_remembered(kafka: str, prefix: str) -> None:
    """Silence can only be told from quiet by who knows when Graph last spoke."""
    async with world_of(kafka, prefix) as world, world.serving() as service:

        async def subscribed() -> bool:
            labels = {"tenant": "contoso"}
            expiry = "callstream_subscription_expiry_timestamp_seconds"
            return bool(service.metrics.registry.get_sample_value(expiry, labels))

        await eventually(subscribed, "a subscription is there")
        world.emulator.maker.make(CallWish(CONTOSO.id))

        async def seen() -> bool:
            return bool((await status(service)).get("lastNotice"))

        await eventually(seen, "the keeper knows of the notice")


def _start(world: World, call_id: str) -> float:
    call = world.emulator.store.find(CONTOSO.id, call_id)
    assert call is not None
    return call.start
