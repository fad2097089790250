"""Shell: putting a batch together: which of the taken items are worked on now, and what each becomes.

A batch is cut short when the process holds enough bytes or a tenant's budget is spent. What was not started goes back
to the intake, so the handled items of a partition are always the first of those taken, and offsets can follow them.
"""

import asyncio
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from service.clock import Clock
from service.errors import CallstreamError
from service.kafka.topics import partition_of
from service.lanes import policy
from service.lanes.batch import Batch, Group, Held
from service.lanes.beside import Beside, Ended, Found
from service.lanes.guard import Guard
from service.lanes.intake import Item
from service.lanes.ledger import Entry, Ledger, ledger_key
from service.lanes.looks import Look, Looks
from service.lanes.policy import Later, Outcome, Publish, Rules, ShapedRecord, Skip, SkipReason
from service.metrics import Metrics
from service.notification import Notification
from service.settings import GUID

# A tenant whose budget of requests is spent for longer than this lets others of its lane go first. Seconds.
SHORT_WAIT_SECONDS = 1.0
# While the process holds as many bytes as it may, a lane sees this often what has become of its own. Real seconds.
LOOK_AGAIN_SECONDS = 0.1


class Gates(Protocol):
    """What a lane asks about a tenant before it starts a look."""

    def waiting_seconds(self, tenant_name: str) -> float:
        """How long the tenant must wait (429, 403, no token, outage); 0 when it need not."""
        ...

    def budget_seconds(self, tenant_name: str) -> float:
        """How long until the tenant's budget admits one more request; 0 for now."""
        ...


class Audits:
    """Which of the skips are looked at all the same: promise 1 must not hang on one map alone."""

    def __init__(self, every: int, metrics: Metrics) -> None:
        """One in `every` skips of listed records; 0 for none."""
        self._every = every
        self._metrics = metrics
        self._skips = 0

    def is_next(self, notification: Notification, known: SkipReason) -> bool:
        """Whether this skip is one of the sample."""
        if not self._every or known is not SkipReason.PUBLISHED or notification.look is None:
            return False
        self._skips += 1
        return self._skips % self._every == 0

    def compared(self, entry: Entry | None, result: ShapedRecord | CallstreamError) -> None:
        """Counts what the audit found: Graph's version against the ledger's."""
        if isinstance(result, CallstreamError) or entry is None:
            outcome = "unread"
        elif result.version == entry.version:
            outcome = "same"
        else:
            outcome = "newer" if result.version > entry.version else "older"
        self._metrics.audits.labels(outcome).inc()


