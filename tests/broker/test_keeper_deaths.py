"""Processes with the role keep die, or stand still, in the middle of each of their calls to Graph; another takes over.

Each step is a tenant of its own, so that one death hits all of them at once. Graph answers no call of a step until the
test has seen every step stand: before the call's effect, or after it and before the answer. Two others stand by, so
what is measured is a handover and not how long this machine takes to start a process.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from service.clock import Clock, iso
from service.emulator.options import EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.subscription import Subscription
from service.emulator.subscription_wishes import read_wish
from service.emulator.tokens import Principal
from service.kafka.topics import Topics
from service.metrics import Metrics
from service.notification import Gatekeeper, LifecycleEvent, client_state
from service.receiver import KafkaStore, receiver_site
from service.settings import Receiver
from tests.blackbox.fleet import Server
from tests.broker.test_receiver_kafka import create_topics, kafka_settings
from tests.freezing import freeze

OLD_KEY, NEW_KEY = "an old key of sixteen", "a new key of sixteen"
PERIOD_SECONDS = 60.0
LONG_SECONDS = 4000 * 60.0
SERVERS = 3
DEADLINE_SECONDS = 90.0


@dataclass(frozen=True)
class Step:
    """One call of one tenant's keeper."""

    name: str
    there: str
    """What there is before: nothing, ours, ending, older key, older url, two."""
    method: str
    nth: int = 1
    """The so manieth of this method that the keeper makes in this look."""


STEPS = (
    Step("list, then adopt", "ours", "GET"),
    Step("create", "nothing", "POST"),
    Step("renew", "ending", "PATCH"),
    Step("delete for a new key", "older key", "DELETE"),
    Step("create with a new key", "older key", "POST"),
    Step("create, and be refused", "older url", "POST"),
    Step("read what stands in the way", "older url", "GET", nth=2),
    Step("delete what stands in the way", "older url", "DELETE"),
    Step("create after all", "older url", "POST", nth=2),
    Step("delete one of two", "two", "DELETE"),
)
ACTIONS = ("hang", "hold")
"""Before the call's effect, and after it."""


