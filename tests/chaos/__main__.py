"""`make chaos`: one run from the command line. 0 when every promise held, 1 when not, 2 for wrong use."""

import asyncio
import math
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from service.errors import UserError
from tests.chaos.report import Report
from tests.chaos.run import Progress, run
from tests.chaos.world import EXACTLY_ONCE, Size

INTERRUPTED = 130
LONGEST_SECONDS = 86_400.0
MOST_EVENTS = 100_000_000
Delivery = Literal["exactly-once", "at-least-once"]


def chaos(
    events: Annotated[
        int, typer.Option(min=1, max=MOST_EVENTS, help="Stream events that the calls of the run hold, at least.")
    ] = 10_000,
    duration: Annotated[
        float, typer.Option(min=10, max=LONGEST_SECONDS, help="Seconds over which calls come and strikes fall.")
    ] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and duration: the same schedule and calls.")] = 1,
    delivery: Annotated[Delivery, typer.Option(help="What the service promises; repeats are counted.")] = EXACTLY_ONCE,
    report: Annotated[Path | None, typer.Option(help="File for the report: .md or .json.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder that keeps the logs of all processes.")] = None,
) -> None:
    """Three brokers, two receivers, three workers, an emulator: struck at random for a while, then judged."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        check(duration, report, logs)
        code = asyncio.run(_chaos(Size(events, duration, seed, delivery), report, logs, console))
    except UserError as error:
        console.print(str(error), style="red", markup=False)
        code = error.exit_code
    sys.exit(code)


def check(duration: float, report: Path | None, logs: Path | None) -> None:
    """That the run will end and both can be written, before anything runs. Raises `UserError`."""
    if math.isnan(duration):  # click lets it through any range
        raise UserError("--duration must be a number.")
    if logs is not None:
        try:
            logs.mkdir(parents=True, exist_ok=True)
            is_used = any(logs.iterdir())
            tempfile.TemporaryFile(dir=logs).close()
        except OSError as error:
            raise UserError(f"The folder {logs} cannot be used for logs: {error.strerror}.") from None
        if is_used:
            raise UserError(f"The folder {logs} holds another run: name an empty or new one.")
    if report is not None:
        try:
            report.parent.mkdir(parents=True, exist_ok=True)
            was_there = report.exists()
            report.open("ab").close()
            if not was_there:
                report.unlink()
        except OSError as error:
            raise UserError(f"The report {report} cannot be written: {error.strerror}.") from None


async def _chaos(size: Size, report: Path | None, logs: Path | None, console: Console) -> int:
    running = asyncio.ensure_future(_judged(size, logs, console))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        judged = await running
    except asyncio.CancelledError:
        console.print("Interrupted; everything has been ended.")
        return INTERRUPTED
    judged.show(console)
    if report is not None:
        judged.write(report)
    return 0 if judged.is_right else 1


async def _judged(size: Size, logs: Path | None, console: Console) -> Report:
    with tempfile.TemporaryDirectory(prefix="callstream-chaos-") as temporary, Progress(size, console) as progress:
        return await run(size, logs or Path(temporary), progress)


if __name__ == "__main__":
    typer.run(chaos)
