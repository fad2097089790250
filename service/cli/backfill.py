"""`callstream backfill`: asks the keeper to list a time range again, and shows how far it is.

The request travels through Kafka; the keeper works on it, since only one place may spend the list budget. So it goes on
when this command ends, outlives a restart of the keeper, and asking for the same range again only looks at it again.
"""

import asyncio
import datetime as dt
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import msgspec
import typer
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from service.cli.common import answering, quiet_kafka, settings_of
from service.cli.state import chosen_tenants, read_memory
from service.errors import UserError
from service.kafka.connect import client_options, close_producer
from service.kafka.topics import Topics
from service.lanes.inbox import JobRequest
from service.reconcile.hours import HOUR_SECONDS, Job, JobProgress, TenantHours, hour_number
from service.settings import Kafka, Settings

LOOK_SECONDS = 1.0
LINE_SECONDS = 10.0
# So long nobody answers, then there is no keeper; and so long nothing moves, then something is wrong.
ANSWER_SECONDS = 60.0
STILL_SECONDS = 900.0
KEPT_DAYS = 30


@dataclass(frozen=True)
class Asked:
    """One tenant's job as it was asked for."""

    name: str
    request: JobRequest


async def backfill_command(
    begin: str, end: str | None, tenant: str | None, *, detach: bool, config: Path | None
) -> int:
    """0 when every listed record of the range is published or set aside, 1 when it is not; `UserError`."""
    settings = settings_of(config)
    first, last = read_range(begin, end, time.time())
    asked = [
        Asked(
            name, JobRequest(id=job_id(one.id, first, last), tenant_id=one.id.lower(), first_hour=first, end_hour=last)
        )
        for name, one in chosen_tenants(settings, tenant).items()
    ]
    quiet_kafka()
    topics = Topics.of(settings)
    memory = await read_memory(settings.kafka, topics)
    # One that was done before is begun anew; one under way goes on.
    before = {one.name: job.asked for one in asked if (job := _done_before(memory.tenants, one))}
    await _ask(settings.kafka, topics, asked)
    if detach:
        typer.echo("Asked for; the same command without --detach shows how far it is.")
        return 0
    return await _follow(settings, topics, asked, before)


def read_range(begin: str, end: str | None, now: float) -> tuple[int, int]:
    """Whole hours [first, last) that hold the range. `UserError` with one sentence for what is no range."""
    start = _moment("--from", begin)
    stop = now if end is None else _moment("--to", end)
    if start >= stop:
        raise UserError("--from must lie before --to.")
    if start >= now:
        raise UserError("--from lies in the future.")
    if stop <= now - KEPT_DAYS * 86400:
        raise UserError(f"The range ended more than {KEPT_DAYS} days ago: Graph has forgotten it.")
    first = max(hour_number(start), hour_number(now) - KEPT_DAYS * 24)
    return first, ceil(min(stop, now + HOUR_SECONDS) / HOUR_SECONDS)


def _moment(option: str, text: str) -> float:
    """A date (its first instant, UTC) or a date-time (UTC where it says no offset) as Unix seconds."""
    try:
        moment = dt.datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UserError(f"{option} {text!r} is no date such as 2026-11-22 or 2026-11-22T10:00Z.") from None


def job_id(tenant_id: str, first: int, last: int) -> str:
    """The same for the same tenant and range, so that asking twice is one job."""
    return hashlib.blake2b(f"{tenant_id.lower()}/{first}/{last}".encode(), digest_size=8).hexdigest()


async def _ask(kafka: Kafka, topics: Topics, asked: list[Asked]) -> None:
    async with answering(kafka), _producer(kafka) as producer:
        for one in asked:
            await producer.send_and_wait(topics.inbox, msgspec.json.encode(one.request), partition=0)


@asynccontextmanager
async def _producer(kafka: Kafka) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(**client_options(kafka), acks="all")
    try:
        await producer.start()
        yield producer
    finally:
        await close_producer(producer)


async def _follow(settings: Settings, topics: Topics, asked: list[Asked], before: Mapping[str, int]) -> int:
    """Shows the jobs until all are done. `UserError` when no keeper takes them up, or when they stand still."""
    loop = asyncio.get_running_loop()
    moved, seen = loop.time(), None
    with shown(asked) as bars:
        while True:
            memory = await read_memory(settings.kafka, topics)
            jobs = {one.name: found_job(memory.tenants, one, before) for one in asked}
            steps = {name: tenant.progress(job, time.time()) for name, (tenant, job) in jobs.items() if job and tenant}
            bars.show(steps)
            if len(steps) == len(asked) and all(step.is_done for step in steps.values()):
                return bars.end(steps)
            if steps != seen:
                moved, seen = loop.time(), steps
            still = loop.time() - moved
            if not steps and still > ANSWER_SECONDS:
                raise UserError(
                    "No keeper has taken it up: see `callstream doctor`, its link keeper.",
                    1,
                )
            if still > STILL_SECONDS:
                raise UserError(
                    "Nothing has moved for a quarter of an hour: `callstream doctor` looks for what stands in the way.",
                    1,
                )
            await asyncio.sleep(LOOK_SECONDS)


def found_job(
    tenants: Mapping[str, TenantHours], one: Asked, before: Mapping[str, int]
) -> tuple[TenantHours | None, Job | None]:
    """The job in the keeper's memory, once the keeper has seen what was asked. `before`: when done ones were asked."""
    tenant = tenants.get(one.request.tenant_id)
    job = tenant.jobs.get(one.request.id) if tenant else None
    return (None, None) if job is None or job.asked == before.get(one.name) else (tenant, job)


def _done_before(tenants: Mapping[str, TenantHours], one: Asked) -> Job | None:
    tenant, job = found_job(tenants, one, {})
    return job if tenant and job and tenant.progress(job, time.time()).is_done else None


class shown:  # noqa: N801 - reads as what it does
    """Bars on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, asked: list[Asked]) -> None:
        self._console = Console(highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
        )
        self._bars = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._tasks = {one.name: self._bars.add_task(one.name, total=1.0, said="waits for the keeper") for one in asked}
        self._line_at = 0.0

    def __enter__(self) -> "shown":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, steps: Mapping[str, JobProgress]) -> None:
        """How far each tenant is."""
        for name, step in steps.items():
            self._bars.update(self._tasks[name], completed=fraction(step), said=step_text(step))
        if not self._console.is_terminal and time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_SECONDS
            for name in self._tasks:
                said = step_text(steps[name]) if name in steps else "waits for the keeper"
                self._console.print(f"{name}: {said}", soft_wrap=True)

    def end(self, steps: Mapping[str, JobProgress]) -> int:
        """The result in words; the exit code."""
        self._bars.stop()
        for name, step in steps.items():
            self._console.print(
                f"{name}: {step.listed:,} listed, {step.healed:,} of them published by this, "
                f"{step.set_aside:,} set aside, {step.missing:,} missing.",
                soft_wrap=True,
            )
        return 1 if any(step.missing for step in steps.values()) else 0


def fraction(step: JobProgress) -> float:
    """Listing is the first half, publishing the second."""
    listed = step.hours_listed / step.hours if step.hours else 1.0
    settled = step.settled / step.listed if step.listed else 1.0
    return listed * (1 + settled) / 2


def step_text(step: JobProgress) -> str:
    """One line on one tenant."""
    return f"{step.hours_listed}/{step.hours} hours listed, {step.settled:,}/{step.listed:,} records done"
