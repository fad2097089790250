"""A login over TLS: the emulator with an authority of its own, and the service's tokens that trust it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric import rsa

from service.clock import Clock
from service.emulator.applications import Application
from service.emulator.assertions import sign
from service.emulator.options import EmulatorOptions, Federation, Machine, TenantOptions
from service.emulator.server import Emulator, open_emulator
from service.emulator.tls import Authority, ClientCertificate, make_authority, make_client_certificate, public_pem
from service.graph.auth import TenantTokens, tokens_of
from service.metrics import Metrics
from service.outbound.session import http_session
from service.settings import Graph, Secret, Tenant
from service.signin.clouds import Endpoints, endpoints

ISSUER = "https://oidc.example.com/cluster-1"
SUBJECT = "system:serviceaccount:calls:callstream"
SYSTEM_IDENTITY = "55555555-0000-4000-8000-000000000001"
USER_IDENTITY = "55555555-0000-4000-8000-000000000002"


@cache
def authority() -> Authority:
    """One for all tests."""
    return make_authority()


@cache
def issuer_key() -> rsa.RSAPrivateKey:
    """Of the outside issuer; the slow part of making tokens."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def client_certificate() -> ClientCertificate:
    """The one that the application knows."""
    return make_client_certificate()


def outside_token(now: float, **claims: Any) -> str:
    """What a cluster projects into a pod; claims may be other than they should."""
    usual = {
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": ["api://AzureADTokenExchange"],
        "iat": int(now),
        "nbf": int(now),
        "exp": int(now) + 3600,
    }
    return sign(issuer_key(), usual | claims)


@dataclass
class SignIn:
    """A login, who signs in to it, and what was counted."""

    emulator: Emulator
    http: aiohttp.ClientSession
    ends: Endpoints
    tokens: TenantTokens
    metrics: Metrics
    clock: Clock
    folder: Path

    @property
    def application(self) -> Application:
        """The registration of the first tenant's application."""
        return self.emulator.world.tenants.application(self.options.id)

    @property
    def options(self) -> TenantOptions:
        """The first tenant."""
        return self.emulator.world.options.tenants[0]

    def tenant(self, credential: str, **more: Any) -> Tenant:
        """The first tenant with a kind of credential."""
        usual = {"id": self.options.id, "client_id": self.options.client_id, "credential": credential}
        return Tenant(**{**usual, **more})  # type: ignore[arg-type]

    def with_secret(self, **more: Any) -> Tenant:
        """Signs in with the secret that is right unless another is given."""
        return self.tenant("client-secret", **{"client_secret": Secret(self.options.client_secret), **more})

    def with_certificate(self, content: str | None = None, **more: Any) -> Tenant:
        """Signs in with a certificate file, by default the one that the application knows."""
        path = self.write("app.pem", client_certificate().whole_pem if content is None else content)
        return self.tenant("certificate", **{"certificate_file": path, **more})

    def with_token_file(self, token: str, kind: str = "federated-token") -> Tenant:
        """Signs in with an outside token."""
        return self.tenant(kind, federated_token_file=self.write("token", token + "\n"))

    def write(self, name: str, content: str) -> str:
        """Replaces a file as the kubelet does: the whole of it at once, under another inode."""
        new = self.folder / f"{name}.new"
        new.write_text(content, encoding="utf-8")
        new.replace(self.folder / name)
        return str(self.folder / name)

    async def reads(self, token: str) -> bool:
        """Whether the token opens the call records."""
        url = f"{self.emulator.url}/v1.0/communications/callRecords"
        async with self.http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status == 200

    @property
    def issued(self) -> int:
        """Tokens that the login has given."""
        return self.emulator.world.tokens.issued_count

    def outcomes(self) -> dict[str, int]:
        """How often each outcome of a token request was counted."""
        found = {}
        for metric in self.metrics.graph_seconds.collect():
            for sample in metric.samples:
                if sample.name.endswith("_count") and sample.labels["call"] == "token" and sample.value:
                    found[sample.labels["outcome"]] = int(sample.value)
        return found


@asynccontextmanager
async def signing_in(
    folder: Path,
    clock: Clock | None = None,
    login_clock: Clock | None = None,
    adapt: Callable[[TenantOptions], TenantOptions] = lambda tenant: tenant,
    more_tenants: tuple[TenantOptions, ...] = (),
    **options: Any,
) -> AsyncIterator[SignIn]:
    """A login over TLS that knows a certificate, a federated credential and a machine with two identities."""
    federations = (Federation(ISSUER, SUBJECT, public_pem(issuer_key())),)
    tenant = TenantOptions(certificates=(client_certificate().public_pem,), federations=federations)
    chosen = EmulatorOptions(
        port=0,
        ssl_context=authority().server_context(),
        tenants=(adapt(tenant), *more_tenants),
        machine=Machine(SYSTEM_IDENTITY, (USER_IDENTITY,)),
    )
    ca_file = folder / "ca.pem"
    ca_file.write_text(authority().pem, encoding="utf-8")
    clock, metrics = clock or Clock(), Metrics(tenants=["contoso", "fabrikam"])
    async with (
        open_emulator(replace(chosen, **options), login_clock or Clock()) as emulator,
        http_session(str(ca_file)) as http,
    ):
        ends = endpoints(Graph(cloud="custom", root_url=emulator.url, login_url=emulator.url))
        yield SignIn(emulator, http, ends, tokens_of(http, ends, clock, metrics), metrics, clock, folder)
