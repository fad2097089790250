"""A process: reads every topic with `read_committed` and the emulator's own record, and says what became of it all.

No code of the service is used: what must come out is the emulator's `expect…` and `judge`; topics and ledger entries
are read here from their documented form (docs/architecture.md). Prints one JSON line a second; the last one, after
the file `settle` has appeared (nobody strikes any more) and everything has come, or the deadline has, is the verdict.
"""

import asyncio
import itertools
import json
import struct
import sys
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from service.emulator.judge import Judge
from service.emulator.statefile import MARK, read_frames
from tests.chaos.waits import Call, Calls

STREAMS = ("audio", "video", "screen-sharing", "other")
# Receivers write notices and lanes write ledger entries also while no consumer gets anything.
UNSEEN = ("notifications", "ledger")
LEDGER_VALUE = struct.Struct(">BQI")
PUBLISHED = 1
POLL_SECONDS = 0.3
AT_ONCE = 2000
SHOWN = 10


class Task(msgspec.Struct, frozen=True):
    """What the process is told."""

    servers: str
    prefix: str
    partitions: int
    state_file: str
    settle_file: str
    calls: int
    """How many calls the generator makes in the whole run."""
    is_patient: bool = False
    """Whether what is missing may still come, without transactions: a batch that broke off is repeated later."""
    quiet_seconds: float = 4.0
    deadline_seconds: float = 240.0
    """After which what is missing then is lost."""


