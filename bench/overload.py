"""`python -m bench.overload`: too much of everything, and what `serve` makes of it: answers, memory, other calls.

Three scenes on an embedded Kafka, `serve` and the emulator each a process of its own:

- *flood*: notifications at ten times what the lanes can do. Graph must get its answers in time, and the backlog drains.
- *large*: records of 3,000 sessions and one with a body of 50 MB, all at once, while another tenant's calls go on.
- *outage*: an hour in which Graph answers nothing but 503, on a clock 12 times as fast, and 10,000 notifications in it.

The bounds are asserted: exit code 1 when one does not hold. `--quick` is small, for the tests.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from bench.report import machine
from bench.scene import DEMO_TENANT_ID, LOOK_SECONDS, OTHER_TENANT_ID, Scene, open_scene
from service.embedded import embedded_kafka
from service.errors import UserError
from service.settings import Graph, Lanes

MB = 1_000_000
MOST_MB = 512
GRAPH_SECONDS = "2.5"
"""The last bucket of `receiver_seconds` below the 3 s that Graph allows for an answer."""
CALLS_A_REQUEST = 50
SLOW_SECONDS = 0.1
"""What each read of a record takes in the flood, one after the other: the lanes can do ten calls a second."""
FLOOD_SETTINGS = {"LANES__CONCURRENT_FETCHES": "1", "KAFKA__PARTITIONS": "3", "LANES__BESIDE_FETCHES": "1"}
FLOOD_FACTOR = 10
OUTAGE_SPEED = 12.0
# On the fast clock: what judges the machine stays as long as it is by default.
FAST_SETTINGS = {
    "GRAPH__REQUEST_TIMEOUT_SECONDS": "180",
    "GRAPH__RECORD_DEADLINE_SECONDS": "240",
    "LANES__PATIENCE_SECONDS": "36",
    "KEEPER__RECONCILE_DAYS": "0",
}
PIECE_BYTES = 8 * MB

Tell = Callable[[str], None]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class Scenes(Enum):
    """What can be run alone."""

    flood = "flood"
    large = "large"
    outage = "outage"


class Sizes(msgspec.Struct, frozen=True):
    """How much of everything."""

    flood_seconds: float = 30.0
    wide_records: int = 6
    sessions: int = 3000
    """Of each wide record."""
    body_bytes: int = 50 * MB
    held_bytes: int = Lanes().held_bytes
    """What `serve` may hold while it reads the large ones; what is beyond that waits."""
    stand_seconds: float = 0.0
    """How long Graph keeps back the second page of each wide record, unless the other calls are published before."""
    beside: int = 200
    """Calls of the other tenant while the large ones are read."""
    waiting: int = 10_000
    outage_seconds: float = 3600.0


QUICK = Sizes(
    flood_seconds=1.0,
    wide_records=4,
    sessions=130,
    body_bytes=4 * MB,
    held_bytes=MB,
    stand_seconds=30.0,
    beside=10,
    waiting=200,
    outage_seconds=300.0,
)


class Flood(msgspec.Struct, frozen=True):
    """Ten times too much."""

    offered_a_second: float
    """Notifications, while the flood lasted."""
    published_a_second: float
    """Records, meanwhile."""
    notifications: int
    answers: int
    """POSTs of Graph that were answered."""
    late_answers: int
    """Of them, after more than 2.5 s."""
    repeated: int
    """Notifications that Graph had to send again."""
    drained_seconds: float
    """From the end of the flood until everything is published."""
    most_mb: float

    def broken(self) -> list[str]:
        """What does not hold, in words."""
        if self.late_answers or self.repeated:
            return [f"{self.late_answers} late answers, {self.repeated} notifications repeated"]
        return []


class Large(msgspec.Struct, frozen=True):
    """Records that are larger than any other, at once."""

    wide_records: int
    sessions: int
    """Of each wide record."""
    body_mb: float
    events: int
    seconds: float
    """Until all are published."""
    held_back: int
    """How often reading or encoding waited until the process held less."""
    other_calls: int
    other_seconds: float
    """Until the other tenant's calls, announced after the large records, were published."""
    large_before: int
    """Of the large records, how many were published by then."""
    most_mb: float

    def broken(self) -> list[str]:
        """What does not hold, in words."""
        found = []
        if self.large_before > self.wide_records:
            found.append("the other tenant's calls came after all large records")
        if not self.held_back:
            found.append("nothing had to wait until less was held")
        return found


class Outage(msgspec.Struct, frozen=True):
    """Graph away."""

    waiting: int
    outage_seconds: float
    """Of the fast clock."""
    dead: int
    drained_seconds: float
    """Of the machine, from the end of the outage until everything is published."""
    most_mb: float

    def broken(self) -> list[str]:
        """What does not hold, in words."""
        return [f"{self.dead} notifications were set aside"] if self.dead else []


