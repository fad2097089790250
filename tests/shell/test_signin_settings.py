"""A credential that could never work is told at start, in one sentence; what Kubernetes sets is understood."""

import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from aiohttp import ClientConnectionError

from service.app import check_roles
from service.errors import UserError
from service.graph.auth import tokens_of
from service.metrics import Metrics
from service.outbound.session import http_session
from service.settings import Tenant, load
from service.signin import check
from service.signin.clouds import endpoints
from tests.shell.signin_fixture import client_certificate, outside_token, signing_in

ID = "c0ffee00-1111-4222-8333-444455556666"
BASE = {
    "CALLSTREAM_TENANTS__CONTOSO__ID": ID,
    "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": "11111111-2222-4333-8444-555555555555",
    "CALLSTREAM_CLIENT_STATE__KEYS__1": "sixteen characters",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No callstream.toml of the machine takes part; relative paths are the test's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.pem").write_text(client_certificate().whole_pem, encoding="utf-8")
    (tmp_path / "token").write_text(outside_token(0), encoding="utf-8")
    (tmp_path / "empty").write_text("", encoding="utf-8")


def tenant(**more: str) -> dict[str, str]:
    """Settings of the one tenant, as variables."""
    return BASE | {f"CALLSTREAM_TENANTS__CONTOSO__{name.upper()}": value for name, value in more.items()}


def pod(**more: str) -> dict[str, str]:
    """What the webhook of workload identity sets."""
    return {
        "AZURE_CLIENT_ID": "22222222-2222-4333-8444-555555555555",
        "AZURE_TENANT_ID": "dddddddd-1111-4222-8333-444455556666",
        "AZURE_FEDERATED_TOKEN_FILE": "token",
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
        **more,
    }


@pytest.mark.parametrize(
    "environ",
    [
        tenant(client_secret="it"),
        tenant(credential="certificate", certificate_file="app.pem"),
        tenant(credential="certificate", certificate_file="app.pem", certificate_key_file="app.pem"),
        tenant(credential="federated-token", federated_token_file="token"),
        tenant(credential="workload-identity") | pod(),
        tenant(credential="managed-identity"),
        tenant(credential="managed-identity", client_id=""),
        tenant(credential="managed-identity-federation", identity_client_id="22222222-2222-4333-8444-555555555555"),
    ],
)
def test_each_kind_passes_with_what_it_needs(environ: dict[str, str]) -> None:
    """Files are looked at; the login is not asked."""
    assert check_roles(load(environ), ["work"]) == {"work"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (tenant(), "has no client secret: set CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET"),
        (
            tenant(credential="certificate"),
            "has no certificate_file: set CALLSTREAM_TENANTS__CONTOSO__CERTIFICATE_FILE",
        ),
        (tenant(certificate_file="app.pem"), "set credential to certificate, or remove certificate_file"),
        (tenant(credential="certificate", certificate_file="app.pem", client_secret="x"), "or remove client_secret"),
        (tenant(credential="managed-identity", federated_token_file="token"), "set credential to federated-token"),
        (tenant(credential="certificate", certificate_file="none.pem"), "none.pem cannot be read (No such file"),
        (tenant(credential="certificate", certificate_file="empty"), "must hold, as PEM or PFX, a certificate"),
        (tenant(credential="federated-token", federated_token_file="empty"), "holds no token"),
        (tenant(credential="federated-token"), "has no federated_token_file"),
        (tenant(credential="workload-identity"), "label it azure.workload.identity/use=true"),
        (tenant(credential="certificate-file"), "tenants.contoso.credential"),
        (
            tenant(credential="certificate", certificate_file="app.pem")
            | {
                "CALLSTREAM_GRAPH__CLOUD": "custom",
                "CALLSTREAM_GRAPH__ROOT_URL": "http://127.0.0.1:8090",
                "CALLSTREAM_GRAPH__LOGIN_URL": "http://127.0.0.1:8090",
            },
            "callstream emulate --tls",
        ),
        (tenant(client_secret="x") | {"CALLSTREAM_GRAPH__CLOUD": "china"}, "no call records"),
    ],
)
def test_each_mistake_is_one_sentence(environ: dict[str, str], words: str) -> None:
    """It names the tenant and what to change, and holds no secret."""
    with pytest.raises(UserError) as raised:
        check_roles(load(environ), ["work"])

    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_receiver_alone_needs_no_credential() -> None:
    """It asks Graph for nothing; the secret need not be in its pod."""
    assert check_roles(load(tenant()), ["receive"]) == {"receive"}


