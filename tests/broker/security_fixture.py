"""One real broker that has a listener of every kind: good and bad certificates, accounts, tokens, ACLs.

The certificates are made for the run; the login that gives tokens is a small server that signs them for real.
"""

import asyncio
import base64
import datetime as dt
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives.asymmetric import rsa

from service.embedded import Cluster, Listener, Security, TokenKeys, embedded_kafka, prepare_fast_start
from service.emulator.tls import CLIENT, Authority, make_authority
from service.kafka.rights import Right
from service.settings import Kafka, Secret

USER, PASSWORD = "callstream", "the-password-of-callstream"
CLIENT_ID, CLIENT_SECRET = "callstream-client", "a secret: with % signs"
ISSUER, AUDIENCE, SCOPE = "https://login.example.com", "kafka", "kafka/.default"
SECONDS = 30.0
ROLES = ("receive", "work", "keep")  # accounts of these names, each to be given what the role needs
# Kafka's numbers of kinds, patterns and operations (org.apache.kafka.common.resource, .acl).
KINDS = {"topic": 2, "group": 3, "cluster": 4, "transactional-id": 5}
LITERAL, PREFIXED, ALLOW = 3, 4, 3
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
SASL = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True)
class Secured:
    """The broker, and what a client of it needs."""

    cluster: Cluster
    folder: Path
    signing_key: rsa.RSAPrivateKey

    def file(self, name: str) -> str:
        """Path of a PEM file: `ca`, `client`, `stranger-ca`, `stranger-client`."""
        return str(self.folder / f"{name}.pem")

    def kafka(self, listener: str, protocol: str, **more: Any) -> Kafka:
        """Settings for a listener that trust its authority."""
        trust = {"ca_file": self.file("ca")} if protocol.endswith("SSL") else {}
        fields: dict[str, Any] = {"security_protocol": protocol, **trust, **more}
        return Kafka(bootstrap_servers=self.cluster.servers(listener), **fields)

    def scram(self, listener: str = "SCRAM", protocol: str = "SASL_SSL", **more: Any) -> Kafka:
        """Settings of an account that the broker knows."""
        account = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_username": USER, "sasl_password": Secret(PASSWORD)}
        return self.kafka(listener, protocol, **account | more)

    def oauth(self, token_url: str, **more: Any) -> Kafka:
        """Settings of a client that asks `token_url` for tokens."""
        client = {"oauth_client_id": CLIENT_ID, "oauth_client_secret": Secret(CLIENT_SECRET), "oauth_scope": SCOPE}
        fields = {"sasl_mechanism": "OAUTHBEARER", "oauth_token_url": token_url} | client | more
        return self.kafka("OAUTH", "SASL_SSL", **fields)


@pytest.fixture(scope="session")
def secured(kafka_packages: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The broker; it lasts for the whole run and belongs to no test's event loop."""
    folder = tmp_path_factory.mktemp("secured")
    ours, strangers = make_authority(), make_authority()
    write_files(folder, ours, strangers)
    signing_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "keys.json").write_text(json.dumps({"keys": [jwk(signing_key)]}))
    with asyncio.Runner() as runner:
        runner.run(prepare_fast_start())
        opened = embedded_kafka(security=security(folder))
        cluster = runner.run(opened.__aenter__())
        try:
            yield Secured(cluster, folder, signing_key)
        finally:
            runner.run(opened.__aexit__(None, None, None))


@pytest_asyncio.fixture
async def all_closed() -> AsyncIterator[None]:
    """Waits at the end of a test until every connection is closed.

    aiokafka closes one that was not let in and does not wait; TLS takes a moment to say goodbye, and what is still open
    when the loop ends is told as a leak, of whichever test comes next.
    """
    yield
    sockets = asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
    async with asyncio.timeout(SECONDS):
        while len(sockets) > 1:  # noqa: ASYNC110 - the loop's own stays; the others tell nobody
            await asyncio.sleep(0.01)


