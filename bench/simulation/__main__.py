"""`python -m bench.simulation`: a month, on an embedded Kafka. Exit code 1 when anything is not as promised."""

import asyncio
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from bench.simulation.outcome import Outcome
from bench.simulation.report import show
from bench.simulation.run import simulate
from bench.simulation.script import Script
from service import logs
from service.embedded import embedded_kafka
from service.settings import Log

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
MONTH = Script()


@app.command()
def simulation(
    days: Annotated[float, typer.Option(min=1, help="Days in which calls are made.")] = MONTH.days,
    tenants: Annotated[int, typer.Option(min=1, help="Tenants.")] = MONTH.tenants,
    calls_per_day: Annotated[int, typer.Option(min=1, help="Calls of each tenant.")] = MONTH.calls_per_day,
    speed: Annotated[float, typer.Option(min=1, help="How many times as fast as real time.")] = MONTH.speed,
    plot: Annotated[Path | None, typer.Option(help="Draws the picture into this file (.svg or .png).")] = None,
    write: Annotated[Path | None, typer.Option("--json", help="Writes everything into this file.")] = None,
    read: Annotated[Path | None, typer.Option("--from", help="Shows a run that was written, instead of one.")] = None,
) -> None:
    """Days simulated: everything that Graph lists must be published once, within Graph's limits."""
    logs.set_up(Log(level="warning"), sys.stderr)
    outcome = (
        msgspec.json.decode(read.read_bytes(), type=Outcome)
        if read
        else asyncio.run(_run(shortened(Script(), days, tenants, calls_per_day, speed)))
    )
    if write:
        write.write_bytes(msgspec.json.format(msgspec.json.encode(asdict(outcome)), indent=1) + b"\n")
    if plot:
        from bench.simulation.plot import draw  # matplotlib, of the extra `bench`

        draw(outcome, plot)
    console = Console()
    show(outcome, console if console.is_terminal else Console(width=120))
    raise typer.Exit(1 if outcome.faults() else 0)


def shortened(script: Script, days: float, tenants: int, calls_per_day: int, speed: float) -> Script:
    """The month's script, without what would happen after its end."""
    return replace(
        script,
        days=days,
        tenants=tenants,
        calls_per_day=calls_per_day,
        speed=speed,
        silent=tuple(span for span in script.silent if span[1] <= days),
        down=tuple(span for span in script.down if span[1] <= days),
        secrets=tuple(day for day in script.secrets if day < days),
        late_secret=script.late_secret if (script.late_secret or days) < days else None,
        keys=tuple(day for day in script.keys if day + script.key_kept_days < days),
    )


async def _run(script: Script) -> Outcome:
    async with embedded_kafka() as cluster:
        return await simulate(cluster.bootstrap_servers, "simulation", script)


if __name__ == "__main__":
    sys.exit(app())
