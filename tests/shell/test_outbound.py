"""Where the token of a tenant may go: to the configured Graph, and nowhere that an answer points at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from service.clock import Clock
from service.errors import CallstreamError, GraphUnavailable
from service.graph.subscriptions import Subscriptions
from service.metrics import Metrics
from service.outbound.session import http_session
from service.settings import Tenant

TENANT = Tenant(id="c0ffee00-1111-4222-8333-444455556666")


class _Tokens:
    async def token(self, _: Tenant) -> str:
        return "the-token"

    def invalidate(self, _: Tenant, __: str) -> None:
        pass


@dataclass
class Site:
    """A server that answers everything in one way, and remembers who came with a token."""

    answer: Any = None
    url: str = ""
    tokens: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Site"]:
        runner = web.ServerRunner(web.Server(self._serve))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.tokens.append(request.headers.get("Authorization", ""))
        return self.answer(request)  # type: ignore[no-any-return]


@asynccontextmanager
async def between(answer: Any) -> AsyncIterator[tuple[Subscriptions, Site, Site]]:
    """Subscriptions that ask one site, which may point at the other."""
    evil = Site(lambda _: web.json_response({"value": []}))
    async with evil.open(), http_session() as http:
        graph = Site(lambda request: answer(request, evil))
        async with graph.open():
            metrics = Metrics(CollectorRegistry(), ["contoso"])
            yield Subscriptions(http, _Tokens(), graph.url, metrics, Clock()), graph, evil


LINKS = [
    "{evil}/v1.0/subscriptions?$skiptoken=x",
    "{graph}@{evil}/v1.0/subscriptions",
    "//{evil}/v1.0/subscriptions",
    "{graph}\\@{evil}/v1.0/subscriptions",
    "{graph}/v1.0/subscriptions/../users",
    "{graph}/v1.0/users",
    "https://[x/v1.0/subscriptions",
    "javascript:alert(1)",
    "/v1.0/subscriptions",
    "",
]


@pytest.mark.parametrize("link", LINKS)
async def test_a_link_of_the_subscription_list_leads_nowhere_else(link: str) -> None:
    """One sentence, and nobody else is asked."""

    def answer(request: web.BaseRequest, evil: Site) -> web.Response:
        places = {"evil": evil.url.removeprefix("http://") if link[0] != "{" else evil.url}
        pointed = link.format(graph=f"http://{request.host}", evil=places["evil"])
        return web.json_response({"value": [], "@odata.nextLink": pointed})

    async with between(answer if link else _with_empty_link) as (subscriptions, graph, evil):
        with pytest.raises(GraphUnavailable, match="next link of the list of subscriptions was refused"):
            await subscriptions.list(TENANT)

        assert graph.tokens == ["Bearer the-token"]
        assert evil.tokens == []


def _with_empty_link(_: web.BaseRequest, __: Site) -> web.Response:
    return web.json_response({"value": [], "@odata.nextLink": ""})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """Whatever the method: the token, and the clientState in the body, stay here."""

    def answer(_: web.BaseRequest, evil: Site) -> web.Response:
        return web.Response(status=status, headers={"Location": evil.url})

    async with between(answer) as (subscriptions, _, evil):
        for call in (subscriptions.list(TENANT), subscriptions.renew(TENANT, TENANT.id, 1.0)):
            with pytest.raises(CallstreamError):
                await call

        assert evil.tokens == []
