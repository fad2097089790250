"""Shell: keeps every tenant subscribed. One process of a deployment is active: whoever owns the only partition of
`{prefix}.lifecycle` in the group `{prefix}.keeper`. One that lost it may call Graph for a moment longer, so everything
here is harmless when done twice.

Lifecycle events only make the keeper look sooner: what is to be done follows from what Graph lists. They are committed
when they are read; one that a death loses comes again from Graph within some 15 minutes, and the look at every period
finds out by itself what an event would have said (graph-contract 4). Nothing here waits while it blocks the loop,
so a receiver in the same process answers the handshake that our own POST makes Graph send.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError

from service import upkeep
from service.clock import Clock, iso
from service.errors import CallstreamError, GraphUnavailable, TenantMustWait
from service.graph.subscription import (
    ConsentMissing,
    HandshakeFailed,
    Subscription,
    SubscriptionExists,
    SubscriptionGone,
    describe_error,
)
from service.graph.subscriptions import Subscriptions
from service.kafka.knock import reason_of
from service.kafka.topics import Topics
from service.leadership import POLL_MS, Ownership, open_member, until_gained, until_lost
from service.logs import SECONDS_BETWEEN_REPEATS, RateLimit
from service.metrics import Metrics
from service.notification import Gatekeeper, event_label, read_event
from service.reconcile.reconciler import Reconciler
from service.settings import Kafka, Settings, Tenant

FIRST_PAUSE_SECONDS = 1.0  # real: between tries to reach Kafka
LONGEST_PAUSE_SECONDS = 10.0
# A renewal reauthorizes too; another within 10 minutes of it is what Graph asks us not to do (graph-contract 4).
RENEWED_RECENTLY_SECONDS = 600.0
# What events may cost: one look each so many seconds of the clock, beside those of every period. One that comes sooner
# waits for the end of that time; Graph repeats its own only every 15 minutes, so it is a replay that meets this.
WOKEN_SECONDS = 30.0
# Renew at once, whatever the expiration: the token behind it ends, or an administrator changed something.
RENEWING_EVENTS = ("reauthorizationRequired",)
HUB_TODO = (
    "Graph cannot write into the event hub: give the service principal 'Microsoft Graph Change Tracking' the role "
    "Azure Event Hubs Data Sender there, and compare event_hub.namespace, hub and tenant_domain with it."
)

log = structlog.get_logger()


async def keep(
    settings: Settings,
    topics: Topics,
    subscriptions: Subscriptions,
    gatekeeper: Gatekeeper,
    metrics: Metrics,
    clock: Clock,
    reconciler: Reconciler | None = None,
    board: dict[str, upkeep.Standing] | None = None,
) -> None:
    """Runs until cancelled, which takes milliseconds. Kafka and Graph may be away at any time; it waits and goes on.

    `board` is told how each tenant's subscription stands, by configured name; empty while another process is active.
    """
    board = {} if board is None else board
    if not _is_reachable(settings):
        log.warning(
            "no subscription is kept: receiver.public_url is not set",
            todo="Set CALLSTREAM_RECEIVER__PUBLIC_URL to the URL under which Graph reaches /notifications.",
        )
    limit = RateLimit(SECONDS_BETWEEN_REPEATS)
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            async with open_member(settings.kafka, topics) as (consumer, ownership):
                pause = FIRST_PAUSE_SECONDS
                tenants = [_Tending(name, tenant) for name, tenant in settings.tenants.items()]
                keeper = _Keeper(settings, subscriptions, gatekeeper, metrics, clock, tenants, reconciler, board)
                await _stand_by(keeper, consumer, ownership, metrics)
        except (KafkaError, OSError) as exc:
            if limit.admit("kafka"):
                why = await _cause(settings.kafka, exc)
                log.warning("the keeper waits for Kafka", topic=topics.lifecycle, cause=why)
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            # Nobody cancelled this keeper: it is the Kafka client's own, come out of one of its awaits.
            log.warning("the keeper waits for Kafka", topic=topics.lifecycle, cause="the client broke off")
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _is_reachable(settings: Settings) -> bool:
    """Whether there is anything that a subscription could name."""
    return bool(settings.receiver.public_url or settings.event_hub.hub)


async def _cause(kafka: Kafka, error: Exception) -> str:
    """aiokafka says only that it could not connect; why is found out by knocking again."""
    return await reason_of(kafka) if isinstance(error, KafkaConnectionError) else str(error) or type(error).__name__


async def _stand_by(keeper: "_Keeper", consumer: AIOKafkaConsumer, ownership: Ownership, metrics: Metrics) -> None:
    """Works whenever this process is the active keeper. Ends only with an error or by being cancelled."""
    while True:
        await until_gained(consumer, ownership)
        log.info("this process is the active keeper", tenants=sorted(one.name for one in keeper.tenants))
        metrics.keeper_active.set(1)
        try:
            await until_lost(keeper.work(consumer), ownership)
        finally:
            metrics.keeper_active.set(0)
            keeper.board.clear()
            for one in keeper.tenants:
                metrics.subscription_expiry.labels(one.name).set(0)


@dataclass
class _Tending:
    """What the keeper remembers of one tenant; all of it can be lost."""

    name: str
    tenant: Tenant
    failures: int = 0
    must_renew: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    known_id: str = ""
    made_id: str = ""
    """The one that this keeper created, and so has the newest key."""
    renewed_at: float = float("-inf")
    woken_at: float = float("-inf")
    """When an event last made the keeper look."""


class _Keeper:
    """The work of the active keeper."""

    def __init__(
        self,
        settings: Settings,
        subscriptions: Subscriptions,
        gatekeeper: Gatekeeper,
        metrics: Metrics,
        clock: Clock,
        tenants: list[_Tending],
        reconciler: Reconciler | None,
        board: dict[str, upkeep.Standing],
    ) -> None:
        self._settings = settings
        self._subscriptions = subscriptions
        self._gatekeeper = gatekeeper
        self._metrics = metrics
        self._clock = clock
        self.tenants = tenants
        self._reconciler = reconciler
        self.board = board
        self._limit = RateLimit(SECONDS_BETWEEN_REPEATS)

    async def work(self, consumer: AIOKafkaConsumer) -> None:
        """Tends every tenant on its own, reads lifecycle events, reconciles; raises `KafkaError`."""
        if self._reconciler is None:
            await self._work([self._hear(consumer)])
            return
        async with self._reconciler.opened():
            await self._work([self._hear(consumer), self._reconciler.run()])

    async def _work(self, parts: list[Coroutine[Any, Any, None]]) -> None:
        if _is_reachable(self._settings):
            parts += [self._tend(one) for one in self.tenants]
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _hear(self, consumer: AIOKafkaConsumer) -> None:
        """Wakes the tenants that lifecycle events are about."""
        by_id = {one.tenant.id.lower(): one for one in self.tenants}
        while True:
            polled = await consumer.getmany(timeout_ms=POLL_MS)
            for records in polled.values():
                for record in records:
                    self._note(record.value, by_id)
            if polled:
                await consumer.commit()

    def _note(self, value: bytes | None, by_id: dict[str, _Tending]) -> None:
        event = read_event(value)
        if event is None:
            if times := self._limit.admit("no event"):
                log.warning("a record in the lifecycle topic is no lifecycle event; it is passed over", times=times)
            return
        one = by_id.get(event.tenant_id)
        if one is None:
            return
        one.must_renew |= event.lifecycle_event in RENEWING_EVENTS
        label = event_label(event.lifecycle_event)
        if times := self._limit.admit(f"{one.name} {label}"):
            log.info("lifecycle event", tenant=one.name, lifecycle_event=label, times=times)
        # A tenant that fails keeps its growing wait: Graph repeats such events every few minutes until consent is back.
        if not one.failures:
            one.wake.set()

    async def _tend(self, one: _Tending) -> None:
        """Looks at one tenant's subscription for ever: after the wait that the last look asked for, or woken."""
        while True:
            one.wake.clear()
            wait = await self._look(one)
            if one.failures:
                one.wake.clear()  # an event that came meanwhile does not shorten the growing wait either
            with contextlib.suppress(TimeoutError):
                async with self._clock.timeout(wait):
                    await one.wake.wait()
                    await self._clock.sleep(one.woken_at + WOKEN_SECONDS - self._clock.now())
            if one.wake.is_set():
                one.woken_at = self._clock.now()

    async def _look(self, one: _Tending) -> float:
        """Mends what is wrong; returns the seconds until the next look. Our errors end here, each in one line."""
        try:
            kept = await self._mend(one)
        except CallstreamError as exc:
            one.failures += 1
            asked = exc.wait_seconds if isinstance(exc, TenantMustWait) else 0.0
            wait = upkeep.next_wait(one.failures, asked)
            write = log.error if isinstance(exc, ConsentMissing) or one.failures > 2 else log.warning
            said = describe_error(exc)
            if isinstance(exc, HandshakeFailed) and self._settings.event_hub.hub:
                said["todo"] = HUB_TODO
            write("the subscription cannot be kept", tenant=one.name, again_in_seconds=wait, **said)
            before = self.board.get(one.name, upkeep.Standing())
            self.board[one.name] = before.failed(said["error"], said["todo"])
            return wait
        if one.failures:
            log.info("the subscription is kept again", tenant=one.name)
        one.failures = 0
        expires_at = upkeep.expires_at(kept, self._clock.now())
        self._metrics.subscription_expiry.labels(one.name).set(expires_at)
        self.board[one.name] = upkeep.Standing(kept.id, expires_at)
        self._saw(one)
        return self._settings.keeper.period_seconds

    def _saw(self, one: _Tending, *, after_gap: bool = False) -> None:
        if self._reconciler is not None:
            self._reconciler.saw_subscription(one.tenant, after_gap=after_gap)

    async def _mend(self, one: _Tending) -> Subscription:
        """Lists, deletes what is one too many, and creates, adopts or renews the one there must be."""
        wanted = self._wish(one)
        plan = upkeep.plan(await self._subscriptions.list(one.tenant), wanted)
        for surplus in plan.delete:
            await self._delete(one, surplus, "it is one too many, or has another clientState or lifecycle URL")
        kept = plan.keep
        if kept is None:
            self._metrics.subscription_expiry.labels(one.name).set(0)
            return await self._create(one, wanted)
        if kept.id != one.known_id:
            self._adopted(one, kept)
        now = self._clock.now()
        must_renew = one.must_renew and now - one.renewed_at > RENEWED_RECENTLY_SECONDS
        if must_renew or upkeep.is_due(kept, wanted, now):
            kept = await self._renew(one, kept, wanted)
        one.must_renew = False
        return kept

    async def _create(self, one: _Tending, wanted: upkeep.Wish) -> Subscription:
        new = wanted.new(iso(self._clock.now() + wanted.lifetime_seconds))
        try:
            created = await self._subscriptions.create(one.tenant, new)
        except SubscriptionExists as exc:
            existing = await self._make_way(one, wanted, exc)
            if existing is not None:
                return existing
            created = await self._subscriptions.create(one.tenant, new)
        one.known_id = one.made_id = created.id
        one.renewed_at, one.must_renew = self._clock.now(), False
        # Graph told nobody since the last one was there.
        self._saw(one, after_gap=True)
        log.info(
            "subscription created", tenant=one.name, subscription_id=created.id, expires=created.expiration_date_time
        )
        return created

    async def _make_way(self, one: _Tending, wanted: upkeep.Wish, conflict: SubscriptionExists) -> Subscription | None:
        """After a 409: the existing one if it is ours; None when it was deleted; else the conflict is raised again."""
        if conflict.existing_id is None:
            raise conflict
        try:
            existing = await self._subscriptions.get(one.tenant, conflict.existing_id)
        except SubscriptionGone:
            return None
        match upkeep.judge_conflict(existing, wanted):
            case "adopt":
                self._adopted(one, existing)
                return existing
            case "replace":
                await self._delete(one, existing, "it posts to an older URL of ours")
                return None
        raise conflict

    async def _renew(self, one: _Tending, kept: Subscription, wanted: upkeep.Wish) -> Subscription:
        """PATCH renews and reauthorizes in one; a 404 means that it is gone: create."""
        try:
            renewed = await self._subscriptions.renew(one.tenant, kept.id, self._clock.now() + wanted.lifetime_seconds)
        except SubscriptionGone:
            return await self._create(one, wanted)
        one.renewed_at = self._clock.now()
        log.info("subscription renewed", tenant=one.name, subscription_id=kept.id, expires=renewed.expiration_date_time)
        return renewed

    async def _delete(self, one: _Tending, surplus: Subscription, why: str) -> None:
        with contextlib.suppress(SubscriptionGone):
            await self._subscriptions.delete(one.tenant, surplus.id)
        log.info("subscription deleted", tenant=one.name, subscription_id=surplus.id, why=why)

    def _adopted(self, one: _Tending, kept: Subscription) -> None:
        """Nothing is asked of Graph: it is ours, and only this process did not know it yet."""
        one.known_id = kept.id
        self._metrics.subscription_renewals.labels("adopt", "ok").inc()
        log.info("subscription adopted", tenant=one.name, subscription_id=kept.id, expires=kept.expiration_date_time)

    def _wish(self, one: _Tending) -> upkeep.Wish:
        try:
            state = self._gatekeeper.newest(one.tenant.id)
        except KeyError:
            raise GraphUnavailable("No clientState key is configured: set CALLSTREAM_CLIENT_STATE__KEYS__1.") from None
        public_url, minutes = self._settings.receiver.public_url, self._settings.keeper.subscription_minutes
        if not self._settings.event_hub.hub:
            return upkeep.wish(public_url, state, minutes)
        made = one.made_id if len(self._settings.client_state.keys) > 1 else None
        return upkeep.hub_wish(self._settings.event_hub.url, public_url, state, minutes, made)
