"""What the fault table's tests share: the service on a real broker against the emulator, on one fast clock.

One worker for all of them: each test takes tenants of its own, and counts what moved while it ran.
"""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from service.app import Parts, Service, open_service
from service.clock import Clock, from_iso, iso
from service.emulator.journal import Visit
from service.emulator.judge import Judge, Verdict
from service.emulator.making import CallWish
from service.emulator.options import DeliveryOptions, EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.store import Call
from service.graph.auth import TenantTokens
from service.kafka.topics import Topics, partition_of
from service.notification import Notification
from service.outbound.session import http_session
from service.settings import (
    Admin,
    ClientState,
    Graph,
    Kafka,
    Keeper,
    Lanes,
    Receiver,
    Retry,
    Secret,
    Settings,
    Tenant,
)
from service.signin.clouds import endpoints

SPEED = 3000.0
PARTITIONS = 3
DEADLINE_SECONDS = 60.0
NEVER = 1e12
HOUR = 3600.0
GIVE_UP_HOURS = 2.0
# Half of the default, and above the 150 minutes that Graph promises.
NOT_READY_HOURS = 3.0
# Counters that a test accounts for to the last one; of the histogram, how often.
COUNTED = ("notifications_retried", "dead_letters", "notifications_skipped", "records_published", "graph_seconds")
GRAPH_CALLS = ("record", "sessions", "participants", "version", "token")


@dataclass
class Waited:
    """One stay in a retry topic."""

    tier: str
    reason: str
    attempt: int
    due_at: float
    """Unix seconds of the clock."""


