"""A second deployment beside the scene's, of topics alone: who works is played by members of the groups that do
nothing, and what they would have written is written by the test.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from service.clock import iso
from service.kafka.topics import Topics
from service.notification import Notification
from service.reconcile.hours import Hour, Seen, TenantHours, day_number, day_text, hour_number
from service.reconcile.memory import Memory
from tests.doctor.scene import CONTOSO, PARTITIONS, SECONDS, Scene

CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"


@dataclass
class StandIn:
    """The topics of one prefix, and means to write into them."""

    kafka: str
    topics: Topics
    producer: AIOKafkaProducer

    @property
    def changes(self) -> dict[str, str | None]:
        """The settings under which the doctor looks here."""
        return {"kafka__topic_prefix": self.topics.prefix}

    async def notice(self, topic: str, age_seconds: float = 0.0, **fields: object) -> None:
        """One notification, written so long ago."""
        then = time.time() - age_seconds
        made = Notification(tenant_id=CONTOSO.id, call_id=CALL, source="webhook", received_at=iso(then), **fields)  # type: ignore[arg-type]
        value = msgspec.json.encode(made)
        await self.producer.send_and_wait(topic, value, partition=0, timestamp_ms=int(then * 1000))

    async def letter(self, reason: str) -> None:
        """One dead letter, a moment old."""
        headers = [("reason", reason.encode()), ("error", b"The words of the error."), ("attempts", b"3")]
        await self.producer.send_and_wait(self.topics.dead_letter, b"{}", partition=0, headers=headers)

    async def remember(self, hours: Mapping[int, Hour], notice: float) -> None:
        """The keeper's memory: hours by how many hours ago they were; when the last notice came."""
        now = time.time()
        memory = Memory(now, [CONTOSO.id])
        tenant: TenantHours = memory.tenants[CONTOSO.id]
        tenant.hours = {hour_number(now) - ago: hour for ago, hour in hours.items()}
        tenant.seen = Seen(notice=notice, subscription=now)
        memory._dirty = {f"{CONTOSO.id}/day/{day_text(day_number(number))}" for number in tenant.hours}
        memory._dirty.add(f"{CONTOSO.id}/seen")
        for key, value in memory.changed():
            await self.producer.send_and_wait(self.topics.state, value, key=key, partition=0)


@asynccontextmanager
async def stand_in(
    scene: Scene,
    members: str = "keeper,lanes",
    left_out: tuple[str, ...] = (),
    kafka: str = "",
    **configs: dict[str, str],
) -> AsyncIterator[StandIn]:
    """Topics of a prefix of their own, all as they should be but for `left_out` and `configs` (by the last part of the
    name); `members` of which groups there are. The keeper remembers a healthy past. `kafka`: another than the scene's.
    """
    kafka = kafka or scene.environ["CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS"]
    topics = Topics(f"doctor{time.time_ns()}x")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all")
    groups = {
        "keeper": (f"{topics.prefix}.keeper", topics.lifecycle),
        "lanes": (topics.lane_group, topics.notifications),
    }
    consumers = []
    await admin.start()
    await producer.start()
    try:
        await _create(admin, topics, left_out, configs)
        for name in members.split(",") if members else ():
            group, topic = groups[name]
            consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
            consumers.append(consumer)
            await consumer.start()
        async with asyncio.timeout(SECONDS):
            while not all(consumer.assignment() for consumer in consumers):  # noqa: ASYNC110 - the group tells nobody
                await asyncio.sleep(0.01)
        made = StandIn(kafka, topics, producer)
        if topics.state.rpartition(".")[2] not in left_out:
            await made.remember({1: Hour(look=int(time.time()), listed=1, known=1)}, time.time())
        yield made
    finally:
        for consumer in consumers:
            with suppress(asyncio.CancelledError):
                await consumer.stop()
        await producer.stop()
        await admin.close()


async def _create(
    admin: AIOKafkaAdminClient, topics: Topics, left_out: tuple[str, ...], configs: Mapping[str, dict[str, str]]
) -> None:
    wanted = []
    for spec in topics.specs(PARTITIONS):
        part = spec.name.removeprefix(f"{topics.prefix}.").replace(".", "_").replace("-", "_")
        if part not in left_out:
            config = {**spec.config, **configs.get(part, {})}
            wanted.append(NewTopic(spec.name, spec.partitions, 1, topic_configs=config))
    await admin.create_topics(wanted)