@dataclass
class Assembler:
    """Starts the looks of a batch. `tenants` maps lower-case tenant ids to configured names."""

    lane: int
    partitions: int
    tenants: Mapping[str, str]
    ledger: Ledger
    looks: Looks
    beside: Beside
    gates: Gates
    rules: Rules
    clock: Clock
    batch_bytes: int
    audits: Audits
    guard: Guard
    metrics: Metrics
    current: Batch = field(default_factory=Batch)
    """The batch at work, or the last one."""

    async def assemble(self, items: Sequence[Item]) -> tuple[Batch, Sequence[Item]]:
        """A batch with its looks under way, and the items that were not started."""
        batch = self.current = Batch()
        try:
            return batch, await self.extend(batch, items)
        except BaseException:
            await self.looks.discard(batch.looks())
            raise

    async def extend(self, batch: Batch, items: Sequence[Item]) -> Sequence[Item]:
        """Puts in what was taken just now; gives the items that were not started.

        A look that had begun when they were taken may show less than they announce: they look for themselves, later.
        """
        begun = {key for key, group in batch.groups.items() if group.look.slot is not None}
        for index, item in enumerate(items):
            if not await self._place(batch, item, begun):
                return items[index:]
            batch.handled.append(item)
        return ()

    async def _place(self, batch: Batch, item: Item, begun: Set[bytes]) -> bool:
        """Gives one item its place in the batch; False when the batch ends before it."""
        notification = item.notification
        if notification is None or not is_call(notification):
            batch.malformed.append(item)
            return True
        key = notification.key
        if partition_of(key, self.partitions) != self.lane:
            batch.strays.append(item)
            return True
        if key in begun:
            batch.put(key, policy.later(notification, policy.JOINED_FETCH, 0, self.rules, self.clock.now()))
            return True
        if key in batch.groups:
            batch.groups[key].notifications.append(notification)
            batch.groups[key].is_audit = False
            return True
        known = policy.needs_no_fetch(notification, self.entry(notification))
        if (outcome := self._without_look(notification, key, known)) is not None:
            batch.put(key, outcome)
            return True
        if (bound := await self._refused(batch, self.tenants[notification.tenant_id.lower()])) is not None:
            self.metrics.batches_cut.labels(bound).inc()
            return False
        self.guard.started(notification)
        batch.add(key, Group([notification], self.looks.start(notification), is_audit=known is not None))
        # The look takes its place in the queue for a slot now, so that the next item sees how long the queue is.
        await asyncio.sleep(0)
        return True

    def _without_look(self, notification: Notification, key: bytes, known: SkipReason | None) -> Outcome | None:
        """What can be decided without asking Graph; None when it must be asked. `known`: what the ledger alone says."""
        entry = self.entry(notification)
        name = self.tenants.get(notification.tenant_id.lower())
        if name is None:
            return policy.dead(notification, "unknown_tenant", "the tenant is not configured here", entry)
        was_beside = notification.reason == policy.LONG_FETCH
        ended = self.beside.results.pop(key, None) if was_beside else None
        if ended is not None and ended.found is not Found.PUBLISHED:
            notification = policy.not_its_own(notification)
        if known is not None:
            return self._known(notification, key, known, name)
        if key in self.beside.looks:
            # What the fetch under way brings may be older than a notification that came meanwhile: that looks again.
            reason = policy.LONG_FETCH if was_beside else policy.JOINED_FETCH
            return policy.later(notification, reason, 0, self.rules, self.clock.now())
        if ended is not None and (outcome := self._came_back(notification, ended, entry)) is not None:
            return outcome
        return self._held_back(notification, name)

    def _known(self, notification: Notification, key: bytes, known: SkipReason, name: str) -> Outcome | None:
        """The ledger has it: nothing, unless it is one of those that are looked at all the same."""
        is_held = self.gates.waiting_seconds(name) > 0 or self.guard.is_on(notification)
        may_look = key not in self.beside.looks and not is_held
        return None if may_look and self.audits.is_next(notification, known) else Skip(known, notification)

    def _came_back(self, notification: Notification, ended: Ended, entry: Entry | None) -> Outcome | None:
        """What becomes of a notification whose record was fetched beside the batches meanwhile."""
        if ended.error is not None:
            return self._failed(notification, ended.error)
        if ended.found is Found.STALE:
            return policy.second_look(notification, self.rules, self.clock.now())
        if ended.found is Found.SENT_ON:
            return Skip(SkipReason.MERGED, notification)
        is_dead = entry is not None and entry.dead
        if is_dead and notification.source == "replay" and not ended.was_replay:
            return None  # it came while the look of another was under way: that one stopped at what is dead
        return Skip(SkipReason.DEAD if is_dead else SkipReason.PUBLISHED, notification)

    def _held_back(self, notification: Notification, name: str) -> Outcome | None:
        """A retry topic, where the tenant has to wait; None where it may be asked for."""
        now = self.clock.now()
        if (seconds := self.gates.waiting_seconds(name)) > 0:
            tier = self.rules.tier_for_wait(seconds)
            return policy.later(notification, "tenant_waits", tier, self.rules, now)
        if (held := self.guard.held_back(notification)) is not None:
            return held
        if len(self.tenants) > 1 and self.gates.budget_seconds(name) > SHORT_WAIT_SECONDS:
            # Its budget is spent; the other tenants of this lane need not wait for that.
            return policy.later(notification, "budget", 0, self.rules, now)
        return None

    async def _refused(self, batch: Batch, tenant_name: str) -> str | None:
        """The bound at which the batch ends; None when one more look may start now.

        Waits only while the batch is empty and nothing waits beside it.
        """
        while True:
            if batch.arrived_bytes >= self.batch_bytes:
                return "batch_bytes"
            if batch.handled and self.looks.slots.has_queue:
                return "concurrent_fetches"
            if batch.handled and self.looks.in_flight.has_queue:
                return "held_bytes"
            seconds = self.gates.budget_seconds(tenant_name)
            if seconds <= 0 and not self.looks.in_flight.is_full:
                return None
            # What waits beside holds bytes that only this lane can give back, by publishing it.
            if batch.handled or self.beside.has_done():
                return "budget" if seconds > 0 else "bytes_in_flight"
            if seconds > 0:
                await self.clock.sleep(min(seconds, SHORT_WAIT_SECONDS))
            else:
                await self.looks.in_flight.wait_freed(LOOK_AGAIN_SECONDS)

    def held(self, retries: int) -> Held:
        """What the lane has in memory now."""
        return Held(self.current.arrived_bytes, len(self.beside.looks), retries)

    def entry(self, notification: Notification) -> Entry | None:
        """The ledger's entry of the notification's call."""
        return self.ledger.get(ledger_key(notification.tenant_id, notification.call_id))

    async def finish(self, batch: Batch, patience_seconds: float, deadline_seconds: float) -> None:
        """Waits for the looks; what is not there after `patience_seconds` goes on beside, if there is room beside.

        The rest is waited for until `deadline_seconds`; by then each has its result, if only that Graph was silent.
        """
        batch.merge_waiting()
        late = await self._wait(batch.looks(), patience_seconds)
        self._send_beside(batch, late)
        left = deadline_seconds - patience_seconds
        while left > 0 and (late := [look for look in batch.looks() if not look.task.done()]):
            # What waits until less is held may be waiting for this very batch to be published.
            held_back = [look for look in late if look.progress.is_held_back]
            self._send_beside(batch, held_back)
            await self._give_up(batch, held_back)
            seconds = min(left, LOOK_AGAIN_SECONDS * self.clock.speed)
            await self._wait(batch.looks(), seconds)
            left -= seconds
        await self._give_up(batch, [look for look in batch.looks() if not look.task.done()])
        for group in batch.groups.values():
            batch.outcomes.append(self._judge(group, group.look.result()))
        merged = sum(len(group.notifications) - 1 for group in batch.groups.values())
        batch.outcomes.extend([Skip(SkipReason.MERGED)] * merged)

    def _send_beside(self, batch: Batch, late: Sequence[Look]) -> None:
        """As many as there is room for beside; first those that are going on."""
        keys = {id(group.look): key for key, group in batch.groups.items()}
        late = [look for look in late if look.slot is not None and not self._is_audit(batch, look)]
        late.sort(key=lambda look: look.progress.is_held_back)
        for look in late[: max(0, self.beside.most - len(self.beside.looks))]:
            look.go_beside()
            key = keys[id(look)]
            self.beside.looks[key] = look
            batch.outcomes.append(self._goes_beside(batch.groups.pop(key), look))

    async def _give_up(self, batch: Batch, late: Sequence[Look]) -> None:
        """Breaks off those of the batch's looks; each is looked at again later."""
        given_up = {key: group for key, group in batch.groups.items() if group.look in late}
        for key, group in given_up.items():
            # All before any is broken off: what one of them lets go another would take at once.
            batch.outcomes.append(self._not_in_time(group))
            del batch.groups[key]
        await self.looks.discard([group.look for group in given_up.values()])

    def _not_in_time(self, group: Group) -> Outcome:
        """A failed attempt if Graph was asked and silent; none if it waited for its slot, for room, the budget."""
        notification, now = policy.merge(group.notifications), self.clock.now()
        look, name = group.look, self.tenants[notification.tenant_id.lower()]
        if look.slot is None or look.progress.is_held_back or self.gates.budget_seconds(name) > 0:
            return policy.later(notification, "budget", 0, self.rules, now)
        # Of one record among others that hold the slots; that Graph is silent as a whole the tenant's gate sees.
        entry = self.entry(notification)
        return policy.after_failure(notification, policy.silent(), entry, self.rules, now)

    def _goes_beside(self, group: Group, look: Look) -> Later:
        """The notification that waits while the record is fetched; it knows the version, if a page has shown a new one.

        Of a version that is published already it must not: it would be at rest without the second look it is owed.
        """
        notification = look.notification = policy.merge(group.notifications)
        shown, entry = look.progress.version, self.entry(notification)
        if shown is not None and (entry is None or shown > entry.version):
            notification = policy.with_version(notification, shown)
        return policy.later(notification, policy.LONG_FETCH, 0, self.rules, self.clock.now())

    def _is_audit(self, batch: Batch, look: Look) -> bool:
        return any(group.is_audit and group.look is look for group in batch.groups.values())

    def _judge(self, group: Group, result: ShapedRecord | CallstreamError) -> Outcome:
        notification = policy.merge(group.notifications)
        if not group.is_audit:
            return self.judge(notification, result)
        self.audits.compared(self.entry(notification), result)
        if isinstance(result, CallstreamError):
            # That it is published was known before; the look was ours to make.
            return Skip(SkipReason.PUBLISHED, notification)
        return self.judge(notification, result)

    def judge(self, notification: Notification, result: ShapedRecord | CallstreamError) -> Outcome:
        """What a finished look means, by the ledger as it is now."""
        if isinstance(result, CallstreamError):
            return self._failed(notification, result)
        self.guard.was_read(notification)
        outcome = policy.after_fetch(notification, result, self.entry(notification), self.rules, self.clock.now())
        if not isinstance(outcome, Publish):
            self.guard.was_known(notification)
        return outcome

    def _failed(self, notification: Notification, error: CallstreamError) -> Outcome:
        """After a look that brought no record: as the rules say, unless that is so of most."""
        outcome = policy.after_failure(notification, error, self.entry(notification), self.rules, self.clock.now())
        return self.guard.unread(notification, error, outcome)

    async def _wait(self, looks: Sequence[Look], seconds: float) -> list[Look]:
        """Waits for all, at most `seconds` of the clock; gives those that are not done."""
        tasks = {look.task for look in looks if not look.task.done()}
        if tasks:
            await asyncio.wait(tasks, timeout=self.clock.real_seconds(max(0.0, seconds)))
        return [look for look in looks if not look.task.done()]


def is_call(notification: Notification) -> bool:
    """Whether both ids are GUIDs: they become keys, ledger entries and a URL."""
    return bool(GUID.fullmatch(notification.tenant_id) and GUID.fullmatch(notification.call_id))
