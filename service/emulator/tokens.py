"""The login host: client-credentials tokens, short-lived and shaped as Entra's, and Entra's words for refusing one.

A token is a JWT with the claims that Entra puts into one for Graph, so that a client may look at its `roles`. What it
opens is not read from it: it is known by its text, and its signature is random.

Source: graph-contract 10 and https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow .
"""

import base64
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.clock import Clock
from service.emulator.applications import Application
from service.emulator.directory import READ_CALLS, Directory
from service.emulator.entra import LoginRefusal, invalid_client
from service.emulator.options import Machine, TenantOptions
from service.emulator.refusals import unauthenticated

KEY_ID = uuid.uuid4().hex
GRAPH_ROOTS = ("https://graph.microsoft.com", "https://graph.microsoft.us", "https://dod-graph.microsoft.us")


@dataclass(frozen=True)
class Principal:
    """Who a token speaks for."""

    tenant_id: str
    client_id: str
    roles: frozenset[str] = field(default=frozenset(), compare=False)
    """App roles that were granted when the token was issued: a later grant needs a later token."""


class Tenants:
    """The tenants by id and name, each with its directory."""

    def __init__(self, tenants: tuple[TenantOptions, ...], machine: Machine | None, clock: Clock) -> None:
        """The machine's identities belong to the first tenant."""
        self.all = tenants
        self._clock = clock
        self._by_name = {name.lower(): tenant for tenant in tenants for name in (tenant.id, tenant.name)}
        self._directories = {
            tenant.id.lower(): Directory(tenant, None if number else machine, clock.now())
            for number, tenant in enumerate(tenants)
        }

    def find(self, id_or_name: str) -> TenantOptions | None:
        """By id, name or `{name}.onmicrosoft.com`."""
        return self._by_name.get(id_or_name.lower().removesuffix(".onmicrosoft.com"))

    def directory(self, tenant_id: str) -> Directory:
        """KeyError for a tenant that is not there."""
        return self._directories[tenant_id.lower()]

    def application(self, tenant_id: str) -> Application:
        """The application that the tenant began with. KeyError for a tenant that is not there."""
        return self.directory(tenant_id).application

    def may_read(self, principal: Principal) -> bool:
        """Whether the token has `CallRecords.Read.All`, and it is granted still."""
        return READ_CALLS in principal.roles and self.is_consented(principal)

    def is_consented(self, principal: Principal) -> bool:
        """Whether `CallRecords.Read.All` is granted now, whatever the token says."""
        return READ_CALLS in self.directory(principal.tenant_id).roles_of(principal.client_id)

    def set_consent(self, tenant_id: str, is_consented: bool) -> None:
        """An administrator grants to the application that the tenant began with, or revokes from all of them.

        A grant counts from the next token on; a revocation at once.
        """
        self.directory(tenant_id).set_consent(is_consented, self._clock.now())