def test_workload_identity_takes_what_the_pod_has_and_the_settings_do_not() -> None:
    """Both ids and the token's file; what is set wins."""
    environ = {"CALLSTREAM_TENANTS__CONTOSO__CREDENTIAL": "workload-identity"} | pod()
    found = load(environ).tenants["contoso"]
    mine = load(tenant(credential="workload-identity") | pod()).tenants["contoso"]

    assert (found.id, found.client_id) == (pod()["AZURE_TENANT_ID"], pod()["AZURE_CLIENT_ID"])
    assert (mine.id, mine.client_id) == (ID, BASE["CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID"])
    assert found.federated_token_file == mine.federated_token_file == "token"
    assert load(tenant() | pod()).tenants["contoso"].federated_token_file == ""


def test_a_path_is_a_path_and_not_what_the_file_holds() -> None:
    """Unlike `…_CLIENT_SECRET_FILE`, which stands for the secret."""
    found = load(
        tenant(certificate_file="app.pem", certificate_password_file="token") | {"CALLSTREAM_GRAPH__CA_FILE": "x"}
    )

    assert found.tenants["contoso"].certificate_file == "app.pem"
    assert found.graph.ca_file == "x"
    assert found.tenants["contoso"].certificate_password.reveal() == outside_token(0)


def test_a_secrets_file_is_read_now_and_known_for_later(tmp_path: Path) -> None:
    """From the variable and from TOML alike; one that cannot be read is told at start."""
    (tmp_path / "callstream.toml").write_text('[tenants.contoso]\nclient_secret_file = "token"\n', encoding="utf-8")
    for environ in (tenant(), tenant(client_secret_file="token")):
        found = load(environ).tenants["contoso"]
        assert found.client_secret_file == "token"
        assert found.client_secret.reveal() == outside_token(0)
    with pytest.raises(UserError, match="client_secret_file names a file"):
        load(tenant(client_secret_file="nowhere"))


class WithoutAzure:
    """Makes azure-identity a package that is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "azure":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def without_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip install callstream` without the extra."""
    monkeypatch.setattr(sys, "meta_path", [WithoutAzure(), *sys.meta_path])
    for name in [one for one in sys.modules if one.partition(".")[0] == "azure" or one == "service.signin.azure"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("without_azure")
def test_without_the_extra_every_other_kind_names_it() -> None:
    """One sentence that can be pasted."""
    assert not check.has_azure()
    assert check_roles(load(tenant(client_secret="it")), ["work"])
    for kind in ("certificate", "managed-identity"):
        with pytest.raises(UserError, match=r"pip install 'callstream\[azure\]'"):
            check_roles(
                load(tenant(credential=kind, certificate_file="app.pem" if kind == "certificate" else "")), ["work"]
            )


async def test_without_the_extra_a_client_secret_signs_in(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Over TLS too; the demo and a deployment with secrets alone need no more."""
    async with signing_in(tmp_path) as login:
        request.getfixturevalue("without_azure")
        async with http_session(str(tmp_path / "ca.pem")) as http:
            tokens = tokens_of(http, login.ends, login.clock, Metrics(tenants=["contoso"]))
            assert await login.reads(await tokens.token(login.with_secret()))
        assert not any(name.startswith("azure") for name in sys.modules)


async def test_over_plain_http_a_client_secret_goes_the_short_way(tmp_path: Path) -> None:
    """azure-identity takes https alone; an emulator on this machine may speak http."""
    async with signing_in(tmp_path, ssl_context=None) as login:
        assert login.ends.login_url.startswith("http://")
        assert await login.reads(await login.tokens.token(login.with_secret()))


@pytest.mark.parametrize("cloud", ["global", "usgov-l4", "usgov-l5"])
async def test_each_cloud_is_asked_at_its_own_login_for_its_own_graph(
    tmp_path: Path, cloud: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What azure-identity would send, seen at the outermost seam: the session."""
    ends = endpoints(load({"CALLSTREAM_GRAPH__CLOUD": cloud}).graph)
    seen: list[tuple[str, Any]] = []
    async with signing_in(tmp_path) as login:

        async def ask(_: str, url: str, **more: object) -> None:
            seen.append((url, more["data"]))
            raise ClientConnectionError

        monkeypatch.setattr(login.http, "request", ask)
        tokens = tokens_of(login.http, ends, login.clock, login.metrics)
        for one in (login.with_secret(), login.with_certificate(client_id="other")):
            with pytest.raises(Exception, match="cannot be reached"):
                await tokens.token(one)

    assert [url for url, _ in seen] == [f"{ends.login_url}/{ID}/oauth2/v2.0/token"] * 2
    assert [form["scope"] for _, form in seen] == [ends.scope] * 2


def test_the_check_knows_every_kind() -> None:
    """Its table and the setting's values are one list."""
    assert set(get_args(get_type_hints(Tenant)["credential"])) == set(check.KINDS)
