"""The public site over real sockets, before a store that remembers or refuses."""

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from service import receiver
from service.clock import Clock
from service.errors import UserError
from service.metrics import REFUSED, Metrics
from service.notification import Gatekeeper, LifecycleEvent, Notification, client_state
from service.receiver import StoreUnavailable, receiver_site, validation_token
from service.settings import Receiver
from service.sites import Site

TENANT = "c0ffee00-1111-4222-8333-444455556666"
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
SUBSCRIPTION = "5d0c6f6e-95d4-4d0a-8a55-0f3a7c1b2e90"
KEY = b"a key of at least sixteen"
STATE = client_state(1, KEY, TENANT)
JSON = {"Content-Type": "application/json"}
HANDSHAKE = b"POST /lifecycle?validationToken=a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
SECONDS = 10.0  # the longest any awaited condition may take


@dataclass
class Shelf:
    """A store in memory; `is_open` says whether it takes anything, `gate` holds it up."""

    notifications: list[Notification] = field(default_factory=list)
    events: list[LifecycleEvent] = field(default_factory=list)
    is_open: bool = True
    gate: asyncio.Event | None = None
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def store(self, notifications: Sequence[Notification], events: Sequence[LifecycleEvent]) -> None:
        self.entered.set()
        if self.gate is not None:
            await self.gate.wait()
        if not self.is_open:
            raise StoreUnavailable("closed")
        self.notifications += notifications
        self.events += events


@dataclass
class Running:
    """An open receiver and what it works with."""

    site: Site
    shelf: Shelf
    metrics: Metrics
    http: aiohttp.ClientSession

    async def post(self, body: Any, path: str = "/notifications", **headers: str) -> tuple[int, bytes]:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(self.site.url + path, data=payload, headers=JSON | headers) as reply:
            return reply.status, await reply.read()

    async def raw(self, *parts: bytes) -> bytes:
        """Sends bytes as they are and reads until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.site.port)
        try:
            for part in parts:
                writer.write(part)
            async with asyncio.timeout(SECONDS):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"callstream_{name}_total", labels) or 0.0

    def value(self, name: str) -> float:
        """A gauge."""
        found = self.metrics.registry.get_sample_value(f"callstream_{name}")
        assert found is not None, name
        return found

    async def is_empty(self) -> bool:
        """Whether all connections but those of `http` are gone."""
        kept = len(self.http.connector._conns) if self.http.connector else 0  # nothing else tells
        return self.value("receiver_connections") == kept

    async def has_rejected(self, reason: str, number: int) -> bool:
        return self.count("receiver_rejected", reason=reason) >= number

    def check_sum(self) -> None:
        """received = stored + refused, always."""
        refused = sum(self.count("notifications_refused", reason=reason) for reason in REFUSED)

        assert self.count("notifications_received") == self.count("notifications_stored") + refused


@asynccontextmanager
async def open_receiver(
    idle_seconds: float = 75.0, unread_seconds: float = 10.0, **changes: Any
) -> AsyncIterator[Running]:
    chosen = msgspec.structs.replace(Receiver(host="127.0.0.1", port=0), **changes)
    shelf, metrics = Shelf(), Metrics(CollectorRegistry(), ["contoso"])
    gatekeeper = Gatekeeper({TENANT: "contoso"}, {1: KEY})
    async with (
        aiohttp.ClientSession() as http,
        receiver_site(chosen, gatekeeper, shelf, metrics, Clock(), idle_seconds, unread_seconds) as site,
    ):
        running = Running(site, shelf, metrics, http)
        yield running
        running.check_sum()


def item(call_id: str = CALL, **changes: Any) -> dict[str, Any]:
    return {
        "subscriptionId": SUBSCRIPTION,
        "clientState": STATE,
        "changeType": "updated",
        "resource": f"communications/callRecords/{call_id}",
        "resourceData": {"id": call_id},
        "tenantId": TENANT,
    } | changes


def lifecycle_item() -> dict[str, Any]:
    return {
        "subscriptionId": SUBSCRIPTION,
        "clientState": STATE,
        "tenantId": TENANT,
        "lifecycleEvent": "reauthorizationRequired",
    }


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what only another try can tell."""
    async with asyncio.timeout(SECONDS):
        while not await condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


