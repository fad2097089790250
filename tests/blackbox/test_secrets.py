"""Secrets that are marked, and a service to which much goes wrong: the marks are nowhere that anybody looks.

The login and Graph answer with what they were sent, as a broken proxy would, in the one good record too. Nothing is
imported from the program.
"""

import asyncio
import base64
import gzip
import hashlib
import hmac
import html
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
from aiohttp import web
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

SECONDS = 40.0
TENANT = "c0ffee00-1111-4222-8333-444455556666"
OTHER = "fab00000-1111-4222-8333-444455556666"
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a"
SECRET, STATE_KEY, HASH_KEY = "MARK+client/secret&x", "MARK client state key", "MARK hash key of sixteen"
TOKEN = "eyJ0eXAiOiJKV1QifQ.eyJNQVJLIjoiTUFSSyJ9.TUFSSy10b2tlbg"
STATE = "k1." + base64.urlsafe_b64encode(
    hmac.new(STATE_KEY.encode(), TENANT.encode(), hashlib.sha256).digest()
).decode().rstrip("=")
BAD = 5  # calls whose record is none, each in another way; the next one is good
SAMPLE = Path(__file__).parent.parent / "samples" / "docs_callrecord_sessions_segments.json"
HEADER = "include-unknown-enum-members"
"""Stands in what is sent with each request for a record, so in all that echoes it."""
MARKS = [SECRET, STATE_KEY, HASH_KEY, TOKEN, STATE]


