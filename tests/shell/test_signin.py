"""Signing in through azure-identity, over TLS, with every kind of credential, and every way in which that fails."""

import asyncio
import base64
import datetime as dt
import io
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import orjson
import pytest
import pytest_asyncio
import structlog
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
    pkcs12,
)
from cryptography.x509 import load_pem_x509_certificate

from service import logs
from service.clock import Clock
from service.emulator.assertions import PADDINGS, SHA256, sign
from service.emulator.options import Federation, TenantOptions
from service.emulator.tls import make_client_certificate, public_pem
from service.errors import TenantMustWait, UserError
from service.graph.auth import TenantTokens
from service.outbound.session import http_session
from service.settings import Log, Secret, Tenant
from service.signin.azure import AzureLogin
from service.signin.certificate import CertificateEnd
from service.signin.clouds import Endpoints
from tests.shell.signin_fixture import (
    ISSUER,
    SUBJECT,
    SYSTEM_IDENTITY,
    USER_IDENTITY,
    SignIn,
    client_certificate,
    issuer_key,
    outside_token,
    signing_in,
)
from tests.shell.test_graph_budget import StillClock

AZURE_VARIABLES = (
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "AZURE_TENANT_ID",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
)


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity of the machine that runs the tests takes part."""
    for name in AZURE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest_asyncio.fixture
async def login(tmp_path: Path) -> AsyncIterator[SignIn]:
    async with signing_in(tmp_path) as login:
        yield login


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the process logs. The set-up is the process's; the next test must not write into this one's stream."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers, root.level
    logs.set_up(Log(level="debug", format="json"), stream)
    yield stream
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level


def private_key(pem: bytes) -> rsa.RSAPrivateKey:
    """The RSA key in a PEM file."""
    key = load_pem_private_key(pem, None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


async def refused(login: SignIn, tenant: Tenant) -> TenantMustWait:
    with pytest.raises(TenantMustWait) as raised:
        await login.tokens.token(tenant)
    assert raised.value.cause == "no_token"
    assert "\n" not in str(raised.value)
    return raised.value


# ---- each kind ------------------------------------------------------------------------------------------------------


async def test_a_client_secret_opens_the_records(login: SignIn) -> None:
    """Over https the library asks; the token is one that Graph takes."""
    assert await login.reads(await login.tokens.token(login.with_secret()))
    assert login.outcomes() == {"ok": 1}


async def test_a_certificate_opens_the_records(login: SignIn) -> None:
    """PEM of certificate and key in one file."""
    assert await login.reads(await login.tokens.token(login.with_certificate()))


async def test_a_certificate_and_its_key_may_be_two_files(login: SignIn) -> None:
    """As a Kubernetes secret of type `kubernetes.io/tls` has them."""
    whole = client_certificate().whole_pem
    at = whole.index("-----BEGIN CERTIFICATE")
    key = login.write("tls.key", whole[:at])

    assert await login.reads(await login.tokens.token(login.with_certificate(whole[at:], certificate_key_file=key)))


@pytest.mark.parametrize("kind", ["pem", "pfx"])
async def test_a_certificate_may_have_a_password(login: SignIn, kind: str) -> None:
    """PEM with an encrypted key, and PFX."""
    whole = client_certificate().whole_pem.encode()
    key, certificate = private_key(whole), load_pem_x509_certificate(whole)
    lock = BestAvailableEncryption(b"pass word")
    path = login.folder / f"app.{kind}"
    if kind == "pem":
        locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        path.write_bytes(locked + certificate.public_bytes(Encoding.PEM))
    else:
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"app", key, certificate, None, lock))
    right = login.tenant("certificate", certificate_file=str(path), certificate_password=Secret("pass word"))
    wrong = login.tenant("certificate", certificate_file=str(path), certificate_password=Secret("pass"))
    sentence = str(await refused(replace(login, tokens=other_tokens(login)), wrong))

    assert await login.reads(await login.tokens.token(right))
    assert "certificate_password the key's password" in sentence


@pytest.mark.parametrize("kind", ["federated-token", "workload-identity"])
async def test_an_outside_token_opens_the_records(login: SignIn, kind: str) -> None:
    """Read from its file, and as often as it is needed: an outside token may be used again until it ends."""
    tenant = login.with_token_file(outside_token(time.time()), kind)
    first = await login.tokens.token(tenant)
    login.tokens.invalidate(tenant, first)

    assert await login.reads(first)
    assert await login.reads(await login.tokens.token(tenant))


@pytest.mark.parametrize(("client_id", "identity"), [("", SYSTEM_IDENTITY), (USER_IDENTITY, USER_IDENTITY)])
@pytest.mark.parametrize("form", ["imds", "app-service"])
async def test_a_managed_identity_opens_the_records(
    login: SignIn, monkeypatch: pytest.MonkeyPatch, form: str, client_id: str, identity: str
) -> None:
    """The machine's own, or one assigned to it; from the metadata service, or as App Service has it."""
    on_azure(login, monkeypatch, form)
    token = await login.tokens.token(login.tenant("managed-identity", client_id=client_id))

    assert await login.reads(token)
    assert login.emulator.world.tokens.principal(f"Bearer {token}").client_id == identity


