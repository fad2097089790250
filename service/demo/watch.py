"""Shell: reads the published topics with `read_committed`, as any consumer would, and tells the judge what it saw."""

from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from service.emulator.judge import Judge, Verdict
from service.emulator.store import Store
from service.kafka.connect import close_consumer
from service.kafka.topics import Topics

Seen = Callable[[dict[str, Any]], None]


class Watch:
    """Follows the stream, calls and dead-letter topics. `on_event` gets every stream event, decoded, as it comes."""

    def __init__(self, servers: str, topics: Topics, partitions: int, on_event: Seen) -> None:
        self._topics = topics
        self._on_event = on_event
        self._judge = Judge()
        self._told: set[tuple[str, str, int]] = set()
        self._partitions = [TopicPartition(name, n) for name in self._product_topics() for n in range(partitions)]
        self._partitions.append(TopicPartition(topics.dead_letter, 0))
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, group_id=None, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        self.events = 0

    def _product_topics(self) -> Iterable[str]:
        return (*self._topics.streams.values(), self._topics.calls)

    async def run(self) -> None:
        """Reads until cancelled."""
        await self._consumer.start()
        try:
            self._consumer.assign(self._partitions)
            while True:
                polled = await self._consumer.getmany(timeout_ms=200, max_records=2000)
                for records in polled.values():
                    for record in records:
                        self._see(record)
        finally:
            await close_consumer(self._consumer)

    def _see(self, record: ConsumerRecord) -> None:
        place = (record.topic, record.partition, record.offset, record.key, record.value, record.headers)
        if record.topic == self._topics.dead_letter:
            self._judge.see_dead_letter(*place)
        elif record.topic == self._topics.calls:
            self._judge.see_summary(*place)
        else:
            self._judge.see_event(*place)
            self.events += 1
            self._on_event(orjson.loads(record.value))

    def verdict(self, store: Store) -> Verdict:
        """What holds now against every version that the emulator has ever had."""
        for call in store.calls():
            for version in call.versions:
                if (known := (call.tenant_id, call.id, version.number)) not in self._told:
                    self._told.add(known)
                    self._judge.add_truth(call.tenant_id, store.document(call, version))
        return self._judge.verdict()
