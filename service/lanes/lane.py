"""Shell: one lane: owns partition *n* of everything, takes batches, and writes each in one transaction (design 4).

Opening a lane: the producer first (what an earlier owner left complete is committed, then that owner is fenced and what
else it left is aborted), then the committed offsets, then a mark in each partition that is its own, then the ledger up
to its end, then work. Any failure between begin and commit leaves the outcome unknown; the lane is then opened again
from the first step. If the process dies anywhere here, nothing is acknowledged that is not published.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import msgspec
import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalOperation,
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerFenced,
)

from service.clock import Clock
from service.errors import CallstreamError
from service.kafka.delivery import offsets_group, open_publisher
from service.kafka.limits import Limits
from service.kafka.publisher import Publisher
from service.kafka.records import KafkaRecord
from service.kafka.topics import LEDGER_DAYS, Topics
from service.lanes.accounts import Accounts
from service.lanes.assembler import Assembler, Audits, Gates
from service.lanes.batch import MOST_ITEMS, Batch, Held
from service.lanes.beside import Beside, Ended, Found, found_by
from service.lanes.guard import UNPUBLISHABLE, Guard
from service.lanes.inbox import Notices, Report, tally
from service.lanes.intake import IDLE_SECONDS, Intake, Item, open_intake
from service.lanes.ledger import Entry, Ledger, ledger_key
from service.lanes.looks import Look, Looks
from service.lanes.policy import Dead, Later, Outcome, Publish, Rules
from service.lanes.restore import committed_offsets, restore
from service.lanes.trouble import Trouble
from service.lanes.writes import Writer, unpublishable
from service.metrics import Metrics
from service.settings import Settings

log = structlog.get_logger()

# What a revoked lane may still take to end a begun transaction; the group waits for it. Seconds.
FINISH_SECONDS = 5.0
# And what closing its clients may take, at the most.
STOP_SECONDS = 4.0
# What opening may take beside reading the ledger.
OPEN_SECONDS = 60.0
# No transaction takes so long; a broker that went away in the middle of one does.
COMMIT_SECONDS = 45.0
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 15.0
# Offsets of topics the group does not subscribe to expire after a week without a commit; a lane commits them daily.
IDLE_COMMIT_SECONDS = 24 * 3600.0
FIRST_IDLE_COMMIT_SECONDS = 300.0
BESIDE_WAKE_SECONDS = 0.1
LEDGER_SECONDS = LEDGER_DAYS * 24 * 3600.0


@dataclass(frozen=True)
class LanePorts:
    """What all lanes of a process share."""

    settings: Settings
    topics: Topics
    rules: Rules
    looks: Looks
    gates: Gates
    admin: AIOKafkaAdminClient
    clock: Clock
    metrics: Metrics
    limits: Limits
    guard: Guard


class Lane:
    """One lane while this process owns it: `run` in a task, `drain` or `stop` to end it."""

    def __init__(self, number: int, ports: LanePorts, ledger: Ledger) -> None:
        self.number = number
        self.ledger = ledger
        self._ports = ports
        self._accounts = Accounts(ports.metrics, ports.clock, ports.settings.tenants)
        self._writer = Writer(ports.topics, number, ports.settings.kafka.partitions, ports.limits)
        self._trouble = Trouble()
        self._notices = Notices()
        self._stopping = False
        self._commit_ended = asyncio.Event()
        self._commit_ended.set()
        self._moved = asyncio.get_running_loop().time()
        self._busy = False
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._oldest_due: Callable[[], float | None] = lambda: None
        self.held: Callable[[], Held] = Held
        """What the lane has in memory now."""
        self._closed_since: float | None = ports.clock.now()

    def stalled_seconds(self) -> float:
        """How long the lane has had work without moving; 0 when it is idle or waits for Kafka."""
        return asyncio.get_running_loop().time() - self._moved if self._busy else 0.0

    def lag_seconds(self) -> float:
        """Age of the oldest item that is due and not handled, 0 when there is none; while closed, for how long."""
        oldest = self._closed_since if self._closed_since is not None else self._oldest_due()
        return 0.0 if oldest is None else max(0.0, self._ports.clock.now() - oldest)

    async def run(self) -> None:
        """Works until drained or cancelled; opens the lane again after every failure of Kafka's."""
        while not self._stopping:
            try:
                async with self._open() as (publisher, intake):
                    await self._work(publisher, intake)
            except (KafkaError, IllegalOperation, ConsumerStoppedError, TimeoutError, OSError) as error:
                await self._after(error)
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                # Nobody cancelled this lane: it is the client's own, come out of one of its awaits.
                await self._after(KafkaConnectionError("the Kafka client broke an operation off"))

    def drain(self) -> None:
        """The batch under way is the last."""
        self._stopping = True

    async def stop(self, task: "asyncio.Task[None]", finish_seconds: float = FINISH_SECONDS) -> None:
        """Cancels polls and fetches at once; a begun transaction gets `finish_seconds`."""
        self._stopping = True
        try:
            async with asyncio.timeout(finish_seconds):
                await self._commit_ended.wait()
        except TimeoutError:
            log.warning("transaction given up", lane=self.number)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=STOP_SECONDS)
        if not done:
            # The group must not wait for it: whoever opens the lane next fences what is left of this one.
            log.error("lane does not end", lane=self.number, seconds=STOP_SECONDS)

    async def _after(self, error: Exception) -> None:
        """Waits, longer each time; a fenced lane waits until the group would have told it that the lane has moved."""
        fenced = isinstance(error, ProducerFenced)
        self._ports.metrics.lane_reopened.labels("fenced" if fenced else "kafka").inc()
        wait = self._wait_seconds
        if fenced:
            wait = max(wait, self._ports.settings.kafka.session_timeout_seconds / 3)
        log.warning("lane opens again", lane=self.number, error=f"{type(error).__name__}: {error}", wait_seconds=wait)
        self._wait_seconds = min(LONGEST_WAIT_SECONDS, 2 * self._wait_seconds)
        await asyncio.sleep(wait)

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[tuple[Publisher, Intake]]:
        ports, kafka = self._ports, self._ports.settings.kafka
        async with AsyncExitStack() as stack:
            name = ports.topics.transactional_id(self.number)
            # A coordinator that is loading, or another transaction that does not end, would be waited for for ever.
            async with asyncio.timeout(OPEN_SECONDS):
                opening = open_publisher(kafka, ports.topics, name, ports.topics.lane_group, ports.limits)
                # Who cannot reach the group's coordinator has perhaps lost the lane without hearing of it, and could
                # commit nothing: it must not fence the owner of today each time that it tries.
                await committed_offsets(ports.admin, ports.topics, self.number, offsets_group(kafka, ports.topics))
                publisher = await stack.enter_async_context(opening)
                offsets = await committed_offsets(ports.admin, ports.topics, self.number, publisher.offsets_group)
            await restore(kafka, ports.topics, self.number, self.ledger, publisher)
            async with asyncio.timeout(OPEN_SECONDS):
                most, delays = ports.settings.lanes.retry_buffer, ports.rules.delays
                reading = open_intake(kafka, ports.topics, self.number, offsets, ports.clock, most, delays)
                intake = await stack.enter_async_context(reading)
            self._oldest_due, self._closed_since = intake.oldest_due, None
            log.debug("lane open", lane=self.number, ledger_entries=len(self.ledger))
            try:
                yield publisher, intake
            finally:
                self._busy = False
                self._closed_since = self._oldest_due() or ports.clock.now()
                self.held = Held

    def _assembler(self) -> Assembler:
        ports, settings = self._ports, self._ports.settings
        return Assembler(
            lane=self.number,
            partitions=settings.kafka.partitions,
            tenants={tenant.id.lower(): name for name, tenant in settings.tenants.items()},
            ledger=self.ledger,
            looks=ports.looks,
            beside=Beside(settings.lanes.beside_fetches),
            gates=ports.gates,
            rules=ports.rules,
            clock=ports.clock,
            batch_bytes=settings.lanes.batch_bytes,
            audits=Audits(settings.lanes.audit_every, ports.metrics),
            guard=ports.guard,
            metrics=ports.metrics,
        )

    async def _work(self, publisher: Publisher, intake: Intake) -> None:
        assembler = self._assembler()
        self.held = lambda: assembler.held(intake.most_retries())
        clock = self._ports.clock
        idle_commit = clock.now() + FIRST_IDLE_COMMIT_SECONDS
        try:
            while not self._stopping:
                self._moved = asyncio.get_running_loop().time()
                await self._publish_beside(publisher, intake, assembler)
                if items := await self._take(intake):
                    await self._handle(publisher, intake, assembler, items)
                    continue
                self._busy = False
                if clock.now() >= idle_commit:
                    async with asyncio.timeout(OPEN_SECONDS):
                        positions = await intake.positions()
                    await self._commit(publisher, [], positions)
                    idle_commit = clock.now() + IDLE_COMMIT_SECONDS
                await intake.wait(BESIDE_WAKE_SECONDS if assembler.beside.looks else IDLE_SECONDS)
        finally:
            await self._ports.looks.discard(list(assembler.beside.looks.values()))

    async def _take(self, intake: Intake) -> list[Item]:
        """What is waiting: at once when the lane was idle, else after a moment in which more may gather."""
        lanes = self._ports.settings.lanes
        room = 1 if self._trouble.is_apart else lanes.batch_notifications
        if self._busy and room > 1:
            await asyncio.sleep(lanes.gather_milliseconds / 1000)
        return await intake.take(room)

    async def _handle(self, publisher: Publisher, intake: Intake, assembler: Assembler, items: Sequence[Item]) -> None:
        """One batch, from the items to its committed transaction."""
        self._busy = True
        batch, not_started = await assembler.assemble(items)
        settings = self._ports.settings
        try:
            room = settings.lanes.batch_notifications
            while not not_started and len(items) == room and (room := self._room_left(batch)) > 0:
                await asyncio.sleep(0)  # neither a poll of what is there nor an item without a look lets others run
                items = await intake.take(room, more=True)
                not_started = await assembler.extend(batch, items)
            intake.give_back(not_started)
            if not batch.handled:
                return
            await assembler.finish(batch, settings.lanes.patience_seconds, settings.graph.record_deadline_seconds)
            await self._publish(publisher, batch)
            intake.handled()
        finally:
            assembler.current = Batch()
            await self._ports.looks.discard(batch.looks())

    def _room_left(self, batch: Batch) -> int:
        """How many items more may go into the batch: what needed no look of its own has taken no room."""
        if self._trouble.is_apart:
            return 0
        return min(self._ports.settings.lanes.batch_notifications - len(batch.groups), MOST_ITEMS - len(batch.handled))

    async def _publish(self, publisher: Publisher, batch: Batch) -> None:
        if self._ports.guard.refuses:
            await self._ports.limits.look_again()
        outcomes, records = self._plan(batch.outcomes)
        records += [self._writer.stray(item) for item in batch.strays]
        records += [self._writer.malformed(item) for item in batch.malformed]
        # Not of what is published beside the batches: its notification comes back from a retry topic and reports then.
        report = Report(
            lane=self.number,
            tallies=tally(outcomes),
            notices=dict(self._notices.news(outcomes, self._ports.clock.now())),
        )
        if report.tallies or report.notices:
            records.append(self._writer.report(report))
        await self._write(publisher, outcomes, records, batch.offsets())
        self._accounts.rerouted(len(batch.strays))
        self._accounts.malformed(len(batch.malformed))

    async def _write(
        self,
        publisher: Publisher,
        outcomes: Sequence[Outcome],
        records: Sequence[KafkaRecord],
        offsets: Mapping[TopicPartition, int],
    ) -> None:
        """One transaction; its outcomes are remembered and counted once it is committed."""
        try:
            seconds = await self._commit(publisher, records, offsets)
        except KafkaError as error:
            self._trouble.failed(error, outcomes)
            if isinstance(error, MessageSizeTooLargeError):
                await self._ports.limits.look_again()
            raise
        self._settle(outcomes, seconds)

    def _plan(self, wanted: Sequence[Outcome]) -> tuple[list[Outcome], list[KafkaRecord]]:
        """The outcomes as they can be published, and all their Kafka records.

        What Kafka would refuse is seen before the transaction begins: it would refuse the whole of it.
        """
        outcomes: list[Outcome] = []
        records: list[KafkaRecord] = []
        for outcome in wanted:
            written = self._writer.records(outcome)
            if isinstance(outcome, Publish) and (
                error := self._trouble.refusal(outcome) or self._writer.too_large(written)
            ):
                possible = self._given_up(outcome, error)
                written = self._writer.records(possible)
            else:
                possible = outcome
            outcomes.append(possible)
            records += written
        return outcomes, records

    def _given_up(self, outcome: Publish, error: str) -> Outcome:
        """What becomes of a version that Kafka does not take."""
        notification = outcome.notification
        if self._trouble.was_tried_again(outcome):
            # Refused beside the batches it came back from a retry topic, which knows of the fetch and of nothing else.
            notification = msgspec.structs.replace(notification, reason=UNPUBLISHABLE)
        entry = self.ledger.get(ledger_key(notification.tenant_id, notification.call_id))
        return self._ports.guard.unpublished(notification, unpublishable(outcome, error, entry))

    async def _publish_beside(self, publisher: Publisher, intake: Intake, assembler: Assembler) -> None:
        """Records that were fetched beside the batches: each in a transaction of its own.

        Their notifications wait in a retry topic; should this process die, they are fetched again. Offsets are where
        they were: with them a transaction is known to be complete (`kafka/unended.py`).
        """
        done = assembler.beside.take_done()
        try:
            for look in done:
                await self._publish_one(publisher, intake, assembler, look)
        finally:
            await self._ports.looks.discard(done)

    async def _publish_one(self, publisher: Publisher, intake: Intake, assembler: Assembler, look: Look) -> None:
        key, result = look.notification.key, look.result()
        was_replay = look.notification.source == "replay"
        if isinstance(result, CallstreamError):
            assembler.beside.remember(key, Ended(Found.NOTHING, was_replay, result))
            return
        outcome = assembler.judge(look.notification, result)
        if isinstance(outcome, Publish):
            # The notification that waits takes the second look, where one is owed.
            outcomes, records = self._plan([replace(outcome, second_look=None)])
            async with asyncio.timeout(OPEN_SECONDS):
                positions = await intake.positions()
            await self._write(publisher, outcomes, records, positions)
            found = found_by(outcomes[0], is_stale=outcome.second_look is not None)
        else:
            found = Found.STALE if isinstance(outcome, Later) else Found.KNOWN
        assembler.beside.remember(key, Ended(found, was_replay))

    async def _commit(
        self, publisher: Publisher, records: Sequence[KafkaRecord], offsets: Mapping[TopicPartition, int]
    ) -> float:
        """Seconds from begin to commit. `stop` waits for the end of this, and for nothing else."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._commit_ended.clear()
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await publisher.commit(records, offsets)
        finally:
            self._commit_ended.set()
        return loop.time() - begun

    def _settle(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """After the commit: the map learns what the ledger topic holds, and everything is counted."""
        self.ledger.forget(self._ports.clock.now(), LEDGER_SECONDS)
        for outcome in outcomes:
            match outcome:
                case Publish():
                    self._ports.guard.was_published(outcome.notification)
                    entry = Entry(outcome.shaped.version)
                case Dead(entry=Entry() as entry):
                    pass
                case _:
                    continue
            self.ledger.put(ledger_key(outcome.notification.tenant_id, outcome.notification.call_id), entry)
        self._accounts.committed(outcomes, seconds)
        self._trouble.succeeded(outcomes)
        self._wait_seconds = FIRST_WAIT_SECONDS