@pytest.mark.parametrize("identity", ["", USER_IDENTITY])
async def test_a_managed_identity_may_stand_for_an_application_of_any_tenant(
    login: SignIn, monkeypatch: pytest.MonkeyPatch, identity: str
) -> None:
    """It cannot read other tenants itself, but the application may trust it (graph-contract 10)."""
    on_azure(login, monkeypatch, "imds")
    issuer = f"{login.emulator.url}/{login.options.id}/v2.0"
    login.application.federations.append(Federation(issuer, identity or SYSTEM_IDENTITY))
    token = await login.tokens.token(login.tenant("managed-identity-federation", identity_client_id=identity))

    assert await login.reads(token)
    assert login.emulator.world.tokens.principal(f"Bearer {token}").client_id == login.options.client_id


def on_azure(login: SignIn, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """What a machine on Azure finds in its environment."""
    if form == "imds":
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", login.emulator.url)
    else:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{login.emulator.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "emulator-identity-header")


async def test_each_tenant_signs_in_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One deployment, one cache, four kinds at once; no token is another tenant's."""
    federation = Federation(ISSUER, SUBJECT, public_pem(issuer_key()))
    fabrikam = TenantOptions(id="dddddddd-1111-4222-8333-444455556666", name="fabrikam", federations=(federation,))
    pem = client_certificate().public_pem
    tailspin = TenantOptions(id="eeeeeeee-1111-4222-8333-444455556666", name="tailspin", certificates=(pem,))
    async with signing_in(tmp_path, more_tenants=(fabrikam, tailspin)) as login:
        on_azure(login, monkeypatch, "imds")
        outside = login.with_token_file(outside_token(time.time()))
        tenants = [
            login.with_secret(),
            msgspec.structs.replace(outside, id=fabrikam.id),
            login.with_certificate(id=tailspin.id),
            login.tenant("managed-identity", client_id=USER_IDENTITY),
        ]
        got = await asyncio.gather(*(login.tokens.token(tenant) for tenant in tenants for _ in range(5)))
        owners = [login.emulator.world.tokens.principal(f"Bearer {token}").tenant_id for token in got[::5]]

        assert owners == [tenant.id for tenant in tenants]
        assert len(set(got)) == login.issued == 4


# ---- what Entra refuses ---------------------------------------------------------------------------------------------


async def test_a_wrong_secret_and_an_expired_one_are_told_apart(tmp_path: Path) -> None:
    """Two numbers, two things to do."""
    async with signing_in(tmp_path, adapt=lambda one: replace(one, secret_expires_at=time.time() - 1)) as login:
        expired = str(await refused(login, login.with_secret()))
        login.application.secrets = {"another": None}
        wrong = str(await refused(replace(login, tokens=other_tokens(login)), login.with_secret()))

    assert "AADSTS7000222" in expired
    assert "make a new one" in expired
    assert "AADSTS7000215" in wrong
    assert "not its id" in wrong


async def test_a_rotated_secret_works_beside_the_old_one(login: SignIn) -> None:
    """Two secrets are valid while one is replaced by the other."""
    login.application.secrets["the next one"] = None

    assert await login.tokens.token(login.with_secret())
    assert await other_tokens(login).token(login.with_secret(client_secret=Secret("the next one")))


async def test_an_unknown_tenant_and_an_unknown_application_are_named(login: SignIn) -> None:
    """AADSTS90002 and 700016."""
    nowhere = login.with_secret(id="99999999-0000-4000-8000-000000000000")
    stranger = login.with_secret(client_id="22222222-2222-4333-8444-555555555555")

    assert "AADSTS90002, the tenant id is not known to this cloud" in str(await refused(login, nowhere))
    assert "AADSTS700016, client_id is not known in this tenant" in str(await refused(login, stranger))
    assert login.outcomes() == {"unauthorized": 2}


async def test_a_certificate_that_the_application_does_not_have_is_700027(login: SignIn) -> None:
    """The sentence says where to upload it."""
    sentence = str(await refused(login, login.with_certificate(make_client_certificate().whole_pem)))

    assert "AADSTS700027" in sentence
    assert "upload its public part" in sentence


async def test_a_certificate_with_the_key_of_another_is_700027(login: SignIn) -> None:
    """A renewal of which only half has arrived."""
    whole, other = client_certificate().whole_pem, make_client_certificate().whole_pem
    at, other_at = whole.index("-----BEGIN CERTIFICATE"), other.index("-----BEGIN CERTIFICATE")

    assert "AADSTS700027" in str(await refused(login, login.with_certificate(other[:other_at] + whole[at:])))


async def test_an_expired_certificate_is_told(login: SignIn) -> None:
    """Uploaded once, renewed nowhere."""
    old = make_client_certificate(life=dt.timedelta(days=-1))
    login.application.certificates.append(old.public_pem)

    sentence = str(await refused(login, login.with_certificate(old.whole_pem)))
    assert "AADSTS1000502, the certificate has expired" in sentence


@pytest.mark.parametrize("skew", [-3600, 3600])
async def test_a_clock_that_is_wrong_is_told(tmp_path: Path, skew: float) -> None:
    """The assertion's times are this machine's."""
    async with signing_in(tmp_path, login_clock=Clock(start=time.time() + skew)) as login:
        sentence = str(await refused(login, login.with_certificate()))

    assert "AADSTS700024" in sentence
    assert "check this machine's clock" in sentence


async def test_a_clock_that_is_a_little_wrong_is_forgiven(tmp_path: Path) -> None:
    """Four minutes ahead; Entra allows five."""
    async with signing_in(tmp_path, login_clock=Clock(start=time.time() - 240)) as login:
        assert await login.tokens.token(login.with_certificate())


@pytest.mark.parametrize(
    ("claims", "number", "words"),
    [
        ({"iss": "https://oidc.example.com/cluster-2"}, 700211, "issuer"),
        ({"sub": "system:serviceaccount:calls:Callstream"}, 700213, "subject"),
        ({"aud": ["api://AzureADTokenExchangeUSGov"]}, 700212, "audience"),
        ({"exp": 1_700_000_000}, 700024, "token file is renewed"),
    ],
)
async def test_an_outside_token_that_nothing_fits_is_told_by_what_differs(
    login: SignIn, claims: dict[str, object], number: int, words: str
) -> None:
    """Issuer, subject, audience, time: each has its own number."""
    sentence = str(await refused(login, login.with_token_file(outside_token(time.time(), **claims))))

    assert f"AADSTS{number}, " in sentence
    assert words in sentence


async def test_a_forged_outside_token_is_refused(login: SignIn) -> None:
    """The right claims under another's signature, and none at all."""
    claims = {"iss": ISSUER, "sub": SUBJECT, "aud": "api://AzureADTokenExchange", "exp": int(time.time()) + 600}
    forged = sign(private_key(client_certificate().whole_pem.encode()), claims)

    assert "AADSTS50013" in str(await refused(login, login.with_token_file(forged)))
    login.write("token", "no-token")
    assert "AADSTS50027" in str(await refused(login, login.with_token_file("no-token")))


async def test_an_assertion_of_a_certificate_serves_once(login: SignIn) -> None:
    """Who overhears one cannot use it; another audience or client is refused as well."""
    now, token_url = int(time.time()), f"{login.emulator.url}/{login.options.id}/oauth2/v2.0/token"
    usual = {"iss": login.options.client_id, "sub": login.options.client_id, "aud": token_url}
    usual |= {"jti": "1", "nbf": now, "exp": now + 600}

    assert await post_assertion(login, usual) == 200
    assert await post_assertion(login, usual) == 50027
    assert await post_assertion(login, usual | {"jti": None}) == 50027
    assert await post_assertion(login, usual | {"jti": "2", "aud": "https://elsewhere/token"}) == 700023
    assert await post_assertion(login, usual | {"jti": "3", "sub": "somebody"}) == 700021
    assert await post_assertion(login, usual | {"jti": "4"}, alg="none") == 50027
    assert await post_assertion(login, usual | {"jti": "5"}, alg="RS256", thumbprint="x5t") == 200


async def post_assertion(
    login: SignIn, claims: Mapping[str, object], alg: str = "PS256", thumbprint: str = "x5t#S256"
) -> int:
    """Posts an assertion of the application's certificate; 200 or the number of the refusal."""

    def encoded(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    whole = client_certificate().whole_pem.encode()
    fingerprint = load_pem_x509_certificate(whole).fingerprint(SHA256 if "S256" in thumbprint else hashes.SHA1())
    head = encoded(orjson.dumps({"alg": alg, "typ": "JWT", thumbprint: encoded(fingerprint)}))
    signed = f"{head}.{encoded(orjson.dumps(claims))}"
    signature = private_key(whole).sign(signed.encode(), PADDINGS.get(alg, PADDINGS["RS256"]), SHA256)
    form = {
        "grant_type": "client_credentials",
        "client_id": login.options.client_id,
        "scope": login.ends.scope,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": f"{signed}.{encoded(signature)}",
    }
    async with login.http.post(f"{login.emulator.url}/{login.options.id}/oauth2/v2.0/token", data=form) as answer:
        reply = await answer.json(content_type=None)
        return answer.status if answer.status == 200 else int(reply["error_codes"][0])


# ---- what managed identities refuse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["imds", "app-service"])
async def test_an_identity_that_is_not_assigned_is_named(
    login: SignIn, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """400 from the endpoint, which has no AADSTS numbers."""
    on_azure(login, monkeypatch, form)
    other = "55555555-0000-4000-8000-000000000009"
    sentence = str(await refused(login, login.tenant("managed-identity", client_id=other)))

    assert f"the identity {other} is not assigned to this machine" in sentence


async def test_a_machine_without_an_identity_is_told(login: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """None was switched on."""
    on_azure(login, monkeypatch, "imds")
    object.__setattr__(login.emulator.world.options, "machine", None)

    assert "this machine has no identity" in str(await refused(login, login.tenant("managed-identity", client_id="")))


async def test_away_from_azure_there_is_no_managed_identity(login: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint does not answer; the sentence says where it exists."""
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
    wait = await refused(login, login.tenant("managed-identity", client_id=""))

    assert "cannot be reached" in str(wait)
    assert "on Azure's own machines alone" in str(wait)
    assert wait.wait_seconds < 10


# ---- files ----------------------------------------------------------------------------------------------------------


async def test_a_renewed_certificate_is_used_without_a_restart(login: SignIn) -> None:
    """The old one is taken away from the application when the new one is in place."""
    tenant = login.with_certificate()
    first = await login.tokens.token(tenant)
    new = make_client_certificate()
    login.application.certificates[:] = [new.public_pem]
    login.write("app.pem", new.whole_pem)
    login.tokens.invalidate(tenant, first)

    assert await login.tokens.token(tenant) != first


@pytest.mark.parametrize("plain", [False, True])
async def test_a_rotated_secret_is_used_without_a_restart(tmp_path: Path, plain: bool) -> None:
    """The file that a mounted secret stands in is read anew, by both ways to ask; a refusal ends when it changes."""
    more = {"ssl_context": None} if plain else {}
    async with signing_in(tmp_path, StillClock(), **more) as login:
        tenant = login.with_secret(client_secret_file=login.write("secret", "emulator-secret\n"))
        first = await login.tokens.token(tenant)
        login.application.secrets = {"rotated": None}
        login.tokens.invalidate(tenant, first)
        refusal = await refused(login, tenant)
        login.write("secret", "rotated")

        assert "AADSTS7000215" in str(refusal)
        assert await login.reads(await login.tokens.token(tenant))
        Path(tenant.client_secret_file).unlink()
        assert "client_secret_file" in str(await refused(replace(login, tokens=other_tokens(login)), tenant))


async def test_a_refusal_holds_only_until_the_file_changes(tmp_path: Path) -> None:
    """Nobody waits ten minutes for what is mended already; until then the login is not asked again."""
    async with signing_in(tmp_path, StillClock()) as login:
        tenant = login.with_certificate(make_client_certificate().whole_pem)
        for _ in range(3):
            await refused(login, tenant)
        asked = login.outcomes()
        login.write("app.pem", client_certificate().whole_pem)

        assert asked == {"unauthorized": 1}
        assert await login.tokens.token(tenant)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot be read (No such file"), ("", "holds no token"), ("two words", "holds no token")],
)
async def test_a_token_file_that_is_none_is_named(login: SignIn, content: str | None, words: str) -> None:
    """The login is not asked."""
    tenant = login.with_token_file(content or "")
    if content is None:
        Path(tenant.federated_token_file).unlink()

    assert words in str(await refused(login, tenant))
    assert login.outcomes() == {}


async def test_a_certificates_end_can_be_watched(login: SignIn) -> None:
    """As the file has it at each scrape, a renewed one too; 0 for a file that holds none."""
    now = time.time()
    tenant = login.with_certificate(make_client_certificate(life=dt.timedelta(days=5)).whole_pem)
    end = CertificateEnd(tenant)
    assert end() == pytest.approx(now + 5 * 86400, abs=3600)
    login.with_certificate(make_client_certificate(life=dt.timedelta(days=90)).whole_pem)
    assert end() == pytest.approx(now + 90 * 86400, abs=3600)
    login.with_certificate("no certificate")

    assert end() == 0


async def test_a_certificate_that_ends_soon_is_told_before_it_does(login: SignIn, written: io.StringIO) -> None:
    """Each time it is used; one that lasts is not spoken of."""
    lasting = make_client_certificate(life=dt.timedelta(days=31))
    ending = make_client_certificate(life=dt.timedelta(days=5))
    login.application.certificates += [lasting.public_pem, ending.public_pem]
    await login.tokens.token(login.with_certificate(lasting.whole_pem))
    assert written.getvalue() == ""
    await other_tokens(login).token(login.with_certificate(ending.whole_pem))

    said = orjson.loads(written.getvalue())
    assert (said["event"], said["days_left"]) == ("the certificate ends soon", 5.0)
    assert said["level"] == "warning"


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----", "\x00\x01"])
async def test_a_certificate_file_that_is_none_is_named(login: SignIn, content: str) -> None:
    """Whatever is wrong with it, the sentence says what must be in it, and nothing of what is."""
    sentence = str(await refused(login, login.with_certificate(content)))

    assert "must hold, as PEM or PFX, a certificate and its RSA private key" in sentence
    assert login.outcomes() == {}


# ---- the cache ------------------------------------------------------------------------------------------------------


async def test_many_tasks_share_one_request(login: SignIn) -> None:
    """Through the library too."""
    tenant = login.with_certificate()
    got = await asyncio.gather(*(login.tokens.token(tenant) for _ in range(50)))

    assert len(set(got)) == 1
    assert login.issued == 1


async def test_a_token_is_renewed_before_its_end_by_one_task(tmp_path: Path) -> None:
    """Five minutes before; meanwhile the old one serves."""
    clock = StillClock()
    async with signing_in(tmp_path, clock) as login:
        tenant = login.with_secret()
        first = await login.tokens.token(tenant)
        await clock.sleep(3200)
        assert await login.tokens.token(tenant) == first
        await clock.sleep(150)
        got = await asyncio.gather(*(login.tokens.token(tenant) for _ in range(20)))

        assert login.issued == 2
        assert await login.reads(got[0])
        assert set(got[1:]) <= {first, got[0]}
        assert await login.tokens.token(tenant) == got[0] != first


async def test_a_token_that_graph_refused_is_not_given_again(login: SignIn) -> None:
    """The library has a cache of its own, which would."""
    tenant = login.with_secret()
    first = await login.tokens.token(tenant)
    login.tokens.invalidate(tenant, first)

    assert await login.tokens.token(tenant) != first


async def test_one_sick_tenant_holds_up_no_other(tmp_path: Path) -> None:
    """Each with its own kind of credential; the sick one's login hangs."""
    fabrikam = TenantOptions(id="dddddddd-1111-4222-8333-444455556666", name="fabrikam", client_secret="theirs")
    async with signing_in(tmp_path, more_tenants=(fabrikam,)) as login:
        rule = {"kind": "token", "action": "hang", "tenantId": fabrikam.id}
        async with login.http.post(f"{login.emulator.url}/emulator/faults", json=rule) as answer:
            assert answer.status in (200, 201), await answer.text()
        sick = login.with_secret(id=fabrikam.id, client_secret=Secret("theirs"))
        waiting = asyncio.create_task(login.tokens.token(sick))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(3):
            well = await asyncio.gather(*(login.tokens.token(login.with_certificate()) for _ in range(5)))

        assert await login.reads(well[0])
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


# ---- the login in trouble -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "outcome", "words"),
    [
        ({"action": "status", "status": 503}, "error", "the login answered 503"),
        ({"action": "status", "status": 429, "retryAfter": 120}, "throttled", "throttled"),
        ({"action": "hang"}, "timeout", "did not answer in time"),
    ],
)
async def test_a_login_in_trouble_is_asked_once_and_left_alone(
    tmp_path: Path, rule: dict[str, object], outcome: str, words: str
) -> None:
    """The library's own retries are off: the layer above waits."""
    clock = Clock(speed=20)
    async with signing_in(tmp_path, clock) as login:
        async with login.http.post(f"{login.emulator.url}/emulator/faults", json={"kind": "token", **rule}) as answer:
            assert answer.status in (200, 201), await answer.text()
        wait = await refused(login, login.with_secret())

        assert words in str(wait)
        assert login.outcomes() == {outcome: 1}
        assert wait.wait_seconds > (100 if outcome == "throttled" else 1)


async def test_a_login_that_is_gone_is_told(login: SignIn) -> None:
    """A short wait at first, since this often passes by itself."""
    gone = replace(login.ends, login_url="https://127.0.0.1:9")
    wait = await refused(replace(login, tokens=other_tokens(login, gone)), login.with_secret())

    assert "the login cannot be reached" in str(wait)
    assert wait.wait_seconds <= 5


async def test_a_login_whose_certificate_nobody_vouches_for_is_not_told_the_secret(login: SignIn) -> None:
    """Without `graph.ca_file` the emulator's authority is a stranger's."""
    async with http_session() as http:
        wait = await refused(replace(login, tokens=other_tokens(login, http=http)), login.with_secret())

    assert "cannot be reached (SSLCertVerificationError)" in str(wait)
    assert "graph.ca_file" in str(wait)
    assert login.issued == 0


async def test_nothing_secret_and_nothing_of_the_logins_own_text_is_logged(login: SignIn, written: io.StringIO) -> None:
    """The library warns of each failure with the whole of it; ours is the only sentence."""
    await refused(login, login.with_secret(client_secret=Secret("hunter2hunter2")))
    await login.tokens.token(login.with_certificate())

    assert "hunter2" not in written.getvalue()
    assert "Trace ID" not in written.getvalue()
    assert "azure" not in written.getvalue()


def test_a_ca_file_that_is_none_is_refused_at_start(tmp_path: Path) -> None:
    """One sentence with the setting's name."""
    (tmp_path / "empty.pem").write_text("nothing", encoding="utf-8")

    with pytest.raises(UserError, match=r"graph\.ca_file.*holds no PEM certificate"):
        http_session(str(tmp_path / "empty.pem"))
    with pytest.raises(UserError, match=r"graph\.ca_file.*cannot be read"):
        http_session(str(tmp_path / "none.pem"))


def other_tokens(
    login: SignIn, ends: Endpoints | None = None, http: aiohttp.ClientSession | None = None
) -> TenantTokens:
    """Tokens without a memory of what was refused."""
    azure = AzureLogin(http or login.http, ends or login.ends, login.clock)
    return TenantTokens(lambda _: azure, login.clock, login.metrics)
