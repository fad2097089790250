"""The running service's private site, where the doctor can reach it: ready, alive, who waits, what is refused."""

import re
from collections.abc import Iterable, Mapping

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from service.doctor.case import Case
from service.doctor.finding import Look, broken, ok, skipped, warn

SECONDS = 5.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - only compared
WHY = {
    "client_state": "the clientState is not made with one of our keys",
    "tenant": "the tenant is not configured",
    "resource": "they are not about call records",
    "malformed": "they are no notifications",
    "call_id": "they name no call",
    "not_stored": "Kafka did not take them, and Graph repeats them",
}
TODO = {
    "client_state": "Put the key back under which the subscription was made, or delete that subscription; "
    "or strangers post here.",
    "tenant": "Add the tenant to the settings, or have its subscription deleted.",
    "resource": "Delete subscriptions of other resources that post to this URL.",
    "not_stored": "See the link kafka; Graph repeats for 4 hours.",
}


async def check_service(case: Case) -> Iterable[Look]:
    """What /readyz and /livez say. It need not be here: then its own checks cannot be seen."""
    base = address(case.settings.admin.host, case.settings.admin.port)
    try:
        ready = await _json(case, f"{base}/readyz")
        live = await _json(case, f"{base}/livez")
        status = await _json(case, f"{base}/status?format=json")
        case.series = read_series(await _text(case, f"{base}/metrics"))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        todo = "Run the doctor where `callstream serve` runs (kubectl exec), or set CALLSTREAM_ADMIN__HOST and __PORT."
        return [warn(f"No callstream answers at its private site {base}, so what it counts is not seen.", todo)]
    shown = status.get("service")
    case.roles = shown.get("roles") if isinstance(shown, dict) else None
    standings = status.get("subscriptions")
    case.standings = standings if isinstance(standings, dict) else {}
    return judge_service(base, ready, live, case.series)


def address(host: str, port: int) -> str:
    """Of the private site, for a client on this machine."""
    host = ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _text(case: Case, url: str) -> str:
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with case.http.get(url, allow_redirects=False, timeout=timeout) as reply:
        return await reply.text()


async def _json(case: Case, url: str) -> dict[str, object]:
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with case.http.get(url, allow_redirects=False, timeout=timeout) as reply:
        found = await reply.json()
    if not isinstance(found, dict):
        raise ValueError("not callstream's private site")  # noqa: TRY004 - what came, not who called
    return found


def read_series(text: str) -> dict[str, float]:
    """`callstream_tenant_waiting{tenant="contoso"}` → value; ValueError for what is no metrics page."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def judge_service(
    base: str, ready: Mapping[str, object], live: Mapping[str, object], series: Mapping[str, float]
) -> list[Look]:
    """Its own checks, and the tenants that it makes wait."""
    if live.get("live") is False:
        return [broken(f"The service is stuck: {live.get('reason')}", "Restart it, keep its log, and report it.")]
    checks = ready.get("checks")
    failing = [f"{name}: {said}" for name, said in checks.items() if said != "ok"] if isinstance(checks, dict) else []
    if failing:
        return [broken(f"The service is not ready: {' '.join(failing)}", "See the links before; else read its log.")]
    waiting = [name for name in series if name.startswith("callstream_tenant_waiting{") and series[name]]
    looks = [
        warn(
            f"The service makes tenant {name.split(chr(34))[1]} wait: Graph throttles or refuses it, or fails.",
            "See this tenant's links token and permission; throttling passes.",
        )
        for name in waiting
    ]
    looks += [
        warn(
            f"Most records of tenant {labels['tenant']} fail for one reason, {labels['reason']}, so all of them wait.",
            "The service's log names the error (`most records fail for one reason`); it goes on by itself.",
        )
        for labels in _outages(series)
    ]
    return looks or [ok(f"The service at {base} is ready, and makes no tenant wait.")]


def _outages(series: Mapping[str, float]) -> list[dict[str, str]]:
    found = [name for name, value in series.items() if name.startswith("callstream_outage{") and value]
    return [dict(re.findall(r'(\w+)="([^"]*)"', name)) for name in found]


async def check_refusals(case: Case) -> Iterable[Look]:
    """Items of notifications that were not stored, since the service started."""
    if case.series is None:
        return [skipped("Not looked at: it needs the private site of the service.")]
    if case.roles is not None and "receive" not in case.roles:
        return [skipped("Not looked at: the service here has not the role receive; run the doctor where one has.")]
    return judge_refusals(case.series)


def judge_refusals(series: Mapping[str, float]) -> list[Look]:
    """By reason. All refused and none stored is broken; some are strangers or leftovers."""
    stored = int(series.get("callstream_notifications_stored_total", 0))
    refused = {
        reason: int(series.get(f'callstream_notifications_refused_total{{reason="{reason}"}}', 0)) for reason in WHY
    }
    looks = []
    for reason, count in refused.items():
        if not count:
            continue
        seen = f"{count:,} notifications were refused since this process started ({stored:,} stored): {WHY[reason]}."
        todo = TODO.get(reason, "Nothing, if it stays rare: anyone can post to a public address.")
        looks.append(warn(seen, todo) if stored or reason not in ("client_state", "tenant") else broken(seen, todo))
    return looks or [ok(f"None of {stored:,} notifications since this process started.")]
