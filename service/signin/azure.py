"""Shell: signing in through azure-identity, over the process's own session: every kind of credential.

The library's credential is made anew for each token. So its own cache cannot give back a token that Graph has just
refused, and a certificate or token file is always the one that is there now. Tokens are cached one level up, where
retrying is decided too: the library's retries are off.

Source: https://learn.microsoft.com/python/api/azure-identity/azure.identity.aio ; graph-contract 10.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
from azure.core.credentials_async import AsyncSupportsTokenInfo
from azure.core.exceptions import (
    AzureError,
    IncompleteReadError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.identity.aio import (
    ClientAssertionCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
)

from service.clock import Clock
from service.outbound.body import BodyCut, BodyTooLarge, read_body, real_timeout
from service.settings import Tenant
from service.signin.certificate import certificate_credential
from service.signin.clouds import Endpoints
from service.signin.credentials import (
    MOST_BODY_BYTES,
    REQUEST_SECONDS,
    Grant,
    NoToken,
    check_status,
    checked,
    no_token_in,
    unreachable,
)
from service.signin.files import read_secret, read_token, stamp

LOGIN: Final = "the login"
IDENTITY: Final = "the managed identity's endpoint"


class AzureLogin:
    """Signs in with whatever kind of credential the tenant has."""

    def __init__(self, http: aiohttp.ClientSession, endpoints: Endpoints, clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._ways: dict[str, Callable[[Tenant], Awaitable[Grant]]] = {
            "client-secret": self._with_secret,
            "certificate": self._with_certificate,
            "federated-token": self._with_token_file,
            "workload-identity": self._with_token_file,
            "managed-identity": self._as_identity,
            "managed-identity-federation": self._with_identity_token,
        }
        self._http = http
        self._options: dict[str, Any] = {
            "authority": endpoints.login_url,
            # No Microsoft host vouches for addresses of the settings, and none is reachable from where they are used.
            "disable_instance_discovery": endpoints.is_custom,
            "retry_total": 0,
        }

    def stamp(self, tenant: Tenant) -> object:
        """Changes when a file of the credential does."""
        return stamp(tenant)

    async def grant(self, tenant: Tenant) -> Grant:
        """A new token. Raises NoToken."""
        try:
            async with real_timeout(self._clock, REQUEST_SECONDS):
                return await self._ways[tenant.credential](tenant)
        except TimeoutError:
            who = IDENTITY if tenant.credential == "managed-identity" else LOGIN
            sentence = f"There is no token: {who} did not answer in time."
            raise NoToken(sentence, is_refusal=False, outcome="timeout") from None

    async def _with_secret(self, tenant: Tenant) -> Grant:
        secret = await read_secret(tenant)
        wire = _Wire(self._http)
        credential = ClientSecretCredential(tenant.id, tenant.client_id, secret, transport=wire, **self._options)
        return await self._ask(credential, wire)

    async def _with_certificate(self, tenant: Tenant) -> Grant:
        wire = _Wire(self._http)
        credential = await asyncio.to_thread(certificate_credential, tenant, transport=wire, **self._options)
        return await self._ask(credential, wire)

    async def _with_token_file(self, tenant: Tenant) -> Grant:
        return await self._exchange(tenant, await asyncio.to_thread(read_token, tenant))

    async def _with_identity_token(self, tenant: Tenant) -> Grant:
        """The application trusts a managed identity, whose token is exchanged for the application's."""
        scope = f"{self._endpoints.assertion_audience}/.default"
        grant = await self._ask_identity(tenant.identity_client_id, scope)
        return await self._exchange(tenant, grant.token)

    async def _as_identity(self, tenant: Tenant) -> Grant:
        return await self._ask_identity(tenant.client_id, self._endpoints.scope)

    async def _exchange(self, tenant: Tenant, assertion: str) -> Grant:
        wire = _Wire(self._http)
        credential = ClientAssertionCredential(
            tenant.id, tenant.client_id, lambda: assertion, transport=wire, **self._options
        )
        return await self._ask(credential, wire)

    async def _ask_identity(self, client_id: str, scope: str) -> Grant:
        """Asks the machine's endpoint, which the library finds by the variables that the platform sets."""
        wire = _Wire(self._http)
        credential = ManagedIdentityCredential(client_id=client_id or None, transport=wire, retry_total=0)
        hint = (
            f"the identity {client_id} is not assigned to this machine" if client_id else "this machine has no identity"
        )
        return await self._ask(credential, wire, scope, IDENTITY, hint)

    async def _ask(
        self, credential: AsyncSupportsTokenInfo, wire: "_Wire", scope: str = "", who: str = LOGIN, hint: str = ""
    ) -> Grant:
        """One request. `hint` says what a refusal without a number means."""
        asked_at = int(time.time())  # the library adds the lifetime to the machine's time, whole seconds
        try:
            async with credential:
                found = await credential.get_token_info(scope or self._endpoints.scope)
            life_seconds = float(found.expires_on - asked_at)  # the library knows no bound for whole numbers
        except Exception as exc:
            # Anything: what the library, and json, codecs and msal below it, raise at bytes that they did not expect is
            # no closed set (RecursionError, OverflowError, LookupError …), and what is let through here ends the
            # process. Nothing else of ours is in the block but the wire; the sentence names what was met.
            raise _no_token(exc, wire.answer, self._clock.now(), who, hint) from None
        return checked(found.token, life_seconds, who)


class _Wire(AioHttpTransport):  # type: ignore[misc]  # exported without its type
    """The process's session as the library takes it. Keeps the answer: not each of the library's errors has it."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        super().__init__(session=http, session_owner=False)
        self.answer: Any = None

    async def send(self, request: Any, **options: Any) -> Any:
        """One request. The body is read here: the library would take any number of bytes, and unpack them to more."""
        request.headers["Accept-Encoding"] = "gzip"
        answer = await super().send(request, **options | {"stream": True, "auto_decompress": False})
        try:
            answer._content = await read_body(answer.internal_response, MOST_BODY_BYTES)
        except (aiohttp.ClientPayloadError, BodyCut, BodyTooLarge) as exc:
            raise IncompleteReadError(exc, error=exc) from exc
        finally:
            await answer.close()
        self.answer = answer
        return answer


def _no_token(exc: Exception, answer: Any, now: float, who: str, hint: str) -> NoToken:
    """The error in our words. Its text may hold the login's own, so no part of it is used."""
    chain = _chain(exc)
    if answer is not None:
        try:
            check_status(answer.status_code, answer.headers, answer.body(), now, who, hint)
        except NoToken as problem:
            return problem
        return no_token_in(who, "" if isinstance(chain[-1], AzureError) else type(chain[-1]).__name__)
    for one in chain:
        if isinstance(one, ServiceRequestTimeoutError | ServiceResponseTimeoutError):
            return NoToken(f"There is no token: {who} did not answer in time.", is_refusal=False, outcome="timeout")
        if isinstance(one, IncompleteReadError | ServiceResponseError):
            return NoToken(f"There is no token: the answer of {who} was cut.", is_refusal=False, outcome="cut")
    return unreachable(who, chain[-1], ": it exists on Azure's own machines alone" if who == IDENTITY else "")


def _chain(exc: BaseException) -> list[BaseException]:
    """The error and what caused it, down to the first cause."""
    chain = [exc]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain
