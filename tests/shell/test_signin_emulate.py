"""`callstream emulate --tls`: what it lays out and prints is enough to sign in with every kind of credential."""

import asyncio
import shlex
import ssl
from pathlib import Path

import aiohttp
import pytest

from service.app import check_roles
from service.cli.emulate import emulate_command, introduction
from service.clock import Clock
from service.emulator.options import EmulatorOptions, TenantOptions
from service.emulator.server import open_emulator
from service.emulator.tls_folder import SYSTEM_IDENTITY, TlsFolder, tls_folder
from service.errors import TenantMustWait, UserError
from service.graph.auth import tokens_of
from service.metrics import Metrics
from service.outbound.session import http_session
from service.settings import Settings, load
from service.signin.clouds import endpoints
from tests.shell.signin_fixture import signing_in
from tests.shell.test_signin import other_tokens


def options_of(laid_out: TlsFolder) -> EmulatorOptions:
    """What the command makes of its options."""
    tenants = (laid_out.registered(TenantOptions()),)
    return EmulatorOptions(port=0, calls=2, tenants=tenants, ssl_context=laid_out.context, machine=laid_out.machine)


def printed_settings(lines: list[str]) -> dict[str, str]:
    """The block that is to be pasted."""
    pairs = [line.strip().split("=", 1) for line in lines if line.strip().startswith("CALLSTREAM_")]
    return {name: shlex.split(value)[0] for name, value in pairs}


def other_ways(lines: list[str]) -> dict[str, dict[str, str]]:
    """Kind → its settings, from the lines that name the other ways to sign in."""
    found = {}
    for line in lines:
        words = [
            word
            for word in (shlex.split(line) if line.startswith("  __") else [])
            if word.startswith("__") and "=" in word
        ]
        if words:
            pairs = dict(word.split("=", 1) for word in words)
            found[pairs["__CREDENTIAL"]] = {f"CALLSTREAM_TENANTS__CONTOSO{name}": text for name, text in pairs.items()}
    return found


async def test_what_it_prints_signs_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word for word: the block as it stands, and each of the other ways in its place."""
    monkeypatch.chdir(tmp_path)
    with tls_folder(tmp_path / "a folder", ["emulator"]) as laid_out:
        async with open_emulator(options_of(laid_out), Clock()) as emulator:
            lines = introduction(emulator, laid_out)
            block, ways = printed_settings(lines), other_ways(lines)
            without_secret = {name: text for name, text in block.items() if not name.endswith("__CLIENT_SECRET")}
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.url)
            chosen = {"client-secret": block, **{kind: without_secret | more for kind, more in ways.items()}}
            del chosen["managed-identity"]["CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID"]

            assert set(chosen) == {"client-secret", "certificate", "federated-token", "managed-identity"}
            for environ in chosen.values():
                await signs_in(load(environ))


async def signs_in(settings: Settings) -> None:
    """As `serve` does: checked, then asked, then used."""
    check_roles(settings, ["work"])
    async with http_session(settings.graph.ca_file) as http:
        ends = endpoints(settings.graph)
        tokens = tokens_of(http, ends, Clock(), Metrics(tenants=settings.tenants))
        token = await tokens.token(settings.tenants["contoso"])
        url = f"{ends.root_url}/v1.0/communications/callRecords"
        async with http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 200


async def test_the_command_prints_the_authoritys_file_and_takes_it_away(capsys: pytest.CaptureFixture[str]) -> None:
    """The folder of its own is gone when it has ended; private keys are nobody else's."""
    running, text = asyncio.create_task(emulate_command(port=0, calls=1, tls=True)), ""
    async with asyncio.timeout(10):
        while "Ctrl-C ends it." not in text:
            await asyncio.sleep(0.01)
            text += capsys.readouterr().out
    ca_file = Path(printed_settings(text.splitlines())["CALLSTREAM_GRAPH__CA_FILE"])
    trust = ssl.create_default_context(cafile=str(ca_file))
    private = ca_file.with_name("application.pem").stat().st_mode
    async with aiohttp.ClientSession() as http, http.get(status_url(text), ssl=trust) as answer:
        status = answer.status
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert status == 200
    assert f"curl --cacert {ca_file}" in text
    assert private & 0o077 == 0
    assert not ca_file.parent.exists()


def status_url(text: str) -> str:
    """Where the introduction says that the control site is."""
    return next(word for word in text.split() if word.endswith("/emulator/status"))


async def test_without_the_extra_tls_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that can be pasted."""
    import sys

    for name in [one for one in sys.modules if one in ("service.emulator.tls", "service.emulator.assertions")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)

    with pytest.raises(UserError, match=r"pip install 'callstream\[azure\]'"):
        await emulate_command(port=0, tls=True)


async def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """A file stands where the folder should."""
    (tmp_path / "taken").write_text("x", encoding="utf-8")

    with pytest.raises(UserError, match="cannot be written to"):
        await emulate_command(port=0, tls_folder=tmp_path / "taken" / "below")


async def test_an_administrator_replaces_secrets_and_certificates_while_it_runs(tmp_path: Path) -> None:
    """Rotation, from the control site."""
    async with signing_in(tmp_path) as login:
        place = f"{login.emulator.url}/emulator/tenants/contoso"
        assert await login.tokens.token(login.with_secret())
        new = {"secrets": [{"secret": "emulator-secret", "expiresAfterSeconds": -1}, {"secret": "new"}]}
        async with login.http.put(f"{place}/secrets", json=new) as answer:
            shown = await answer.json(content_type=None)
        with pytest.raises(TenantMustWait, match="AADSTS7000222"):
            await other_tokens(login).token(login.with_secret())
        async with login.http.put(f"{place}/certificates", json={"certificates": []}) as answer:
            assert answer.status == 200
        with pytest.raises(TenantMustWait, match="AADSTS700027"):
            await other_tokens(login).token(login.with_certificate())
        refused = {}
        for name, body in (("secrets", {"secrets": ["new"]}), ("certificates", {"certificates": ["none"]})):
            async with login.http.put(f"{place}/{name}", json=body) as answer:
                refused[name] = answer.status
        async with login.http.put(f"{login.emulator.url}/emulator/tenants/nobody/secrets", json=new) as answer:
            missing = answer.status

    assert (shown["secrets"], shown["certificates"]) == (2, 1)
    assert refused == {"secrets": 400, "certificates": 400}
    assert missing == 404


def test_the_system_identity_is_the_machines(tmp_path: Path) -> None:
    """The one that a request without a client id means."""
    with tls_folder(tmp_path, []) as laid_out:
        assert laid_out.machine.system_assigned == SYSTEM_IDENTITY