class Parrot:
    """A login and a Graph that repeat what they hear."""

    def __init__(self) -> None:
        self.logins = 0
        self.seen: list[str] = []

    async def login(self, request: web.Request) -> web.Response:
        """The other tenant is refused; ours is let in the second time."""
        heard = await _heard(request)
        if request.match_info["tenant"] == OTHER:
            text = {"error": heard, "error_description": f"AADSTS7000215: {heard}", "error_codes": [7000215]}
            return web.json_response(text, status=401)
        self.logins += 1
        if self.logins == 1:
            return web.Response(status=500, text=heard, headers={"Retry-After": "0", "request-id": heard[:60]})
        return web.json_response({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer", "x": heard})

    async def graph(self, request: web.Request) -> web.Response:
        """A subscription or list is refused in many words; a record is another thing for each call."""
        heard = await _heard(request)
        self.seen.append(f"{request.method} {request.path}")
        error = {"error": {"code": "BadRequest", "message": heard}}
        if request.method == "GET" and request.path.endswith("/subscriptions"):
            return web.json_response({"value": [], "x": heard})
        if "/callRecords/" not in request.path:
            return web.json_response(error, status=400)
        match int(request.path[-1], 16):
            case 0:
                return web.json_response([heard])
            case 1:
                return web.json_response({"id": heard, "version": heard})
            case 2:
                return web.Response(text=f"<html>{heard}</html>", content_type="text/html")
            case 3:
                return web.json_response(error, status=404, headers={"request-id": heard[:60]})
            case 4:
                raise web.HTTPFound("https://evil.invalid/" + quote(heard, safe=""))
            case _:
                record = json.loads(SAMPLE.read_text()) | {"id": request.path.rpartition("/")[2], "participants_v2": []}
                record.pop("sessions@odata.nextLink")
                return web.json_response(_echoing(record, heard))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/{tenant}/oauth2/v2.0/token", self.login)
        app.router.add_route("*", "/{rest:.*}", self.graph)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def _echoing(value: Any, heard: str) -> Any:
    """What was heard, in each object under a name that Graph has and one that it has not."""
    if isinstance(value, list):
        return [_echoing(one, heard) for one in value]
    if isinstance(value, dict):
        return {name: _echoing(one, heard) for name, one in value.items()} | {"echo": heard, "joinWebUrl": heard}
    return value


async def _heard(request: web.Request) -> str:
    return f"{(await request.read()).decode()} {request.headers.get('Authorization', '')} {dict(request.headers)}"


async def test_no_secret_is_shown_whatever_goes_wrong(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Neither in the log at its most talkative, nor in metrics and status, nor in any topic, nor in an answer."""
    shown: list[str] = []
    parrot = Parrot()
    async with parrot.open() as url:
        receiver, admin = _free_port(), _free_port()
        environment = _environment(kafka, prefix, url, tmp_path, receiver, admin)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service", "serve"), env=environment, stdout=PIPE, stderr=PIPE
        )
        reading = asyncio.create_task(process.communicate())
        try:
            async with aiohttp.ClientSession() as http:
                await _until(lambda: _posted(http, receiver, shown))
                await _until(lambda: _has_worked(http, admin, parrot))
                for path in ("/metrics", "/status", "/status?format=html", "/readyz", "/livez", "/"):
                    async with http.get(f"http://127.0.0.1:{admin}{path}") as reply:
                        shown.append(await reply.text())
        finally:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(SECONDS):
                out, err = await reading
            print(err.decode()[-6000:])  # seen only where the test fails
        shown += [out.decode(), err.decode()]
    kept = await _topics(kafka, prefix)
    shown += [text for texts in kept.values() for text in texts]

    assert process.returncode == 0
    assert "callstream starts" in err.decode()
    assert "the subscription cannot be kept" in err.decode()
    assert len(kept["dead-letter"]) >= BAD
    assert {"notifications", "retry.1s", "ledger", "state", "calls"} <= {name for name, texts in kept.items() if texts}
    assert any(text.startswith("<!doctype html>") for text in shown)
    assert any(HEADER in text for text in kept["raw"])
    for mark in MARKS:
        for form in {
            mark,
            quote(mark),
            quote_plus(mark),
            json.dumps(mark)[1:-1],
            html.escape(mark),
            base64.b64encode(mark.encode()).decode(),
        }:
            assert not any(form in text for text in shown), form
    assert "Traceback" not in err.decode()


def _environment(kafka: str, prefix: str, url: str, folder: Path, receiver: int, admin: int) -> dict[str, str]:
    """One secret from a file, the others from the environment."""
    (folder / "secret").write_text(SECRET)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTREAM_")}
    ours = {
        "TENANTS__CONTOSO__ID": TENANT,
        "TENANTS__CONTOSO__CLIENT_ID": "11111111-2222-4333-8444-555555555555",
        "TENANTS__CONTOSO__CLIENT_SECRET_FILE": str(folder / "secret"),
        "TENANTS__FABRIKAM__ID": OTHER,
        "TENANTS__FABRIKAM__CLIENT_ID": "11111111-2222-4333-8444-555555555555",
        "TENANTS__FABRIKAM__CLIENT_SECRET": SECRET,
        "CLIENT_STATE__KEYS__1": STATE_KEY,
        "PRIVACY__KEYS__1": HASH_KEY,
        "PRIVACY__NAMES": "hash",
        "GRAPH__CLOUD": "custom",
        "GRAPH__ROOT_URL": url,
        "GRAPH__LOGIN_URL": url,
        "GRAPH__TRIES": "1",
        "KAFKA__BOOTSTRAP_SERVERS": kafka,
        "KAFKA__TOPIC_PREFIX": prefix,
        "KAFKA__PARTITIONS": "1",
        "RETRY__DELAYS": "1s",
        "RETRY__GIVE_UP_HOURS": "0.0001",
        "RETRY__NOT_READY_HOURS": "0.0001",
        "RECEIVER__HOST": "127.0.0.1",
        "RECEIVER__PORT": str(receiver),
        "RECEIVER__PUBLIC_URL": f"http://127.0.0.1:{receiver}",
        "ADMIN__PORT": str(admin),
        "KEEPER__PERIOD_SECONDS": "1",
        "RAW__ENABLED": "true",
        "LOG__LEVEL": "debug",
        "LOG__FORMAT": "json",
    }
    return inherited | {f"CALLSTREAM_{name}": value for name, value in ours.items()}


async def _posted(http: aiohttp.ClientSession, port: int, shown: list[str]) -> bool:
    """Good notices, and one that is forged; False while the receiver or Kafka is not there yet."""
    items = [
        {"tenantId": TENANT, "clientState": state, "resource": f"communications/callRecords/{CALL}{number:02x}"}
        for number, state in enumerate([STATE] * (BAD + 1) + [STATE.swapcase()])
    ]
    try:
        async with http.post(f"http://127.0.0.1:{port}/notifications", json={"value": items}) as reply:
            shown.append(await reply.text() + str(reply.headers))
            return reply.status == 202
    except aiohttp.ClientError:
        return False


async def _has_worked(http: aiohttp.ClientSession, port: int, parrot: Parrot) -> bool:
    """The good call is published, the others are set aside, the keeper has written and tried for a subscription."""
    async with http.get(f"http://127.0.0.1:{port}/metrics") as reply:
        lines = [line.rsplit(" ", 1) for line in (await reply.text()).splitlines()]

    def value(name: str) -> float:
        return sum(float(line[1]) for line in lines if line[0].startswith(f"callstream_{name}{{"))

    is_told = value("records_published_total") >= 1 and value("last_notice_timestamp_seconds") > 0
    return is_told and value("dead_letters_total") >= BAD and "POST /v1.0/subscriptions" in parrot.seen


async def _topics(kafka: str, prefix: str) -> dict[str, list[str]]:
    """Everything that is in Kafka, to the end of each partition, by the topic's name without its prefix."""
    kept: dict[str, list[str]] = defaultdict(list)
    partitions = await _partitions(kafka, prefix)
    async with AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None, auto_offset_reset="earliest") as consumer:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)

        async def is_all() -> bool:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    kept[record.topic.removeprefix(f"{prefix}.")].append(_text(record))
            return all([await consumer.position(one) >= end for one, end in ends.items()])

        await _until(is_all)
    return kept


async def _partitions(kafka: str, prefix: str) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(f"{prefix}.")]
        topics = await admin.describe_topics(names)
    finally:
        await admin.close()
    return [TopicPartition(topic["topic"], one["partition"]) for topic in topics for one in topic["partitions"]]


def _text(record: ConsumerRecord) -> str:
    """All of a record; the archive's value, which fits into one, is unpacked."""
    value = gzip.decompress(record.value) if record.topic.endswith(".raw") else record.value
    return f"{record.key!r} {value!r} {record.headers!r}"


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
