"""README, "Connect your tenant": every line as it stands there, from nothing to the first event.

Lines in bash are said in bash. `az` and `pip` are stand-ins on the path (`tests/blackbox/connect/`) that fail at
whatever they do not know; `callstream`, `curl` and `openssl` are themselves. The reader's own values are replaced, and
nothing else.
"""

import asyncio
import json
import os
import re
import shutil
import sys
import textwrap
import urllib.parse
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from service.clock import Clock
from service.emulator.options import ADMINISTRATOR_ID, ADMINISTRATOR_SECRET, EmulatorOptions, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.tls_folder import ISSUER, tls_folder
from service.graph.auth import tokens_of
from service.metrics import Metrics
from service.outbound.session import http_session
from service.settings import Graph, Tenant
from service.signin.clouds import CLOUDS, endpoints
from tests.blackbox.connect import azure_cli, powershell
from tests.blackbox.fleet import free_port

ROOT = Path(__file__).parents[2]
TENANT = TenantOptions()
# Far above what is needed: machines are shared and noisy.
SECONDS = 240.0
PROGRAMS = ("bash", "curl", "openssl")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
STAND_INS = {
    "az": 'exec "{python}" -m tests.blackbox.connect.azure_cli "$@"',
    "pip": '[ "$*" = "install .[azure]" ]',
    "callstream": 'exec "{python}" -m service "$@"',
}
REAL_AZ = """
if [ "$1" = login ]; then
  "{az}" cloud register --name emulator --skip-endpoint-discovery --endpoint-active-directory {url} \\
    --endpoint-active-directory-resource-id {url} --endpoint-active-directory-graph-resource-id {url} \\
    --endpoint-microsoft-graph-resource-id {url} --endpoint-resource-manager {url} --endpoint-management {url}
  "{az}" cloud set --name emulator
  exec "{az}" "$@" --service-principal --username {admin} --password {secret} --skip-subscription-discovery
fi
exec "{az}" "$@"
"""


def section() -> str:
    """The whole of it, PowerShell and costs too."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition("\n## Connect your tenant\n")[2].partition("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    """The blocks of one language, without the indentation of the list that they stand in."""
    return [textwrap.dedent(block) for _, name, block in FENCE.findall(text) if name == language]


def with_own(values: str, own: dict[str, str]) -> str:
    """The block of the reader's values with other ones; each must be there, and there may be no other."""
    names = re.findall(r"^(\w+)=\S+", values, re.MULTILINE)
    assert sorted(names) == sorted(own)
    return "".join(f"{name}={value}\n" for name, value in own.items())


@dataclass
class Place:
    """Where the lines are said."""

    folder: Path
    emulator: Emulator
    environment: dict[str, str]
    http: aiohttp.ClientSession

    async def bash(self, script: str) -> Process:
        """Begins to say lines; the first that fails ends them."""
        return await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", script, cwd=self.folder, env=self.environment, stdout=PIPE, stderr=STDOUT
        )

    async def say(self, script: str) -> str:
        """Says lines to their end and gives what they printed; none may fail."""
        process = await self.bash(script)
        async with asyncio.timeout(SECONDS):
            printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    async def reads(self, client_id: str, secret: str) -> int:
        """What Graph answers when this application asks for call records, with a new token."""
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        form["scope"] = f"{self.emulator.url}/.default"
        async with self.http.post(f"{self.emulator.url}/{TENANT.id}/oauth2/v2.0/token", data=form) as answer:
            token = (await answer.json())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        async with self.http.get(f"{self.emulator.url}/v1.0/communications/callRecords", headers=headers) as answer:
            return answer.status


