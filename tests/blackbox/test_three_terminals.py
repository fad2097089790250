"""README's three terminals as processes: Kafka, the emulated Graph, the service; and a fourth that looks on.

Nothing is imported from the program: commands, environment, HTTP and standard output are all there is.
"""

import asyncio
import json
import os
import random
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest_asyncio

SAMPLES = Path(__file__).parents[1] / "samples"
CREATED = (SAMPLES / "000_create_segments.request.json").read_bytes()
UPDATED = (SAMPLES / "001_update_segments.request.json").read_bytes()
# Far above what is needed: machines are shared and noisy.
SECONDS = 90.0
Json = dict[str, Any]


class Terminal:
    """One command that runs; its standard output line by line."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    async def until(self, claim: Callable[[list[str]], bool]) -> None:
        """Waits until what was printed is as claimed."""
        try:
            async with asyncio.timeout(SECONDS):
                while not claim(self.lines):  # noqa: ASYNC110 - a terminal tells nobody
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError("this is all that was printed:\n" + "\n".join(self.lines[-30:])) from None

    async def end(self) -> int:
        """Ctrl-C; the exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(SECONDS):
            await self._reading
            return await self.process.wait()


@asynccontextmanager
async def terminal(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> AsyncIterator[Terminal]:
    """A command with the environment of somebody who has set nothing of ours but this."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTREAM_")}
    with (folder / f"{arguments[0]}.err").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "service", *arguments),
            env=inherited | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"} | (environment or {}),
            stdout=PIPE,
            stderr=errors,
            limit=2**24,
        )
    opened = Terminal(process)
    try:
        yield opened
    finally:
        await opened.end()


class Terminals:
    """What the terminals have printed, understood."""

    def __init__(self, kafka: Terminal, emulate: Terminal, serve: Terminal, tail: Terminal) -> None:
        self.kafka, self.emulate, self.serve, self.tail = kafka, emulate, serve, tail

    @property
    def writable(self) -> tuple[str, str]:
        """Call and session, the first that `emulate` shows as writable."""
        found = re.search(r"call (\S+)  session (\S+)", "\n".join(self.emulate.lines))
        assert found is not None
        return found[1], found[2]

    def events(self, call: str, segment: str | None = None) -> list[Json]:
        """What `tail --json` has shown of a call, or of one of its segments, in order."""
        events = [json.loads(line) for line in self.tail.lines]
        of_call = [event for event in events if event["call"]["id"] == call]
        return [event for event in of_call if segment in (None, event["segment"]["id"])]


@pytest_asyncio.fixture
async def terminals(kafka_packages: None, tmp_path: Path) -> AsyncIterator[Terminals]:
    """All four, each told what the ones before it print."""
    async with AsyncExitStack() as stack:
        kafka_port, receiver_port, admin_port = free_ports(3)
        kafka = await stack.enter_async_context(terminal(tmp_path, "kafka", "--port", str(kafka_port)))
        emulate = await stack.enter_async_context(terminal(tmp_path, "emulate", "--port", "0", "--calls", "6"))
        await kafka.until(lambda lines: "  Ctrl-C ends it." in lines)
        await emulate.until(lambda lines: "Ctrl-C ends it." in lines)
        printed = [line.strip() for line in (*kafka.lines, *emulate.lines)]
        settings = dict(re.findall(r"(CALLSTREAM_\w+)=(\S+)", "\n".join(printed)))
        settings |= {
            "CALLSTREAM_RECEIVER__PORT": str(receiver_port),
            "CALLSTREAM_RECEIVER__PUBLIC_URL": f"http://127.0.0.1:{receiver_port}",
            "CALLSTREAM_ADMIN__PORT": str(admin_port),
            "CALLSTREAM_KAFKA__PARTITIONS": "3",
        }
        serve = await stack.enter_async_context(terminal(tmp_path, "serve", environment=settings))
        await ready(admin_port)
        tail = await stack.enter_async_context(
            terminal(tmp_path, "tail", "--json", "--from-beginning", environment=settings)
        )
        yield Terminals(kafka, emulate, serve, tail)


async def test_a_segment_written_to_graph_shows_in_tail_and_its_update_supersedes_it(terminals: Terminals) -> None:
    """POST seed 000: 201, and its events appear. PATCH seed 001: 200, a newer version, and the older never after it."""
    call, session = terminals.writable
    graph = next(line.split()[-1] for line in terminals.emulate.lines if line.startswith("Emulated Microsoft Graph:"))
    url = f"{graph}/beta/communications/callRecords/{call}/sessions/{session}/segments"
    # What was there before must be through, or the first write would overtake it.
    await terminals.tail.until(lambda _: bool(terminals.events(call)))

    status, created = await send("POST", url, CREATED)
    assert status == 201
    segment = created["id"]
    await terminals.tail.until(lambda _: bool(terminals.events(call, segment)))
    [first] = terminals.events(call, segment)
    assert first["media"]["label"] == "Label value"
    assert first["session"]["id"] == session

    status, updated = await send("PATCH", url, UPDATED)
    assert (status, updated["id"]) == (200, segment)
    await terminals.tail.until(lambda _: len(terminals.events(call, segment)) == 2)
    _, second = terminals.events(call, segment)
    assert second["call"]["version"] > first["call"]["version"]
    assert second["segment"]["startDateTime"] != first["segment"]["startDateTime"]

    # Another call passes through the whole way: whatever was still to come of this one has come.
    status, other = await send("POST", f"{graph}/emulator/calls", b'{"kind": "peerToPeer"}')
    assert status == 201
    assert other
    known = {json.loads(line)["call"]["id"] for line in terminals.tail.lines}
    await terminals.tail.until(lambda lines: any(json.loads(line)["call"]["id"] not in known for line in lines))
    assert len(terminals.events(call, segment)) == 2
    ids = [event["id"] for event in terminals.events(call)]
    assert len(ids) == len(set(ids)), "each event once"
    assert in_order_of_version(terminals.events(call))
    _, limits = await send("GET", f"{graph}/emulator/limits", b"")
    assert [limit for limit, seen in limits.items() if seen["throttled"]] == []


async def test_every_terminal_ends_with_ctrl_c(terminals: Terminals) -> None:
    """In any order, exit code 0; Kafka and the emulator say so, `tail` prints nothing but events."""
    await terminals.tail.until(bool)
    codes = [await each.end() for each in (terminals.tail, terminals.serve, terminals.emulate, terminals.kafka)]

    assert codes == [0, 0, 0, 0]
    assert terminals.emulate.lines[-1] == "The emulator has ended."
    assert terminals.kafka.lines[-1] == "Kafka has ended."
    assert terminals.serve.lines == []
    assert all(json.loads(line)["schemaVersion"] == 1 for line in terminals.tail.lines)


def in_order_of_version(events: list[Json]) -> bool:
    """Whether, within each topic, no older version follows a newer one."""
    for kind in {event["media"]["kind"] for event in events}:
        versions = [event["call"]["version"] for event in events if event["media"]["kind"] == kind]
        if versions != sorted(versions):
            return False
    return True


async def send(method: str, url: str, body: bytes) -> tuple[int, Any]:
    """Status and body of one request, as curl would make it."""
    headers = {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def ready(admin_port: int) -> None:
    """Waits until `/readyz` answers 200."""
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"http://127.0.0.1:{admin_port}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, below those that outgoing connections get."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(12_000, 20_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
