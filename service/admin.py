"""Shell: the private site: `/metrics`, `/livez`, `/readyz`, `/status`. It says what is wrong: never expose it publicly.

Liveness means "work moves": only a stalled lane ends it, because a restart mends nothing else. Readiness means "we can
accept now"; a broker outage may end it. What is checked is passed in as functions.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import structlog
from aiohttp import web
from prometheus_client.exposition import choose_encoder

from service.metrics import Metrics
from service.settings import Admin
from service.sites import Site, open_site
from service.status_page import status_page, wrongs

MAX_CONNECTIONS = 100
DRAIN_SECONDS = 2.0
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>callstream</title><h1>callstream</h1><ul>
<li><a href="/metrics">/metrics</a>: every series, for Prometheus</li>
<li><a href="/livez">/livez</a>: whether work moves</li>
<li><a href="/status">/status</a>: what is wrong, subscriptions, completeness by tenant and day, lanes, outages</li>
<li><a href="/readyz">/readyz</a>: whether notifications can be accepted, check by check</li></ul></html>
"""

# The page needs nothing from anywhere, and runs nothing.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

log = structlog.get_logger()
Tell = Callable[[], object]
"""Cheap and immediate: a part of the status, fit for JSON."""
Probe = Callable[[], str | None]
"""Cheap and immediate: None when all is well, else one sentence that says what is not."""


def _wants_page(request: web.Request) -> bool:
    """A browser names `text/html`; curl, scripts and Prometheus do not. `?format=json` or `html` goes before it."""
    wish = request.query.get("format")
    return wish == "html" if wish in ("html", "json") else "text/html" in request.headers.get("Accept", "")


@asynccontextmanager
async def admin_site(
    settings: Admin, metrics: Metrics, live: Probe, ready: Mapping[str, Probe], status: Mapping[str, Tell] | None = None
) -> AsyncIterator[Site]:
    """The open private site. Open it first and close it last, so that start and drain can be scraped.

    Raises `UserError` when the port cannot be had.
    """
    async with open_site(
        admin_app(metrics, live, ready, status),
        settings.host,
        settings.port,
        "admin",
        max_connections=MAX_CONNECTIONS,
        drain_seconds=DRAIN_SECONDS,
    ) as site:
        log.info("admin site is open", host=site.host, port=site.port)
        yield site


def admin_app(
    metrics: Metrics, live: Probe, ready: Mapping[str, Probe], status: Mapping[str, Tell] | None = None
) -> web.Application:
    """The site's routes."""

    async def show_metrics(request: web.Request) -> web.Response:
        # Prometheus asks for OpenMetrics in its Accept header, a person's browser does not.
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(metrics.registry), headers={"Content-Type": content_type})

    async def show_live(_: web.Request) -> web.Response:
        trouble = live()
        return web.json_response({"live": trouble is None, "reason": trouble}, status=503 if trouble else 200)

    async def show_ready(_: web.Request) -> web.Response:
        troubles = {name: probe() for name, probe in ready.items()}
        checks = {name: trouble or "ok" for name, trouble in troubles.items()}
        is_ready = not any(troubles.values())
        return web.json_response({"ready": is_ready, "checks": checks}, status=200 if is_ready else 503)

    async def show_status(request: web.Request) -> web.Response:
        told = {name: tell() for name, tell in (status or {}).items()}
        headers = {"Vary": "Accept", "Cache-Control": "no-store"}
        if not _wants_page(request):
            return web.json_response({**told, "say": wrongs(told)}, headers=headers)
        return web.Response(text=status_page(told), content_type="text/html", headers={**headers, **PAGE_HEADERS})

    async def show_links(_: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_routes(
        [
            web.get("/", show_links),
            web.get("/metrics", show_metrics),
            web.get("/livez", show_live),
            web.get("/readyz", show_ready),
            web.get("/status", show_status),
        ]
    )
    return app
