"""The public site over real sockets, before a store in memory: what tests of it share."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from prometheus_client import CollectorRegistry

from service.clock import Clock
from service.metrics import REFUSED, Metrics
from service.notification import Gatekeeper, LifecycleEvent, Notification, client_state
from service.receiver import StoreUnavailable, receiver_site
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


def request_bytes(headers: list[tuple[str, str]], body: bytes, target: str) -> bytes:
    """A POST as it goes over the wire."""
    lines = [f"POST {target} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers)]
    if not any(name == "Content-Length" for name, _ in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
