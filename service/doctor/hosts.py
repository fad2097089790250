"""The login's host and Graph's, as the service will reach them, and the clock that Graph goes by."""

import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

import aiohttp

from service.doctor.case import Case, connection_text
from service.doctor.finding import Look, broken, ok, warn

SECONDS = 10.0
# Entra refuses assertions that are more than 5 minutes off; below half a minute nothing depends on it.
WRONG_SECONDS = 300.0
ODD_SECONDS = 30.0
PROXY_ANSWERS = (407, 502, 503, 504)


async def check_hosts(case: Case) -> Iterable[Look]:
    """Both answer over TLS that is trusted. Any answer will do: nobody has signed in yet."""
    tenant = next(iter(case.settings.tenants.values()))
    login = f"{case.graph.login_url}/{tenant.id}/v2.0/.well-known/openid-configuration"
    for who, url, setting in (
        ("The login", login, "login_url"),
        ("Graph", f"{case.graph.root_url}/v1.0/", "root_url"),
    ):
        if (trouble := await _ask(case, who, url, setting)) is not None:
            return [trouble]
    both = dict.fromkeys((case.graph.login_url, case.graph.root_url))
    return [ok(f"{' and '.join(both)} answer{'s' if len(both) == 1 else ''}.")]


async def _ask(case: Case, who: str, url: str, setting: str) -> Look | None:
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    host = url.split("/")[2]
    started = case.clock.now()
    try:
        async with case.http.get(url, allow_redirects=False, timeout=timeout) as reply:
            status, date = reply.status, reply.headers.get("Date", "")
    except aiohttp.ClientConnectorCertificateError as exc:
        seen = f"{who} ({host}) shows a certificate that this machine does not trust: {connection_text(exc)}."
        todo = "A proxy that opens TLS, or a private authority? Name its certificate in CALLSTREAM_GRAPH__CA_FILE."
        return broken(seen, todo)
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        return _unreachable(case, who, host, setting, exc)
    if status in PROXY_ANSWERS:
        todo = f"Let this machine reach {host} directly, or through a proxy that asks for no login."
        return broken(f"{who} ({host}) answers {status}: a proxy, or an outage.", todo)
    if setting == "root_url" and date:
        case.graph_date = _date(date), (started + case.clock.now()) / 2
    return None


def _unreachable(case: Case, who: str, host: str, setting: str, exc: BaseException) -> Look:
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        why = "its name does not resolve"
    elif isinstance(exc, TimeoutError):
        why = f"no answer within {SECONDS:g} s"
    else:
        why = connection_text(exc)
    todo = f"Let this machine reach {host} (DNS, firewall, network policy); no proxy of the environment is used."
    if case.graph.is_custom:
        todo = f"See that it runs, and that CALLSTREAM_GRAPH__{setting.upper()} is right."
    return broken(f"{who} ({host}) cannot be reached: {why}.", todo)


def _date(text: str) -> float:
    """Unix seconds; 0 for what is no date. A header has whole seconds: half of one more is nearer."""
    try:
        return parsedate_to_datetime(text).timestamp() + 0.5
    except (TypeError, ValueError):
        return 0.0


async def check_clock(case: Case) -> Iterable[Look]:
    """This machine's clock against Graph's."""
    if case.graph_date is None or not case.graph_date[0]:
        return [ok(f"Graph shows no clock to compare with; here it is {time.strftime('%H:%M:%S', time.gmtime())} UTC.")]
    theirs, ours = case.graph_date
    return [judge(ours - theirs)]


def judge(ahead_seconds: float) -> Look:
    """How far this machine's clock is ahead of Graph's."""
    off = abs(ahead_seconds)
    way = "ahead of" if ahead_seconds > 0 else "behind"
    todo = "Set this machine's clock by NTP (chrony, systemd-timesyncd); a pod has the clock of its node."
    if off > WRONG_SECONDS:
        seen = f"This machine's clock is {_span(off)} {way} Graph's: logins are refused, subscriptions end early."
        return broken(seen, todo)
    if off > ODD_SECONDS:
        return warn(f"This machine's clock is {_span(off)} {way} Graph's.", todo)
    return ok("This machine's clock and Graph's agree" + (f" to {off:.0f} s." if off >= 2 else "."))


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
