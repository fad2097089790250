"""Core: what `/status` tells, as a page for a person: plain values in, HTML out. No script, nothing from elsewhere.

Every text is escaped where it is put in: what is not `Safe` was made by somebody else.
"""

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from service.reconcile.status import SUMMED, is_overdue, share, wait_text

REFRESH_SECONDS = 30
LAGGING_SECONDS = 300.0
STYLE = """
:root { color-scheme: light dark; --line: #8885; --bad: #b3261e; --good: #1b7f3b; --dim: #777; }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a80; --good: #7bd88f; --dim: #999; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; } p { margin: .3rem 0; }
.dim { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
ul.bad { border-left: 4px solid var(--bad); padding: .2rem 0 .2rem 1.6rem; } ul.bad li { margin: .2rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem 1.4rem .2rem 0; text-align: left; vertical-align: top; }
th { color: var(--dim); font-weight: 500; } tr.all td { font-weight: 600; }
th, td { white-space: nowrap; } th.n, td.n { text-align: right; }
"""
COLUMNS = {"set_aside": "set aside"}


class Safe(str):
    """Markup that was made here; any other text is escaped."""

    __slots__ = ()


def status_page(status: Mapping[str, Any]) -> str:
    """The whole page; `status` is what `/status` answers as JSON, whichever roles this process has."""
    service, wrong = status.get("service") or {}, wrongs(status)
    verdict = (
        _tag("ul", *(_tag("li", one) for one in wrong), css="bad")
        if wrong
        else _tag("p", "Nothing is wrong that this process knows of.", css="good")
    )
    body = [
        _tag("h1", "callstream"),
        _tag("p", _headline(service), css="dim"),
        _tag("h2", "What is wrong"),
        verdict,
        _tag("h2", "Tenants"),
        *_tenants(status),
        _tag("h2", "Completeness"),
        *_completeness(status),
        *_lanes(status),
        _tag("h2", "This process"),
        _table(("check", ""), [(name, _verdict(one)) for name, one in _checks(service).items()]),
        _tag(
            "p", Safe('<a href="/status?format=json">The same as JSON</a>, <a href="/metrics">metrics</a>'), css="dim"
        ),
    ]
    head = f'<meta charset="utf-8"><meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
    head += f'<meta name="viewport" content="width=device-width"><title>callstream</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def wrongs(status: Mapping[str, Any]) -> list[str]:
    """What a person should know, one sentence each, the most urgent first."""
    checks = [text for text in _checks(status.get("service") or {}).values() if text != "ok"]
    parts = (_of_subscriptions, _of_waits, _of_outages, _of_completeness, _of_lanes)
    return [*checks, *(sentence for part in parts for sentence in part(status))]


def _of_subscriptions(status: Mapping[str, Any]) -> Iterator[str]:
    for name, standing in (status.get("subscriptions") or {}).items():
        if standing["error"]:
            yield f"{name}: the subscription cannot be kept: {standing['error']} {standing['todo'] or ''}".strip()
        elif not standing["id"]:
            yield f"{name}: there is no subscription yet."


def _of_waits(status: Mapping[str, Any]) -> Iterator[str]:
    for name, wait in (status.get("waiting") or {}).items():
        if wait:
            yield f"{name} waits for {wait_text(wait['seconds'])} ({wait['cause']}). {wait['detail']}".strip()


def _of_outages(status: Mapping[str, Any]) -> Iterator[str]:
    for name, outages in (status.get("outages") or {}).items():
        for one in outages:
            since, following = _moment(one["since"]), _moment(one["nextTryAt"])
            yield f"{name}: since {since} most records fail ({one['reason']}); the next is tried at {following}."


def _of_completeness(status: Mapping[str, Any]) -> Iterator[str]:
    for name, tenant in (status.get("completeness") or {}).items():
        yield from (f"{name}: {sentence}" for sentence in tenant["say"])
        missing = sum(day["missing"] for day in tenant["days"] if is_overdue(day))
        if missing:
            yield f"{name}: {missing:,} calls of days on which every retry has had its time are missing."


def _of_lanes(status: Mapping[str, Any]) -> Iterator[str]:
    for lane in status.get("lanes") or ():
        if lane["lagSeconds"] > LAGGING_SECONDS:
            yield f"Lane {lane['lane']} lags {wait_text(lane['lagSeconds'])} behind."


def _headline(service: Mapping[str, Any]) -> str:
    roles = ", ".join(service.get("roles", ()))
    return f"Version {service.get('version', '?')}, roles {roles or '?'}, {_moment(service.get('now'))}."


def _checks(service: Mapping[str, Any]) -> dict[str, str]:
    return {"live": service.get("live", "ok"), **service.get("checks", {})}


