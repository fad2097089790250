"""The private site over a real socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from service.admin import Probe, admin_site
from service.errors import UserError
from service.metrics import Metrics
from service.settings import Admin


def well() -> str | None:
    return None


@asynccontextmanager
async def opened(live: Probe = well, **ready: Probe) -> AsyncIterator[tuple[aiohttp.ClientSession, Metrics, int]]:
    metrics = Metrics(CollectorRegistry(), ["contoso"])
    async with (
        admin_site(Admin(port=0), metrics, live, ready) as site,
        aiohttp.ClientSession(site.url) as http,
    ):
        yield http, metrics, site.port


async def test_metrics_are_readable_for_prometheus_in_both_formats() -> None:
    """Plain text by default, OpenMetrics when asked; a series that is quiet reads 0."""
    async with opened() as (http, metrics, _):
        metrics.received.inc(3)
        async with http.get("/metrics") as reply:
            plain = {family.name: family for family in parse_plain(await reply.text())}
            assert reply.headers["Content-Type"].startswith("text/plain; version=")
        async with http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}) as reply:
            modern = {family.name: family for family in parse_openmetrics(await reply.text())}  # type: ignore[no-untyped-call]
            assert reply.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")

        for families in (plain, modern):
            assert families["callstream_notifications_received"].samples[0].value == 3
            assert {sample.value for sample in families["callstream_dead_letters"].samples} == {0}


async def test_liveness_follows_the_probe() -> None:
    """Only what a restart can mend ends it, and it says why."""
    trouble: list[str] = []
    async with opened(live=lambda: trouble[0] if trouble else None) as (http, _, _):
        async with http.get("/livez") as reply:
            assert (reply.status, await reply.json()) == (200, {"live": True, "reason": None})
        trouble.append("lane 3 has work and has not moved for 300 s")
        async with http.get("/livez") as reply:
            assert reply.status == 503
            assert "lane 3" in (await reply.json())["reason"]


async def test_readiness_names_every_check() -> None:
    """One that fails is enough for 503; the others are shown all the same."""
    trouble = "Kafka has not been reached yet."
    async with opened(kafka=lambda: trouble, receiver=well) as (http, _, _), http.get("/readyz") as reply:
        assert reply.status == 503
        assert (await reply.json())["checks"] == {"kafka": trouble, "receiver": "ok"}
    async with opened(kafka=well) as (http, _, _), http.get("/readyz") as reply:
        assert (reply.status, await reply.json()) == (200, {"ready": True, "checks": {"kafka": "ok"}})


async def test_first_page_leads_to_the_others() -> None:
    """A person who opens the port finds the way."""
    async with opened() as (http, _, _), http.get("/") as reply:
        page = await reply.text()
        for path in ("/metrics", "/livez", "/readyz"):
            assert f'href="{path}"' in page


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("", "text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("", "*/*", "application/json"),
        ("", "application/json", "application/json"),
        ("?format=json", "text/html", "application/json"),
        ("?format=html", "*/*", "text/html"),
    ],
)
async def test_the_status_is_a_page_for_a_browser_and_json_for_a_program(query: str, accept: str, kind: str) -> None:
    """The same address; a page may run and load nothing."""
    metrics = Metrics(CollectorRegistry(), ["contoso"])
    parts = {"tenants": lambda: {"contoso": {"id": "c0ffee00"}}, "waiting": lambda: {"contoso": None}}
    async with (
        admin_site(Admin(port=0), metrics, well, {}, parts) as site,
        aiohttp.ClientSession(site.url) as http,
        http.get(f"/status{query}", headers={"Accept": accept}) as reply,
    ):
        text = await reply.text()
        assert (reply.status, reply.content_type, reply.headers["Vary"]) == (200, kind, "Accept")
        if kind == "text/html":
            assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
            assert "<td>contoso</td>" in text
        else:
            assert await reply.json() == {
                "tenants": {"contoso": {"id": "c0ffee00"}},
                "waiting": {"contoso": None},
                "say": [],
            }


async def test_port_in_use_is_one_sentence() -> None:
    """A person can act on it; a traceback is a bug."""
    async with opened() as (_, metrics, port):
        with pytest.raises(UserError, match=r"admin\.port"):
            async with admin_site(Admin(port=port), metrics, well, {}):
                pass
