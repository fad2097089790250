"""Strangers at the public port, with a real Kafka behind it: nothing unauthorised arrives there, every refusal is
counted by its reason, no log line is forged, and a genuine notice comes in all the while.
"""

import asyncio
import io
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry

from service import logs
from service.clock import Clock
from service.kafka.topics import Topics
from service.metrics import REFUSED, REJECTED, Metrics
from service.notification import Gatekeeper, Notification, client_state
from service.receiver import KafkaStore, receiver_site
from service.settings import Log, Receiver
from tests.attacks import FRAMING, LENGTH, MARK, MEANING, SMUGGLED, Attack, post, unentitled
from tests.broker.lane_bench import bench, call_id, eventually, settings_for, shaped
from tests.broker.test_receiver_kafka import create_topics, kafka_settings, open_receiver, read_all, until
from tests.shell.receiving import KEY, TENANT
from tests.shell.receiving import item as notice

SECONDS = 20.0
SMALL = Receiver(host="127.0.0.1", port=0, max_body_bytes=250_000, max_items=1000)
GOOD = [f"a1f3c7d2-0b64-4a0e-9d0f-{number:012x}" for number in range(3)]
HTTP_BATCHES, HTTP_BATCH = 20, 500


@dataclass
class Target:
    """A receiver under attack."""

    port: int
    metrics: Metrics
    due: list[str] = field(default_factory=lambda: [*GOOD])
    """Genuine calls that have not been announced yet."""

    async def send(self, attack: Attack) -> bytes:
        """The beginning of the answer; empty when the connection ends without one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(attack.sent)
            if attack.stays_open:
                writer.write_eof()
            async with asyncio.timeout(SECONDS):
                return await reader.read() if attack.stays_open else await reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            return b""
        finally:
            writer.close()

    async def post(self, items: list[object]) -> int:
        body = io.BytesIO(json.dumps({"value": items}).encode())
        async with (
            aiohttp.ClientSession() as http,
            http.post(
                f"http://127.0.0.1:{self.port}/notifications", data=body, headers={"Content-Type": "application/json"}
            ) as reply,
        ):
            return reply.status

    async def post_good(self) -> None:
        """A genuine notice comes in, and is stored when it is answered."""
        before = self.value("notifications_stored")
        assert await self.post([notice(self.due.pop(0))]) == 202
        assert self.value("notifications_stored") == before + 1

    def value(self, name: str, **labels: str) -> int:
        return int(self.metrics.registry.get_sample_value(f"callstream_{name}_total", labels) or 0)

    def rejected(self) -> Counter[str]:
        return Counter({reason: self.value("receiver_rejected", reason=reason) for reason in REJECTED})

    def refused(self) -> Counter[str]:
        return Counter({reason: self.value("notifications_refused", reason=reason) for reason in REFUSED})


@asynccontextmanager
async def attacked(kafka: str, prefix: str, patience: float = 1.0) -> AsyncIterator[Target]:
    """Open to attacks until the block ends; then what is in Kafka must be the `GOOD` notices, and nothing else.

    `patience`: seconds that a body may take; a request's beginning may take twice as many.
    """
    settings, metrics = kafka_settings(kafka, prefix), Metrics(CollectorRegistry(), ["contoso"])
    await create_topics(settings)
    gatekeeper = Gatekeeper({TENANT: "contoso"}, {1: KEY})
    receiver = msgspec.structs.replace(SMALL, read_timeout_seconds=patience)
    async with (
        KafkaStore(settings, Topics(prefix), SECONDS) as store,
        receiver_site(receiver, gatekeeper, store, metrics, Clock(), idle_seconds=2 * patience) as site,
    ):
        target = Target(site.port, metrics)

        async def is_ready() -> bool:
            return store.trouble() is None

        await until(is_ready)
        yield target
        while target.due:
            await target.post_good()
        await until(_all_served)
    records = await read_all(settings, Topics(prefix).notifications, len(GOOD))
    arrived = [msgspec.json.decode(record.value, type=Notification).call_id for record in records]

    assert sorted(arrived) == GOOD
    assert target.value("notifications_stored") == len(GOOD)
    assert not await read_all(settings, Topics(prefix).lifecycle, 0)


async def _all_served() -> bool:
    """What is left of a body that nobody wants is read for a moment, also from a peer that has gone."""
    return not any("RequestHandler.start" in str(task.get_coro()) for task in asyncio.all_tasks())


async def test_no_trick_with_bytes_brings_anything_in(kafka: str, prefix: str) -> None:
    """Framing, methods, paths, sizes and JSON: each is refused, counted once under its reason, and told nothing."""
    stream = io.StringIO()
    logs.set_up(Log(format="json"), stream)
    try:
        async with attacked(kafka, prefix) as target:
            for attack in (*FRAMING, *MEANING):
                before = target.rejected()
                answer = await target.send(attack)
                await _check(target, attack, before, answer)
    finally:
        logs.set_up(Log())

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all({"timestamp", "level", "event"} <= line.keys() for line in lines)
    assert not any(MARK in str(line) or "evil.example" in str(line) for line in lines)
    assert not any(line["level"] in ("error", "critical") for line in lines)


async def _check(target: Target, attack: Attack, before: Counter[str], answer: bytes) -> None:
    status = int(answer[9:12]) if answer else 0
    assert status in attack.statuses, (attack.name, answer)
    assert b"ython" not in answer
    assert MARK.encode() not in answer
    kinds = {"not_http", "cut"} if attack.reason in ("not_http", "cut") else {attack.reason}

    async def is_counted() -> bool:
        return bool(target.rejected() - before)

    await until(is_counted)
    moved = target.rejected() - before
    assert set(moved) <= kinds, attack.name
    assert moved.total() == 1, attack.name


async def test_no_forged_notice_comes_in(kafka: str, prefix: str) -> None:
    """Every kind of forgery among thousands of random ones, over HTTP: 202, nothing stored, each counted."""
    chance = random.Random(7)
    kinds = [*unentitled()]
    async with attacked(kafka, prefix) as target:
        expected: Counter[str] = Counter()
        for _ in range(HTTP_BATCHES):
            sent = list(itertools.islice(_forgeries(chance), HTTP_BATCH - len(kinds)))
            assert await target.post([item for _, item in (*kinds, *sent)]) == 202
            expected.update(reason for reason, _ in (*kinds, *sent))

        assert expected.total() == HTTP_BATCHES * HTTP_BATCH
        assert +target.refused() == expected
        assert target.value("notifications_received") == expected.total()


def _forgeries(chance: random.Random) -> Iterator[tuple[str, object]]:
    """Notices without end whose `clientState` was made without the key, or for another tenant."""
    while True:
        key = chance.randbytes(chance.choice((0, 1, 16, 25, 32)))
        other = f"bad0bad0-1111-4222-8333-{chance.randrange(16**12):012x}"
        yield "client_state", notice(SMUGGLED, clientState=client_state(chance.randrange(1, 4), key, TENANT))
        yield "client_state", notice(SMUGGLED, clientState=client_state(1, KEY, other))
        yield "tenant", notice(SMUGGLED, tenantId=other, clientState=client_state(1, KEY, other))


async def test_an_ancient_notice_posted_twice_publishes_its_call_once(kafka: str, prefix: str) -> None:
    """The call is new to us, so the first one is worth a look; the second finds the version in the ledger."""
    ancient = notice(call_id("a"), subscriptionExpirationDateTime="2019-11-22T10:00:00.0000000Z")
    settings = settings_for(kafka, prefix)
    async with bench(settings) as lanes, open_receiver(settings.kafka, SECONDS) as site:

        async def is_ready() -> bool:
            return site.store.trouble() is None

        async def handled(series: str, **labels: str) -> bool:
            return lanes.metrics.registry.get_sample_value(f"callstream_{series}_total", labels) == 1

        lanes.graph.say("a", shaped("a", 1, events=3))
        await until(is_ready)
        assert await site.post([ancient]) == 202
        await eventually(lambda: handled("records_published", tenant="contoso"), "the call is published")
        assert await site.post([ancient]) == 202
        await eventually(lambda: handled("notifications_skipped", reason="published"), "the second one is handled")
        stored = await lanes.read(lanes.topics.notifications)
        versions = await lanes.versions()
        events = await lanes.read(lanes.topics.streams["audio"])

    assert len(stored) == 2
    assert versions == [(call_id("a"), 1)]
    assert len(events) == 3


async def test_pipelined_requests_are_each_judged(kafka: str, prefix: str) -> None:
    """Two hundred in one go, then rubbish: every one gets its own answer, the rubbish ends the connection."""
    body = json.dumps({"value": [notice(SMUGGLED, clientState="forged")]}).encode()
    one = post(f"Content-Length: {len(body)}", body=body)
    async with attacked(kafka, prefix) as target:
        answer = await target.send(Attack("pipelined", one * 200 + b"\x00 rubbish\r\n\r\n", "", stays_open=True))

        assert answer.count(b"HTTP/1.1 202 ") == 200
        assert answer.count(b" 400 Bad Request") == 1
        assert target.refused()["client_state"] == 200


async def test_slow_connections_hold_up_nobody(kafka: str, prefix: str) -> None:
    """Hundreds that drip headers or bodies: a genuine notice is stored meanwhile, and each slow one is cut off."""
    starts = [b"POST /notifications HTTP/1.1\r\nHost: x\r\nX-Slow: ", post(LENGTH, body=b'{"value":[')]
    async with attacked(kafka, prefix, patience=2.0) as target:
        slow = [await asyncio.open_connection("127.0.0.1", target.port) for _ in range(200)]
        for (_, writer), start in zip(slow, itertools.cycle(starts), strict=False):
            writer.write(start)
        dripping = [asyncio.create_task(_drip(reader, writer)) for reader, writer in slow]
        await target.post_good()
        still_slow = sum(not task.done() for task in dripping)
        async with asyncio.timeout(SECONDS):
            ends = await asyncio.gather(*dripping)

        assert still_slow == len(slow)
        assert sum(end.startswith(b"HTTP/1.1 408 ") for end in ends) == 100
        assert target.rejected()["too_slow"] == 100
        assert target.rejected()["unfinished"] == 100


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Sends a byte now and then until the site has had enough; the answer's first line, empty where it says nothing."""
    answering = asyncio.create_task(reader.readuntil(b"\r\n"))
    try:
        while not answering.done():
            writer.write(b"a")
            await asyncio.wait({answering}, timeout=0.2)
        return await answering
    except (ConnectionError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()