def write_files(folder: Path, ours: Authority, strangers: Authority) -> None:
    here = ["127.0.0.1", "localhost"]
    texts = {
        "ca": ours.pem,
        "stranger-ca": strangers.pem,
        "broker": ours.issue(here),
        "expired": ours.issue(here, life=dt.timedelta(hours=-1)),
        "elsewhere": ours.issue(["kafka.example.com"]),
        "client": ours.issue(["callstream"], use=CLIENT, who=USER),
        "stranger-client": strangers.issue(["callstream"], use=CLIENT, who=USER),
    }
    for name, text in texts.items():
        (folder / f"{name}.pem").write_text(text)


def security(folder: Path) -> Security:
    good = folder / "broker.pem"
    return Security(
        listeners=[
            Listener("TLS", "SSL", good),
            Listener("MTLS", "SSL", good, clients=folder / "ca.pem"),
            Listener("EXPIRED", "SSL", folder / "expired.pem"),
            Listener("ELSEWHERE", "SSL", folder / "elsewhere.pem"),
            Listener("SCRAM", "SASL_SSL", good, mechanisms=SASL),
            Listener("OPEN", "SASL_PLAINTEXT", mechanisms=("SCRAM-SHA-512",)),
            Listener("OAUTH", "SASL_SSL", good, mechanisms=("OAUTHBEARER",)),
        ],
        users=dict.fromkeys((USER, *ROLES), PASSWORD),
        tokens=TokenKeys((folder / "keys.json").as_uri(), ISSUER, AUDIENCE),
        authorizer=True,
    )


def jwk(key: rsa.RSAPrivateKey) -> dict[str, Any]:
    """The public half as a login publishes it."""
    public: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return public | {"kid": "1", "alg": "RS256", "use": "sig"}


async def allow(secured: Secured, user: str, rights: Iterable[Right]) -> None:
    """Grants what is listed and nothing else; as the plain listener's client, who may."""
    admin = AIOKafkaAdminClient(bootstrap_servers=secured.cluster.bootstrap_servers)
    await admin.start()
    try:
        for right in rights:
            for operation in right.operations:
                pattern = PREFIXED if right.is_prefix else LITERAL
                resource = (KINDS[right.kind], right.name, pattern)
                request = CreateAclsRequest(*resource, f"User:{user}", "*", OPERATIONS[operation], ALLOW)
                answer = await admin._send_request(request)
                assert answer.creation_responses[0][0] == 0, answer
    finally:
        await admin.close()


@dataclass
class TokenEndpoint:
    """A login: what it was asked, and the claims of the tokens that it gives."""

    url: str
    asked: list[dict[str, str]]
    claims: dict[str, Any]
    fails_with: int | None = None


@asynccontextmanager
async def token_endpoint(key: rsa.RSAPrivateKey) -> AsyncIterator[TokenEndpoint]:
    """RFC 6749 4.4: real signed tokens for the one client that it knows."""
    login = TokenEndpoint("", [], {"iss": ISSUER, "aud": AUDIENCE, "sub": USER})

    async def grant(request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        login.asked.append(form)
        if login.fails_with:
            return web.Response(status=login.fails_with, text="<html>secret text of the login</html>")
        kind, _, encoded = request.headers["Authorization"].partition(" ")
        client = base64.b64decode(encoded).decode()
        # Each half is form-encoded before they are joined (RFC 6749 section 2.3.1).
        if (kind, client) != ("Basic", "callstream-client:a%20secret%3A%20with%20%25%20signs"):
            return web.json_response({"error": "invalid_client", "error_description": "secret text"}, status=401)
        if form.get("scope") != SCOPE:
            return web.json_response({"error": "invalid_scope"}, status=400)
        now = int(time.time())
        token = jwt.encode({"iat": now, "exp": now + 3600} | login.claims, key, "RS256", {"kid": "1"})
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    app = web.Application()
    app.router.add_post("/token", grant)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    login.url = f"http://127.0.0.1:{runner.addresses[0][1]}/token"
    try:
        yield login
    finally:
        await runner.cleanup()
