"""What the emulator's tests share: a client, a subscriber that can misbehave, a hand-made record."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

from service.clock import Clock, iso
from service.emulator.options import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, DEMO_TENANT_ID, EmulatorOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.store import Call

SCOPE = "https://graph.microsoft.com/.default"
CONDITION_SECONDS = 10.0


@dataclass
class Answer:
    """A whole answer."""

    status: int
    headers: Any
    raw: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.raw)

    @property
    def code(self) -> str:
        """Graph's error code."""
        return str(self.json["error"]["code"])

    @property
    def message(self) -> str:
        """Graph's error message."""
        return str(self.json["error"]["message"])


@dataclass
class Client:
    """Talks to an emulator, with the demo application's token when there is one."""

    emulator: Emulator
    session: aiohttp.ClientSession
    token: str = ""

    async def call(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        """`path` may be a whole URL and is sent as it is written."""
        all_headers = dict(headers or {})
        if self.token and "Authorization" not in all_headers:
            all_headers["Authorization"] = f"Bearer {self.token}"
        url = URL(path if path.startswith("http") else self.emulator.url + path, encoded=True)
        async with self.session.request(method, url, headers=all_headers, **more) as got:
            return Answer(got.status, got.headers, await got.read())

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """GET."""
        return await self.call("GET", path, headers)

    async def post(self, path: str, body: Any = None) -> Answer:
        """POST of JSON."""
        return await self.call("POST", path, json=body)

    async def patch(self, path: str, body: Any) -> Answer:
        """PATCH of JSON."""
        return await self.call("PATCH", path, json=body)

    async def ask_token(self, tenant: str = DEMO_TENANT_ID, **form: str | None) -> Answer:
        """A token request; a field given as None is left out."""
        fields = {
            "grant_type": "client_credentials",
            "client_id": DEMO_CLIENT_ID,
            "client_secret": DEMO_CLIENT_SECRET,
            "scope": SCOPE,
            **form,
        }
        body = {name: value for name, value in fields.items() if value is not None}
        return await self.call("POST", f"/{tenant}/oauth2/v2.0/token", data=body)

    async def log_in(self, tenant: str = DEMO_TENANT_ID) -> None:
        """Takes a token for what follows."""
        self.token = (await self.ask_token(tenant)).json["access_token"]


@asynccontextmanager
async def emulated(clock: Clock | None = None, log_in: bool = True, **options: Any) -> AsyncIterator[Client]:
    """An emulator on a free port and a client of it."""
    chosen = replace(EmulatorOptions(port=0), **options)
    async with open_emulator(chosen, clock or Clock()) as emulator, aiohttp.ClientSession() as session:
        client = Client(emulator, session)
        if log_in:
            await client.log_in()
        yield client


async def until(condition: Callable[[], bool]) -> None:
    """Waits for a condition, not for a time; TimeoutError after the deadline."""
    async with asyncio.timeout(CONDITION_SECONDS):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in code under test
            await asyncio.sleep(0.005)


@dataclass
class Subscriber:
    """A webhook that keeps what it got. `answer` may be replaced to misbehave."""

    url: str = ""
    items: list[dict[str, Any]] = field(default_factory=list)
    batches: list[list[dict[str, Any]]] = field(default_factory=list)
    handshakes: list[web.Request] = field(default_factory=list)
    answer: Callable[[], Any] = lambda: web.Response(status=202)
    shake: Callable[[str], Any] = lambda token: web.Response(text=token)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """A handshake or a batch."""
        if token := request.query.get("validationToken"):
            self.handshakes.append(request)
            got = self.shake(token)
        else:
            batch = orjson.loads(await request.read())["value"]
            self.batches.append(batch)
            self.items += batch
            got = self.answer()
        answer: web.StreamResponse = await got if asyncio.iscoroutine(got) else got
        return answer

    def seen(self) -> list[str]:
        """Call ids in the order they came."""
        return [item["resourceData"]["id"] for item in self.items if "resourceData" in item]


@asynccontextmanager
async def subscriber() -> AsyncIterator[Subscriber]:
    """A subscriber that listens on every path."""
    one = Subscriber()
    app = web.Application()
    app.router.add_post("/{path:.*}", one.receive)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/notifications"
        yield one
    finally:
        await runner.cleanup()


def subscription(url: str, clock: Clock, minutes: float = 60 * 24, **more: Any) -> dict[str, Any]:
    """A right body for POST /subscriptions; a field given as None is left out."""
    body = {
        "changeType": "updated",
        "resource": "communications/callRecords",
        "notificationUrl": url,
        "lifecycleNotificationUrl": url + "/lifecycle",
        "expirationDateTime": iso(clock.now() + minutes * 60),
        "clientState": "k1.abc",
        **more,
    }
    return {name: value for name, value in body.items() if value is not None}


def make_record(
    clock: Clock, sessions: int = 1, people: int = 2, ended_ago: float = 1800, **more: Any
) -> dict[str, Any]:
    """A small record in Graph's shape, of any number of sessions and participants."""
    begin, end = iso(clock.now() - ended_ago - 600), iso(clock.now() - ended_ago)
    return {
        "id": str(uuid.uuid4()),
        "version": 1,
        "type": "groupCall",
        "modalities": ["audio"],
        "startDateTime": begin,
        "endDateTime": end,
        "lastModifiedDateTime": iso(clock.now()),
        "joinWebUrl": None,
        "organizer_v2": {"id": "1", "identity": {"user": {"id": "1", "displayName": None}}},
        "participants_v2": [_person(number) for number in range(people)],
        "sessions": [_session(number, begin, end) for number in range(sessions)],
        **more,
    }


def add_record(client: Client, **shape: Any) -> Call:
    """Puts a record of the demo tenant into the emulator."""
    return client.emulator.store.add_call(DEMO_TENANT_ID, make_record(client.emulator.world.clock, **shape))


def record_path(call: Call, api: str = "v1.0") -> str:
    """Path of a record."""
    return f"/{api}/communications/callRecords/{call.id}"


def _person(number: int) -> dict[str, Any]:
    identity = f"00000000-0000-4000-8000-{number:012d}"
    return {"id": identity, "identity": {"user": {"id": identity, "displayName": f"Person {number}"}}}


def _session(number: int, begin: str, end: str) -> dict[str, Any]:
    times = {"startDateTime": begin, "endDateTime": end}
    agent = {
        "@odata.type": "#microsoft.graph.callRecords.clientUserAgent",
        "productFamily": "azureCommunicationServices",
    }
    caller = {"@odata.type": "#microsoft.graph.callRecords.participantEndpoint", "name": None, "userAgent": agent}
    stream = {"streamId": "1", "streamDirection": "callerToCallee", "packetUtilization": number}
    media = [{"label": "main-audio", "streams": [stream]}]
    segments = [{"id": f"segment-{number}", **times, "media": media}]
    return {"id": f"session-{number}", **times, "modalities": ["audio"], "caller": caller, "segments": segments}
