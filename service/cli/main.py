"""The command line: each command's options, and nothing of what it does; that is in the room of the same name.

Rooms are imported when their command runs, so that `callstream decode` starts without Kafka or the emulator.
Exit codes: 0 done, 1 the answer is "no" or "broken", 2 wrong use or wrong input. An error that a person can cause is
one sentence on standard error; a traceback is a bug.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from service import __version__
from service.cli.output import ReaderGone, discard_output, guarded_stdout
from service.emulator.options import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET
from service.errors import UserError

INTERRUPTED = 130

app = typer.Typer(
    name="callstream",
    help="Teams call records from Microsoft Graph to Kafka: one event per media stream, complete and exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

NIL_TENANT = "00000000-0000-0000-0000-000000000000"
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="Settings file (default: CALLSTREAM_CONFIG, else ./callstream.toml).")
]


def run(arguments: Sequence[str]) -> int:
    """Runs one command and gives its exit code."""
    try:
        with guarded_stdout():
            return _code(arguments)
    except UserError as error:
        typer.echo(f"callstream: {error}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except ReaderGone:
        discard_output()
    return 0


def _code(arguments: Sequence[str]) -> int:
    try:
        app(list(arguments), prog_name="callstream")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _wait(work: Coroutine[Any, Any, Any]) -> None:
    """Runs a command to its end and leaves with its exit code."""
    result = asyncio.run(work)
    raise typer.Exit(result if isinstance(result, int) else 0)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"callstream {__version__}")
        raise typer.Exit


@app.callback()
def _all(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


@app.command()
def demo(
    calls: Annotated[int, typer.Option(min=1, max=20_000, help="How many calls Graph reports.")] = 240,
    seed: Annotated[int, typer.Option(help="The same seed gives the same calls.")] = 1,
    keep: Annotated[bool, typer.Option("--keep", help="Stay up after the verdict, with new calls arriving.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict alone, as one JSON object.")] = False,
) -> None:
    """Embedded Kafka, an emulated Graph and the service in one go; ends with a verdict: lost, duplicated, wrong."""
    from service.demo import demo_command

    _wait(demo_command(calls=calls, seed=seed, keep=keep, as_json=as_json))


@app.command()
def serve(
    role: Annotated[str, typer.Option(help="Comma-separated: receive, work, keep.")] = "receive,work,keep",
    config: ConfigFile = None,
) -> None:
    """The service. Runs until SIGTERM or Ctrl-C, then drains."""
    from service.cli.serve import serve_command

    _wait(serve_command(role, config))


@app.command()
def kafka(
    brokers: Annotated[int, typer.Option(help="1 or 3.")] = 1,
    port: Annotated[int | None, typer.Option(help="First port (default 9092).")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for the data (default: a temporary one).")] = None,
) -> None:
    """Apache Kafka for development: no Docker, no installed Java."""
    from service.cli.kafka import kafka_command

    _wait(kafka_command(brokers, port, data))


@app.command()
def decode(
    file: Annotated[str, typer.Argument(help="A call record as Graph sends it; - for standard input.")],
    tenant: Annotated[str, typer.Option(help="Tenant id, a GUID.")] = NIL_TENANT,
    summary: Annotated[bool, typer.Option("--summary", help="The call summary instead of the events.")] = False,
) -> None:
    """A call record → its stream events, one JSON a line; what was odd goes to standard error."""
    from service.cli.decode import decode_command

    raise typer.Exit(decode_command(file, tenant, summary))


@app.command()
def topics(
    check: Annotated[bool, typer.Option("--check", help="Create nothing; exit 1 when something differs.")] = False,
    acls: Annotated[
        str | None,
        typer.Option(help="A principal such as User:callstream: only print what kafka-acls.sh is to be told."),
    ] = None,
    role: Annotated[str, typer.Option(help="With --acls: receive, work, keep, dead-letter.")] = "receive,work,keep",
    config: ConfigFile = None,
) -> None:
    """Creates the missing topics and says what differs from what the service needs."""
    from service.cli.topics import acls_command, topics_command

    if acls is not None:
        raise typer.Exit(acls_command(acls, role, config))
    _wait(topics_command(check, config))


@app.command()
def tail(
    kind: Annotated[str, typer.Argument(help="audio, video, screen-sharing, other, calls, or all.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Each event as it is, one JSON a line.")] = False,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="All that is still kept, then what follows.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="Stop after so many (0: never).")] = 0,
    config: ConfigFile = None,
) -> None:
    """Follows published events (read_committed) in a readable table."""
    from service.cli.tail import tail_command

    _wait(tail_command(kind, as_json=as_json, from_beginning=from_beginning, limit=limit, config=config))


letters = typer.Typer(no_args_is_help=True, help="What could not be published: list it, explain it, ask for it again.")
app.add_typer(letters, name="dead-letter")
ByReason = Annotated[str | None, typer.Option("--reason", help="Only this reason, as the list shows it.")]
ByTenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant: its configured name, or its id.")]
ByCall = Annotated[str | None, typer.Option("--call", help="Only this call id.")]
BySince = Annotated[str | None, typer.Option("--from", help="Only what was set aside from then on, UTC.")]
ByUntil = Annotated[str | None, typer.Option("--to", help="Only what was set aside before then, UTC.")]


@letters.command("list")
def list_letters(
    reason: ByReason = None,
    tenant: ByTenant = None,
    call: ByCall = None,
    since: BySince = None,
    until: ByUntil = None,
    state: Annotated[str | None, typer.Option(help="Only these: open, replayed, again, published.")] = None,
    limit: Annotated[int | None, typer.Option(min=0, help="The newest so many; 0 for all (default: 50).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object; all of them.")] = False,
    config: ConfigFile = None,
) -> None:
    """What was set aside, newest last, and what has become of it; counts and what to do by reason."""
    from service.cli.dead_letter import list_command, options

    settings, selection = options(config, reason, tenant, call, since, until)
    _wait(list_command(settings, selection, state=state, limit=limit, as_json=as_json))


@letters.command("show")
def show_letter(
    number: Annotated[int, typer.Argument(min=0, help="The letter's number, as the list shows it.")],
    config: ConfigFile = None,
) -> None:
    """One dead letter in words: what happened, what has become of it, what to do."""
    from service.cli.common import settings_of
    from service.cli.dead_letter import show_command

    _wait(show_command(settings_of(config), number))


@letters.command("replay")
def replay_letters(
    numbers: Annotated[list[int] | None, typer.Argument(min=0, help="Numbers, as the list shows them.")] = None,
    reason: ByReason = None,
    tenant: ByTenant = None,
    call: ByCall = None,
    since: BySince = None,
    until: ByUntil = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    once_more: Annotated[bool, typer.Option("--again", help="Also those that were queued again before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")] = False,
    config: ConfigFile = None,
) -> None:
    """Queues dead letters again; the running service looks at each in its turn. Harmless when repeated."""
    from service.cli.dead_letter import options, replay_command

    settings, selection = options(config, reason, tenant, call, since, until, numbers or ())
    _wait(replay_command(settings, selection, everything=everything, once_more=once_more, dry_run=dry_run, yes=yes))


@app.command()
def replay(
    prefix: Annotated[str, typer.Option(help="Prefix of the topics to write; they are created.")],
    from_raw: Annotated[bool, typer.Option("--from-raw", help="From the archive (setting raw.enabled).")] = False,
    since: Annotated[
        str | None, typer.Option("--from", help="Only what was fetched from Graph from then on, UTC.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Only what was fetched from Graph before then, UTC.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant: its configured name, or its id.")] = None,
    config: ConfigFile = None,
) -> None:
    """Shapes archived records again into another set of topics; harmless when repeated, goes on after a kill."""
    from service.cli.replay import replay_command

    _wait(replay_command(from_raw=from_raw, prefix=prefix, since=since, until=until, tenant=tenant, config=config))


@app.command()
def completeness(
    tenant: Annotated[str | None, typer.Option(help="One tenant, by its configured name (default: all).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, as one JSON object.")] = False,
    config: ConfigFile = None,
) -> None:
    """Per tenant and day: what Graph lists, published, missing, healed, late. Exit 1 when something is amiss."""
    from service.cli.completeness import completeness_command

    _wait(completeness_command(tenant, as_json, config))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines.")] = False,
    config: ConfigFile = None,
) -> None:
    """Looks at every link from Graph to Kafka, in order: what is broken, and what to do. Changes nothing."""
    from service.cli.doctor import doctor_command

    _wait(doctor_command(as_json=as_json, config=config))


@app.command()
def backfill(
    begin: Annotated[str, typer.Option("--from", help="UTC date or date-time of the calls' start.")],
    end: Annotated[str | None, typer.Option("--to", help="Up to this moment (default: now).")] = None,
    tenant: Annotated[str | None, typer.Option(help="One tenant, by its configured name (default: all).")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Ask for it and do not wait.")] = False,
    config: ConfigFile = None,
) -> None:
    """Has the running service list a time range again and publish what is missing. Ending this command ends nothing."""
    from service.cli.backfill import backfill_command

    _wait(backfill_command(begin, end, tenant, detach=detach, config=config))


@app.command()
def emulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8090,
    seed: Annotated[int, typer.Option(help="The same seed gives the same calls.")] = 1,
    calls: Annotated[int, typer.Option(min=0, help="Calls that are there from the start.")] = 20,
    rate: Annotated[float, typer.Option(min=0, help="New calls a second.")] = 0.0,
    tenant_id: Annotated[list[str] | None, typer.Option(help="Tenant id; may be repeated.")] = None,
    tenant_name: Annotated[list[str] | None, typer.Option(help="Name for each tenant id.")] = None,
    client_id: Annotated[str, typer.Option(help="The registered application's id.")] = DEMO_CLIENT_ID,
    client_secret: Annotated[str, typer.Option(help="Its secret.")] = DEMO_CLIENT_SECRET,
    speed: Annotated[float, typer.Option(min=0.001, help="How fast the emulator's clock runs.")] = 1.0,
    open_reads: Annotated[bool, typer.Option("--open", help="Answer reads without a token.")] = False,
    metadata_links: Annotated[
        bool, typer.Option("--metadata-links", help="nextLinks in the $metadata# form of Graph's documentation.")
    ] = False,
    token_seconds: Annotated[float, typer.Option(min=0.001, help="Lifetime of access tokens.")] = 3600.0,
    limits: Annotated[bool, typer.Option(help="Answer 429 above Graph's limits, or only count.")] = True,
    announce_existing: Annotated[
        bool, typer.Option(help="Tell a new subscription of the calls that are there already.")
    ] = True,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS, with a certificate authority of its own.")] = False,
    tls_folder: Annotated[Path | None, typer.Option(help="Where its files go (means --tls).")] = None,
    tls_name: Annotated[list[str] | None, typer.Option(help="A host name that clients use; may be repeated.")] = None,
    faults: Annotated[Path | None, typer.Option(help="File of scripted faults, JSON or TOML.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="File that keeps calls, subscriptions and what is undelivered, kill -9 or not.")
    ] = None,
    event_hub: Annotated[
        list[str] | None, typer.Option(help="NAMESPACE/HUB=HOST:PORT: a hub, and the Kafka that stands in for it.")
    ] = None,
) -> None:
    """A Graph that anyone can run: call records, subscriptions, notifications, throttling."""
    from service.cli.emulate import emulate_command

    _wait(
        emulate_command(
            host=host,
            port=port,
            seed=seed,
            calls=calls,
            rate=rate,
            tenant_id=tenant_id,
            tenant_name=tenant_name,
            client_id=client_id,
            client_secret=client_secret,
            speed=speed,
            open_reads=open_reads,
            metadata_links=metadata_links,
            token_seconds=token_seconds,
            limits=limits,
            announce_existing=announce_existing,
            tls=tls,
            tls_folder=tls_folder,
            tls_name=tls_name,
            faults=faults,
            state=state,
            event_hub=event_hub,
        )
    )
