"""Shell: how what belongs together is written: in one transaction, or one thing after the other.

The one place that knows of the setting `kafka.delivery`; lanes, the keeper and the commands take the publisher that
they are given, drop it after a failure, and begin again at their first step.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from service.kafka.flushing import open_flushes, positions_group
from service.kafka.publisher import NO_LIMITS, Publisher, open_transactions
from service.kafka.topics import Topics
from service.settings import Kafka


def offsets_group(kafka: Kafka, topics: Topics) -> str:
    """Under which the lanes' offsets stand."""
    return positions_group(topics.lane_group) if kafka.delivery == "at-least-once" else topics.lane_group


@asynccontextmanager
async def open_publisher(
    kafka: Kafka, topics: Topics, transactional_id: str, group: str, limits: Mapping[str, int] = NO_LIMITS
) -> AsyncIterator[Publisher]:
    """A publisher of the kind that is set, for the offsets of `group`. Raises `KafkaError` when no broker answers.

    `limits`: topic → its max.message.bytes, for who writes more at once than a topic may take.
    """
    if kafka.delivery == "at-least-once":
        async with open_flushes(kafka, topics, group, limits) as flushes:
            yield flushes
    else:
        async with open_transactions(kafka, transactional_id, group, limits) as transactions:
            yield transactions
