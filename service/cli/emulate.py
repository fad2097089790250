"""`callstream emulate`: a Graph that anyone can run, for as long as it is wanted."""

import asyncio
import shlex
import signal
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from service.clock import Clock, iso
from service.emulator.fault_file import read_faults
from service.emulator.fault_wishes import MOST_SECONDS
from service.emulator.odata import GUID
from service.emulator.options import (
    ADMINISTRATOR_ID,
    ADMINISTRATOR_SECRET,
    DEMO_CLIENT_ID,
    DEMO_CLIENT_SECRET,
    DEMO_TENANT_ID,
    DeliveryOptions,
    EmulatorOptions,
    HubOptions,
    Limits,
    TenantOptions,
)
from service.emulator.server import Emulator, open_emulator
from service.emulator.store import Call
from service.emulator.tls_folder import TlsFolder
from service.emulator.tls_folder import tls_folder as lay_out
from service.errors import UserError

SHOWN_CALLS = 5
MOST = 1_000_000
LEAST_ANSWER_SECONDS = 3.0
"""A subscriber in another process has so many of the machine's seconds, however fast the clock runs."""


async def emulate_command(
    host: str = "127.0.0.1",
    port: int = 8090,
    seed: int = 1,
    calls: int = 20,
    rate: float = 0.0,
    tenant_id: list[str] | None = None,
    tenant_name: list[str] | None = None,
    client_id: str = DEMO_CLIENT_ID,
    client_secret: str = DEMO_CLIENT_SECRET,
    speed: float = 1.0,
    open_reads: bool = False,
    metadata_links: bool = False,
    token_seconds: float = 3600.0,
    limits: bool = True,
    announce_existing: bool = True,
    tls: bool = False,
    tls_folder: Path | None = None,
    tls_name: list[str] | None = None,
    faults: Path | None = None,
    state: Path | None = None,
    event_hub: list[str] | None = None,
) -> int:
    """Serves until Ctrl-C or SIGTERM. The exit code. `UserError` when the port is taken or an option is wrong.

    `rate` is new calls per second and `speed` how fast the emulator's clock runs; tenant ids and names go in pairs.
    `faults` is a file of scripted ones (`docs/emulator.md`), `state` the file from which a later emulator goes on.
    `event_hub`: hubs that subscriptions may name, each with the Kafka whose topic stands in for it.
    `tls_folder` and `tls_name` mean `tls` too.
    """
    # Each comparison is false for what is no number.
    if not (0 < speed <= MOST and 0 <= rate <= MOST and calls >= 0 and 0 < token_seconds <= MOST_SECONDS):
        raise UserError(
            f"--speed must be above 0 and at most {MOST:,}, --token-seconds above 0 and at most {MOST_SECONDS:,.0f}, "
            f"--rate from 0 to {MOST:,} and --calls not below 0."
        )
    if state is not None and speed != 1:
        raise UserError("--state goes with --speed 1: an emulator that goes on has the machine's time.")
    options = EmulatorOptions(
        host=host,
        port=port,
        seed=seed,
        calls=calls,
        rate=rate,
        tenants=_tenants(tenant_id, tenant_name, client_id, client_secret),
        open=open_reads,
        nextlink_form="metadata" if metadata_links else "plain",
        token_seconds=token_seconds,
        limits=Limits(enforced=limits),
        announce_existing=announce_existing,
        faults=read_faults(faults) if faults else (),
        delivery=DeliveryOptions(least_real_seconds=LEAST_ANSWER_SECONDS),
        state_file=state,
        hubs=tuple(_hub(one) for one in event_hub or ()),
    )
    with ExitStack() as stack:
        laid_out = None
        if tls or tls_folder or tls_name:
            laid_out = stack.enter_context(lay_out(tls_folder, [host, *(tls_name or [])]))
            options = _with_tls(options, laid_out)
        async with open_emulator(options, Clock(speed)) as emulator:
            if emulator.is_new:
                make_room(emulator)
            with _ended_by_signals(emulator.background.failed):
                for line in introduction(emulator, laid_out):
                    typer.echo(line)
                # A signal, or one of the emulator's own tasks that failed; its error is raised on leaving.
                await emulator.background.failed.wait()
    typer.echo("The emulator has ended.")
    return 0


def _hub(text: str) -> HubOptions:
    """`calls.servicebus.windows.net/calls=127.0.0.1:9092`."""
    place, _, servers = text.partition("=")
    namespace, _, name = place.partition("/")
    if not (namespace and name and servers):
        raise UserError(f"--event-hub {text} is not of the form NAMESPACE/HUB=HOST:PORT.")
    return HubOptions(namespace, name, servers)


def _with_tls(options: EmulatorOptions, laid_out: TlsFolder) -> EmulatorOptions:
    tenants = tuple(laid_out.registered(tenant) for tenant in options.tenants)
    return replace(options, tenants=tenants, ssl_context=laid_out.context, machine=laid_out.machine)


def _tenants(
    ids: list[str] | None, names: list[str] | None, client_id: str, client_secret: str
) -> tuple[TenantOptions, ...]:
    """Tenants by position; names that are missing become contoso, contoso2, …"""
    ids = ids or [DEMO_TENANT_ID]
    given = names or []
    if len(given) > len(ids):
        raise UserError("Give a --tenant-id for every --tenant-name.")
    wrong = next((one for one in ids if not GUID.fullmatch(one)), None)
    if wrong is not None:
        raise UserError(f"--tenant-id {wrong} is no GUID.")
    defaults = [f"contoso{number + 1 if number else ''}" for number in range(len(ids))]
    all_names = given + defaults[len(given) :]
    if len({name.lower() for name in (*ids, *all_names)}) < 2 * len(ids):
        raise UserError("Two tenants have the same id or name.")
    return tuple(
        TenantOptions(id=one, name=name, client_id=client_id, client_secret=client_secret)
        for one, name in zip(ids, all_names, strict=True)
    )