TOKENS = [
    "Validation: Testing client application reachability",
    "a+b c%2B=&?#é/:;",
    "<script>alert(1)</script>",
    "x" * 12_000,
    "",
]


@pytest.mark.parametrize("path", ["/notifications", "/lifecycle"])
@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("encode", [quote, quote_plus])
async def test_handshake_returns_the_token_decoded_once(path: str, token: str, encode: Any) -> None:
    """Graph creates a subscription only when the token comes back exactly, as text/plain (graph-contract 2)."""
    target = f"{path}?keep=1&validationToken={encode(token, safe='')}"
    request = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with open_receiver() as running:
        head, _, body = (await running.raw(request.encode())).partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nContent-Type: text/plain\r\n" in head + b"\r\n"
        assert b"\r\nX-Content-Type-Options: nosniff" in head
        assert body == token.encode()
        assert running.count("receiver_handshakes") == 1


@given(st.binary(max_size=50))
def test_token_of_any_bytes_survives(token: bytes) -> None:
    """It is opaque: nothing promises that it is UTF-8."""
    assert validation_token("/notifications?validationToken=" + quote(token, safe="")) == token


def test_plus_is_a_space_and_percent_2b_a_plus() -> None:
    """Decoding twice, or not at all, makes Graph refuse the subscription."""
    assert validation_token("/n?validationToken=a+b%2Bc%252B") == b"a b+c%2B"
    assert validation_token("/n?a=validationToken") is None
    assert validation_token("/validationToken=1") is None


async def test_handshake_is_answered_while_kafka_is_away_and_whatever_the_body_is() -> None:
    """It needs no store, no content type and no body."""
    async with open_receiver() as running:
        running.shelf.is_open = False
        url = running.site.url + "/lifecycle?validationToken=abc"
        async with running.http.post(url, data=b"\x00" * 10_000, headers={"Content-Type": "text/plain"}) as reply:
            assert (reply.status, await reply.read()) == (200, b"abc")


async def test_handshake_is_answered_while_a_notification_waits_for_kafka() -> None:
    """Graph's handshake comes during our own POST /subscriptions; nothing slow may stand in its way."""
    async with open_receiver() as running:
        running.shelf.gate = asyncio.Event()
        waiting = asyncio.create_task(running.post({"value": [item()]}))
        assert await running.post(b"", "/notifications?validationToken=now") == (200, b"now")
        assert not waiting.done()

        running.shelf.gate.set()
        assert (await waiting)[0] == 202


@pytest.mark.parametrize("path", ["/notifications", "/lifecycle", "/notifications?code=abc"])
async def test_both_paths_take_both_kinds(path: str) -> None:
    """Either URL may be given to Graph for either purpose; its query string survives."""
    async with open_receiver() as running:
        status, body = await running.post({"value": [item(), lifecycle_item()]}, path)

        assert (status, body) == (202, b"")
        assert [found.call_id for found in running.shelf.notifications] == [CALL]
        assert [found.lifecycle_event for found in running.shelf.events] == ["reauthorizationRequired"]
        assert running.count("lifecycle_events", event="reauthorizationRequired") == 1


async def test_good_items_are_stored_beside_refused_ones() -> None:
    """One POST can mix tenants and applications; the answer stays 202 (graph-contract 3.5, 3.6)."""
    items = [item(), item(clientState="forged"), item(tenantId=SUBSCRIPTION), item(resource="users/1"), "nonsense"]
    async with open_receiver() as running:
        status, _ = await running.post({"value": items})

        assert status == 202
        assert len(running.shelf.notifications) == 1
        assert running.count("notifications_received") == 5
        for reason in ("client_state", "tenant", "resource", "malformed"):
            assert running.count("notifications_refused", reason=reason) == 1


async def test_nothing_to_store_is_202() -> None:
    """Also while Kafka is away: Graph would repeat for 4 hours what we never want."""
    async with open_receiver() as running:
        running.shelf.is_open = False

        assert (await running.post({"value": []}))[0] == 202
        assert (await running.post({"value": [item(clientState="forged")]}))[0] == 202


