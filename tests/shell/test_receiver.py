"""The public site over real sockets, before a store that remembers or refuses."""

import asyncio
import gzip
import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.errors import UserError
from service.metrics import REJECTED
from service.receiver import validation_token
from tests.shell.receiving import (
    CALL,
    SUBSCRIPTION,
    item,
    lifecycle_item,
    open_receiver,
    request_bytes,
    until,
)

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


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        (["Content-Encoding: identity", "Content-Encoding: gzip"], 415, "content_type"),
        (["Content-Encoding: gzip", "Content-Encoding: identity"], 415, "content_type"),
        (["Content-Encoding: identity", "Content-Encoding: identity"], 202, ""),
        (["Transfer-Encoding: gzip, chunked"], 400, "not_http"),
        (["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"], 400, "not_http"),
        (["Transfer-Encoding: , chunked"], 400, "not_http"),
        (["Transfer-Encoding: Chunked "], 202, ""),
        (["Connection: Upgrade"], 202, ""),
        (["Upgrade: h2c"], 202, ""),
    ],
)
async def test_codings_are_refused_in_whatever_line_they_stand(headers: list[str], status: int, reason: str) -> None:
    """Each request of two in one write is answered, or the first ends the connection; refusals are counted once.

    Graph sends none of them. A proxy's `Connection: Upgrade` without anything to upgrade to asks for nothing.
    """
    body = json.dumps({"value": [item()]}).encode()
    is_chunked = any(header.startswith("Transfer-Encoding") for header in headers)
    length = [] if is_chunked else [f"Content-Length: {len(body)}"]
    sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
    lines = ["POST /notifications HTTP/1.1", "Host: x", "Content-Type: application/json", *headers, *length, "", ""]
    async with open_receiver(idle_seconds=0.3) as running:
        answer = await running.raw(("\r\n".join(lines).encode() + sent) * 2)
        await until(running.is_empty)

        answered = 2 if status == 202 else 1
        assert [int(part[2:5]) for part in answer.split(b"HTTP/1.")[1:]] == [status] * answered
        assert len(running.shelf.notifications) == (2 if status == 202 else 0)
        rejected = {one: running.count("receiver_rejected", reason=one) for one in REJECTED}
        assert {one: count for one, count in rejected.items() if count} == ({reason: 1} if reason else {})


@pytest.mark.parametrize("other", ["h2c", "websocket", "nothing-known"])
@pytest.mark.parametrize("pieces", ["at once", "head and body apart", "two requests", "two requests apart"])
async def test_another_protocol_that_is_offered_is_passed_over(other: str, pieces: str) -> None:
    """The request is answered, and the connection ends with it: what a client sends behind it is not lost unnoticed.

    A client may offer one with every request, as Java's does.
    """
    body = json.dumps({"value": [item()]}).encode()
    offer = f"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: {other}\r\n"
    usual = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    head = f"POST /notifications HTTP/1.1\r\n{usual}{offer}\r\n".encode()
    sent = {
        "at once": [head + body],
        "head and body apart": [head, body],
        "two requests": [(head + body) * 2],
        "two requests apart": [head + body, head + body],
    }[pieces]
    async with open_receiver(idle_seconds=0.3) as running:
        answer = await running.raw(*sent)
        await until(running.is_empty)

        [only] = answer.split(b"HTTP/1.")[1:]
        assert only.startswith(b"1 202")
        assert b"connection: close" in only.lower()
        assert len(running.shelf.notifications) == 1
        assert sum(running.count("receiver_rejected", reason=one) for one in REJECTED) == 0


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
            answers = await asyncio.gather(*(running.raw(request_bytes(*request)) for request in requests))
            for request, answer in zip(requests, answers, strict=True):
                assert not answer.startswith(b"HTTP/1.1 5"), request
                assert b"Traceback" not in answer
            assert not running.shelf.notifications
            assert (await running.post({"value": [item()]}))[0] == 202

    asyncio.run(run())
