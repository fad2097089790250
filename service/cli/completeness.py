"""`callstream completeness`: what Graph lists and what became of it, per tenant and day, from the keeper's memory."""

import time
from pathlib import Path
from typing import Any

import orjson
import typer
from rich.console import Console

from service.cli.common import quiet_kafka, settings_of
from service.cli.state import chosen_tenants, read_memory
from service.cli.table import show_table
from service.kafka.topics import Topics
from service.reconcile.hours import TenantHours
from service.reconcile.plan import Budget, plan
from service.reconcile.status import is_overdue, share, tenant_status, wait_text
from service.settings import Settings

FIGURES = ("listed", "published", "set_aside", "missing", "healed", "late")
COLUMNS = ("day", "age", "hours", *(one.replace("_", " ") for one in FIGURES), "")


async def completeness_command(tenant: str | None, as_json: bool, config: Path | None) -> int:
    """Prints a table for each tenant; 1 when an old day misses something, or a person should know something."""
    settings = settings_of(config)
    chosen = chosen_tenants(settings, tenant)
    quiet_kafka()
    memory = await read_memory(settings.kafka, Topics.of(settings))
    now = time.time()
    found = {}
    for name, one in chosen.items():
        hours = memory.tenants.get(one.id.lower()) or TenantHours(one.id.lower())
        found[name] = tenant_status(hours, _plan(settings, hours, now), now)
    if as_json:
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        for name, status in found.items():
            _print(name, status)
    return 1 if any(status["say"] or any(is_overdue(day) for day in status["days"]) for status in found.values()) else 0


def _plan(settings: Settings, hours: TenantHours, now: float) -> Any:
    return plan(hours, Budget(settings.graph.list_requests_per_20s), now, settings.keeper.reconcile_days)


def _print(name: str, status: dict[str, Any]) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"{name}: calls by the UTC day they started on", style="italic")
    rows = []
    for day in status["days"]:
        state = "" if day["settled"] else "being worked off"
        figures = (f"{day[one]:,}" for one in FIGURES)
        rows.append((day["day"], str(day["age"]), f"{day['hours_listed']}/24", *figures, state))
    rows.append(("all", "", "", *(f"{status['total'][one]:,}" for one in FIGURES), share(status["total"])))
    show_table(console, COLUMNS, rows, frozenset(COLUMNS[1:-1]))
    due = status["plan"]
    if due["hoursDue"]:
        console.print(f"{due['hoursDue']} hours are due to be listed, some {wait_text(due['secondsLeft'])} of work.")
    console.print(f"Last notice of Graph's: {status['lastNotice'] or 'none seen yet'}.")
    for sentence in status["say"]:
        console.print(sentence, style="bold red")