async def test_what_cannot_be_stored_is_503_and_not_lost() -> None:
    """Graph repeats for up to 4 hours what was not answered 2xx."""
    async with open_receiver() as running:
        running.shelf.is_open = False
        async with running.http.post(
            running.site.url + "/notifications", json={"value": [item(), item(clientState="x")]}
        ) as reply:
            assert reply.status == 503
            assert int(reply.headers["Retry-After"]) > 0
            assert "again" in (await reply.json())["error"]
        assert running.count("notifications_refused", reason="not_stored") == 1
        assert running.count("receiver_rejected", reason="not_stored") == 1
        running.check_sum()

        running.shelf.is_open = True
        assert (await running.post({"value": [item()]}))[0] == 202
        assert len(running.shelf.notifications) == 1


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=x"]
)
async def test_json_is_taken_with_any_charset(content_type: str) -> None:
    """Graph's suffix is not documented."""
    async with open_receiver() as running:
        assert (await running.post({"value": [item()]}, **{"Content-Type": content_type}))[0] == 202


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b"{", {}, 400, "not_json"),
        (b"", {}, 400, "not_json"),
        (b"[1]", {}, 400, "not_a_collection"),
        (b'{"value": [%s]}' % b",".join([b"1"] * 11), {}, 413, "too_many"),
        (b" " * 3000, {}, 413, "too_large"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "content_type"),
        (b"{}", {"Content-Type": "application/json/;;\xe9"}, 415, "content_type"),
        (gzip.compress(b" " * 3000, mtime=0), {"Content-Encoding": "gzip"}, 415, "content_type"),
        (b"{}", {"Content-Encoding": "br, identity"}, 415, "content_type"),
    ],
)
async def test_what_is_no_notification_gets_one_clear_sentence(
    body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    """4xx with a JSON sentence, counted by reason, and nothing counted as received."""
    async with open_receiver(max_body_bytes=2000, max_items=10) as running:
        got, answer = await running.post(body, **headers)

        assert got == status
        assert json.loads(answer)["error"].endswith(".")
        assert running.count("receiver_rejected", reason=reason) == 1
        assert running.count("notifications_received") == 0


async def test_chunked_body_is_bounded_too() -> None:
    """A length that is not announced must not fill the memory."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    async with open_receiver(max_body_bytes=2000) as running:
        url = running.site.url + "/notifications"
        try:
            async with running.http.post(url, data=endless(), headers=JSON) as reply:
                assert reply.status == 413
        except aiohttp.ClientConnectionError:
            pass  # the site may close while we still send
        assert running.count("receiver_rejected", reason="too_large") == 1


async def test_flood_of_large_bodies_does_not_shut_out_small_ones() -> None:
    """What is held in memory is bounded over all connections; Graph's own bodies are small."""
    head = (
        b"POST /notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 240000\r\n\r\n"
    )
    async with open_receiver(max_body_bytes=250_000, max_held_bytes=1) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.site.port)
        writer.write(head + b" " * 200_000)

        async def is_held() -> bool:
            return running.value("receiver_held_bytes") == 200_000

        async def large_is_answered(status: int) -> bool:
            return (await running.post(b" " * 100_000))[0] == status

        await until(is_held)
        assert await large_is_answered(503)
        assert await is_held()
        assert (await running.post({"value": [item()]}))[0] == 202
        assert running.count("receiver_rejected", reason="busy") >= 1

        writer.write(b" " * 40_000)
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")  # whole, and no JSON
        writer.close()
        await until(lambda: large_is_answered(400))
        assert running.value("receiver_held_bytes") == 0


async def test_a_body_counts_until_kafka_has_what_was_in_it() -> None:
    """A POST that waits for Kafka holds memory like one that is being read."""
    large = {"value": [item()], "padding": "x" * 150_000}
    async with open_receiver(max_body_bytes=200_000, max_held_bytes=1) as running:
        running.shelf.gate = asyncio.Event()
        waiting = [asyncio.create_task(running.post(large))]
        await running.shelf.entered.wait()
        held, storing = running.value("receiver_held_bytes"), running.value("receiver_storing")
        refused, _ = await running.post(large)
        running.shelf.gate.set()
        accepted = [status for status, _ in await asyncio.gather(*waiting)]

        assert held > 150_000
        assert storing == 1
        assert (refused, accepted) == (503, [202])
        assert running.count("receiver_rejected", reason="busy") == 1
        assert running.value("receiver_held_bytes") == running.value("receiver_storing") == 0


