"""A Graph and a login that do as they are told, over real sockets: each kind of request has a script of answers."""

import asyncio
import gzip
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from service.clock import Clock
from service.graph.auth import ClientSecretTokens
from service.graph.budget import TenantGates
from service.graph.client import Fetched, GraphClient, Progress
from service.graph.room import Room
from service.metrics import Metrics
from service.outbound.session import http_session
from service.record.archive import packed, unpacked
from service.record.decode import decode_record
from service.record.hiding import HiddenDocument
from service.record.privacy import OPEN
from service.settings import Graph, Lanes, Secret, Tenant
from service.signin.clouds import Endpoints

TENANT = Tenant(
    id="c0ffee00-1111-4222-8333-444455556666",
    client_id="11111111-2222-4333-8444-555555555555",
    client_secret=Secret("the-very-secret"),
)
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def says(value: Any, status: int = 200, **headers: str) -> Answer:
    """JSON. `Retry_After="3"` becomes a header."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return web.Response(
            body=orjson.dumps(value), status=status, headers={"Content-Type": "application/json", **named}
        )

    return answer


def raw(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Any bytes."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return web.Response(body=body, status=status, headers=named)

    return answer


def fails(status: int, code: str = "SomeCode", **headers: str) -> Answer:
    """Graph's error body (graph-contract 9.3)."""
    return says({"error": {"code": code, "message": "text for people"}}, status, **headers)


def zipped(value: Any, cut: int | None = None) -> Answer:
    """A gzip body, whole or ending early."""
    return raw(gzip.compress(orjson.dumps(value))[:cut], Content_Encoding="gzip", Content_Type="application/json")


async def hangs(_: web.Request) -> web.StreamResponse:
    """Never answers; ends when the client goes."""
    await asyncio.Event().wait()
    raise AssertionError


async def cut(request: web.Request) -> web.StreamResponse:
    """Promises more than it sends."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"id":')
    assert request.transport is not None
    request.transport.close()
    return response


async def slams(request: web.Request) -> web.StreamResponse:
    """Closes without a word."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@dataclass
class Seen:
    """One request as it came."""

    kind: str
    target: str
    headers: dict[str, str]
    form: dict[str, str]


@dataclass
class ScriptedGraph:
    """Answers of each kind in their order; the last one stays."""

    url: str = ""
    scripts: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))
    seen: list[Seen] = field(default_factory=list)

    def script(self, kind: str, *answers: Answer) -> None:
        """`kind`: record, version, sessions, participants, token, other."""
        self.scripts[kind] = deque(answers)

    def asked(self, *kinds: str) -> list[str]:
        """What was asked for, as path and query, in order; tokens only when named."""
        return [seen.target for seen in self.seen if seen.kind in (kinds or ("record", "version", *PAGED, "other"))]

    def kinds(self) -> list[str]:
        """The kinds of all requests to Graph, in order."""
        return [seen.kind for seen in self.seen if seen.kind != "token"]

    async def until_seen(self, count: int, kind: str = "") -> None:
        """Waits for a number of requests, of one kind if one is named; TimeoutError after the deadline."""
        async with asyncio.timeout(10):
            while sum(not kind or one.kind == kind for one in self.seen) < count:  # noqa: ASYNC110 - what is waited for happens in code under test
                await asyncio.sleep(0.001)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Any request at all."""
        kind = _kind(request)
        form = {name: str(value) for name, value in (await request.post()).items()} if kind == "token" else {}
        self.seen.append(Seen(kind, request.raw_path, dict(request.headers), form))
        answers = self.scripts[kind]
        answer = answers.popleft() if len(answers) > 1 else answers[0] if answers else fails(404)
        return await answer(request)


PAGED = ("sessions", "participants")


def _kind(request: web.Request) -> str:
    path = request.path.lower()
    if path.endswith("/oauth2/v2.0/token"):
        return "token"
    if "/communications/callrecords" not in path:
        return "other"
    for ending, kind in (("/sessions", "sessions"), ("/participants_v2", "participants")):
        if path.endswith(ending):
            return kind
    return "version" if "$select" in request.query else "record"


@asynccontextmanager
async def scripted() -> AsyncIterator[ScriptedGraph]:
    """A scripted Graph that listens until the block is left; tokens are given unless told otherwise."""
    graph = ScriptedGraph()
    numbers = iter(range(1, 10_000))

    async def give(_: web.Request) -> web.StreamResponse:
        return web.json_response({"access_token": f"token-{next(numbers)}", "expires_in": 3600})

    graph.script("token", give)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", graph.serve)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        graph.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield graph
    finally:
        await runner.cleanup()


@dataclass
class World:
    """A client and what it was built from."""

    client: GraphClient
    tokens: ClientSecretTokens
    gates: TenantGates
    metrics: Metrics
    clock: Clock
    progress: Progress = field(default_factory=Progress)

    async def fetch(self, call_id: str = CALL, tenant: Tenant = TENANT) -> Fetched:
        """One record of the one tenant. Whatever way its pages came, the archive holds the same record."""
        async with self.client.fetched("contoso", tenant, call_id, self.progress) as fetched:
            assert fetched.kept is not None
            archived = packed(fetched.kept, HiddenDocument(OPEN, tenant.id))
            assert decode_record(unpacked(archived))[0] == fetched.record
        self.progress.let_go()
        return fetched

    def outcomes(self, call: str) -> dict[str, int]:
        """How often each outcome of a call was counted."""
        found = {}
        for metric in self.metrics.graph_seconds.collect():
            for sample in metric.samples:
                if sample.name.endswith("_count") and sample.labels["call"] == call and sample.value:
                    found[sample.labels["outcome"]] = int(sample.value)
        return found

    def sample(self, name: str, **labels: str) -> float:
        """One series, 0 when it is absent."""
        return self.metrics.registry.get_sample_value(f"callstream_{name}", labels) or 0.0


@asynccontextmanager
async def world_of(url: str, clock: Clock | None = None, **settings: Any) -> AsyncIterator[World]:
    """A client of the Graph at `url`. The clock runs fast, so that waits are short."""
    clock, held = clock or Clock(speed=200), settings.pop("held_bytes", Lanes().held_bytes)
    graph = Graph(cloud="custom", root_url=url, login_url=url, **settings)
    metrics = Metrics(tenants=["contoso"])
    ends = Endpoints(url, url, f"{url}/.default")
    async with http_session() as http:
        tokens = ClientSecretTokens(http, ends, clock, metrics)
        gates = TenantGates(graph, ["contoso"], clock, metrics)
        room = Room(held, metrics)
        client = GraphClient(http, ends, tokens, graph, gates, room, clock, metrics, keeps_pages=True)
        yield World(client, tokens, gates, metrics, clock)
