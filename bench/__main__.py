"""`make bench`, or `python -m bench`: everything, on an embedded Kafka."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from bench.compare import Tell, compare
from bench.report import Report, machine, show
from bench.whole import Way, whole_way
from service.embedded import embedded_kafka
from service.errors import UserError

FULL_RECORDS, FULL_ROUNDS = 240, 5
QUICK_RECORDS, QUICK_ROUNDS = 24, 1
# Large enough to flow for some seconds.
WHOLE_RECORDS = {"M": 400, "L": 60}
PLAIN_WIDTH = 120  # columns, where no terminal says how many there are

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    records: Annotated[int | None, typer.Option(min=1, help=f"Records a round (default {FULL_RECORDS}).")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help=f"Measured rounds (default {FULL_ROUNDS}).")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes: that it works, no figures.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output instead of tables.")
    ] = False,
) -> None:
    """What an event costs: the service against two naive pipelines, and the whole way through `serve`."""
    records = records or (QUICK_RECORDS if quick else FULL_RECORDS)
    rounds = rounds or (QUICK_ROUNDS if quick else FULL_ROUNDS)
    progress = Console(stderr=True)

    def tell(line: str) -> None:
        progress.print(line, style="dim", highlight=False)

    try:
        report = asyncio.run(_run(records, rounds, {} if quick else WHOLE_RECORDS, tell))
    except (UserError, RuntimeError, TimeoutError) as error:
        progress.print(f"bench: {str(error) or type(error).__name__}", style="red", highlight=False)
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(report)).decode() + "\n")
    else:
        console = Console()
        show(report, console if console.is_terminal else Console(width=PLAIN_WIDTH))


async def _run(records: int, rounds: int, whole: dict[str, int], tell: Tell) -> Report:
    with tempfile.TemporaryDirectory(prefix="callstream-bench-") as name:
        folder = Path(name)
        async with embedded_kafka(on_progress=tell) as cluster:
            servers = cluster.bootstrap_servers
            comparison = await compare(servers, folder, records=records, rounds=rounds, tell=tell)
            ways: list[Way] = [await whole_way(servers, folder, size, count, tell) for size, count in whole.items()]
    return Report(machine(), comparison, ways)


if __name__ == "__main__":
    app()