async def test_body_that_trickles_in_is_408() -> None:
    """A slow sender holds a connection for the read timeout at most."""
    head = b"POST /notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    async with open_receiver(read_timeout_seconds=0.1) as running:
        answer = await running.raw(head)

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert running.count("receiver_rejected", reason="too_slow") == 1


async def test_headers_that_never_end_close_the_connection() -> None:
    """Slow headers are the cheapest attack: a connection without a whole request is closed when its time is over."""
    async with open_receiver(idle_seconds=0.2) as running:
        assert await running.raw(b"POST /notifications HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
        assert await running.raw() == b""
        assert running.count("receiver_rejected", reason="unfinished") == 1


async def test_kept_connection_with_half_a_second_request_is_closed() -> None:
    """The first good request buys no time for the next one, and the half one is counted."""
    half = b"POST /notifications HTTP/1.1\r\nHost"
    async with open_receiver(idle_seconds=0.2) as running:
        for parts in ([HANDSHAKE, half], [HANDSHAKE + half]):
            answer = await running.raw(*parts)

            assert answer.startswith(b"HTTP/1.1 200 ")
        assert running.count("receiver_rejected", reason="unfinished") == 2


async def test_half_a_request_after_an_answer_is_counted_and_a_silent_end_is_not() -> None:
    """Each request counts by itself, whatever the connection has seen before."""
    ends = [b"", b"POST /notifications HTTP/1.1\r\nX-Slow: "]
    good = json.dumps({"value": [item()]}).encode()
    async with open_receiver() as running:
        for request in (HANDSHAKE, _request([("Content-Type", "application/json")], good, "/notifications")):
            for end in ends:
                reader, writer = await asyncio.open_connection("127.0.0.1", running.site.port)
                writer.write(request)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 20")
                writer.write(end)
                writer.close()
        await until(lambda: running.is_empty())

        assert running.count("receiver_rejected", reason="unfinished") == 2


def fields(*sizes: int) -> list[tuple[str, str]]:
    return [(f"X-{number}", "a" * size) for number, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "status"),
    [
        ([7000] * 4, 200),
        ([10] * 60, 200),
        ([9000], 400),
        ([7000] * 5, 400),
        ([10] * 100, 400),
    ],
)
async def test_headers_of_a_request_are_bounded_each_and_in_sum(sizes: list[int], status: int) -> None:
    """Proxies add much, and no megabytes."""
    request = _request([*fields(*sizes), ("Connection", "close")], b"", "/lifecycle?validationToken=a")
    async with open_receiver() as running:
        answer = await running.raw(request)

        assert int(answer[9:12]) == status
        assert running.count("receiver_rejected", reason="not_http") == (status == 400)
        await until(lambda: running.is_empty())
        assert running.value("receiver_head_bytes") == 0


@pytest.mark.parametrize("part", [b"X-T: " + b"a" * 7000 + b"\r\n", b"1;x=" + b"a" * 20_000], ids=["trailers", "chunk"])
async def test_what_surrounds_a_body_is_bounded_too(part: bytes) -> None:
    """Trailers are headers that come late; a chunk's extension may be as long as it likes."""
    head = (
        b"POST /notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    )
    start = b"\r\n2\r\n{}\r\n" + (b"0\r\n" if part.startswith(b"X") else b"")
    async with open_receiver() as running:
        answer = await running.raw(head + start, *[part] * 10)

        assert b"HTTP/1.1 400 " in answer or not answer
        await until(lambda: running.is_empty())
        assert running.value("receiver_head_bytes") == 0
        rejected = running.count("receiver_rejected", reason="not_http") + running.count(
            "receiver_rejected", reason="cut"
        )
        assert rejected == 1


async def test_unfinished_headers_are_bounded_over_all_connections() -> None:
    """Large ones are sent away when together they are too much; small ones, as Graph's, always pass."""
    start = _request(fields(7000, 7000, 6000), b"", "/notifications")[:-2] + b"X-Slow: "
    async with open_receiver(max_head_bytes=100_000) as running:
        held = [await asyncio.open_connection("127.0.0.1", running.site.port) for _ in range(30)]
        for _, writer in held:
            writer.write(start)
        await until(lambda: running.has_rejected("busy", 26))
        assert 80_000 < running.value("receiver_head_bytes") <= 100_000
        assert (await running.post({"value": [item()]}))[0] == 202
        for _, writer in held:
            writer.close()
        await until(lambda: running.is_empty())

        assert running.value("receiver_head_bytes") == 0
        assert running.count("receiver_rejected", reason="unfinished") == 4


async def test_requests_sent_ahead_wait_outside() -> None:
    """While one is being answered a few are looked at; each is answered in its turn."""
    body = json.dumps({"value": [item()]}).encode()
    request = _request([*fields(7000, 7000), ("Content-Type", "application/json")], body, "/notifications")
    async with open_receiver() as running:
        running.shelf.gate = asyncio.Event()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.site.port)
        writer.write(request * 200)
        await running.shelf.entered.wait()
        for _ in range(50):
            await running.post(HANDSHAKE)  # time for whatever else would be read
        most = running.value("receiver_head_bytes")
        running.shelf.gate.set()
        async with asyncio.timeout(SECONDS):
            for _ in range(200):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")
        writer.close()

        assert 14_000 < most < 100_000
        assert len(running.shelf.notifications) == 200


