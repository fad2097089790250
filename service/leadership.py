"""Shell: which process is the active keeper: the one that owns the only partition of `{prefix}.lifecycle` in the group
`{prefix}.keeper`. The others are members too, and stand by.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from service.kafka.connect import NEVER_MS, client_options, close_consumer
from service.kafka.topics import Topics
from service.settings import Kafka

POLL_MS = 1000
TOPIC_PAUSE_SECONDS = 1.0  # real: between looks for the topic
TOPIC_TRIES = 10  # quiet ones, while a service that has just started creates its topics

log = structlog.get_logger()


class Ownership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Whether this process is the active keeper. Only sets state: no heartbeats are sent while a listener waits."""

    def __init__(self) -> None:
        self.gained = asyncio.Event()
        self.lost = asyncio.Event()
        self.lost.set()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        if any(assigned):
            self.lost.clear()
            self.gained.set()

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:  # noqa: ARG002 - there is only one
        self.gained.clear()
        self.lost.set()


@asynccontextmanager
async def open_member(kafka: Kafka, topics: Topics) -> AsyncIterator[tuple[AIOKafkaConsumer, Ownership]]:
    """A member of the keeper's group, its topic being there. Raises `KafkaError`."""
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        group_id=f"{topics.prefix}.keeper",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(kafka.session_timeout_seconds * 1000),
        heartbeat_interval_ms=int(kafka.session_timeout_seconds * 1000 / 5),
        max_poll_interval_ms=NEVER_MS,
    )
    try:
        await consumer.start()
        await _wait_for(topics.lifecycle, consumer)
        ownership = Ownership()
        consumer.subscribe([topics.lifecycle], listener=ownership)
        yield consumer, ownership
    finally:
        # Leaves the group, so that another keeper takes over at once.
        await close_consumer(consumer)


async def _wait_for(topic: str, consumer: AIOKafkaConsumer) -> None:
    """Returns once the topic exists: another part of the service creates it, or a person. Raises `KafkaError`."""
    for attempt in itertools.count():
        if topic in await consumer.topics():
            return
        if attempt == TOPIC_TRIES:
            log.warning("the keeper waits for its topic", topic=topic, todo="Create it with `callstream topics`.")
        await asyncio.sleep(TOPIC_PAUSE_SECONDS)


async def until_gained(consumer: AIOKafkaConsumer, ownership: Ownership) -> None:
    """Polls while it stands by: after an error aiokafka joins no more until a poll has raised it.

    Raises `KafkaError`.
    """
    gaining = asyncio.ensure_future(ownership.gained.wait())
    try:
        while not gaining.done():
            polling = asyncio.ensure_future(consumer.getmany(timeout_ms=POLL_MS, max_records=1))
            try:
                await asyncio.wait({gaining, polling}, return_when=asyncio.FIRST_COMPLETED)
                if polling.done():
                    polling.result()
            finally:
                polling.cancel()
                await asyncio.wait({polling})
    finally:
        gaining.cancel()


async def until_lost(work: Coroutine[Any, Any, None], ownership: Ownership) -> None:
    """Awaits `work` and breaks it off when ownership is lost; an error of `work` is raised as it is."""
    working = asyncio.ensure_future(work)
    losing = asyncio.ensure_future(ownership.lost.wait())
    try:
        await asyncio.wait({working, losing}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        losing.cancel()
        await asyncio.wait({working, losing})
        if not working.cancelled():
            working.exception()  # raised above, or overtaken by the loss
