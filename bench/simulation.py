"""Days in minutes: the whole service, a real Kafka and the emulator on one fast clock, notices lost, and the verdict.

`python -m bench.simulation --days 30 --tenants 3` is the run of `docs/completeness.md`; a test makes a short one.
Every limit of Graph's is counted by the emulator on the same clock; Kafka and its timeouts stay real.
"""

import argparse
import asyncio
import json
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from service.app import open_service
from service.clock import Clock
from service.emulator.making import CallWish
from service.emulator.options import DeliveryOptions, EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.settings import Admin, ClientState, Graph, Kafka, Keeper, Lanes, Receiver, Secret, Settings, Tenant
from service.stream.topics import Topics

DAY = 86400.0
PARTITIONS = 3
NEVER = 1e9
# A longer run ends when Graph has forgotten its first calls, so that its sums are below what was made.
FORGETS_DAYS = 27
LATER_EVERY = 10  # one call in so many gets a second version


@dataclass(frozen=True)
class Script:
    """What happens. Days are of the simulated clock."""

    days: float = 3.0
    tenants: int = 2
    calls_per_day: int = 96
    speed: float = 8000.0
    dropped: float = 0.05
    outages: tuple[tuple[float, float], ...] = ((1.0, 1.5),)
    """(first, last day) in which Graph tells nobody anything, and says nothing of it."""
    settle_days: float = 3.0
    """At the most so long after the last call."""


@dataclass
class Outcome:
    """What came of it."""

    calls: int = 0
    versions: int = 0
    published: int = 0
    """Versions published, each counted once."""
    duplicated: int = 0
    missing: int = 0
    """Calls whose last version is not published."""
    unnoticed: int = 0
    """Calls made in an outage."""
    highest: dict[str, int] = field(default_factory=dict)
    """Of each limit of Graph's, the most requests in any window."""
    throttled: int = 0
    list_requests: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    """Tenant → what the status page says in the end."""


async def simulate(servers: str, prefix: str, script: Script) -> Outcome:
    """Runs the script against a real Kafka at `servers`."""
    clock = Clock(script.speed)
    tenants = tuple(
        TenantOptions(id=f"c0ffee00-1111-4222-8333-{number:012x}", name=f"tenant{number}")
        for number in range(1, script.tenants + 1)
    )
    options = EmulatorOptions(
        port=0,
        tenants=tenants,
        token_seconds=DAY,
        delivery=DeliveryOptions(drop_notification_share=script.dropped),
    )
    outcome = Outcome()
    async with open_emulator(options, clock) as emulator:
        settings = settings_for(servers, prefix, emulator.url, tenants)
        async with open_service(settings, ["receive", "work", "keep"], clock) as service:
            tell = service.status["completeness"]
            await _until_kept(tell, len(tenants))
            await _make_calls(emulator, clock, script, outcome)
            end = clock.now() + script.settle_days * DAY
            topics = Topics(prefix)
            while clock.now() < end:
                await asyncio.sleep(1.0)
                await _judge(servers, topics, emulator, outcome)
                outcome.figures = dict(tell() or {})  # type: ignore[call-overload]
                if not outcome.missing and all(_is_whole(one, outcome, script) for one in outcome.figures.values()):
                    break
        _count_limits(emulator, outcome)
    return outcome