class Court:
    """Everything that is known of the run so far."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._judge = Judge()
        self.calls = Calls()
        self._place = len(MARK)
        self._acknowledged: dict[tuple[Call, int], None] = {}
        self._open: set[tuple[Call, int]] = set()
        self._stored: set[Call] = set()
        self._scheduled = 0
        self._ledger: dict[Call, tuple[bool, int]] = {}
        self._dead: Counter[str] = Counter()
        self._ends: Counter[str] = Counter()
        self.streams = 0
        self.versions = 0

    def read_record(self) -> bool:
        """What the emulator has written down since the last time; whether there is more."""
        with Path(self._task.state_file).open("rb") as file:
            frames = read_frames(file, self._place)
            for number, (self._place, head, packed) in enumerate(frames):
                self._note(head, packed)
                if number >= AT_ONCE:
                    return True
        return False

    def _note(self, head: dict[str, Any], packed: bytes) -> None:
        if head["kind"] == "scheduled":
            self._scheduled += 1
        elif head["kind"] in ("version", "settled", "announced"):
            call, version = (head["tenantId"], head["callId"]), head["version"]
            if head["kind"] == "settled":
                self._open.discard((call, version))
                self._ends[head["end"]] += 1
                if head["end"] == "delivered":
                    self._acknowledged[call, version] = None
                return
            self._open.add((call, version))
            if head["kind"] == "version":
                self.versions += 1
                self._scheduled -= head["scheduledAt"] is not None
                self._judge.add_truth(call[0], orjson.loads(zlib.decompress(packed)))
                self.calls.exists(call, version, max(head["createdAt"], head["visibleAt"], head["notifyAt"]))

    def see_all(self, polled: Mapping[TopicPartition, Sequence[ConsumerRecord]], now: float) -> None:
        """What one poll brought; a silence ends only with what a consumer sees."""
        if any(self._name(partition.topic) not in UNSEEN for partition in polled):
            self.calls.heard(now)
        for record in itertools.chain.from_iterable(polled.values()):
            self._see(record)

    def _name(self, topic: str) -> str:
        return topic.removeprefix(f"{self._task.prefix}.")

    def _see(self, record: ConsumerRecord) -> None:
        """One record of any topic."""
        place = (record.topic, record.partition, record.offset, record.key, record.value, record.headers)
        name = self._name(record.topic)
        if name == "notifications":
            self._stored.add(_call_of(record.key))
        elif name == "ledger":
            self._see_ledger(record)
        elif name == "dead-letter":
            self._judge.see_dead_letter(*place)
            self._dead[dict(record.headers).get("reason", b"none").decode()] += 1
            self.calls.dead.add(_call_of(record.key))
        elif name == "calls":
            self._judge.see_summary(*place)
            self.calls.appeared(_call_of(record.key), _version_of(record), record.timestamp / 1000)
        else:
            self._judge.see_event(*place)
            self.streams += 1

    def _see_ledger(self, record: ConsumerRecord) -> None:
        call = str(uuid.UUID(bytes=record.key[:16])), str(uuid.UUID(bytes=record.key[16:]))
        if record.value is None:
            self._ledger.pop(call, None)
            return
        outcome, version, _ = LEDGER_VALUE.unpack(record.value)
        self._ledger[call] = outcome == PUBLISHED, version

    @property
    def is_complete(self) -> bool:
        """Whether everything exists, was announced and has its last version published."""
        missing = self.calls.due.keys() - self.calls.dead
        made = len(self.calls.newest) >= self._task.calls
        return made and not (missing or self._open or self._scheduled)

    @property
    def is_delivered(self) -> bool:
        """Whether every announcement so far has come to its end."""
        return not self._open

    def progress(self) -> dict[str, Any]:
        """For whoever watches."""
        now = time.time()
        since = self.calls.oldest_due(now)
        return {
            "events": self.streams,
            "calls": len(self.calls.newest),
            "versions": self.versions,
            "waiting": len(self.calls.due),
            "undelivered": len(self._open),
            "behind_seconds": round(now - since, 1) if since else 0.0,
        }

    def is_last_missing(self) -> bool:
        """Whether something of a call's last version is not there."""
        verdict = self._judge.verdict()
        return verdict.lost > verdict.overtaken_lost

    def verdict(self) -> dict[str, Any]:
        """All counts; what must be 0 stands under `faults`."""
        verdict, calls = self._judge.verdict(), self.calls
        vanished = self._vanished()
        mistaken = self._mistaken_ledger()
        waits = sorted(calls.waits) or [0.0]
        return {
            "faults": {
                "lost": verdict.lost,
                "duplicated": verdict.duplicated,
                "wrong": verdict.wrong,
                "half versions": verdict.half,
                "half versions with a summary": verdict.half_announced,
                "older after newer": verdict.older_after_newer,
                "acknowledged and vanished": len(vanished),
                "dead letters": sum(self._dead.values()),
                "ledger differs": len(mistaken),
            },
            "overtaken": {"lost": verdict.overtaken_lost, "half versions": verdict.overtaken_half},
            "dead letters by reason": dict(self._dead),
            "problems": [*verdict.problems, *vanished[:SHOWN], *mistaken[:SHOWN]],
            "calls": verdict.calls,
            "versions": verdict.versions,
            "events": verdict.events,
            "published versions": len(calls.waits),
            "notices acknowledged": len(self._acknowledged),
            "notices ended otherwise": {end: n for end, n in self._ends.items() if end != "delivered"},
            "longest stall seconds": round(calls.longest_silence, 1),
            "longest wait seconds": round(calls.longest_wait[0], 1),
            "longest wait": calls.longest_wait[1],
            "wait seconds, half of the calls": round(waits[len(waits) // 2], 1),
            "wait seconds, 99 of 100": round(waits[len(waits) * 99 // 100], 1),
        }

    def _vanished(self) -> list[str]:
        """Notices that were answered 202 and of which nothing is left: not in the topic, or never acted upon."""
        found = []
        for call, version in self._acknowledged:
            name = f"the notice of version {version} of {'/'.join(call)} was acknowledged"
            if call not in self._stored:
                found.append(f"{name} and is not in the topic of notifications")
            elif self.calls.published.get(call, 0) < version and call not in self.calls.dead:
                found.append(f"{name} and neither it nor a newer one is published or dead")
        return found

    def _mistaken_ledger(self) -> list[str]:
        """Calls of which the ledger says something else than the topics."""
        published = {call: version for call, (is_published, version) in self._ledger.items() if is_published}
        said = published.items() ^ self.calls.published.items()
        names = sorted({"/".join(call) for call, _ in said})
        return [f"the ledger and the topics differ about {name}" for name in names if name.partition("/")[2]]


def _call_of(key: bytes | None) -> Call:
    tenant_id, _, call_id = (key or b"").decode(errors="replace").partition("/")
    return tenant_id, call_id


def _version_of(record: ConsumerRecord) -> int:
    text = dict(record.headers).get("version", b"0").decode(errors="replace")
    return int(text) if text.isdecimal() else 0


class Reader:
    """All topics from their beginnings; a consumer that Kafka ends is replaced by another."""

    def __init__(self, task: Task) -> None:
        self._task = task
        per_call = [f"streams.{kind}" for kind in STREAMS] + ["calls", "ledger", "notifications"]
        places = [*itertools.product(per_call, range(task.partitions)), ("dead-letter", 0)]
        self._partitions = [TopicPartition(f"{task.prefix}.{name}", n) for name, n in places]
        self._positions: dict[TopicPartition, int] = {}

    async def run(self, court: Court) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._read(court)
            except KafkaError as error:
                print(f"the judge reads again: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                await asyncio.sleep(POLL_SECONDS)

    async def _read(self, court: Court) -> None:
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=self._task.servers,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            request_timeout_ms=15_000,
        )
        try:
            await consumer.start()
            consumer.assign(self._partitions)
            for partition, position in self._positions.items():
                consumer.seek(partition, position)
            while True:
                polled = await consumer.getmany(timeout_ms=200, max_records=AT_ONCE)
                court.see_all(polled, time.time())
                for partition, records in polled.items():
                    self._positions[partition] = records[-1].offset + 1
        finally:
            await consumer.stop()

    async def hidden(self) -> list[str]:
        """Partitions whose end a reader of committed records cannot reach: a transaction is open there."""
        ends = AIOKafkaConsumer(bootstrap_servers=self._task.servers, group_id=None)
        try:
            await ends.start()
            marks = await ends.end_offsets(self._partitions)
        except KafkaError as error:
            return [f"{type(error).__name__}: {error}"]
        finally:
            await ends.stop()
        behind = []
        for partition, mark in marks.items():
            if await self._consumer.position(partition) < mark:
                behind.append(f"{partition.topic} {partition.partition}")
        return behind


async def judge(task: Task) -> None:
    """Prints lines until the verdict."""
    court, reader = Court(task), Reader(task)
    reading = asyncio.create_task(reader.run(court))
    settling_since: float | None = None
    events, moved = -1, time.monotonic()
    try:
        while not reading.done():
            while court.read_record():  # noqa: ASYNC110 - a long record is read in pieces
                await asyncio.sleep(0)
            now = time.monotonic()
            if settling_since is None and Path(task.settle_file).exists():
                settling_since = now
            if (court.streams, len(court.calls.due)) != events:
                events, moved = (court.streams, len(court.calls.due)), now
            if settling_since is not None:
                is_quiet = court.is_complete and now - moved > task.quiet_seconds and not await reader.hidden()
                may_come = task.is_patient and court.is_last_missing()
                if (is_quiet and not may_come) or now - settling_since > task.deadline_seconds:
                    verdict = court.verdict() | {"hidden": await reader.hidden()}
                    print(json.dumps({"verdict": verdict}), flush=True)
                    return
            print(json.dumps(court.progress()), flush=True)
            await asyncio.sleep(1.0)
        reading.result()
    finally:
        reading.cancel()
        await asyncio.wait({reading})


if __name__ == "__main__":
    asyncio.run(judge(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Task)))
