"""The list of call records: all pages, one budget, links that stay at home, errors that say what to do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from service.clock import Clock
from service.emulator.making import CallWish
from service.emulator.options import DEMO_TENANT_ID, EmulatorOptions
from service.emulator.server import Emulator, open_emulator
from service.errors import GraphUnavailable, NotACallRecord, TenantMustWait
from service.graph.auth import ClientSecretTokens
from service.graph.exchange import BROKEN
from service.graph.listing import MOST_ITEMS, Listed, Lister, decode_list_page
from service.graph.protocol import RefusedLink, next_list_page
from service.graph.room import Room
from service.metrics import Metrics
from service.outbound.session import http_session
from service.settings import Graph, Secret, Tenant
from service.signin.clouds import Endpoints
from tests.shell.graph_fixture import ScriptedGraph, fails, says, scripted

TENANT = Tenant(id=DEMO_TENANT_ID, client_id="11111111-2222-4333-8444-555555555555", client_secret=Secret("x"))
CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
ROOT = "https://graph.microsoft.com"
HERE = f"{ROOT}/v1.0/communications/callRecords"
ITEM = {"id": CALL.upper(), "version": 3, "startDateTime": "2026-11-22T10:00:00Z"}


@asynccontextmanager
async def lister_of(url: str, clock: Clock, secret: str = "x", **settings: Any) -> AsyncIterator[Lister]:
    graph = Graph(cloud="custom", root_url=url, login_url=url, **settings)
    ends = Endpoints(url, url, f"{url}/.default")
    metrics = Metrics()
    async with http_session() as http:
        yield Lister(
            http,
            ends,
            ClientSecretTokens(http, ends, clock, metrics),
            graph,
            ["contoso"],
            Room(1_000_000, metrics),
            clock,
            metrics,
        )


@asynccontextmanager
async def emulated(clock: Clock, **options: Any) -> AsyncIterator[tuple[Emulator, Lister, Tenant]]:
    chosen = EmulatorOptions(port=0, **options)
    tenant = Tenant(id=DEMO_TENANT_ID, client_id=chosen.tenants[0].client_id, client_secret=Secret("emulator-secret"))
    async with open_emulator(chosen, clock) as emulator, lister_of(emulator.url, clock) as lister:
        yield emulator, lister, tenant


async def all_of(lister: Lister, start: float, end: float, tenant: Tenant = TENANT) -> list[Listed]:
    return [item async for page in lister.pages("contoso", tenant, start, end) for item in page.items]


@pytest.mark.parametrize("has_version", [True, False])
async def test_every_page_of_a_window_is_read_within_the_budget(has_version: bool) -> None:
    """Each call of the window once, its version where the list has one; never more requests than the budget."""
    clock = Clock(speed=200)
    async with emulated(clock, list_has_version=has_version, list_page=3) as (emulator, lister, tenant):
        now = clock.now()
        ages = [3600.0 + 10 * number for number in range(35)] + [9000.0]
        made = [
            emulator.maker.make(CallWish(tenant.id, kind="peerToPeer", size="S", started_seconds_ago=age))
            for age in ages
        ]
        start, end = float(int(now - 3600 - 400)), float(int(now - 3000))
        found = await all_of(lister, start, end, tenant)

        wanted = {call.id for call in made if start <= call.start < end}
        assert len(wanted) == 35
        assert sorted(item.call_id for item in found) == sorted(wanted)
        assert {item.version for item in found} == ({1} if has_version else {None})
        seen = emulator.world.counters.report()["list"]
        assert seen["requests"] == 12
        assert seen["highest"] <= 8
        assert seen["throttled"] == 0


async def test_refused_select_is_left_out_from_then_on() -> None:
    """`$select` on the list is documented and untried: a Graph that refuses it costs one request, once."""
    async with scripted() as graph, lister_of(graph.url, Clock(speed=200)) as lister:
        graph.script("version", fails(400))
        graph.script("record", says({"value": [ITEM]}))
        first = await all_of(lister, 0, 3600)
        second = await all_of(lister, 0, 3600)

        assert first == second == [Listed(CALL, 3, 1795341600.0)]
        assert graph.kinds() == ["version", "record", "record"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [(fails(403), TenantMustWait), (fails(503), GraphUnavailable), (says([]), GraphUnavailable)],
)
async def test_failures_are_typed(answer: Any, error: type[Exception]) -> None:
    """The keeper waits for a tenant, or comes again."""
    async with scripted() as graph, lister_of(graph.url, Clock(speed=200)) as lister:
        graph.script("version", answer)
        with pytest.raises(error):
            await all_of(lister, 0, 3600)


async def test_a_link_to_elsewhere_never_gets_the_token() -> None:
    """The next link of a page is followed on the configured host and to the list only."""
    async with scripted() as graph, scripted() as elsewhere, lister_of(graph.url, Clock(speed=200)) as lister:
        link = f"{elsewhere.url}/v1.0/communications/callRecords?$skiptoken=x"
        graph.script("version", says({"value": [ITEM], "@odata.nextLink": link}))
        with pytest.raises(GraphUnavailable, match="refused"):
            await all_of(lister, 0, 3600)
        assert not _requests(elsewhere)


@pytest.mark.parametrize("path", ["?$skiptoken=a%2Fb", "()?$skiptoken=x", "?$filter=x%20y"])
def test_links_of_the_list_are_taken_as_they_are(path: str) -> None:
    """What Graph made opaque is not written anew."""
    assert next_list_page(HERE + path, ROOT) == HERE + path


@pytest.mark.parametrize(
    "link",
    [
        f"{HERE}/{CALL}?$skiptoken=x",
        f"{ROOT}/v1.0/users?$skiptoken=x",
        f"{ROOT}/v1.0/communications/../users",
        "http://graph.microsoft.com/v1.0/communications/callRecords?x",
        "https://graph.microsoft.com.evil.example/v1.0/communications/callRecords?x",
        "https://a@graph.microsoft.com/v1.0/communications/callRecords?x",
    ],
)
def test_other_links_are_refused(link: str) -> None:
    """Another host, another scheme, another place."""
    with pytest.raises(RefusedLink):
        next_list_page(link, ROOT)


def test_odd_items_cost_nothing_but_themselves() -> None:
    """A record without a usable id cannot be asked for; one without a version can."""
    odd = b"""{"value":[7,{"id":"x"},{"id":"%s","version":"4","startDateTime":"never"},{"id":"%s","version":-1}],
    "@odata.nextlink":"n"}""" % (CALL.encode(), CALL.encode())
    page = decode_list_page(odd)

    assert page.items == [Listed(CALL, 4, None), Listed(CALL, None, None)]
    assert (page.unreadable, page.link) == (2, "n")


@pytest.mark.parametrize("item", [b"1", b"{}", b'{"id":"%s"}' % CALL.encode()])
def test_a_page_of_more_items_than_any_list_has_is_refused(item: bytes) -> None:
    """Graph's has 60. It is read to the first one too many, and no object is made of the others."""
    page = decode_list_page(b'{"value":[%s]}' % b",".join([item] * MOST_ITEMS))
    assert len(page.items) + page.unreadable == MOST_ITEMS

    with pytest.raises(NotACallRecord, match="more than 1,000 of them") as caught:
        decode_list_page(b'{"value":[%s,!' % b",".join([item] * (MOST_ITEMS + 1)))
    assert caught.value.kind in BROKEN


@pytest.mark.parametrize("value", [b"{}", b"7", b"null"])
def test_a_page_whose_value_is_no_list_is_refused(value: bytes) -> None:
    """It is no empty page: the hour would count as looked at."""
    with pytest.raises(NotACallRecord):
        decode_list_page(b'{"value":%s}' % value)


def _requests(graph: ScriptedGraph) -> list[str]:
    return [seen.kind for seen in graph.seen]


async def test_links_of_the_list_that_lead_in_circles_end_the_look() -> None:
    """After the first page that comes twice, and not after the whole budget of a day."""
    clock = Clock(speed=200)
    async with emulated(clock, list_page=2) as (emulator, lister, tenant):
        now = clock.now()
        for age in (3600.0, 3700.0, 3800.0):
            emulator.maker.make(CallWish(tenant.id, kind="peerToPeer", started_seconds_ago=age))
        emulator.world.faults.add({"kind": "list", "action": "looping-link"})
        with pytest.raises(GraphUnavailable, match="circles"):
            await all_of(lister, now - 7200, now, tenant)

        assert len(emulator.world.journal.of(tenant.id, "list")) <= 2