@contextmanager
def _ended_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop` while the block lasts."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def make_room(emulator: Emulator) -> None:
    """Gives the shown calls a session without segments, as their next version.

    So a segment that is made there is the only one, and seed 001's PATCH, which names none, knows which is meant.
    """
    for call in _shown(emulator):
        document = call.current.unpack()
        last = document["sessions"][-1] if document["sessions"] else {}
        session_id = str(uuid.uuid5(uuid.UUID(call.id), "to be written to"))
        document["sessions"].append({**last, "id": session_id, "segments": []})
        document["version"] = call.current.number + 1
        document["lastModifiedDateTime"] = iso(emulator.world.clock.now())
        emulator.store.add_version(call, document)


def _shown(emulator: Emulator) -> list[Call]:
    return list(emulator.store.calls())[:SHOWN_CALLS]


def introduction(emulator: Emulator, tls: TlsFolder | None = None) -> list[str]:
    """What a person needs to use this emulator: addresses, ids, curl lines, settings."""
    options, url = emulator.world.options, emulator.url
    calls = list(emulator.store.calls())
    lines = [
        f"Emulated Microsoft Graph: {url}",
        f"  Graph root {url}/v1.0 and {url}/beta, login host {url}, control {url}/emulator/status",
        f"  {len(calls)} calls, {options.rate:g} new ones a second, clock speed {emulator.world.clock.speed:g}",
    ]
    lines += [f"  tenant {one.name} {one.id}" for one in options.tenants]
    lines += [f"  administrator of its directory {ADMINISTRATOR_ID}, secret {ADMINISTRATOR_SECRET}"]
    if rules := emulator.world.faults.rules:
        lines.append(f"  scripted faults: {', '.join(rule.action for rule in rules)}; {url}/emulator/faults")
    if calls:
        lines += ["", *_how_to_write(url, calls[:SHOWN_CALLS])]
    lines += ["", *_how_to_read(emulator)]
    if tls:
        lines = [line.replace("curl ", f"curl --cacert {shlex.quote(str(tls.ca_file))} ") for line in lines]
        lines += ["", f"Its certificate is vouched for by {tls.ca_file}, made for this run."]
    lines += ["", "Settings for `callstream serve`, to be pasted where it will run:", *_settings(emulator, tls)]
    if tls:
        lines += ["", *tls.ways(url)]
    return [*lines, "", "Ctrl-C ends it."]


def _how_to_write(url: str, calls: list[Call]) -> list[str]:
    lines, example = ["Call records that can be written to (under /beta; no token needed):"], ""
    for call in calls:
        session = _writable_session(call.current.unpack()["sessions"])
        lines.append(f"  call {call.id}  session {session}")
        example = example or f"{url}/beta/communications/callRecords/{call.id}/sessions/{session}/segments"
    body = '{"media": [{"label": "main-audio", "streams": [{"streamId": "1", "streamDirection": "callerToCallee"}]}]}'
    return [*lines, f"  curl -X POST {example} \\", f"    -H 'Content-Type: application/json' -d '{body}'"]


def _writable_session(sessions: list[dict[str, Any]]) -> str:
    """The last without segments, else the first."""
    empty = [one["id"] for one in sessions if not one.get("segments")]
    return str(empty[-1] if empty else sessions[0]["id"] if sessions else "(none yet)")


def _how_to_read(emulator: Emulator) -> list[str]:
    url, tenant = emulator.url, emulator.world.options.tenants[0]
    form = f"grant_type=client_credentials&client_id={tenant.client_id}&client_secret={tenant.client_secret}"
    scope = "scope=https://graph.microsoft.com/.default"
    token = '-H "Authorization: Bearer $TOKEN" ' if not emulator.world.options.open else ""
    lines = ["Reading needs a token:"] if token else ["Reading needs no token:"]
    if token:
        lines.append(f"  TOKEN=$(curl -s {url}/{tenant.id}/oauth2/v2.0/token -d '{form}&{scope}' \\")
        lines.append("""    | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')""")
    lines.append(f"  curl -g {token}'{url}/v1.0/communications/callRecords'")
    lines.append("A new call, announced to every subscription:")
    return [
        *lines,
        f"  curl -X POST {url}/emulator/calls -H 'Content-Type: application/json' -d '{{\"kind\": \"group\"}}'",
    ]


def _settings(emulator: Emulator, tls: TlsFolder | None) -> list[str]:
    lines = [
        "  set -a",
        "  CALLSTREAM_GRAPH__CLOUD=custom",
        f"  CALLSTREAM_GRAPH__ROOT_URL={emulator.url}",
        f"  CALLSTREAM_GRAPH__LOGIN_URL={emulator.url}",
        *([f"  CALLSTREAM_GRAPH__CA_FILE={shlex.quote(str(tls.ca_file))}"] if tls else []),
        "  CALLSTREAM_RECEIVER__HOST=127.0.0.1",
        "  CALLSTREAM_RECEIVER__PUBLIC_URL=http://127.0.0.1:8080",
        "  CALLSTREAM_CLIENT_STATE__KEYS__1=a-key-for-the-emulator",
    ]
    for tenant in emulator.world.options.tenants:
        prefix = f"  CALLSTREAM_TENANTS__{tenant.name.upper()}"
        lines += [
            f"{prefix}__ID={tenant.id}",
            f"{prefix}__CLIENT_ID={tenant.client_id}",
            f"{prefix}__CLIENT_SECRET={tenant.client_secret}",
        ]
    return [*lines, "  set +a"]
