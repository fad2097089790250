"""`make chaos`: one run from the command line. 0 when every promise held, 1 when not, 2 for wrong use."""

import asyncio
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
Delivery = Literal["exactly-once", "at-least-once"]


def chaos(
    events: Annotated[
        int, typer.Option(min=1, help="Stream events that the calls of the run hold, at least.")
    ] = 10_000,
    duration: Annotated[float, typer.Option(min=10, help="Seconds over which calls come and strikes fall.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed and duration: the same schedule and calls.")] = 1,
    delivery: Annotated[Delivery, typer.Option(help="What the service promises; repeats are counted.")] = EXACTLY_ONCE,
    report: Annotated[Path | None, typer.Option(help="File for the report: .md or .json.")] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder that keeps the logs of all processes.")] = None,
) -> None:
    """Three brokers, two receivers, three workers, an emulator: struck at random for a while, then judged."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        code = asyncio.run(_chaos(Size(events, duration, seed, delivery), report, logs, console))
    except UserError as error:
        console.print(str(error), style="red", markup=False)
        code = error.exit_code
    sys.exit(code)


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
        folder = logs or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"The folder {folder} holds another run: name an empty or new one.")
        return await run(size, folder, progress)


if __name__ == "__main__":
    typer.run(chaos)
