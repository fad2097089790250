"""`callstream dead-letter list|show|replay`: what was set aside, why, what to do, and asking for it again."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import typer
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.text import Text

from service.cli.common import moment, quiet_kafka, reach, settings_of, tenant_id_of
from service.cli.table import show_table
from service.clock import Clock, iso
from service.errors import UserError
from service.kafka.topics import Topics
from service.lanes.reasons import REASONS, explained
from service.letters.desk import Desk, Tell
from service.letters.letter import Judged, Left, Letter, Plan, Selection, State, plan
from service.notification import is_guid
from service.settings import Settings

SHOWN = 50
MOST_VALUE_CHARACTERS = 2000
COLUMNS = ("number", "set aside", "tenant", "call", "reason", "attempts", "state")
WORDS: Mapping[State, str] = {
    State.OPEN: "open",
    State.REPLAYED: "queued again",
    State.AGAIN: "set aside again",
    State.PUBLISHED: "published since",
}


def selected(
    settings: Settings,
    *,
    reason: str | None,
    tenant: str | None,
    call: str | None,
    since: str | None,
    until: str | None,
    numbers: Sequence[int] = (),
) -> Selection:
    """What the options ask for. `UserError` for what cannot be."""
    if reason is not None and reason not in REASONS:
        raise UserError(f"There is no reason {reason!r}: choose one of {', '.join(REASONS)}.")
    if call is not None and not is_guid(call):
        raise UserError(f"--call {call!r} is no call id: it must be a GUID.")
    begin, end = moment(since, "--from"), moment(until, "--to")
    if begin is not None and end is not None and begin >= end:
        raise UserError("--from must be before --to.")
    chosen = frozenset(numbers) or None
    return Selection(reason, tenant_id_of(settings, tenant), call.lower() if call else None, begin, end, chosen)


async def list_command(
    settings: Settings, selection: Selection, *, state: str | None, limit: int | None, as_json: bool
) -> int:
    """The newest letters in a table with counts below, or all in one JSON object. 0, also when there are none."""
    if state is not None and state not in [one.value for one in State]:
        raise UserError(f"There is no state {state!r}: choose one of {', '.join(one.value for one in State)}.")
    judged = await _judged(settings, selection)
    judged = [one for one in judged if state is None or one.state.value == state]
    names = _names(settings)
    if as_json:
        shown = judged[-limit:] if limit else judged
        letters = [_document(one, names) for one in reversed(shown)]
        typer.echo(orjson.dumps({"letters": letters, "counts": _counts(judged)}, option=orjson.OPT_INDENT_2))
        return 0
    console = _console()
    if not judged:
        console.print("No dead letters." if selection.is_all and state is None else "No dead letter fits.")
        return 0
    most = SHOWN if limit is None else limit or len(judged)
    show_table(console, COLUMNS, [_row(one, names) for one in judged[-most:]], frozenset({"number", "attempts"}))
    if len(judged) > most:
        console.print(f"The newest {most:,} of {len(judged):,}; --limit 0 shows all.")
    for line in _summary(judged):
        console.print(line)
    return 0


async def show_command(settings: Settings, number: int) -> int:
    """One letter, whole, in words. `UserError` (exit code 1) when there is none of that number."""
    judged = await _judged(settings, Selection(numbers=frozenset([number])))
    if not judged:
        raise UserError(f"There is no dead letter {number}; `callstream dead-letter list` shows those there are.", 1)
    console = _console()
    for line in told(judged[0], _names(settings)):
        console.print(Text(line))
    return 0


async def replay_command(
    settings: Settings, selection: Selection, *, everything: bool, once_more: bool, dry_run: bool, yes: bool
) -> int:
    """Queues the selected letters again. 1 when none of the selected can be, or a person says no."""
    if selection.is_all and not everything:
        raise UserError("Say which: numbers, --reason, --tenant, --call, --from, --to, or --all.")
    if not settings.tenants:
        raise UserError("No tenant is configured: set CALLSTREAM_TENANTS__<NAME>__ID (docs/settings.md).")
    judged = await _judged(settings, selection)
    if not judged:
        raise UserError("No dead letter fits.", exit_code=1)
    tenant_ids = [tenant.id.lower() for tenant in settings.tenants.values()]
    todo = plan(judged, tenant_ids, once_more=once_more)
    console = _console()
    for line in _left_lines(todo):
        console.print(line)
    if not todo.queue:
        console.print("Nothing is left to queue again.")
        return 1 if set(todo.left) <= {Left.NO_CALL, Left.NO_TENANT} else 0
    if dry_run:
        console.print(f"{_letters(len(todo.queue))} would be queued again: {_by_reason(todo.queue)}.")
        return 0
    question = f"Queue {_letters(len(todo.queue))} again ({_by_reason(todo.queue)})?"
    if not yes and sys.stdin.isatty() and not typer.confirm(question):
        return 1
    await _queue(settings, todo.queue)
    console.print(
        f"{_letters(len(todo.queue))} queued again: {_by_reason(todo.queue)}. "
        "`callstream dead-letter list` shows what comes of them."
    )
    return 0


async def _judged(settings: Settings, selection: Selection) -> list[Judged]:
    quiet_kafka()
    await reach(settings.kafka)
    desk = Desk(settings.kafka, Topics.of(settings), Clock())
    try:
        with _progress("Reading the ledger") as tell:
            return await desk.judged(selection, tell)
    except (KafkaError, OSError) as error:
        raise UserError(f"Kafka broke off ({type(error).__name__}); try again.", exit_code=1) from None


async def _queue(settings: Settings, letters: Sequence[Letter]) -> None:
    desk = Desk(settings.kafka, Topics.of(settings), Clock())
    try:
        with _progress("Queueing again", "letters") as tell:
            await desk.queue(letters, tell)
    except (KafkaError, OSError) as error:
        raise UserError(
            f"Kafka broke the replay off ({type(error).__name__}); run it again, and it goes on where it was.",
            exit_code=1,
        ) from None


@contextmanager
def _progress(what: str, lines_of: str = "") -> Iterator[Tell]:
    """A bar on a terminal. Elsewhere a line at each step where `lines_of` names what is counted, else nothing."""
    console = Console(highlight=False, soft_wrap=True, stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task(what, total=None)

        def tell(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)
            if lines_of and not console.is_terminal:
                console.print(f"{what}: {done:,} of {total:,} {lines_of}")

        yield tell


def told(one: Judged, names: Mapping[str, str]) -> list[str]:
    """A letter in words, a fact a line."""
    letter, why = one.letter, explained(one.letter.reason)
    lines = [
        f"Dead letter {letter.number}, set aside {iso(letter.set_aside)}: {_plain(letter.reason) or 'no reason given'}",
        f"  Means     {why.means}",
        f"  Error     {_plain(letter.error) or 'none was given'}",
    ]
    if (note := letter.notification) is None:
        lines.append(f"  Value     {_plain(letter.value.decode('utf-8', 'replace')) or 'empty'}")
        if letter.cut_from > 0:
            lines.append(f"  Cut       The letter holds only the beginning of {letter.cut_from:,} bytes.")
    else:
        lines += [
            f"  Tenant    {_tenant(note.tenant_id, names)}",
            f"  Call      {note.call_id}",
            f"  Version   {letter.version or 'not known'}"
            + (f"; published before: {letter.published}" if letter.published else "; none was published before"),
            f"  Notified  {_plain(note.first_seen_at or note.received_at)}, source {_plain(note.source)}",
            f"  Attempts  {letter.attempts}",
        ]
    return [*lines, f"  State     {_state(one)}", f"  To do     {_todo(one, why.todo)}"]


def _state(one: Judged) -> str:
    match one.state:
        case State.PUBLISHED:
            return "A newer version has been published since."
        case State.AGAIN:
            return f"Set aside again: letter {one.newer} is the newest of this call."
        case State.REPLAYED:
            return f"Queued again {iso(one.replayed_at or 0.0)}; nothing newer has been published yet."
    return "Open: nothing has come of it."


def _todo(one: Judged, todo: str) -> str:
    match one.state:
        case State.PUBLISHED:
            return "Nothing."
        case State.AGAIN:
            return f"Look at letter {one.newer}."
        case State.REPLAYED:
            return "Wait; the service looks at it in its turn. To queue it once more: replay --again."
    return todo + (
        f" `callstream dead-letter replay {one.letter.number}` does that." if one.letter.notification else ""
    )


def _row(one: Judged, names: Mapping[str, str]) -> tuple[str, ...]:
    letter, note = one.letter, one.letter.notification
    who = names.get(note.tenant_id.lower(), note.tenant_id) if note else "-"
    call = note.call_id if note else "-"
    when = iso(letter.set_aside)[:19] + "Z"
    return str(letter.number), when, who, call, _plain(letter.reason), str(letter.attempts), WORDS[one.state]


def _summary(judged: Iterable[Judged]) -> Iterator[str]:
    for reason, states in _counts(judged).items():
        parts = [f"{count:,} {WORDS[State(state)]}" for state, count in states.items()]
        yield f"{_plain(reason) or 'no reason'}: {', '.join(parts)}. {explained(reason).means}"
        if states.get(State.OPEN.value):
            yield f"  To do: {explained(reason).todo}"


def _counts(judged: Iterable[Judged]) -> dict[str, dict[str, int]]:
    """Reason → state → how many."""
    found: dict[str, Counter[str]] = {}
    for one in judged:
        found.setdefault(one.letter.reason, Counter())[one.state.value] += 1
    return {reason: dict(sorted(states.items())) for reason, states in sorted(found.items())}


def _document(one: Judged, names: Mapping[str, str]) -> dict[str, Any]:
    letter, note = one.letter, one.letter.notification
    facts = {
        "number": letter.number,
        "setAsideAt": iso(letter.set_aside),
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "state": one.state.value,
        "tenant": names.get(note.tenant_id.lower()) if note else None,
        "tenantId": note.tenant_id if note else None,
        "callId": note.call_id if note else None,
        "source": note.source if note else None,
        "firstSeenAt": (note.first_seen_at or note.received_at) if note else None,
        "version": letter.version or None,
        "publishedBefore": letter.published or None,
        "replayedAt": iso(one.replayed_at) if one.replayed_at is not None else None,
        "newerLetter": one.newer,
    }
    return {name: value for name, value in facts.items() if value is not None}


def _left_lines(todo: Plan) -> Iterator[str]:
    for why, count in sorted(todo.left.items(), key=lambda pair: pair[0].value):
        yield f"{_letters(count)} left alone: {why.value}."


def _by_reason(letters: Iterable[Letter]) -> str:
    counts = Counter(letter.reason for letter in letters)
    return ", ".join(f"{count:,} {_plain(reason) or 'without a reason'}" for reason, count in sorted(counts.items()))


def _letters(count: int) -> str:
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def _tenant(tenant_id: str, names: Mapping[str, str]) -> str:
    name = names.get(tenant_id.lower())
    return f"{name} ({tenant_id})" if name else f"{tenant_id}, which is not configured here"


def _names(settings: Settings) -> dict[str, str]:
    return {tenant.id.lower(): name for name, tenant in settings.tenants.items()}


def _plain(text: str) -> str:
    """Text from outside, fit for a terminal."""
    return "".join(one if one.isprintable() else "·" for one in text[:MOST_VALUE_CHARACTERS])


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


def options(
    config: Path | None,
    reason: str | None,
    tenant: str | None,
    call: str | None,
    since: str | None,
    until: str | None,
    numbers: Sequence[int] = (),
) -> tuple[Settings, Selection]:
    """What the commands have in common, read and checked."""
    settings = settings_of(config)
    return settings, selected(
        settings, reason=reason, tenant=tenant, call=call, since=since, until=until, numbers=numbers
    )
