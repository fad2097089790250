"""`callstream emulate`: what it prints, how it ends, what it says when it cannot start."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from service.cli.emulate import emulate_command, introduction
from service.clock import Clock
from service.emulator.options import DEMO_CLIENT_SECRET, DEMO_TENANT_ID, EmulatorOptions
from service.emulator.server import open_emulator
from service.errors import UserError


async def test_the_introduction_has_everything_a_person_needs() -> None:
    """Addresses, ids of calls and sessions that exist, curl lines, and the settings of `serve`."""
    async with open_emulator(EmulatorOptions(port=0, calls=3), Clock()) as emulator:
        text = "\n".join(introduction(emulator))
        calls = list(emulator.store.calls())

        assert all(call.id in text for call in calls)
        assert f"{emulator.url}/beta/communications/callRecords/{calls[0].id}/sessions/" in text
        assert f"CALLSTREAM_GRAPH__ROOT_URL={emulator.url}" in text
        assert f"CALLSTREAM_TENANTS__CONTOSO__ID={DEMO_TENANT_ID}" in text
        assert DEMO_CLIENT_SECRET in text


async def test_the_printed_settings_are_settings() -> None:
    """`serve` reads them without complaint."""
    from service.settings import load

    async with open_emulator(EmulatorOptions(port=0), Clock()) as emulator:
        lines = [line.strip() for line in introduction(emulator) if line.strip().startswith("CALLSTREAM_")]
        settings = load(dict(line.split("=", 1) for line in lines))

        assert settings.graph.root_url == emulator.url
        assert settings.tenants["contoso"].id == DEMO_TENANT_ID


def test_the_emulator_shares_no_code_with_the_service_under_test() -> None:
    """A mistake in the service's own reading cannot hide in the stand-in."""
    code = "import sys, service.cli.emulate; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    rooms = (
        "service.record",
        "service.lanes",
        "service.kafka",
        "service.graph",
        "service.signin",
        "service.outbound",
        "service.receiver",
        "service.notification",
    )

    assert "service.emulator.server" in modules
    assert [name for name in modules if name.startswith(rooms)] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_cleanly(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 and a last line."""
    running = asyncio.create_task(emulate_command(port=0, calls=1))
    text = ""
    async with asyncio.timeout(10):
        while "Ctrl-C ends it." not in text:
            await asyncio.sleep(0.01)
            text += capsys.readouterr().out
        os.kill(os.getpid(), number)
        code = await running

    assert code == 0
    assert "The emulator has ended." in capsys.readouterr().out


async def test_a_taken_port_is_one_sentence() -> None:
    """Exit code 1."""
    async with open_emulator(EmulatorOptions(port=0), Clock()) as emulator:
        port = int(emulator.url.rpartition(":")[2])
        with pytest.raises(UserError, match=f"Port {port} on 127.0.0.1 is taken") as caught:
            await emulate_command(port=port)

    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "options",
    [
        {"speed": 0.0},
        {"rate": -1.0},
        {"tenant_name": ["a", "b"]},
        {"tenant_id": [DEMO_TENANT_ID, DEMO_TENANT_ID]},
        {"tenant_id": ["contoso"]},
        {"event_hub": ["calls=127.0.0.1:9092"]},
    ],
)
async def test_wrong_options_are_refused(options: dict[str, float | list[str]]) -> None:
    """Before anything opens."""
    with pytest.raises(UserError):
        await emulate_command(port=0, **options)  # type: ignore[arg-type]