@dataclass
class Play:
    """The tenants with their steps, and processes that keep them."""

    emulator: Emulator
    servers: list[Server]
    store: KafkaStore
    url: str
    clock: Clock

    @property
    def parts(self) -> dict[TenantOptions, tuple[Step, str]]:
        """Who plays what."""
        steps = [(step, action) for step in STEPS for action in ACTIONS]
        return dict(zip(self.emulator.world.options.tenants, steps, strict=True))

    def prepare(self) -> None:
        """Every tenant has what its step begins with, and Graph is told where to stand still."""
        faults = self.emulator.world.faults
        for tenant, (step, action) in self.parts.items():
            for one in self.live(tenant):
                self.emulator.world.subscriptions.remove(one.principal, one.id)
            self._put(tenant, step.there)
            about = {"kind": "subscriptions", "tenantId": tenant.id, "method": step.method}
            if step.nth > 1:
                faults.add({**about, "action": "hang", "seconds": 0, "count": step.nth - 1})
            faults.add({**about, "action": action, "seconds": 1e6, "count": 1})

    def _put(self, tenant: TenantOptions, there: str) -> None:
        match there:
            case "ours":
                self._add(tenant, 2)
            case "ending":
                self._add(tenant, 2, expirationDateTime=iso(self.clock.now() + 3000))
            case "older key":
                self._add(tenant, 1)
            case "older url":
                self._add(tenant, 2, notificationUrl=f"{self.url}/somewhere-else")
            case "two":
                self._add(tenant, 2)
                self._add(tenant, 2, changeType="created,updated")

    def _add(self, tenant: TenantOptions, key: int, **changes: Any) -> None:
        body = {
            "resource": "communications/callRecords",
            "changeType": "updated",
            "notificationUrl": f"{self.url}/notifications?k={key}",
            "lifecycleNotificationUrl": f"{self.url}/lifecycle?k={key}",
            "clientState": client_state(key, (OLD_KEY, NEW_KEY)[key - 1].encode(), tenant.id),
            "expirationDateTime": iso(self.clock.now() + LONG_SECONDS + 60),
        }
        principal = Principal(tenant.id.lower(), tenant.client_id.lower())
        self.emulator.world.subscriptions.add(principal, read_wish({**body, **changes}, self.clock.now()))

    def live(self, tenant: TenantOptions) -> list[Subscription]:
        found = self.emulator.world.subscriptions.live()
        return [one for one in found if one.principal.tenant_id == tenant.id.lower()]

    @property
    def standing(self) -> int:
        """How many steps stand still now."""
        return sum(rule.waiting for rule in self.emulator.world.faults.rules if rule.seconds)

    async def until_all_stand(self) -> None:
        await self.until(self._stand_all, "every step stands still")

    async def _stand_all(self) -> bool:
        return self.standing == len(self.parts)

    async def until(self, claim: Any, what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not await claim():  # noqa: ASYNC110 - it happens in other processes
                    await asyncio.sleep(0.05)
        except TimeoutError:
            rules = [rule for rule in self.emulator.world.faults.rules if rule.seconds]
            idle = [play for rule, play in zip(rules, self.parts.values(), strict=False) if not rule.waiting]
            tails = "\n".join(f"--- {one.name}\n{one.log.read_text()[-2000:]}" for one in self.servers)
            raise AssertionError(f"not in time: {what}\nnot standing: {idle}\n{self.wrong()}\n{tails}") from None

    async def active(self) -> Server:
        """The process that is the keeper."""
        found: list[Server] = []

        async def one() -> bool:
            found[:] = [server for server in self.servers if await _is_active(server)]
            return len(found) == 1

        await self.until(one, "one process is the keeper")
        return found[0]

    def wrong(self) -> list[str]:
        """Steps after which the tenant has not exactly one subscription of ours, right and lasting."""
        return [
            f"{step.name} ({action}): {[one.notification_url for one in self.live(tenant)]}"
            for tenant, (step, action) in self.parts.items()
            if [self._is_right(one) for one in self.live(tenant)] != [True]
        ]

    def _is_right(self, one: Subscription) -> bool:
        key = client_state(2, NEW_KEY.encode(), one.principal.tenant_id)
        urls = (one.notification_url, one.lifecycle_url)
        return (
            urls == (f"{self.url}/notifications?k=2", f"{self.url}/lifecycle?k=2")
            and one.client_state == key
            and one.expires_at > self.clock.now() + LONG_SECONDS - 3600
        )

    async def until_right(self) -> None:
        async def right() -> bool:
            return not self.wrong()

        await self.until(right, "every tenant has its one subscription")

    def gaps(self) -> dict[str, float]:
        """The longest time without a subscription of each step, in seconds of the emulator's clock."""
        now, lives = self.clock.now(), self.emulator.world.subscriptions.lives
        return {
            f"{step.name} ({action})": max((end - begin for begin, end in lives.gaps(tenant.id, now)), default=0.0)
            for tenant, (step, action) in self.parts.items()
        }

    async def wake(self) -> None:
        """Every tenant is looked at now, not a period later: any lifecycle event does that."""
        nobody, now = "00000000-0000-4000-8000-000000000000", iso(self.clock.now())
        events = [
            LifecycleEvent(tenant_id=tenant.id, subscription_id=nobody, lifecycle_event="missed", received_at=now)
            for tenant in self.parts
        ]

        async def stored() -> bool:
            return self.store.trouble() is None

        await self.until(stored, "Kafka takes lifecycle events")
        await self.store.store([], events)


async def _has_joined(kafka: str, prefix: str) -> bool:
    """Nobody else will join, and so the place of the keeper stays where it is."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        [answer] = await admin.describe_consumer_groups([f"{prefix}.keeper"])
    except KafkaError:  # no group before its first member
        return False
    finally:
        await admin.close()
    [(_, _, state, _, _, members, *_)] = answer.groups
    return state == "Stable" and len(members) == SERVERS


def tenants() -> tuple[TenantOptions, ...]:
    first = TenantOptions()
    return tuple(
        replace(first, id=f"c0ffee00-1111-4222-8333-{number:012x}", name=f"tenant{number}")
        for number in range(len(STEPS) * len(ACTIONS))
    )


@asynccontextmanager
async def play(kafka: str, prefix: str, folder: Path) -> AsyncIterator[Play]:
    """Three processes of which one is the keeper; the receiver that Graph shakes hands with is the test's own."""
    kafka_part, clock = kafka_settings(kafka, prefix), Clock()
    await create_topics(kafka_part)
    names = {tenant.id: tenant.name for tenant in tenants()}
    gatekeeper = Gatekeeper(names, {1: OLD_KEY.encode(), 2: NEW_KEY.encode()})
    async with AsyncExitStack() as stack:
        emulator = await stack.enter_async_context(open_emulator(EmulatorOptions(port=0, tenants=tenants()), clock))
        store = await stack.enter_async_context(KafkaStore(kafka_part, Topics(prefix), 2.0))
        site = receiver_site(Receiver(host="127.0.0.1", port=0), gatekeeper, store, Metrics(), clock)
        url = (await stack.enter_async_context(site)).url
        environment = _environment(kafka, prefix, emulator, url, kafka_part.partitions)
        servers = [Server(f"keeper-{n}", "keep", environment, folder / f"keeper-{n}.log") for n in range(SERVERS)]
        playing = Play(emulator, servers, store, url, clock)
        for server in servers:
            await server.start()
            stack.push_async_callback(_end, server)
        await playing.until(lambda: _has_joined(kafka, prefix), "all processes are in the keeper's group")
        await playing.until_right()
        playing.prepare()
        await playing.wake()
        yield playing


async def _end(server: Server) -> None:
    assert server.process is not None
    if server.process.returncode is None:
        server.process.send_signal(signal.SIGCONT)
        await server.terminate()


def _environment(kafka: str, prefix: str, emulator: Emulator, url: str, partitions: int) -> dict[str, str]:
    found = {
        "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": kafka,
        "CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix,
        "CALLSTREAM_KAFKA__PARTITIONS": str(partitions),
        "CALLSTREAM_KAFKA__SESSION_TIMEOUT_SECONDS": "3",
        "CALLSTREAM_RECEIVER__PUBLIC_URL": url,
        "CALLSTREAM_GRAPH__CLOUD": "custom",
        "CALLSTREAM_GRAPH__ROOT_URL": emulator.url,
        "CALLSTREAM_GRAPH__LOGIN_URL": emulator.url,
        "CALLSTREAM_KEEPER__PERIOD_SECONDS": f"{PERIOD_SECONDS:g}",
        "CALLSTREAM_KEEPER__RECONCILE_DAYS": "0",
        "CALLSTREAM_CLIENT_STATE__KEYS__1": OLD_KEY,
        "CALLSTREAM_CLIENT_STATE__KEYS__2": NEW_KEY,
        "CALLSTREAM_LOG__FORMAT": "json",
    }
    for tenant in emulator.world.options.tenants:
        name = f"CALLSTREAM_TENANTS__{tenant.name.upper()}__"
        found |= {f"{name}ID": tenant.id, f"{name}CLIENT_ID": tenant.client_id}
        found[f"{name}CLIENT_SECRET"] = tenant.client_secret
    return found


@pytest.mark.parametrize("death", ["killed", "frozen"])
async def test_a_keeper_dies_in_every_call_and_another_takes_over(
    kafka: str, prefix: str, tmp_path: Path, death: str
) -> None:
    """SIGKILL; or it stands still while another takes over, and goes on when that is done.

    Never zero subscriptions for longer than a period, never two of ours for good; each is mended by the first look.
    """
    async with play(kafka, prefix, tmp_path) as playing:
        first = await playing.active()
        await playing.until_all_stand()
        assert first.process is not None
        await (first.kill() if death == "killed" else _freeze(first))
        playing.servers.remove(first)
        if death == "killed":
            await playing.until(lambda: _none_stand(playing), "Graph has seen the connections go")
            playing.emulator.world.faults.remove()
        second = await playing.active()
        await playing.until_right()
        looks = await second.metric('callstream_subscription_calls_total{kind="list",outcome="ok"}')
        if death == "frozen":
            # Calls whose time had come long ago are done only now, and their sender goes on as if nothing had been.
            playing.emulator.world.faults.remove()
            first.process.send_signal(signal.SIGCONT)
            await playing.until(lambda: _is_idle(first), "the one that stood still knows that it lost its place")

        terms = second.log.read_text().count("this process is the active keeper")
        assert looks <= terms * len(playing.parts), (terms, second.log.read_text()[-6000:])
        assert playing.wrong() == []
        assert await _is_active(second)
        gaps = playing.gaps()
        assert max(gaps.values()) < PERIOD_SECONDS, gaps


async def _freeze(server: Server) -> None:
    assert server.process is not None
    freeze(server.process.pid)


async def _none_stand(playing: Play) -> bool:
    return playing.standing == 0


async def _is_active(server: Server) -> bool:
    try:
        return await server.metric("callstream_keeper_active") == 1
    except aiohttp.ClientError:  # it is still starting
        return False


async def _is_idle(server: Server) -> bool:
    return not await _is_active(server)
