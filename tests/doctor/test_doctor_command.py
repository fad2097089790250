"""`callstream doctor` as a person and as a machine run it."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from service.doctor.walk import CHAIN
from tests.doctor.scene import CONTOSO, Scene, free_port

SECONDS = 90.0
# Every link but the one that only an event hub has.
LINKS = [link for link in CHAIN if link.name != "event hub"]


async def run(environ: dict[str, str], *options: str, columns: int = 80) -> tuple[int, str, str]:
    """Exit code, output, errors; in a folder without settings of its own."""
    process = await start(environ, *options, columns=columns)
    async with asyncio.timeout(SECONDS):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def start(environ: dict[str, str], *options: str, columns: int = 80) -> asyncio.subprocess.Process:
    """The command, under way."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTREAM_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service",
        "doctor",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=usual | environ | {"COLUMNS": str(columns), "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd="/",
    )


async def test_a_healthy_deployment_is_all_ok_and_exit_code_0(scene: Scene) -> None:
    """A line for each link and nothing else, also where no terminal is; no line is broken at 80 columns."""
    code, out, err = await run(scene.environ)
    lines = out.splitlines()

    assert code == 0
    assert err == ""
    assert len(lines) == len(LINKS) + 1
    assert [line.split("  ")[0].strip() for line in lines[:-1]] == ["ok"] * len(LINKS)
    assert lines[-1] == "Every link is as it should be."
    shows_no_secret(out)


async def test_json_is_one_document(scene: Scene) -> None:
    """In the order of the chain; tenants named where a link is a tenant's."""
    code, out, err = await run(scene.with_environ(tenants__contoso__client_secret="my-very-own-secret"), "--json")
    document = json.loads(out)

    assert code == 1
    assert err == ""
    assert set(document) == {"format", "callstream", "at", "verdict", "first", "counts", "findings"}
    assert document["verdict"] == "broken"
    assert document["first"]["link"] == "token"
    assert document["first"]["tenant"] == "contoso"
    assert document["counts"]["broken"] == 1
    assert [one["link"] for one in document["findings"]] == [link.name for link in LINKS]
    assert all(set(one) == {"link", "tenant", "status", "seen", "todo"} for one in document["findings"])
    assert [one["link"] for one in document["findings"] if one["tenant"]] == [
        link.name for link in LINKS if link.ask_tenant
    ]
    skipped = [one["link"] for one in document["findings"] if one["status"] == "skipped"]
    assert skipped == ["permission", "subscription"]
    shows_no_secret(out)


def shows_no_secret(text: str) -> None:
    """Neither a right one nor a wrong one, nor a key, nor a token."""
    for secret in ("my-very-own-secret", CONTOSO.client_secret, "a key of at least sixteen", "eyJ"):
        assert secret not in text


async def test_with_no_graph_and_no_kafka_each_is_said_once() -> None:
    """Three causes; what follows from them is skipped."""
    nowhere = {
        "CALLSTREAM_GRAPH__CLOUD": "custom",
        "CALLSTREAM_GRAPH__ROOT_URL": f"http://127.0.0.1:{free_port()}",
        "CALLSTREAM_GRAPH__LOGIN_URL": f"http://127.0.0.1:{free_port()}",
        "CALLSTREAM_RECEIVER__PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
        "CALLSTREAM_ADMIN__PORT": str(free_port()),
        "CALLSTREAM_CLIENT_STATE__KEYS__1": "a key of at least sixteen",
        "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "CALLSTREAM_TENANTS__CONTOSO__ID": CONTOSO.id,
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": CONTOSO.client_id,
        "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET": CONTOSO.client_secret,
    }
    code, out, err = await run(nowhere, "--json")
    found = {one["link"]: one["status"] for one in json.loads(out)["findings"]}

    assert code == 1
    assert err == ""
    assert [link for link, status in found.items() if status == "broken"] == ["public url", "graph", "kafka"]
    assert [link for link, status in found.items() if status == "ok"] == ["settings"]


async def test_without_settings_the_first_line_says_which(tmp_path: Path) -> None:
    """A file that is none."""
    code, out, _ = await run({}, "--config", str(tmp_path / "missing.toml"))
    assert code == 1
    assert out.startswith("broken   settings      The settings file")
    assert "missing.toml cannot be read" in out.splitlines()[0]


async def test_wrong_use_is_exit_code_2() -> None:
    """As with every command."""
    code, out, err = await run({}, "--everything")

    assert code == 2
    assert out == ""
    assert "No such option" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_can_be_broken_off(scene: Scene, number: signal.Signals) -> None:
    """In the middle of a link that takes its time: at once, and without a traceback."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.transport.abort()
        ended.set()

    asked, ended = asyncio.Event(), asyncio.Event()
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = await start(scene.with_environ(graph__login_url=f"http://127.0.0.1:{port}"))
    try:
        async with asyncio.timeout(SECONDS):
            await asked.wait()
            process.send_signal(number)
            _, err = await process.communicate()
            await ended.wait()
    finally:
        server.close()

    assert "Traceback" not in err.decode()
    assert process.returncode in (130, -number, 128 + number)