def settings_for(servers: str, prefix: str, url: str, tenants: Sequence[TenantOptions]) -> Settings:
    """Waits that a person would set on a real clock would be shorter than a packet's way on this one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    return Settings(
        kafka=Kafka(bootstrap_servers=servers, topic_prefix=prefix, partitions=PARTITIONS, session_timeout_seconds=6),
        receiver=Receiver(host="127.0.0.1", port=port, public_url=f"http://127.0.0.1:{port}"),
        admin=Admin(port=0),
        client_state=ClientState(keys={"1": Secret("a key of at least sixteen")}),
        tenants={
            one.name: Tenant(id=one.id, client_id=one.client_id, client_secret=Secret(one.client_secret))
            for one in tenants
        },
        graph=Graph(
            cloud="custom",
            root_url=url,
            login_url=url,
            request_timeout_seconds=50_000.0,
            record_deadline_seconds=100_000.0,
        ),
        lanes=Lanes(patience_seconds=20_000.0),
        keeper=Keeper(period_seconds=1800.0, reconcile_period_seconds=900.0),
    )


async def _until_kept(tell: Any, count: int) -> None:
    async with asyncio.timeout(60):
        while len(tell() or {}) < count:  # noqa: ASYNC110 - what is waited for happens in the service
            await asyncio.sleep(0.05)


async def _make_calls(emulator: Emulator, clock: Clock, script: Script, outcome: Outcome) -> None:
    begin = clock.now()
    for number in range(int(script.days * script.calls_per_day)):
        await clock.sleep(begin + number * DAY / script.calls_per_day - clock.now())
        day = (clock.now() - begin) / DAY
        is_silent = any(first <= day < last for first, last in script.outages)
        for tenant in emulator.world.options.tenants:
            wish = CallWish(
                tenant.id,
                kind="peerToPeer",
                versions=2 if number % LATER_EVERY == 0 and not is_silent else 1,
                version_after_seconds=3 * 3600.0,
                notify_after_seconds=NEVER if is_silent else 0.0,
            )
            emulator.maker.make(wish)
            outcome.calls += 1
            outcome.unnoticed += is_silent


async def _judge(servers: str, topics: Topics, emulator: Emulator, outcome: Outcome) -> None:
    """Every committed call summary against every call that exists."""
    seen = Counter(await _summaries(servers, topics))
    newest: dict[str, int] = {}
    for call_id, version in seen:
        newest[call_id] = max(version, newest.get(call_id, 0))
    calls = list(emulator.store.calls())
    outcome.versions = sum(len(call.versions) for call in calls)
    outcome.published = len(seen)
    outcome.duplicated = seen.total() - len(seen)
    outcome.missing = sum(newest.get(call.id, 0) != call.current.number for call in calls)


async def _summaries(servers: str, topics: Topics) -> list[tuple[str, int]]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(topics.calls, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found = []
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                polled = await consumer.getmany(partition, timeout_ms=200)
                for record in polled.get(partition, ()):
                    headers = dict(record.headers)
                    found.append((headers["ce_subject"].decode(), int(headers["version"])))
        return found
    finally:
        await consumer.stop()


def _is_whole(status: dict[str, Any], outcome: Outcome, script: Script) -> bool:
    """The keeper has listed every call of the tenant that Graph still keeps, and says that none is missing."""
    total = status["total"]
    is_listed = total["listed"] == outcome.calls / script.tenants or script.days > FORGETS_DAYS
    return bool(total["missing"] == 0 and is_listed)


def _count_limits(emulator: Emulator, outcome: Outcome) -> None:
    report = emulator.world.counters.report()
    outcome.highest = {name: one["highest"] for name, one in report.items()}
    outcome.throttled = sum(one["throttled"] for one in report.values())
    outcome.list_requests = report["list"]["requests"]


async def _main(script: Script) -> int:
    from service.embedded import embedded_kafka

    async with embedded_kafka() as cluster:
        outcome = await simulate(cluster.bootstrap_servers, "simulation", script)
    for name, status in outcome.figures.items():
        print(name)
        for day in status["days"]:
            if day["listed"]:
                print("  ", {key: day[key] for key in ("day", "listed", "published", "missing", "healed", "late")})
    print(json.dumps({key: value for key, value in asdict(outcome).items() if key != "figures"}, indent=2))
    return 1 if outcome.missing or outcome.duplicated or outcome.throttled else 0


def main() -> int:
    """Exit code 1 when anything was lost, doubled or throttled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--tenants", type=int, default=3)
    parser.add_argument("--calls-per-day", type=int, default=96)
    parser.add_argument("--speed", type=float, default=4000.0)
    given = parser.parse_args()
    outages = ((6.0, 7.0), (18.0, 19.0)) if given.days >= 20 else ((given.days / 3, given.days / 2),)
    script = Script(given.days, given.tenants, given.calls_per_day, given.speed, outages=outages)
    return asyncio.run(_main(script))


if __name__ == "__main__":
    sys.exit(main())
