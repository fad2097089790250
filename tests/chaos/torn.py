"""`python -m tests.chaos.torn`: what Kafka itself does to a transaction whose coordinator is killed and back at once.

The service has no part in it but its publisher. The coordinator of a transaction is cut off from the other brokers, is
told to commit (it writes so into its own log, where no replica can follow), and is killed. Back before the controller
has ended its session it takes up its old place, finds the commit in its log and tells partitions of it, until it hears
that another leads; and the other, whose log has no commit, aborts the transaction for the next producer: some
partitions have it and some have not. Back after its session has ended it follows, and the transaction is aborted
everywhere. Seen with Apache Kafka 3.9.1 and 4.4.0 (KRaft, three brokers that are controllers, too).
"""

import argparse
import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.transaction import EndTxnRequest_v0

from service.embedded import KAFKA_VERSION, Cluster, embedded_kafka
from service.kafka.publisher import Publisher
from service.kafka.records import KafkaRecord
from service.kafka.topics import Topics
from service.settings import Kafka
from tests.broker.lane_bench import lane_publisher, make_topics, read_all
from tests.chaos.links import HOST, Front, Link
from tests.chaos.schedule import BROKER_SESSION_SECONDS

AT_ONCE, AFTER_SESSION = 0.2, 1.8 * BROKER_SESSION_SECONDS
KINDS = (
    ("at once, aborted by the next owner", AT_ONCE, False),
    (f"after {AFTER_SESSION:.0f} s, aborted by the next owner", AFTER_SESSION, False),
    ("at once, with offsets and so committed by the next owner", AT_ONCE, True),
)
QUIET_SECONDS = 0.5
SETTLE_SECONDS = 3.0


@dataclass
class Torn:
    """Three brokers, each behind a proxy, and a lane's publisher."""

    cluster: Cluster
    links: dict[int, Link]
    kafka: Kafka
    topics: Topics
    admin: AIOKafkaAdminClient

    @property
    def written(self) -> list[str]:
        """The topics that each transaction writes to."""
        return [*self.topics.streams.values(), self.topics.calls, self.topics.ledger]

    def records(self, value: str) -> list[KafkaRecord]:
        """One record for each."""
        return [KafkaRecord(topic, 0, b"key", value.encode(), []) for topic in self.written]

    def publisher(self) -> AbstractAsyncContextManager[Publisher]:
        """That of lane 0."""
        return lane_publisher(self.kafka, self.topics)

    async def round(self, value: str, back_after_seconds: float, has_offsets: bool) -> list[bool]:
        """Whether each topic has the record of a transaction whose coordinator dies with its commit."""
        async with self.publisher() as publisher:
            await publisher.commit(self.records(f"before {value}"), {})
            number = await self.admin.find_coordinator(self.topics.transactional_id(0), coordinator_type=1)
            coordinator = self.cluster.brokers[number - 1]
            await publisher._begin()
            await publisher._send_all(self.records(value))
            offsets = {TopicPartition(self.topics.notifications, 0): 0}
            if has_offsets:
                await publisher._producer.send_offsets_to_transaction(offsets, publisher.offsets_group)
            await asyncio.sleep(QUIET_SECONDS)
            link = self.links[coordinator.port]
            link.stall()
            await asyncio.sleep(QUIET_SECONDS)  # a follower's fetch that is under way has ended
            await self._commit_unheard(publisher, coordinator.port)
            await coordinator.kill()
            link.reset()
            link.mend()
        await asyncio.sleep(back_after_seconds)
        await coordinator.start()
        await asyncio.sleep(SETTLE_SECONDS)
        async with self.publisher() as publisher:
            await publisher.commit(self.records(f"after {value}"), {})
        found = [await read_all(self.kafka.bootstrap_servers, topic, 1) for topic in self.written]
        return [value.encode() in [record.value for record in records] for records in found]

    async def _commit_unheard(self, publisher: Publisher, port: int) -> None:
        """The commit, past the proxy; it cannot be answered, because it cannot be replicated."""
        held = publisher._producer._txn_manager
        request = EndTxnRequest_v0(self.topics.transactional_id(0), held.producer_id, held.producer_epoch, True)
        frame = struct.pack(">hhih", request.API_KEY, request.API_VERSION, 1, -1) + request.encode()
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(struct.pack(">i", len(frame)) + frame)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET_SECONDS):
                await reader.read(1)
                raise AssertionError("the commit was answered: it has been replicated")
        writer.close()


@asynccontextmanager
async def opened(version: str = KAFKA_VERSION) -> AsyncIterator[Torn]:
    """The cluster and its topics."""
    links: dict[int, Link] = {}
    async with AsyncExitStack() as stack:

        async def front(port: int) -> int:
            links[port] = Link(str(port), port)
            one = Front([links[port]])
            stack.push_async_callback(one.close)
            return await one.open()

        cluster = await stack.enter_async_context(embedded_kafka(3, version=version, advertise=front))
        kafka, topics = Kafka(bootstrap_servers=cluster.bootstrap_servers, partitions=1), Topics("torn")
        await make_topics(kafka, topics)
        admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap_servers)
        await admin.start()
        stack.push_async_callback(admin.close)
        yield Torn(cluster, links, kafka, topics, admin)


async def main(rounds: int, version: str) -> None:
    """A line for each round, and the sum."""
    async with opened(version) as torn:
        for name, seconds, has_offsets in KINDS:
            torn_rounds = 0
            for number in range(rounds):
                has = await torn.round(f"{name} {number}", seconds, has_offsets)
                torn_rounds += len(set(has)) > 1
                print(f"back {name}: {sum(has)} of {len(has)} topics have the transaction", flush=True)
            print(f"back {name}: {torn_rounds} of {rounds} transactions torn", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.torn", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="of each kind; default 4, some 10 s each")
    parser.add_argument("--kafka", default=KAFKA_VERSION, help=f"version of Apache Kafka; default {KAFKA_VERSION}")
    given = parser.parse_args()
    asyncio.run(main(given.rounds, given.kafka))