@asynccontextmanager
async def place(folder: Path, az: str | None = None, **environment: str) -> AsyncIterator[Place]:
    """An emulated Graph over TLS whose administrator has done nothing yet, and a folder with the stand-ins."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    with tls_folder(folder / "tls", []) as laid_out:
        options = EmulatorOptions(
            port=0,
            ssl_context=laid_out.context,
            tenants=(laid_out.registered(TENANT),),
            calls=3,
            announce_existing=True,
        )
        async with open_emulator(options, Clock()) as emulator, http_session(str(laid_out.ca_file)) as http:
            (folder / "bin").mkdir()
            real = {"url": emulator.url, "az": az, "admin": ADMINISTRATOR_ID, "secret": ADMINISTRATOR_SECRET}
            for name, line in STAND_INS.items():
                text = REAL_AZ.format(**real) if name == "az" and az else line.format(python=sys.executable)
                (folder / "bin" / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
                (folder / "bin" / name).chmod(0o755)
            (folder / "home").mkdir()
            inherited = {name: value for name, value in os.environ.items() if not name.startswith("CALLSTREAM_")}
            known = {
                "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                "COLUMNS": "200",
                "EMULATOR": emulator.url,
                "EMULATOR_CA": str(laid_out.ca_file),
                "EMULATOR_HOME": str(folder / "home"),
                "AZURE_CONFIG_DIR": str(folder / "home"),
                "AZURE_CORE_INSTANCE_DISCOVERY": "false",
                "AZURE_CORE_COLLECT_TELEMETRY": "false",
                "REQUESTS_CA_BUNDLE": str(laid_out.ca_file),
            }
            yield Place(folder, emulator, inherited | known | environment, http)


def a_real_az() -> str:
    """Its path; the test is skipped where it is not installed."""
    found = shutil.which("az")
    if found is None:
        pytest.skip("az is not installed")
    return found


@pytest.mark.parametrize("which", ["the stand-in", "the real az"])
async def test_the_lines_lead_to_the_first_event(which: str, kafka: str, prefix: str, tmp_path: Path) -> None:
    """Registered, consented, signed in, subscribed, fetched, published, read."""
    az = a_real_az() if which == "the real az" else None
    port, admin_port = free_port(), free_port()
    own = {"CALLSTREAM_KAFKA__TOPIC_PREFIX": prefix, "CALLSTREAM_KAFKA__PARTITIONS": "2"}
    own |= {"CALLSTREAM_RECEIVER__PORT": str(port), "CALLSTREAM_ADMIN__PORT": str(admin_port)}
    values, *steps = blocks(section(), "sh")
    serving = next(number for number, block in enumerate(steps) if "callstream serve" in block)
    assert steps[serving].endswith("\ncallstream serve\n")
    async with place(tmp_path, az, CALLSTREAM_RECEIVER__HOST="127.0.0.1", **own) as here:
        url = here.emulator.url
        graph = {"ROOT_URL": url, "LOGIN_URL": url, "CA_FILE": here.environment["EMULATOR_CA"]}
        here.environment |= {f"CALLSTREAM_GRAPH__{name}": value for name, value in graph.items()}
        mine = {"TENANT": TENANT.id, "CLOUD": "custom", "GRAPH": url}
        mine |= {"PUBLIC_URL": f"http://127.0.0.1:{port}", "KAFKA": kafka}
        before = [with_own(values, mine), *steps[:serving], steps[serving].removesuffix("callstream serve\n")]
        printed = await here.say("\n".join([*before, "export -p > settings.sh\n"]))

        assert "45bbb07e-7321-4fd7-a8f6-3ff27e6a81c8" in printed.splitlines()
        secrets = [tmp_path / "contoso-client-secret", tmp_path / "client-state-key-1"]
        assert [path.stat().st_mode & 0o077 for path in secrets] == [0, 0]

        # Each terminal begins with what the lines before have exported.
        begin = f"source settings.sh\n{with_own(values, mine)}"
        serve = await here.bash(f"{begin}exec callstream serve")
        try:
            await opened(f"http://127.0.0.1:{port}/notifications")
            handshake, looking, doctor = steps[serving + 1 :]
            assert await here.say(f"{begin}{handshake}") == "it works"
            tail, completeness = looking.strip().splitlines()
            event = json.loads((await here.say(f"{begin}{tail}")).strip())
            assert (event["schemaVersion"], event["tenantId"]) == (1, TENANT.id)
            assert event["call"]["id"] in {call.id for call in here.emulator.store.calls()}
            async with here.http.get(f"http://127.0.0.1:{admin_port}/status") as answer:
                status = await answer.json()
            assert status["subscriptions"]["contoso"]["id"]
            assert [lane["lane"] for lane in status["lanes"]] == [0, 1]
            assert status["waiting"] == {"contoso": None}
            # Whether something is missing yet, or odd in this place, is their exit code; either way they say what is.
            begun = [here.say(f"{begin}{line.strip()} || [ $? = 1 ]") for line in (completeness, doctor)]
            table, links = await asyncio.gather(*begun)
            assert "contoso: calls by the UTC day" in table
            for link in ("handshake", "token", "permission", "kafka", "topics", "subscription"):
                assert re.search(rf"^ok +{link} ", links, re.MULTILINE), links
        finally:
            serve.terminate()
            async with asyncio.timeout(SECONDS):
                log, _ = await serve.communicate()
    assert serve.returncode == 0, log.decode()
    assert "subscription created" in log.decode()


async def opened(url: str) -> None:
    """Waits until somebody answers there."""
    async with asyncio.timeout(SECONDS), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.post(f"{url}?validationToken=t"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def test_the_lines_of_powershell_make_an_application_that_reads_calls(tmp_path: Path) -> None:
    """As the requests that Microsoft documents for each cmdlet; no PowerShell is run."""
    [block] = blocks(section(), "powershell")
    async with place(tmp_path) as here:
        graph = azure_cli.Graph(here.environment)
        shell = powershell.Shell(graph.ask, tmp_path, {"Tenant": TENANT.id})

        def say() -> None:
            graph.sign_in(TENANT.id)
            for line in block.splitlines():
                shell.run(line)

        await asyncio.to_thread(say)
        secret = (tmp_path / "contoso-client-secret").read_text(encoding="utf-8").strip()
        [granted, app_id] = shell.printed

        assert granted["appRoleId"] == "45bbb07e-7321-4fd7-a8f6-3ff27e6a81c8"
        assert await here.reads(app_id, secret) == 200


@pytest.mark.parametrize("which", ["the stand-in", "the real az"])
async def test_the_lines_of_the_other_credentials_sign_in(which: str, tmp_path: Path) -> None:
    """docs/sign-in.md: a certificate made and uploaded, and an issuer trusted, each as it stands there."""
    az = a_real_az() if which == "the real az" else None
    text = (ROOT / "docs/sign-in.md").read_text(encoding="utf-8")
    [certificate] = [one for one in blocks(text, "") if "openssl req" in one]
    [federation] = [one for one in blocks(text, "") if "federated-credential create" in one]
    federation = federation.partition("\nkubectl ")[0]
    values, login, register, *_ = blocks(section(), "sh")
    async with place(tmp_path, az) as here:
        mine = {
            "TENANT": TENANT.id,
            "CLOUD": "custom",
            "GRAPH": here.emulator.url,
            "PUBLIC_URL": "unused",
            "KAFKA": "unused",
        }
        script = [
            with_own(values, mine),
            login,
            register,
            f"ISSUER={ISSUER}",
            certificate,
            federation,
            'echo "app=$APP"',
        ]
        app_id = (await here.say("\n".join(script))).rpartition("app=")[2].strip()
        application = here.emulator.world.tenants.directory(TENANT.id).application_of(app_id)
        ends = endpoints(Graph(cloud="custom", root_url=here.emulator.url, login_url=here.emulator.url))
        tokens = tokens_of(here.http, ends, Clock(), Metrics(tenants=["contoso"]))
        files = {"certificate_file": str(tmp_path / "tls.crt"), "certificate_key_file": str(tmp_path / "tls.key")}
        by_certificate = Tenant(id=TENANT.id, client_id=app_id, credential="certificate", **files)
        token_file = str(tmp_path / "tls" / "federated-token")
        by_token = Tenant(id=TENANT.id, client_id=app_id, credential="federated-token", federated_token_file=token_file)

        assert application is not None
        assert await tokens.token(by_certificate)
        tokens.invalidate(by_certificate, await tokens.token(by_certificate))
        assert await tokens.token(by_token)


@pytest.mark.parametrize(
    "line",
    [
        "az ad app delete --id a",
        "az ad sp show --id a --colour red",
        "az rest --url b --query 'c[?d]'",
        "pip install callstream",
    ],
)
async def test_a_line_that_no_stand_in_knows_fails(line: str, tmp_path: Path) -> None:
    """So a document cannot gain one that nobody tries."""
    async with place(tmp_path) as here:
        await here.say('az login --tenant "c0ffee00-1111-4222-8333-444455556666" --allow-no-subscriptions')
        process = await here.bash(line.replace("--url b", f"--url {here.emulator.url}/v1.0/applications"))
        await process.communicate()

    assert process.returncode != 0


@pytest.mark.parametrize(
    "line", ["Remove-MgApplication -ApplicationId $app.Id", "$a = New-MgServicePrincipal -Colour red"]
)
def test_a_line_of_powershell_that_nobody_knows_fails(line: str, tmp_path: Path) -> None:
    """The same."""
    shell = powershell.Shell(lambda *_: {}, tmp_path, {"app": {"id": "1"}})
    with pytest.raises(powershell.NotUnderstood):
        shell.run(line)


def test_every_host_that_the_service_asks_is_named() -> None:
    """The table of the network, and the clouds in the code."""
    table = (ROOT / "docs/connect.md").read_text(encoding="utf-8").partition("**Outwards**")[2].partition("\n\nand ")[0]
    for name, cloud in CLOUDS.items():
        hosts = [urllib.parse.urlsplit(url).hostname for url in (cloud.login_url, cloud.root_url)]
        assert f"| `{name}` | `{hosts[0]}` | `{hosts[1]}` |" in table
