"""Core: that what a consumer reads goes forward.

A consumer whose place is beyond the end of a broker's log begins again at the earliest record, by itself and without a
word. The log of a broker that was frozen, and believes for a moment that it still leads, ends before that place
(`auto.offset.reset` cannot tell it from a topic that is new). What was read before would be taken for new.
"""

from collections.abc import Mapping

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

NOWHERE: Mapping[TopicPartition, int] = {}


class WentBackError(KafkaError):  # type: ignore[misc]
    """A broker took a consumer back behind what it had read. Whoever reads begins again where it has committed."""

    retriable = True


class Forward:
    """How far each partition has been read since this reader was opened."""

    def __init__(self, begins: Mapping[TopicPartition, int] = NOWHERE) -> None:
        """`begins`: before which nothing may come, where that is known."""
        self._next = dict(begins)

    def read(self, partition: TopicPartition, offset: int) -> None:
        """A record was read. Raises `WentBackError` when it, or one behind it, had been read before."""
        self.stands(partition, offset)
        self._next[partition] = offset + 1

    def stands(self, partition: TopicPartition, offset: int) -> None:
        """The next record is at `offset` or behind it. Raises `WentBackError` when it has been read before."""
        if offset < (expected := self._next.get(partition, 0)):
            raise WentBackError(
                f"{partition.topic} {partition.partition} went back from {expected} to {offset}: "
                "a broker named an earlier end"
            )
