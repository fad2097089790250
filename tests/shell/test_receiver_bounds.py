"""What the public site takes from anybody is bounded: bodies, headers, connections, time."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from service import receiver
from tests.shell.receiving import (
    HANDSHAKE,
    JSON,
    SECONDS,
    item,
    open_receiver,
    request_bytes,
    until,
)


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
        for request in (HANDSHAKE, request_bytes([("Content-Type", "application/json")], good, "/notifications")):
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
    request = request_bytes([*fields(*sizes), ("Connection", "close")], b"", "/lifecycle?validationToken=a")
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
    start = request_bytes(fields(7000, 7000, 6000), b"", "/notifications")[:-2] + b"X-Slow: "
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
    request = request_bytes([*fields(7000, 7000), ("Content-Type", "application/json")], body, "/notifications")
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
    request = request_bytes([], b"", "/lifecycle?validationToken=" + "a" * 12_000)
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

        async def both_are_storing() -> bool:
            return running.value("receiver_storing") == 2

        async def is_full() -> bool:
            return (await running.raw(b"")).startswith(b"HTTP/1.1 503 ")

        await until(both_are_storing)
        await until(is_full)
        assert running.count("receiver_rejected", reason="connections") >= 1
        assert running.value("receiver_storing") == 2
        running.shelf.gate.set()

        assert [status for status, _ in await asyncio.gather(*waiting)] == [202, 202]
        assert running.value("receiver_storing") == 0
        assert (await running.post({"value": []}))[0] == 202
