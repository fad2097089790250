"""The outcome as tables for a terminal."""

from rich.console import Console
from rich.table import Table

from bench.simulation.outcome import STATES, Outcome


def show(outcome: Outcome, console: Console) -> None:
    """Days, sums, limits, then what is not as promised."""
    days = Table(title="Calls of all tenants, by the day on which they started", title_justify="left")
    days.add_column("day")
    for state in STATES:
        days.add_column(state.replace("_", " "), justify="right")
    for number, day in enumerate(outcome.days, 1):
        days.add_row(str(number), *(f"{day[state]:,}" for state in STATES))
    for name, total in outcome.tenants.items():
        days.add_row(name, *(f"{total[state]:,}" for state in STATES))
    console.print(days)
    console.print(_limits(outcome))
    verdict = outcome.verdict
    for line in (
        f"{verdict['calls']:,} calls, {verdict['versions']:,} versions, {verdict['events']:,} stream events: "
        f"{verdict['lost']} lost, {verdict['duplicated']} duplicated, {verdict['wrong']} wrong, {verdict['dead']} dead",
        f"notices: {outcome.notices}",
        f"subscriptions: {outcome.subscriptions}, renewed {outcome.renewals} times; days without one: {outcome.gaps}",
        f"counters: {outcome.counts}",
    ):
        console.print(line, highlight=False)
    for fault in outcome.faults():
        console.print(f"NOT AS PROMISED: {fault}", style="red", highlight=False)


def _limits(outcome: Outcome) -> Table:
    window = next(iter(outcome.limits.values()))["windowSeconds"]
    table = Table(title=f"Requests in any {window:g} s of the clock", title_justify="left")
    for name in ("limit", "allowed", "most", "429", "requests"):
        table.add_column(name, justify="left" if name == "limit" else "right")
    for name, one in outcome.limits.items():
        table.add_row(name, *(f"{one[key]:,}" for key in ("limit", "highest", "throttled", "requests")))
    return table
