"""`callstream replay --from-raw`: archived records shaped again into the topics of another prefix."""

import re
from pathlib import Path

from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from service.cli.common import moment, quiet_kafka, reach, settings_of, tenant_id_of
from service.errors import UserError
from service.replay import Selection, Tally, Tell, check_prefix, replay
from service.settings import Settings

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
    selection = Selection(moment(since, "--from"), moment(until, "--to"), tenant_id_of(settings, tenant))
    if selection.since is not None and selection.until is not None and selection.since >= selection.until:
        raise UserError("--from must be before --to.")
    quiet_kafka()
    await reach(settings.kafka)
    console = Console(highlight=False, soft_wrap=True, stderr=True)
    tally = await _run(settings, prefix, selection, console)
    if not tally.found - tally.passed_over:
        raise UserError("Nothing in the archive fits --from, --to and --tenant.", exit_code=1)
    Console(highlight=False, soft_wrap=True).print(summary(tally, prefix))
    return 1 if tally.unreadable or tally.dead else 0


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
