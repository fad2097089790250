"""Tokens for Kafka from Microsoft Entra, through azure-identity, against the emulated login over TLS; and what odd
answers of that login or of any other come to.
"""

from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from service.kafka.oauth import TokenMissing, tokens_of
from service.settings import Kafka, Secret
from tests.shell.graph_fixture import TENANT, Answer, raw
from tests.shell.signin_fixture import USER_IDENTITY, SignIn, outside_token, signing_in
from tests.shell.test_signin import AZURE_VARIABLES
from tests.shell.test_signin_answers import DEEP, JSON, answering, bomb, lives


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No identity of the machine that runs the tests takes part."""
    for name in AZURE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def kafka(login: SignIn, credential: str, **more: str) -> Kafka:
    """A Kafka whose brokers take this login's tokens."""
    return Kafka(
        security_protocol="SASL_SSL",
        ca_file=str(login.folder / "ca.pem"),
        sasl_mechanism="OAUTHBEARER",
        oauth_credential=credential,  # type: ignore[arg-type]
        oauth_token_url=f"{login.emulator.url}/any/oauth2/v2.0/token",
        oauth_scope=f"{login.emulator.url}/.default",
        **more,
    )


async def test_a_pod_signs_in_with_its_own_token(tmp_path: Path) -> None:
    """Workload identity: the pod's token is exchanged; one request for any number of connections."""
    async with signing_in(tmp_path) as login:
        file = login.write("token", outside_token(login.clock.now()))
        identity = {"oauth_client_id": login.options.client_id, "oauth_tenant_id": login.options.id}
        tokens = tokens_of(kafka(login, "workload-identity", oauth_token_file=file, **identity))
        token = await tokens.token()

        assert await tokens.token() == token
        assert await login.reads(token)
        assert login.issued == 1


async def test_a_pod_that_nobody_trusts_is_told_why(tmp_path: Path) -> None:
    """The login's number in our words; neither its own text nor the pod's token. It is one of Kafka's errors."""
    async with signing_in(tmp_path) as login:
        outside = outside_token(login.clock.now(), sub="system:serviceaccount:calls:somebody")
        identity = {"oauth_client_id": login.options.client_id, "oauth_tenant_id": login.options.id}
        file = login.write("token", outside)
        tokens = tokens_of(kafka(login, "workload-identity", oauth_token_file=file, **identity))
        with pytest.raises(TokenMissing) as caught:
            await tokens.token()

        assert "AADSTS700213" in str(caught.value)
        assert outside not in str(caught.value)
        assert isinstance(caught.value, KafkaError)


async def test_a_machine_signs_in_as_its_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Managed identity, found as azure-identity finds it."""
    async with signing_in(tmp_path) as login:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{login.emulator.url}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "emulator-identity-header")
        tokens = tokens_of(kafka(login, "managed-identity", oauth_client_id=USER_IDENTITY))

        assert await tokens.token()


@pytest.mark.parametrize("credential", ["workload-identity", "client-secret"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lives("1e999"), "holds none"),
        (lives("9" * 401), "holds none"),
        (raw(DEEP, **JSON), "holds none"),
        (raw(DEEP, 400, **JSON), "answered 400"),
        (bomb(), "was cut"),
    ],
)
async def test_an_odd_answer_leaves_a_client_without_a_token(
    tmp_path: Path, credential: str, answer: Answer, words: str
) -> None:
    """One of Kafka's errors, which every client of it waits after; whichever library read the answer."""
    (tmp_path / "token").write_text("an.outside.token", encoding="utf-8")
    async with answering(tmp_path, answer) as (url, seen):
        settings = Kafka(
            security_protocol="SASL_SSL",
            ca_file=str(tmp_path / "ca.pem"),
            sasl_mechanism="OAUTHBEARER",
            oauth_credential=credential,  # type: ignore[arg-type]
            oauth_token_url=f"{url}/any/oauth2/v2.0/token",
            oauth_scope=f"{url}/.default",
            oauth_client_id=TENANT.client_id,
            oauth_client_secret=Secret("the-very-secret"),
            oauth_tenant_id=TENANT.id,
            oauth_token_file=str(tmp_path / "token"),
        )
        with pytest.raises(TokenMissing, match=words):
            await tokens_of(settings).token()

    assert len(seen) == 1