class Report(msgspec.Struct, frozen=True):
    """Everything a run has found."""

    machine: str
    flood: Flood | None = None
    large: Large | None = None
    outage: Outage | None = None

    def scenes(self) -> list[Flood | Large | Outage]:
        """Those that were run."""
        return [scene for scene in (self.flood, self.large, self.outage) if scene is not None]

    def broken(self) -> list[str]:
        """The bounds that do not hold, each a sentence."""
        return [
            f"{type(scene).__name__.lower()}: {words}"
            for scene in self.scenes()
            for words in (*_too_much(scene.most_mb), *scene.broken())
        ]


def _too_much(most_mb: float) -> list[str]:
    return [f"{most_mb:.0f} MB are more than {MOST_MB}"] if most_mb > MOST_MB else []


async def flood(servers: str, folder: Path, sizes: Sizes, tell: Tell, prefix: str = "bench.flood") -> Flood:
    """Each read takes its time and there is one at once; ten times as many notifications come as can be read."""
    offered = FLOOD_FACTOR / SLOW_SECONDS
    count = int(offered * sizes.flood_seconds)
    tell(f"Flood: {count} notifications in {sizes.flood_seconds:g} s, lanes that do {1 / SLOW_SECONDS:g} a second")
    async with open_scene(servers, folder, prefix, emulate=("--no-limits",), settings=FLOOD_SETTINGS) as scene:
        await _published(scene, 1)
        await scene.post("/emulator/faults", {"kind": "record", "action": "hang", "seconds": SLOW_SECONDS})
        lead = 1.5 + count * 0.01
        begun = time.time()
        for first in range(0, count, CALLS_A_REQUEST):
            after = lead + first / offered - (time.time() - begun)
            await _calls(scene, CALLS_A_REQUEST, notifyAfterSeconds=max(0.0, after))
        await asyncio.sleep(max(0.0, begun + lead - time.time()))
        first_published = (await scene.figures()).total("records_published_total")
        began = time.perf_counter()
        figures = await scene.until_total("notifications_stored_total", count + 1)
        lasted = time.perf_counter() - began
        published = figures.total("records_published_total") - first_published
        await scene.lift()
        ended = time.perf_counter()
        figures = await scene.until_total("records_published_total", count + 1)
        delivery = (await scene.get("/emulator/status"))["delivery"]["counts"]
        return Flood(
            offered_a_second=count / lasted,
            published_a_second=published / lasted,
            notifications=count,
            answers=int(figures.total("receiver_seconds_count")),
            late_answers=int(figures.slower_than("receiver_seconds", GRAPH_SECONDS)),
            repeated=delivery.get("retried", 0),
            drained_seconds=time.perf_counter() - ended,
            most_mb=scene.memory.most / MB,
        )


async def large(servers: str, folder: Path, sizes: Sizes, tell: Tell, prefix: str = "bench.large") -> Large:
    """Records of many sessions and one of many bytes; another tenant's calls are announced at the same moment."""
    tell(
        f"Large: {sizes.wide_records} times {sizes.sessions} sessions, a body of {sizes.body_bytes / MB:g} MB, "
        f"{sizes.beside} other calls"
    )
    settings = _large_settings(sizes)
    async with open_scene(servers, folder, prefix, tenants=2, emulate=("--open",), settings=settings) as scene:
        await _published(scene, 1)
        await scene.post("/emulator/faults", {"kind": "notifications", "action": "silence"})
        wide = [await _call(scene, kind="group", sessions=sizes.sessions) for _ in range(sizes.wide_records)]
        heavy = await _call(scene, kind="peerToPeer")
        body = await _fatten(scene, heavy, sizes.body_bytes)
        others = [one["id"] for one in await _calls(scene, sizes.beside, tenant=OTHER_TENANT_ID)]
        await scene.lift()
        await _stand(scene, wide, sizes.stand_seconds)
        before = (await scene.figures()).total("events_published_total")
        began = time.perf_counter()
        for call_id in (*wide, heavy, *others):
            await scene.post(f"/emulator/calls/{call_id}/announcements", {})
        figures = await scene.until_total("records_published_total", len(others), tenant="fabrikam")
        other_seconds = time.perf_counter() - began
        large_before = int(figures.total("records_published_total", tenant="contoso")) - 1  # not the first call
        await scene.lift()
        figures = await scene.until_total("records_published_total", len(wide) + 2, tenant="contoso")
        return Large(
            wide_records=len(wide),
            sessions=sizes.sessions,
            body_mb=body / MB,
            events=int(figures.total("events_published_total") - before),
            seconds=time.perf_counter() - began,
            held_back=int(figures.total("held_back_total")),
            other_calls=len(others),
            other_seconds=other_seconds,
            large_before=large_before,
            most_mb=scene.memory.most / MB,
        )


def _large_settings(sizes: Sizes) -> dict[str, str]:
    """The bound, and so much more time for a page as Graph keeps one back."""
    graph, lanes = Graph(), Lanes()
    return {
        "LANES__HELD_BYTES": str(sizes.held_bytes),
        "LANES__BYTES_IN_FLIGHT": str(min(lanes.bytes_in_flight, sizes.held_bytes)),
        "GRAPH__REQUEST_TIMEOUT_SECONDS": str(graph.request_timeout_seconds + sizes.stand_seconds),
        "GRAPH__RECORD_DEADLINE_SECONDS": str(graph.record_deadline_seconds + sizes.stand_seconds),
    }


