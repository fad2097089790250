"""What `completeness` and `backfill` share: the keeper's memory, read from Kafka, and the tenants to speak of."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.cli.common import answering
from service.errors import UserError
from service.kafka.connect import client_options, close_consumer
from service.kafka.scan import EndUnreachable
from service.kafka.topics import Topics
from service.kafka.whole import read_whole
from service.reconcile.memory import Memory
from service.settings import Kafka, Settings, Tenant


async def read_memory(kafka: Kafka, topics: Topics) -> Memory:
    """What the keeper has written, up to now. `UserError` when Kafka does not answer or the topic is not there."""
    memory = Memory(time.time())
    async with answering(kafka):
        async with _consumer(kafka) as consumer:
            if topics.state not in await consumer.topics():
                raise UserError(f"The topic {topics.state} does not exist yet: no keeper has run.", exit_code=1)
        try:
            await read_whole(kafka, TopicPartition(topics.state, 0), memory)
        except EndUnreachable:
            raise UserError(
                f"The end of {topics.state} cannot be read yet; try again in a minute.", exit_code=1
            ) from None
    return memory


def chosen_tenants(settings: Settings, name: str | None) -> dict[str, Tenant]:
    """The configured tenants, or the one of that name; `UserError` when there is none."""
    if not settings.tenants:
        raise UserError("No tenant is configured: set CALLSTREAM_TENANTS__<NAME>__ID (docs/settings.md).")
    if name is None:
        return dict(settings.tenants)
    if name not in settings.tenants:
        raise UserError(f"There is no tenant {name!r}: configured are {', '.join(sorted(settings.tenants))}.")
    return {name: settings.tenants[name]}


@asynccontextmanager
async def _consumer(kafka: Kafka) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**client_options(kafka), group_id=None)
    try:
        await consumer.start()
        yield consumer
    finally:
        await close_consumer(consumer)
