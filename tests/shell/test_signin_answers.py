"""Odd answers of a login: both ways to ask it understand them alike, whichever library reads them."""

import asyncio
import gzip
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service.cli.reference import DOCS
from service.clock import Clock
from service.errors import TenantMustWait
from service.graph.auth import TenantTokens
from service.metrics import Metrics
from service.outbound.session import http_session
from service.settings import Graph, Tenant
from service.signin.azure import AzureLogin
from service.signin.clouds import endpoints
from service.signin.credentials import HINTS
from service.signin.secret import SecretLogin
from tests.shell.graph_fixture import TENANT, Answer, cut, fails, hangs, raw, says, slams, zipped
from tests.shell.signin_fixture import authority
from tests.shell.test_graph_auth import refusal

JSON = {"Content_Type": "application/json"}
# What Python's own reader of JSON takes, or stumbles over, in a way of its own.
DEEP = b"[" * 200_000
# A good reply but for its size.
LARGE = b'{"access_token": "good", "expires_in": 3600, "z": "' + b"a" * 300_000 + b'"}'
WAYS = {"azure-identity": AzureLogin, "built in": SecretLogin}


def lives(seconds: str) -> Answer:
    """A token, and how long it lives as it stands in the JSON."""
    return raw(b'{"access_token": "x", "expires_in": ' + seconds.encode() + b"}", **JSON)


def bomb(status: int = 200) -> Answer:
    """A good reply of 10 MB, in 10 KB."""
    body = gzip.compress(b'{"access_token": "good", "expires_in": 3600, "z": "' + b"a" * 10_000_000 + b'"}')
    return raw(body, status, Content_Encoding="gzip", **JSON)


async def in_pieces(request: web.Request) -> web.StreamResponse:
    """Too much, without saying beforehand how much."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    with suppress(ConnectionError):  # who has had enough goes
        await response.write(LARGE)
    return response


async def gzip_alone(request: web.Request) -> web.StreamResponse:
    """A token for whoever asks for no other compression: what is counted while it is unpacked is gzip."""
    assert request.headers["Accept-Encoding"] == "gzip"
    return await zipped({"access_token": "good", "expires_in": 3600})(request)


@asynccontextmanager
async def answering(folder: Path, answer: Answer) -> AsyncIterator[tuple[str, list[str]]]:
    """A login over TLS that answers so: its address, and what was asked of it. `ca.pem` there vouches for it."""
    seen: list[str] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return await answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    (folder / "ca.pem").write_text(authority().pem, encoding="utf-8")
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority().server_context())
        await site.start()
        yield f"https://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


@asynccontextmanager
async def asked(
    folder: Path, way: str, answer: Answer, tenant: Tenant = TENANT
) -> AsyncIterator[tuple[Callable[[], Any], Metrics, list[str]]]:
    """Asks a login that answers so; what was asked of it."""
    clock, metrics = Clock(speed=20), Metrics(tenants=["contoso"])
    async with answering(folder, answer) as (url, seen), http_session(str(folder / "ca.pem")) as http:
        login = WAYS[way](http, endpoints(Graph(cloud="custom", root_url=url, login_url=url)), clock)
        tokens = TenantTokens(lambda _: login, clock, metrics)
        yield lambda: tokens.token(tenant), metrics, seen


def outcome(metrics: Metrics) -> str:
    """The one outcome that was counted."""
    [found] = [
        sample.labels["outcome"]
        for metric in metrics.graph_seconds.collect()
        for sample in metric.samples
        if sample.name.endswith("_count") and sample.value
    ]
    return str(found)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("answer", "counted", "words", "most_wait"),
    [
        (refusal(7000215), "unauthorized", "AADSTS7000215, the client_secret is wrong", 31),
        (refusal(999123, 400), "unauthorized", "AADSTS999123.", 31),
        (says({"error": "x", "error_description": "AADSTS700016: y"}, 400), "unauthorized", "AADSTS700016, ", 31),
        (fails(503), "error", "the login answered 503", 6),
        (says({"error": "temporarily_unavailable"}, 503, Retry_After="90"), "error", "the login answered 503", 91),
        (says({"error": "x"}, 429, Retry_After="90"), "throttled", "the login is throttled", 91),
        (raw(b"", 429, Retry_After="90"), "throttled", "the login is throttled", 91),
        (raw(b"<html>", 502), "error", "the login answered 502", 6),
        (raw(b"<html>", Content_Type="text/html"), "error", "holds none", 6),
        (raw(b"{nothing", **JSON), "error", "holds none", 6),
        (says({"expires_in": 3600}), "error", "holds none", 6),
        (says({"access_token": "two\nlines", "expires_in": 3600}), "error", "holds none", 6),
        (says({"access_token": "", "expires_in": 3600}), "error", "holds none", 6),
        (says({"access_token": 7, "expires_in": 3600}), "error", "holds none", 6),
        (says([]), "error", "holds none", 6),
        (lives("1e999"), "error", "holds none", 6),
        (lives("Infinity"), "error", "holds none", 6),
        (lives("9" * 401), "error", "holds none", 6),
        (lives('1, "expires_on": 1e999, "expires_in": 1e999'), "error", "holds none", 6),
        (raw(DEEP, **JSON), "error", "holds none", 6),
        (raw(DEEP, 400, **JSON), "unauthorized", "the login answered 400", 31),
        (raw(b"x", Content_Type="application/json; charset=hex"), "error", "holds none", 6),
        (raw(b"no gzip", Content_Encoding="gzip", **JSON), "cut", "was cut", 6),
        (zipped({"access_token": "good", "expires_in": 3600}, cut=-9), "cut", "was cut", 6),
        (raw(b"", 302, Location="https://evil.example.com"), "refused", "the login answered 302", 31),
        (hangs, "timeout", "did not answer in time", 6),
        (cut, "cut", "was cut", 6),
        (slams, "error", "cannot be reached", 6),
    ],
)
async def test_an_odd_answer_makes_the_tenant_wait(
    tmp_path: Path, way: str, answer: Answer, counted: str, words: str, most_wait: float
) -> None:
    """One request, one outcome, one sentence; no part of it is the login's."""
    async with asked(tmp_path, way, answer) as (ask, metrics, seen):
        with pytest.raises(TenantMustWait) as raised:
            await ask()

        assert len(seen) == 1
        assert words in str(raised.value), way
        assert outcome(metrics) == counted
        assert most_wait / 3 < raised.value.wait_seconds <= most_wait
        assert "the-very-secret" not in str(raised.value)
        assert "evil" not in str(raised.value)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", [bomb(), bomb(400), raw(LARGE, **JSON), in_pieces])
