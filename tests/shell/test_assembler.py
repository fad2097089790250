"""Putting a batch together: what was taken later, what waits for room, and what is given back, on looks that are told
what to do."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from aiokafka import TopicPartition

from service.clock import Clock, iso
from service.errors import GraphUnavailable
from service.graph.client import Progress
from service.graph.room import Room
from service.lanes.assembler import Assembler, Audits
from service.lanes.batch import Batch
from service.lanes.beside import Beside
from service.lanes.guard import Guard
from service.lanes.intake import Item
from service.lanes.ledger import Ledger
from service.lanes.looks import InFlight, Looks, Slots
from service.lanes.policy import JOINED_FETCH, Later, Publish, Rules, ShapedRecord
from service.metrics import Metrics
from service.notification import Notification
from service.settings import Retry

TENANT = "c0ffee00-1111-4222-8333-444455556666"
PLACE = TopicPartition("callrecords.notifications", 0)
MB = 1024 * 1024
Shape = Callable[[Notification, Progress], Awaitable[ShapedRecord]]


def call_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def item(number: int, offset: int) -> Item:
    """A live notice of call `number`."""
    note = Notification(tenant_id=TENANT, call_id=call_id(number), source="webhook", received_at=iso(Clock().now()))
    return Item(PLACE, offset, None, b"", note)


def shaped(version: int = 1, size: int = 1000) -> ShapedRecord:
    return ShapedRecord(version, [], b"{}", "", size, "")


class Open:
    """Gates that hold nobody back."""

    def waiting_seconds(self, tenant_name: str) -> float:
        return 0.0

    def budget_seconds(self, tenant_name: str) -> float:
        return 0.0


@dataclass
class Stage:
    """An assembler of the only lane, with the room that its looks share."""

    assembler: Assembler
    room: Room
    looks: Looks


def stage(shape: Shape, held_bytes: int = 96 * MB, beside: int = 0) -> Stage:
    """`shape` is what each look does."""
    clock, metrics = Clock(), Metrics()
    room = Room(held_bytes, metrics)
    looks = Looks(shape, Slots(24, metrics), InFlight(64 * MB, room, metrics), clock, 20.0)
    rules, names = Rules.of(Retry()), {TENANT: "contoso"}
    assembler = Assembler(
        lane=0,
        partitions=1,
        tenants=names,
        ledger=Ledger(),
        looks=looks,
        beside=Beside(beside),
        gates=Open(),
        rules=rules,
        clock=clock,
        batch_bytes=8 * MB,
        audits=Audits(0, metrics),
        guard=Guard(names, rules, clock, metrics),
        metrics=metrics,
    )
    return Stage(assembler, room, looks)


async def turns(count: int = 10) -> None:
    """Lets everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


def waiting(batch: Batch) -> list[tuple[str | None, int]]:
    """Reason and attempts of what goes to a retry topic."""
    return sorted(
        (one.notification.reason, one.notification.attempt) for one in batch.outcomes if isinstance(one, Later)
    )


async def test_a_notice_taken_after_its_look_began_looks_for_itself() -> None:
    """What the look read may be older than what the notice announces: merged, nobody would ever look for that."""
    version = 1

    async def shape(_: Notification, __: Progress) -> ShapedRecord:
        return shaped(version)

    it = stage(shape)
    batch, rest = await it.assembler.assemble([item(1, 0), item(1, 1)])
    await turns()
    version = 2
    assert await it.assembler.extend(batch, [item(1, 2), item(1, 3)]) == rest == ()
    await it.assembler.finish(batch, 3.0, 20.0)
    await it.looks.discard(batch.looks())

    [published] = [one for one in batch.outcomes if isinstance(one, Publish)]
    assert published.shaped.version == 1
    assert waiting(batch) == [(JOINED_FETCH, 0)], "one for both of them"
    assert batch.offsets() == {PLACE: 4}


async def test_a_lane_that_ends_while_it_takes_more_gives_back_once() -> None:
    """Counters that fell below what is held would let in more than the bound, for ever."""

    async def shape(_: Notification, __: Progress) -> ShapedRecord:
        return shaped()

    it = stage(shape)
    batch, _ = await it.assembler.assemble([item(1, 0)])
    await turns()
    assert it.looks.in_flight._held == 1000

    async def goes_on() -> None:
        try:
            await it.assembler.extend(batch, [item(number, number) for number in range(2, 6)])
        finally:
            await it.looks.discard(batch.looks())
            await it.looks.discard(batch.looks())

    going = asyncio.create_task(goes_on())
    await asyncio.sleep(0)
    going.cancel()
    with suppress(asyncio.CancelledError):
        await going
    await turns()

    assert it.looks.in_flight._held == 0
    assert it.room._held == 0


async def test_who_waits_for_room_is_given_up_without_an_attempt() -> None:
    """All of them: what the first lets go must not make the second look like one that Graph is silent about."""

    async def shape(_: Notification, progress: Progress) -> ShapedRecord:
        with it.room.stay() as stay:
            progress.stay = stay
            await progress.take(MB)
            await asyncio.sleep(0.01)
            await progress.take(MB)
            await asyncio.Event().wait()
            raise AssertionError

    it = stage(shape, held_bytes=5 * MB)
    with it.room.stay() as first, it.room.stay() as full:
        await full.take(5 * MB)
        await first.take(MB)  # the one that may go on is somewhere else
        full.give_back(0)
        batch, _ = await it.assembler.assemble([item(number, number) for number in range(1, 4)])
        await turns()
        full.add(MB)
        async with asyncio.timeout(10):
            while not all(look.progress.is_held_back for look in batch.looks()):  # noqa: ASYNC110 - no event for it
                await asyncio.sleep(0.01)
        await it.assembler.finish(batch, 0.05, 20.0)

        assert waiting(batch) == [("budget", 0)] * 3


async def test_a_record_that_comes_to_wait_later_holds_up_no_batch() -> None:
    """It may be waiting for what this very batch would publish; long before the deadline the batch goes on."""
    is_given_up = asyncio.Event()

    async def shape(notification: Notification, progress: Progress) -> ShapedRecord:
        if notification.call_id == call_id(1):
            return shaped(size=3 * MB)
        with it.room.stay() as stay:
            progress.stay = stay
            await asyncio.sleep(0.5)  # beyond the patience
            try:
                await progress.take(MB)
            finally:
                is_given_up.set()
            return shaped()

    it = stage(shape, held_bytes=2 * MB)
    with it.room.stay() as full, it.room.stay() as first:
        await full.take(2 * MB)
        await first.take(MB)
        full.give_back(0)
        batch, _ = await it.assembler.assemble([item(1, 1), item(2, 2)])
        async with asyncio.timeout(30):
            await it.assembler.finish(batch, 0.2, 1000.0)
        await it.looks.discard(batch.looks())

    assert is_given_up.is_set()
    assert [type(one) for one in batch.outcomes] == [Later, Publish]
    assert waiting(batch) == [("budget", 0)]


async def test_the_failure_of_a_look_that_is_broken_off_is_no_forgotten_one() -> None:
    """It comes while the lane ends, when nobody waits for it any more; asyncio would log it as an error of ours."""
    told: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    ending = asyncio.Event()

    async def shape(_: Notification, __: Progress) -> ShapedRecord:
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            raise GraphUnavailable("it fails on its way out")

    staged = stage(shape)
    notification = item(1, 0).notification
    assert notification is not None
    look = staged.looks.start(notification)
    await asyncio.sleep(0.01)
    await staged.looks.discard([look])
    del look
    gc.collect()
    await asyncio.sleep(0)

    assert ending.is_set()
    assert told == []