async def outage(servers: str, folder: Path, sizes: Sizes, tell: Tell) -> Outage:
    """Graph answers 503 for an hour; notifications come all the while."""
    tell(f"Outage: {sizes.waiting} notifications, {sizes.outage_seconds:g} s on a clock {OUTAGE_SPEED:g} times as fast")
    prefix, limits = "bench.outage", ("--no-limits",)
    async with open_scene(servers, folder, prefix, emulate=limits, settings=FAST_SETTINGS, speed=OUTAGE_SPEED) as scene:
        await _published(scene, 1)
        await scene.post("/emulator/faults", {"status": 503})
        began = time.perf_counter()
        for _ in range(0, sizes.waiting, CALLS_A_REQUEST):
            await _calls(scene, CALLS_A_REQUEST)
        while (await scene.get("/emulator/status"))["notificationsWaiting"]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(max(0.0, sizes.outage_seconds / OUTAGE_SPEED - (time.perf_counter() - began)))
        lasted = (time.perf_counter() - began) * OUTAGE_SPEED
        await scene.lift()
        ended = time.perf_counter()
        figures = await scene.until_total("records_published_total", sizes.waiting + 1)
        return Outage(
            waiting=sizes.waiting,
            outage_seconds=lasted,
            dead=int(figures.total("dead_letters_total")),
            drained_seconds=time.perf_counter() - ended,
            most_mb=scene.memory.most / MB,
        )


async def _published(scene: Scene, count: int) -> None:
    """Some calls through everything, so that tokens, connections and caches are there."""
    await _calls(scene, count)
    await scene.until_total("records_published_total", count)


async def _calls(scene: Scene, count: int, **wish: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await scene.post("/emulator/calls", {"kind": "peerToPeer", "count": count, **wish}))[
        "value"
    ]
    return found


async def _call(scene: Scene, **wish: Any) -> str:
    [made] = (await scene.post("/emulator/calls", {"tenant": DEMO_TENANT_ID, **wish}))["value"]
    return str(made["id"])


async def _stand(scene: Scene, call_ids: list[str], seconds: float) -> None:
    """The second page of each record comes so much later, or when faults are lifted."""
    for call_id in call_ids if seconds else ():
        late = {"kind": "sessions", "page": 2, "action": "hang", "seconds": seconds, "callId": call_id}
        await scene.post("/emulator/faults", late)


async def _fatten(scene: Scene, call_id: str, size_bytes: int) -> int:
    """Writes segments into the call's only session until its record is so large; about how large, in bytes."""
    call = await scene.get(f"/emulator/calls/{call_id}")
    [session] = call["documents"][-1]["sessions"]
    [segment, *_] = session["segments"]
    one = msgspec.json.encode(segment)
    copies, written = max(1, PIECE_BYTES // len(one)), 0
    del segment["id"]
    media = [dict(part) for part in segment["media"]]
    while written < size_bytes:
        segment["media"] = media * min(copies, 1 + (size_bytes - written) // len(one))
        await scene.post(f"/beta/communications/callRecords/{call_id}/sessions/{session['id']}/segments", segment)
        written += len(msgspec.json.encode(segment))
    return written


async def run(sizes: Sizes, only: str | None, tell: Tell) -> Report:
    """All scenes, one after the other, or one of them."""
    with tempfile.TemporaryDirectory(prefix="callstream-overload-") as name:
        folder = Path(name)
        async with embedded_kafka(on_progress=tell) as cluster:
            servers = cluster.bootstrap_servers
            return Report(
                machine(),
                flood=await flood(servers, folder, sizes, tell) if only in (None, "flood") else None,
                large=await large(servers, folder, sizes, tell) if only in (None, "large") else None,
                outage=await outage(servers, folder, sizes, tell) if only in (None, "outage") else None,
            )


@app.command()
def overload(
    quick: Annotated[bool, typer.Option("--quick", help="Small, for the tests.")] = False,
    scene: Annotated[Scenes | None, typer.Option(help="One alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Floods, large records, an hour without Graph: answers in time, memory, nothing lost."""
    progress = Console(stderr=True)
    try:
        sizes = QUICK if quick else Sizes()
        only = scene.value if scene else None
        report = asyncio.run(run(sizes, only, lambda line: progress.print(line, style="dim")))
    except (UserError, RuntimeError, TimeoutError) as error:
        progress.print(f"overload: {str(error) or type(error).__name__}", style="red", highlight=False)
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    else:
        _show(report, Console())
    if broken := report.broken():
        progress.print("; ".join(broken), style="red", highlight=False)
        raise typer.Exit(1)


def _show(report: Report, console: Console) -> None:
    console.print(report.machine, highlight=False)
    for scene in report.scenes():
        fields = msgspec.structs.asdict(scene)
        figures = ", ".join(f"{name} {value:,.6g}" for name, value in fields.items())
        console.print(f"{type(scene).__name__.lower()}: {figures}", highlight=False)


if __name__ == "__main__":
    app()