async def test_a_login_that_says_too_much_is_not_heard_out(tmp_path: Path, way: str, answer: Answer) -> None:
    """Counted while it is unpacked; there would be a good token in it."""
    async with asked(tmp_path, way, answer) as (ask, metrics, _seen):
        with pytest.raises(TenantMustWait, match=r"^There is no token: the .*was cut\.$"):
            await ask()

        assert outcome(metrics) == "cut"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lives("1e999"), "OverflowError"),
        (lives("9" * 401), "OverflowError"),
        (raw(DEEP, **JSON), "RecursionError"),
        (raw(b"x", Content_Type="application/json; charset=hex"), "LookupError"),
    ],
)
async def test_what_the_library_did_not_expect_is_named(tmp_path: Path, answer: Answer, kind: str) -> None:
    """Whatever it raises makes the tenant wait; so that no bug hides behind the wait, the sentence says what it was."""
    async with asked(tmp_path, "azure-identity", answer) as (ask, _, _seen):
        with pytest.raises(TenantMustWait) as raised:
            await ask()

    assert str(raised.value) == f"There is no token: the answer of the login holds none ({kind})."


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "answer",
    [
        says({"access_token": "good", "expires_in": 3600}),
        says({"access_token": "good", "expires_in": "3600"}),
        zipped({"access_token": "good", "expires_in": 3600, "token_type": "Bearer", "ext_expires_in": 3600}),
        says({"access_token": "good", "expires_in": 86400, "refresh_in": 43200}),
        gzip_alone,
    ],
)
async def test_a_token_is_found_in_every_form_of_reply(tmp_path: Path, way: str, answer: Answer) -> None:
    """Numbers as text, gzip, long-lived ones."""
    async with asked(tmp_path, way, answer) as (ask, _, _seen):
        assert await ask() == "good"


@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_request_leaves_the_next_one_free(tmp_path: Path, way: str) -> None:
    """The lane that asked has lost its partition; the others live on."""
    answers = [hangs, says({"access_token": "good", "expires_in": 3600})]

    async def in_turn(request: web.Request) -> web.StreamResponse:
        return await answers.pop(0)(request)

    async with asked(tmp_path, way, in_turn) as (ask, _, seen):
        asking = asyncio.create_task(ask())
        async with asyncio.timeout(5):
            while not seen:  # noqa: ASYNC110 - what is waited for happens in code under test
                await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        assert await ask() == "good"


def test_every_hint_tells_what_is_wrong_and_ends_without_a_stop() -> None:
    """It stands behind a comma."""
    assert all(text[-1] not in ".!:" and "\n" not in text for text in HINTS.values())


def test_azure_identity_is_imported_by_one_room_alone() -> None:
    """So that the service starts without it, and fast where it is not used."""
    import subprocess

    code = (
        "import sys, service.app, service.cli.main; print([n for n in sys.modules if n.partition('.')[0] == 'azure'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_number_that_is_explained_is_in_the_documents() -> None:
    """`docs/sign-in.md` says of each what to do, and of no other."""
    page = (DOCS / "sign-in.md").read_text(encoding="utf-8").partition("## When it fails")[2].partition("\n## ")[0]
    numbers = {int(number) for number in re.findall(r"(?:AADSTS|, )([0-9]{5,8})\b", page)}

    assert numbers == set(HINTS)