@dataclass
class Stage:
    """The running whole, and everything that was published."""

    emulator: Emulator
    service: Service
    settings: Settings
    topics: Topics
    clock: Clock
    producer: AIOKafkaProducer
    tokens: TenantTokens | None
    seen: list[ConsumerRecord] = field(default_factory=list)
    free: Iterator[TenantOptions] = field(default_factory=lambda: iter(()))

    def tenant(self) -> TenantOptions:
        """One that no other test has."""
        return next(self.free)

    def call(self, tenant: TenantOptions, **wish: Any) -> Call:
        """A call that exists and that nobody has been told of."""
        wish = {"kind": "peerToPeer", "notify_after_seconds": NEVER, **wish}
        return self.emulator.maker.make(CallWish(tenant.id, **wish))

    def fault(self, **wish: Any) -> int:
        """Puts a scripted fault; its number."""
        return self.emulator.world.faults.add(wish).id

    def lift(self, *numbers: int) -> None:
        """Takes faults away."""
        for number in numbers:
            assert self.emulator.world.faults.remove(number)

    async def announce(self, *calls: Call) -> None:
        """A notification of each, received now."""
        for call in calls:
            await self.put(call, self.clock.now())

    def forget_token(self, tenant: TenantOptions) -> None:
        """The next request of the tenant needs a new one."""
        assert self.tokens is not None
        self.tokens.invalidate(one := self.settings.tenants[tenant.name], self.tokens._entry(one).token)

    async def put(self, call: Call, received_at: float) -> None:
        """A notification as if it had been received then, appended as the receiver does."""
        note = Notification(tenant_id=call.tenant_id, call_id=call.id, source="webhook", received_at=iso(received_at))
        value, place = msgspec.json.encode(note), partition_of(note.key, PARTITIONS)
        await self.producer.send_and_wait(self.topics.notifications, value, key=note.key, partition=place)

    async def until(self, claim: Callable[[], Any], what: str) -> None:
        """Waits until a claim holds; fails with `what` after a deadline far above what is needed."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not claim():  # noqa: ASYNC110 - what is waited for tells nobody
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"not within {DEADLINE_SECONDS:.0f} s: {what}") from None

    async def until_published(self, *calls: Call) -> None:
        """Until the summary of each call's newest version is there."""
        await self.until(lambda: all(self.versions(call)[-1:] == [call.current.number] for call in calls), "published")

    async def until_dead(self, *calls: Call) -> None:
        """Until each call has a dead letter."""
        await self.until(lambda: all(self.letters(call) for call in calls), "set aside")

    def records(self, topic: str, call: Call) -> list[ConsumerRecord]:
        """What was committed for a call in a topic, in order."""
        key = f"{call.tenant_id}/{call.id}".encode()
        return [record for record in self.seen if record.topic == topic and record.key == key]

    def versions(self, call: Call) -> list[int]:
        """The published versions, in order."""
        return [int(dict(record.headers)["version"]) for record in self.records(self.topics.calls, call)]

    def letters(self, call: Call) -> list[tuple[str, int]]:
        """Dead letters of a call: reason and attempts."""
        found = [dict(record.headers) for record in self.records(self.topics.dead_letter, call)]
        return [(headers["reason"].decode(), int(headers["attempts"])) for headers in found]

    def waits(self, call: Call) -> list[Waited]:
        """The call's stays in retry topics, in order; not those beside a batch, which a busy machine may bring."""
        found = []
        for record in self.seen:
            if record.topic in self.topics.retry and record.key == f"{call.tenant_id}/{call.id}".encode():
                note = msgspec.json.decode(record.value, type=Notification)
                tier = record.topic.rpartition(".")[2]
                if note.reason != "long_fetch":
                    found.append(Waited(tier, note.reason or "", note.attempt, from_iso(note.due_at or "")))
        return sorted(found, key=lambda one: one.due_at)

    def story(self, call: Call) -> list[tuple[str, str, int]]:
        """(tier, reason, attempts so far) of each stay."""
        return [(one.tier, one.reason, one.attempt) for one in self.waits(call)]

    def asked(self, call: Call, *kinds: str) -> list[Visit]:
        """The emulator's journal of a call."""
        return [visit for visit in self.emulator.world.journal.of(call.tenant_id, *kinds) if visit.call_id == call.id]

    def held(self, tenant: TenantOptions) -> bool:
        """The gauge of a tenant that waits."""
        name = {"tenant": tenant.name}
        return self.service.metrics.registry.get_sample_value("callstream_tenant_waiting", name) == 1.0

    def verdict(self, *calls: Call) -> Verdict:
        """The judge's, on these calls alone: every event, summary and envelope of every version."""
        judge, keys = Judge(), {f"{call.tenant_id}/{call.id}".encode() for call in calls}
        for call in calls:
            for version in call.versions:
                judge.add_truth(call.tenant_id, version.unpack())
        for record in self.seen:
            if record.key in keys:
                self._tell(judge, record)
        return judge.verdict()

    def _tell(self, judge: Judge, record: ConsumerRecord) -> None:
        place = (record.topic, record.partition, record.offset, record.key, record.value, record.headers)
        if record.topic == self.topics.dead_letter:
            judge.see_dead_letter(*place)
        elif record.topic == self.topics.calls:
            judge.see_summary(*place)
        elif record.topic in self.topics.streams.values():
            judge.see_event(*place)

    def check_waited(self, call: Call) -> None:
        """Nobody asked for the call's record before its notification was due."""
        starts = [visit.at for visit in self.asked(call, "record")]
        for wait in self.waits(call):
            earlier = [at for at in starts if at < wait.due_at]
            assert all(at <= wait.due_at - DELAYS[wait.tier] for at in earlier[-1:]), (wait, starts)

    def counter(self, name: str, **labels: str) -> float:
        """A counter of the service, by its name without `callstream_`."""
        return self.service.metrics.registry.get_sample_value(f"callstream_{name}", labels) or 0.0

    def long_fetches(self) -> float:
        """Looks that went on beside their batch; a busy machine may bring some, so `counting` leaves them out."""
        return self.counter("notifications_retried_total", reason="long_fetch")

    def graph_calls(self, call: str, outcome: str) -> float:
        """Requests that came out so, until now."""
        return self.counter("graph_seconds_count", call=call, outcome=outcome)

    @contextmanager
    def counting(self) -> Iterator[dict[str, float]]:
        """Fills with the counters that moved in the block, when it ends: `retried{not_found}` → 2."""
        before, moved = self._counters(), dict[str, float]()
        yield moved
        for name, value in self._counters().items():
            if value != before.get(name, 0.0):
                moved[name] = value - before.get(name, 0.0)

    def _counters(self) -> dict[str, float]:
        found = {}
        for family in self.service.metrics.registry.collect():
            name = family.name.removeprefix("callstream_")
            if name not in COUNTED:
                continue
            for sample in family.samples:
                is_count = sample.name.endswith(("_total", "_count"))
                if is_count and sample.labels.get("call", "record") in GRAPH_CALLS:
                    found[f"{SHORT[name]}{{{','.join(sample.labels.values())}}}"] = sample.value
        return {name: value for name, value in found.items() if name != "retried{long_fetch}"}

    async def listen(self, servers: str) -> None:
        """Keeps every committed record of the topics that the service writes; runs until cancelled."""
        names = (*self.topics.streams.values(), self.topics.calls, *self.topics.retry)
        places = [TopicPartition(name, number) for name in names for number in range(PARTITIONS)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", isolation_level="read_committed"
        )
        await consumer.start()
        try:
            consumer.assign([*places, TopicPartition(self.topics.dead_letter, 0)])
            while True:
                polled = await consumer.getmany(timeout_ms=100)
                self.seen += itertools.chain.from_iterable(polled.values())
        finally:
            await consumer.stop()