async def test_peer_that_does_not_take_its_answers_is_closed() -> None:
    """They are kept for it, and what it sends meanwhile is not read."""
    request = _request([], b"", "/lifecycle?validationToken=" + "a" * 12_000)
    async with open_receiver(unread_seconds=0.2) as running:
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(peer, ("127.0.0.1", running.site.port))
            async with asyncio.timeout(SECONDS):
                with pytest.raises(ConnectionError):
                    await _send_without_end(loop, peer, request)
        await until(lambda: running.is_empty())

        assert running.count("receiver_rejected", reason="unread") == 1
        assert running.count("receiver_rejected", reason="unfinished") == 0
        assert running.value("receiver_head_bytes") == 0


async def _send_without_end(loop: asyncio.AbstractEventLoop, peer: socket.socket, request: bytes) -> None:
    while True:
        await loop.sock_sendall(peer, request)


async def test_request_that_never_ends_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up when the time to drain is over; what was in it was not stored, and Graph repeats it."""
    monkeypatch.setattr(receiver, "DRAIN_SECONDS", 0.2)
    async with open_receiver() as running:
        running.shelf.gate = asyncio.Event()
        waiting = asyncio.create_task(running.post({"value": [item()]}))
        await running.shelf.entered.wait()

    with pytest.raises(aiohttp.ClientError):
        await waiting
    assert running.count("notifications_refused", reason="not_stored") == 1


async def test_silent_connections_give_way() -> None:
    """Any number of slow or silent peers: one that has something to say is served, and they are counted."""
    starts = [b"", b"POST /notifications HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"POST /lifecycle HTTP/1.1\r\n"] * 10
    drip = b"POST /notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    async with open_receiver(max_connections=3) as running:
        held = [await asyncio.open_connection("127.0.0.1", running.site.port) for _ in starts]
        for (_, writer), start in zip(held, starts, strict=True):
            writer.write(start or drip)
        assert (await running.post({"value": [item()]}))[0] == 202
        assert running.count("receiver_rejected", reason="connections") >= len(starts) - 3
        assert running.value("receiver_connections") <= 3
        for _, writer in held:
            writer.close()

        assert len(running.shelf.notifications) == 1


async def test_connections_that_wait_for_an_answer_are_kept_and_others_turned_away() -> None:
    """A flood takes a bounded number of sockets, and costs no request that has arrived its answer."""
    async with open_receiver(max_connections=2) as running:
        running.shelf.gate = asyncio.Event()
        waiting = [asyncio.create_task(running.post({"value": [item()]})) for _ in range(2)]
        await running.shelf.entered.wait()

        async def is_full() -> bool:
            return (await running.raw(b"")).startswith(b"HTTP/1.1 503 ")

        await until(is_full)
        assert running.count("receiver_rejected", reason="connections") >= 1
        running.shelf.gate.set()

        assert [status for status, _ in await asyncio.gather(*waiting)] == [202, 202]
        assert (await running.post({"value": []}))[0] == 202


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/notifications", 405), ("PUT", "/lifecycle", 405), ("POST", "/", 404), ("GET", "/metrics", 404)],
)
async def test_other_methods_and_paths_are_told_so(method: str, path: str, status: int) -> None:
    """A person who tries the URL in a browser learns what it is for; the private pages are not here."""
    async with open_receiver() as running, running.http.request(method, running.site.url + path) as reply:
        assert reply.status == status
        assert (await reply.json())["error"].endswith(".")
        assert "aiohttp" not in str(reply.headers)
        if status == 405:
            assert reply.headers["Allow"] == "POST"
        reason = "method" if status == 405 else "path"
        assert running.count("receiver_rejected", reason=reason) == 1


async def test_bug_inside_shows_nothing_to_the_client() -> None:
    """No traceback leaves the process; the log has it."""

    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    async with open_receiver() as running:
        running.shelf.store = broken  # type: ignore[assignment, method-assign]
        with capture_logs() as lines:
            status, body = await running.post({"value": [item()]})

        assert status == 500
        assert b"secret" not in body
        assert b"Traceback" not in body
        assert any(line["log_level"] == "error" for line in lines)
        assert running.count("notifications_refused", reason="not_stored") == 1


async def test_flood_of_forged_items_makes_few_lines_and_tells_nothing_foreign() -> None:
    """One line for each reason and second with a count; only ids that are GUIDs are in it."""
    forged = [item(clientState="x\n2026 forged log line"), item(tenantId="evil\r\nline")]
    async with open_receiver() as running:
        with capture_logs() as lines:
            for _ in range(5):
                await running.post({"value": forged * 100})

        seen = [line for line in lines if line["event"] == "notifications refused"]
        assert 2 <= len(seen) < 20
        assert "evil" not in str(seen)
        assert "forged log" not in str(seen)
        assert all(line["todo"] for line in seen)


async def test_port_in_use_is_one_sentence() -> None:
    """A person can act on it; a traceback is a bug."""
    async with open_receiver() as running:
        with pytest.raises(UserError, match=r"receiver\.port"):
            async with open_receiver(port=running.site.port):
                pass


async def test_request_in_flight_is_finished_when_the_site_closes() -> None:
    """What was accepted is answered, so that Graph does not repeat it."""
    async with open_receiver() as running:
        running.shelf.gate = asyncio.Event()
        waiting = asyncio.create_task(running.post({"value": [item()]}))
        await running.shelf.entered.wait()
        asyncio.get_running_loop().call_later(0.05, running.shelf.gate.set)

    assert (await waiting)[0] == 202


header_names = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ-", min_size=1, max_size=20)
header_values = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60)
interesting = st.sampled_from(
    [
        ("Content-Type", "application/json"),
        ("Content-Type", 'application/json; charset="'),
        ("Content-Encoding", "deflate"),
        ("Content-Length", "-1"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Transfer-Encoding", "gzip, chunked"),
        ("Expect", "100-continue"),
        ("Expect", "nothing"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Cookie", "a=b; ;;"),
    ]
)
bodies = st.binary(max_size=100) | st.builds(
    lambda value: json.dumps({"value": value}).encode(),
    st.lists(st.sampled_from([1, None, {}, item(clientState="no")])),
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(header_names, header_values) | interesting, max_size=5),
            bodies,
            st.sampled_from(
                ["/notifications", "/lifecycle", "/lifecycle?validationToken", "/%ff?%", "*", "http://a/b"]
            ),
        ),
        min_size=10,
        max_size=20,
    )
)
def test_no_request_makes_a_5xx_or_gets_anything_stored(requests: list[tuple[Any, bytes, str]]) -> None:
    """Whatever the internet sends: an answer below 500 or a closed connection, and an empty store."""

    async def run() -> None:
        async with open_receiver(idle_seconds=0.2, read_timeout_seconds=0.05) as running:
            answers = await asyncio.gather(*(running.raw(_request(*request)) for request in requests))
            for request, answer in zip(requests, answers, strict=True):
                assert not answer.startswith(b"HTTP/1.1 5"), request
                assert b"Traceback" not in answer
            assert not running.shelf.notifications
            assert (await running.post({"value": [item()]}))[0] == 202

    asyncio.run(run())


def _request(headers: list[tuple[str, str]], body: bytes, target: str) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers)]
    if not any(name == "Content-Length" for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
