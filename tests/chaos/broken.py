"""`python -m tests.chaos.broken BUILD serve …`: builds that are broken on purpose, and points where each can be held.

A judge that has never seen a fault proves nothing. Each build takes one protection away, and the directed schedules
(`directed.py`) strike where it is missed. Every build, the sound one too, can be held at points between two steps of
its work, so that a strike meets exactly that moment. All of it is done from outside: the service has no switch for it.
"""

import asyncio
import os
import sys
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition

from service.kafka import publisher, topics
from service.kafka.publisher import Publisher
from service.kafka.records import KafkaRecord
from service.lanes import lane
from service.notification import LifecycleEvent, Notification
from service.store import KafkaStore

HOLDS_VARIABLE = "CHAOS_HOLDS"
"""Folder in which a file `{point}` holds whoever comes there; `{point}.{pid}` says who did, `past-{point}.{pid}` who
has been let go and is through with what came after."""
LOOK_SECONDS = 0.01

_holds_here: ContextVar[bool] = ContextVar("_holds_here", default=True)


async def held(point: str) -> bool:
    """Waits for as long as the file of this point is there; whether it was."""
    folder = Path(os.environ[HOLDS_VARIABLE])
    if not (folder / point).exists():
        return False
    (folder / f"{point}.{os.getpid()}").touch()
    while (folder / point).exists():  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(LOOK_SECONDS)
    return True


def past(point: str) -> None:
    """What came after the point is over."""
    (Path(os.environ[HOLDS_VARIABLE]) / f"past-{point}.{os.getpid()}").touch()


def can_be_held() -> None:
    """Points: `begin` before a transaction that has records, `half` when one partition has its records, `commit` when
    all have and nothing is committed, `store` before a notification goes to Kafka."""
    commit_transaction, commit, send, store = (
        AIOKafkaProducer.commit_transaction,
        Publisher.commit,
        Publisher._send,
        KafkaStore.store,
    )

    async def commit_held(
        self: Publisher, records: Iterable[KafkaRecord], offsets: Mapping[TopicPartition, int], *seal: Any
    ) -> None:
        listed = list(records)
        has_events = any(".streams." in record.topic for record in listed)
        was_held = has_events and await held("begin")
        token = _holds_here.set(has_events)
        try:
            await commit(self, listed, offsets, *seal)
        finally:
            _holds_here.reset(token)
            if was_held:
                past("begin")

    async def commit_transaction_held(self: AIOKafkaProducer) -> None:
        if _holds_here.get():
            await held("commit")
        await commit_transaction(self)

    async def send_held(self: Publisher, topic: str, partition: int, records: list[KafkaRecord]) -> int:
        if ".streams.audio" not in topic and _holds_here.get():
            await held("half")
        return await send(self, topic, partition, records)

    async def store_held(
        self: KafkaStore, notifications: Iterable[Notification], events: Iterable[LifecycleEvent]
    ) -> None:
        await held("store")
        await store(self, list(notifications), list(events))

    Publisher.commit = commit_held  # type: ignore[method-assign]
    Publisher._send = send_held  # type: ignore[method-assign]
    AIOKafkaProducer.commit_transaction = commit_transaction_held
    KafkaStore.store = store_held  # type: ignore[method-assign]


def offsets_outside() -> None:
    """What is consumed is committed before, and apart from, what is published."""
    commit = Publisher.commit

    async def apart(
        self: Publisher, records: Iterable[KafkaRecord], offsets: Mapping[TopicPartition, int], *seal: Any
    ) -> None:
        await commit(self, [], offsets)
        await commit(self, records, {}, *seal)

    Publisher.commit = apart  # type: ignore[method-assign]


def no_fencing() -> None:
    """Every process has transactional ids of its own, so nobody is fenced by whoever comes after."""
    own = uuid.uuid4().hex
    plain = topics.Topics.transactional_id
    topics.Topics.transactional_id = lambda self, number: f"{plain(self, number)}.{own}"  # type: ignore[method-assign]


def no_ledger() -> None:
    """A lane that opens does not read what is published."""

    async def nothing(*_: Any) -> None:
        return

    lane.restore = nothing  # type: ignore[assignment]


def no_transaction() -> None:
    """What is sent is there at once, whether or not the rest follows."""
    held_commit = Publisher.commit

    async def at_once(
        self: Publisher, records: Iterable[KafkaRecord], offsets: Mapping[TopicPartition, int], *seal: Any
    ) -> None:
        by_place: defaultdict[tuple[str, int], list[KafkaRecord]] = defaultdict(list)
        for record in records:
            by_place[record.topic, record.partition].append(record)
        for (topic, partition), group in sorted(by_place.items(), key=lambda pair: ".streams.audio" not in pair[0][0]):
            await self._begin()
            await self._send(topic, partition, group)
            token = _holds_here.set(False)
            await self._producer.commit_transaction()
            _holds_here.reset(token)
            self._has_ended()
        await held_commit(self, [], offsets, *seal)

    Publisher.commit = at_once  # type: ignore[method-assign]


def shared_epoch() -> None:
    """All transactions of a producer have the epoch of its start."""

    async def nothing(*_: Any) -> None:
        return

    publisher.take_next_epoch = nothing  # type: ignore[assignment]


def early_answer() -> None:
    """The receiver says 202 first and stores afterwards."""
    store, tasks = KafkaStore.store, set[asyncio.Task[None]]()

    async def later(self: KafkaStore, notifications: Any, events: Any) -> None:
        task = asyncio.create_task(store(self, notifications, events))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    KafkaStore.store = later  # type: ignore[method-assign]


BUILDS: dict[str, Callable[[], None]] = {
    "sound": lambda: None,
    "offsets-outside": offsets_outside,
    "no-fencing": no_fencing,
    "no-ledger": no_ledger,
    "no-transaction": no_transaction,
    "shared-epoch": shared_epoch,
    "early-answer": early_answer,
}


if __name__ == "__main__":
    build = sys.argv.pop(1)
    can_be_held()
    BUILDS[build]()
    from service.__main__ import main

    main()