DELAYS = {"1m": 60.0, "10m": 600.0, "1h": HOUR}
SHORT = {
    "notifications_retried": "retried",
    "dead_letters": "dead",
    "notifications_skipped": "skipped",
    "records_published": "published",
    "graph_seconds": "graph",
}


@asynccontextmanager
async def open_stage(servers: str, prefix: str, tenants: int) -> AsyncIterator[Stage]:
    """The lanes, with all that belongs to the role `work`. Delays are the defaults; records are given up sooner.

    What judges the machine (timeouts, patience) is about as long in real seconds as it is by default, and every tenant
    has its token: a fast clock must not judge the machine.
    """
    clock = Clock(SPEED)
    options = options_for(tenants)
    async with open_emulator(options, clock) as emulator, AsyncExitStack() as stack:
        settings = settings_for(servers, prefix, emulator, reconcile_days=0)
        parts = Parts(settings, endpoints(settings.graph), clock)
        service = Service(parts.metrics)
        parts.http = await stack.enter_async_context(http_session())
        producer = await stack.enter_async_context(AIOKafkaProducer(bootstrap_servers=servers, acks="all"))
        await parts.open_worker(service, stack)
        for tenant in settings.tenants.values():
            await parts.tokens.token(tenant)
        stage = Stage(
            emulator, service, settings, parts.topics, clock, producer, parts.tokens, free=iter(options.tenants)
        )
        async with listening(stage, servers):
            await warm_up(stage)
            yield stage


@asynccontextmanager
async def open_whole(servers: str, prefix: str) -> AsyncIterator[Stage]:
    """The service with all its roles, subscribed for its one tenant: what the emulator announces comes by itself."""
    clock = Clock(SPEED)
    options = options_for(1)
    async with open_emulator(options, clock) as emulator:
        settings = settings_for(servers, prefix, emulator, reconcile_days=1)
        producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
        async with open_service(settings, ["receive", "work", "keep"], clock) as service, producer:
            parts = Parts(settings, endpoints(settings.graph), clock)
            stage = Stage(emulator, service, settings, parts.topics, clock, producer, None, free=iter(options.tenants))
            subscriptions = emulator.world.subscriptions
            await stage.until(lambda: bool(list(subscriptions.live())), "the tenant is subscribed")
            async with listening(stage, servers):
                await warm_up(stage)
                yield stage


async def warm_up(stage: Stage) -> None:
    """Every lane has published something: what a test measures is no start."""
    lanes, calls = set[int](), []
    while len(lanes) < PARTITIONS:
        calls.append(call := stage.call(stage.emulator.world.options.tenants[-1]))
        lanes.add(partition_of(f"{call.tenant_id}/{call.id}".encode(), PARTITIONS))
    await stage.announce(*calls)
    await stage.until_published(*calls)


@asynccontextmanager
async def listening(stage: Stage, servers: str) -> AsyncIterator[None]:
    """Everything that is committed is seen while the block lasts."""
    task = asyncio.create_task(stage.listen(servers))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def options_for(tenants: int) -> EmulatorOptions:
    """So many tenants, tokens that last, and a receiver that is not hurried."""
    return EmulatorOptions(
        port=0,
        tenants=tuple(
            TenantOptions(id=f"fa017000-1111-4222-8333-{number:012x}", name=f"t{number:02}")
            for number in range(1, tenants + 1)
        ),
        token_seconds=1e9,
        delivery=DeliveryOptions(least_real_seconds=10.0),
    )


def settings_for(servers: str, prefix: str, emulator: Emulator, reconcile_days: int) -> Settings:
    """Of the service on the stage."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    return Settings(
        kafka=Kafka(bootstrap_servers=servers, topic_prefix=prefix, partitions=PARTITIONS, session_timeout_seconds=6),
        receiver=Receiver(host="127.0.0.1", port=port, public_url=f"http://127.0.0.1:{port}"),
        admin=Admin(port=0),
        client_state=ClientState(keys={"1": Secret("a key of at least sixteen")}),
        tenants={
            one.name: Tenant(id=one.id, client_id=one.client_id, client_secret=Secret(one.client_secret))
            for one in emulator.world.options.tenants
        },
        graph=Graph(
            cloud="custom",
            root_url=emulator.url,
            login_url=emulator.url,
            request_timeout_seconds=3.0 * SPEED,
            record_deadline_seconds=20.0 * SPEED,
            thorough_every=1,
        ),
        lanes=Lanes(patience_seconds=1.0 * SPEED),
        retry=Retry(give_up_hours=GIVE_UP_HOURS, not_ready_hours=NOT_READY_HOURS),
        # Often enough that a subscription that is lost comes back within a real second.
        keeper=Keeper(period_seconds=0.5 * SPEED, reconcile_days=reconcile_days),
    )
