"""`callstream replay --from-raw`: archived records shaped again into the topics of another prefix."""

import datetime as dt
import logging
import re
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from service.cli.common import answering, quiet_kafka, settings_of
from service.errors import UserError
from service.replay import Selection, Tally, Tell, check_prefix, replay
from service.settings import GUID, Settings
from service.stream.connect import client_options, close

# What Kafka allows in names, as for `kafka.topic_prefix`.
PREFIX_FORM = re.compile(r"[A-Za-z0-9._-]{1,100}")


async def replay_command(
    *, from_raw: bool, prefix: str, since: str | None, until: str | None, tenant: str | None, config: Path | None
) -> int:
    """Shows progress and what was done; the exit code: 1 where a version could not be shaped again."""
    if not from_raw:
        raise UserError("Say --from-raw: the archive is what can be shaped again.")
    if not PREFIX_FORM.fullmatch(prefix):
        raise UserError("--prefix takes 1 to 100 letters, digits, dots, dashes and underscores.")
    settings = settings_of(config)
    check_prefix(settings, prefix)
    selection = Selection(_moment(since, "--from"), _moment(until, "--to"), _tenant_id(settings, tenant))
    if selection.since is not None and selection.until is not None and selection.since >= selection.until:
        raise UserError("--from must be before --to.")
    quiet_kafka()
    logging.getLogger("asyncio").addFilter(_is_not_kafka_s)
    await _reach(settings)
    console = Console(highlight=False, soft_wrap=True, stderr=True)
    tally = await _run(settings, prefix, selection, console)
    if not tally.found - tally.passed_over:
        raise UserError("Nothing in the archive fits --from, --to and --tenant.", exit_code=1)
    Console(highlight=False, soft_wrap=True).print(summary(tally, prefix))
    return 1 if tally.unreadable or tally.dead else 0


def _is_not_kafka_s(record: logging.LogRecord) -> bool:
    """A batch that Kafka refused leaves a future in aiokafka that nobody awaits; the sentence says it already."""
    return not (record.exc_info and isinstance(record.exc_info[1], KafkaError))


async def _reach(settings: Settings) -> None:
    """One sentence where Kafka is away, before anything is begun."""
    admin = AIOKafkaAdminClient(**client_options(settings.kafka))
    try:
        async with answering(settings.kafka):
            await admin.start()
    finally:
        await close(admin.close())


async def _run(settings: Settings, prefix: str, selection: Selection, console: Console) -> Tally:
    try:
        if not console.is_terminal:
            return await replay(settings, prefix, selection, lines(console))
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("Shaping again", total=None)

            def tell(tally: Tally) -> None:
                text = f"{tally.published:,} versions, {tally.events:,} events"
                progress.update(task, total=tally.total, completed=tally.done, description=text)

            return await replay(settings, prefix, selection, tell)
    except (KafkaError, OSError) as error:
        raise UserError(
            f"Kafka broke the replay off ({type(error).__name__}); run it again, and it goes on where it was.",
            exit_code=1,
        ) from None


def lines(console: Console) -> Tell:
    """One line for each lane that is done."""
    told = 0

    def tell(tally: Tally) -> None:
        nonlocal told
        if tally.lanes_done > told:
            told = tally.lanes_done
            done = f"{tally.published:,} versions published, {tally.events:,} events, {tally.known:,} there already"
            console.print(f"lane {told} of {tally.lanes}: {done}")

    return tell


def summary(tally: Tally, prefix: str) -> str:
    """What was done, in words."""
    parts = [
        f"{tally.published:,} versions with {tally.events:,} events are published under {prefix}",
        f"{tally.known:,} were there already",
    ]
    if tally.passed_over:
        parts.append(f"{tally.passed_over:,} were not asked for")
    if tally.dead:
        parts.append(f"{tally.dead:,} do not fit into Kafka and are in {prefix}.dead-letter")
    if tally.unreadable:
        parts.append(f"{tally.unreadable:,} could not be read, or had lost parts to the archive's retention")
    return "; ".join(parts) + "."


def _moment(text: str | None, option: str) -> float | None:
    """A date or a date-time, UTC where it names no offset, as Unix seconds."""
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"{option} takes a date such as 2026-11-01, or a date-time such as 2026-11-01T12:00Z."
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _tenant_id(settings: Settings, tenant: str | None) -> str | None:
    """An id as it is, a configured name by its id."""
    if tenant is None:
        return None
    if tenant in settings.tenants:
        return settings.tenants[tenant].id.lower()
    if GUID.fullmatch(tenant):
        return tenant.lower()
    known = ", ".join(sorted(settings.tenants)) or "none"
    raise UserError(f"There is no tenant {tenant!r}: give its id, or one of the configured names ({known}).")
