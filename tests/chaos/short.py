"""A run as the suite makes it: short, and with its logs kept when it has failed."""

import shutil
from pathlib import Path

from rich.console import Console

from tests.chaos.children import ROOT
from tests.chaos.report import Report
from tests.chaos.run import Progress, run
from tests.chaos.world import Size


async def short_run(size: Size, folder: Path) -> Report:
    """Its report. What the processes logged is in `folder`, and after a fault in `build/chaos-failed` as well: pytest
    keeps the folders of its last three runs only."""
    with Progress(size, Console(highlight=False, width=120)) as progress:
        report = await run(size, folder, progress)
    if not report.is_right:
        kept = ROOT / "build" / "chaos-failed" / f"{size.delivery}-{size.seed}"
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder, kept)
    return report
