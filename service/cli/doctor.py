"""`callstream doctor`: the findings as they come, for a terminal, for a file, or as one JSON document."""

import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service import __version__, logs
from service.cli.common import quiet_kafka
from service.clock import Clock, iso
from service.doctor.case import Case
from service.doctor.finding import Finding, closing_line, document, exit_code
from service.doctor.walk import CHAIN, walk
from service.settings import Log

STYLES = {"ok": "green", "warn": "yellow", "broken": "bold red", "skipped": "dim"}
NAME_WIDTH = max(len(link.name) for link in CHAIN)


async def doctor_command(*, as_json: bool, config: Path | None) -> int:
    """0 when nothing is broken, 1 otherwise. Wrong settings are a finding too."""
    logs.set_up(Log(level="error"))
    quiet_kafka()
    findings = []
    show = Shown(as_json=as_json)
    async with AsyncExitStack() as stack:
        async for finding in walk(Case(config, dict(os.environ), stack, Clock())):
            findings.append(finding)
            show.finding(finding)
    if as_json:
        found = document(findings, iso(time.time()), __version__)
        typer.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        show.end(findings)
    return exit_code(findings)


class Shown:
    """A table that grows, on a terminal; a line for each finding elsewhere; nothing where JSON is wanted."""

    def __init__(self, *, as_json: bool) -> None:
        self._console = Console(highlight=False, quiet=as_json)

    def finding(self, one: Finding) -> None:
        """At once: a chain with something broken takes a while."""
        if not self._console.is_terminal:
            self._console.print(line(one), soft_wrap=True, markup=False)
            return
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=7)
        table.add_column(width=NAME_WIDTH)
        table.add_column(overflow="fold")
        text = Text(f"{one.tenant}: " if one.tenant else "")
        text.append(one.seen)
        if one.todo:
            text.append(f"\n→ {one.todo}", style="default" if one.status == "broken" else "dim")
        style = STYLES[one.status]
        if one.status == "skipped":
            text.stylize(style)
        table.add_row(Text(one.status, style=style), one.link, text)
        self._console.print(table)

    def end(self, findings: list[Finding]) -> None:
        """Where to begin."""
        self._console.print(closing_line(findings), soft_wrap=True, markup=False)


def line(one: Finding) -> str:
    """One finding on one line, columns first."""
    who = f"{one.tenant}: " if one.tenant else ""
    return f"{one.status:7}  {one.link:{NAME_WIDTH}}  {who}{one.seen}" + (f" → {one.todo}" if one.todo else "")