def _tenants(status: Mapping[str, Any]) -> list[Safe]:
    """What is known of each; parts that another process knows are left open."""
    subscriptions, waiting = status.get("subscriptions"), status.get("waiting") or {}
    completeness = status.get("completeness") or {}
    rows = []
    for name, tenant in (status.get("tenants") or {}).items():
        standing, wait = (subscriptions or {}).get(name), waiting.get(name)
        expires = (standing or {}).get("expires")
        kept: Any = _tag("span", "not known here" if subscriptions is None else "not looked at yet", css="dim")
        if standing:
            text = f"until {_moment(expires)}" if expires else "none"
            kept = _tag("span", text, css="bad" if standing["error"] or not expires else "good")
        held = _tag("span", f"{wait['cause']}, {wait_text(wait['seconds'])}", css="bad") if wait else ""
        notice = _moment(completeness[name]["lastNotice"]) if name in completeness else ""
        rows.append((name, tenant["id"], kept, notice, held))
    tables = [_table(("tenant", "id", "subscription", "last notice of Graph's", "waits"), rows)]
    if subscriptions is None:
        tables.append(_tag("p", "Subscriptions are shown by the process that is the active keeper.", css="dim"))
    return tables


def _completeness(status: Mapping[str, Any]) -> list[Safe]:
    tenants = status.get("completeness")
    if tenants is None:
        return [_tag("p", "Shown by the process that is the active keeper, and by callstream completeness.", css="dim")]
    return [part for name, tenant in tenants.items() for part in _tenant_days(name, tenant)]


def _tenant_days(name: str, tenant: Mapping[str, Any]) -> list[Safe]:
    """Calls by the UTC day they started on, newest first, and what is still to be done."""
    names = [COLUMNS.get(one, one) for one in SUMMED]
    rows: list[Sequence[Any]] = []
    for day in tenant["days"]:
        state = "" if day["settled"] else _tag("span", "being worked off", css="dim")
        figures = [_figure(day[one], is_bad=one == "missing" and is_overdue(day)) for one in SUMMED]
        rows.append((day["day"], _right(day["age"]), _right(f"{day['hours_listed']}/24"), *figures, state))
    total = [_figure(tenant["total"][one]) for one in SUMMED]
    rows.append(("all", "", "", *total, share(tenant["total"])))
    table = _table(("day", *map(_right, ("age", "hours", *names)), ""), rows, last="all")
    parts = [_tag("h3", name), table]
    due = tenant["plan"]
    if due["hoursDue"]:
        text = f"{due['hoursDue']} hours are due to be listed, some {wait_text(due['secondsLeft'])} of work."
        parts.append(_tag("p", text))
    for job in tenant["jobs"]:
        state = "done" if job["done"] else "under way"
        parts.append(_tag("p", f"Backfill {_moment(job['from'])} to {_moment(job['to'])}: {state}."))
    return parts


def _lanes(status: Mapping[str, Any]) -> list[Safe]:
    lanes = status.get("lanes")
    if lanes is None:
        return []
    rows = [
        (
            _right(lane["lane"]),
            _figure(lane["ledgerEntries"]),
            _figure(lane["lagSeconds"], is_bad=lane["lagSeconds"] > LAGGING_SECONDS),
            _figure(lane["stalledSeconds"]),
        )
        for lane in lanes
    ]
    titles = tuple(map(_right, ("lane", "calls in the ledger", "lag, s", "without moving, s")))
    return [_tag("h2", "Lanes of this process"), _table(titles, rows) if rows else _tag("p", "None.", css="dim")]


def _verdict(text: str) -> Safe:
    return _tag("span", text, css="good" if text == "ok" else "bad")


def _figure(number: float, *, is_bad: bool = False) -> Safe:
    return _tag("span", f"{number:,}", css="bad n" if is_bad else "n")


def _right(text: object) -> Safe:
    return _tag("span", str(text), css="n")


def _moment(text: str | None) -> str:
    """`2026-11-23 03:40 UTC`, to the minute."""
    return f"{text[:16].replace('T', ' ')} UTC" if text else "none yet"


def _table(titles: Iterable[Any], rows: Iterable[Sequence[Any]], last: str = "") -> Safe:
    head = _tag("tr", *(_cell("th", one) for one in titles))
    lines = [
        _tag("tr", *(_cell("td", one) for one in row), css="all" if last and row[0] == last else "") for row in rows
    ]
    return _tag("div", _tag("table", head, *lines), css="wide")


def _cell(kind: str, content: Any) -> Safe:
    """A number's alignment is the cell's."""
    is_number = isinstance(content, Safe) and content.startswith(('<span class="n"', '<span class="bad n"'))
    return _tag(kind, content, css="n" if is_number else "")


def _tag(kind: str, *content: Any, css: str = "") -> Safe:
    inside = "".join(one if isinstance(one, Safe) else html.escape(str(one)) for one in content)
    return Safe(f"<{kind}{f' class={chr(34)}{css}{chr(34)}' if css else ''}>{inside}</{kind}>")