class Tokens:
    """Issues tokens and knows whose they are."""

    def __init__(self, tenants: Tenants, clock: Clock, lifetime_seconds: float) -> None:
        self._tenants = tenants
        self._clock = clock
        self._lifetime_seconds = lifetime_seconds
        self._issued: dict[str, tuple[Principal, float]] = {}
        self._next_lifetime: float | None = None
        self.issued_count = 0

    def issue(self, tenant: str, form: Mapping[str, str], own_root: str) -> dict[str, Any]:
        """The reply to a token request; `LoginRefusal` when Entra would not grant it."""
        options = self._tenants.find(tenant)
        if options is None:
            raise LoginRefusal(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        _check_grant(form)
        login = f"{own_root}/{tenant}"
        directory, client_id = self._tenants.directory(options.id), form["client_id"]
        _application(directory, client_id).check(form, login, self._clock.now())
        if directory.principal_of(client_id) is None:
            message = f"The client application {client_id} is missing service principal in the tenant {options.id}."
            raise invalid_client(7000229, message)
        _check_scope(form["scope"], own_root)
        return self.grant(options.id, client_id, own_root)

    def principal(self, authorization: str | None) -> Principal:
        """Whose the `Authorization` header's token is; 401 when absent, unknown or expired."""
        if not authorization:
            raise unauthenticated("Access token is empty.")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or token not in self._issued:
            raise unauthenticated("IDX14100: JWT is not well formed, there are no dots (.).")
        principal, expires = self._issued[token]
        if self._clock.now() >= expires:
            raise unauthenticated("Lifetime validation failed, the token is expired.")
        return principal

    def lifetime_of_next(self, seconds: float) -> None:
        """The next token that is issued lives so long, and says so."""
        self._next_lifetime = seconds

    def expire_all(self) -> int:
        """Every token issued so far is expired from now on; how many there were."""
        now = self._clock.now()
        self._issued = {token: (principal, min(now, end)) for token, (principal, end) in self._issued.items()}
        return len(self._issued)

    def grant(self, tenant_id: str, client_id: str, own_root: str) -> dict[str, Any]:
        """A new token with what is granted now, as the reply that carries it. `own_root`: where Graph is."""
        roles = self._tenants.directory(tenant_id).roles_of(client_id)
        principal = Principal(tenant_id.lower(), client_id.lower(), roles)
        now, lifetime = self._clock.now(), self._lifetime_seconds
        if self._next_lifetime is not None:
            lifetime, self._next_lifetime = self._next_lifetime, None
        # Expired ones stay known for a while, to be told apart from invented ones.
        self._issued = {
            token: (whose, end) for token, (whose, end) in self._issued.items() if now < end + self._lifetime_seconds
        }
        token = _jwt(_claims(principal, own_root, now, now + lifetime))
        self._issued[token] = (principal, now + lifetime)
        self.issued_count += 1
        seconds = max(1, int(lifetime) - 1)
        return {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}


def _claims(principal: Principal, own_root: str, now: float, end: float) -> dict[str, Any]:
    """Those of an application's token; `roles` is left out where nothing is granted, as Entra does.

    Source: https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference .
    """
    claims: dict[str, Any] = {
        "aud": own_root,
        "iss": f"https://sts.windows.net/{principal.tenant_id}/",
        "iat": int(now),
        "nbf": int(now),
        "exp": int(end),
        "appid": principal.client_id,
        "idtyp": "app",
        "tid": principal.tenant_id,
        "uti": secrets.token_urlsafe(16),
        "ver": "1.0",
    }
    return claims | ({"roles": sorted(principal.roles)} if principal.roles else {})


def _jwt(claims: dict[str, Any]) -> str:
    header = {"typ": "JWT", "alg": "RS256", "kid": KEY_ID}
    parts = (orjson.dumps(header), orjson.dumps(claims), secrets.token_bytes(256))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _application(directory: Directory, client_id: str) -> Application:
    found = directory.application_of(client_id)
    if found is None:
        message = f"Application with identifier '{client_id}' was not found in the directory '{directory.tenant.name}'."
        raise LoginRefusal(400, "unauthorized_client", 700016, message)
    return found


def _check_grant(form: Mapping[str, str]) -> None:
    for name in ("grant_type", "client_id", "scope"):
        if not form.get(name):
            message = f"The request body must contain the following parameter: '{name}'."
            raise LoginRefusal(400, "invalid_request", 900144, message)
    if form["grant_type"] != "client_credentials":
        message = f"The app requested an unsupported grant type '{form['grant_type']}'."
        raise LoginRefusal(400, "unsupported_grant_type", 70003, message)


def _check_scope(scope: str, own_root: str) -> None:
    resource, dot, rest = scope.partition("/.default")
    if not dot or rest or " " in scope:
        message = f"The provided value for scope {scope} is not valid. Client credential flows must have a scope value "
        message += "with /.default suffixed to the resource identifier (application ID URI)."
        raise LoginRefusal(400, "invalid_scope", 1002012, message)
    if resource.rstrip("/") not in (*GRAPH_ROOTS, own_root):
        message = f"The resource principal named {resource} was not found in the tenant."
        raise LoginRefusal(400, "invalid_resource", 500011, message)
