"""Shell: application tokens, one per tenant, cached and renewed before they expire by one task at a time.

Source: graph-contract 10; https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow .
Neither a secret nor a token nor the login's own text is ever logged or raised; the number of its error is.
"""

import asyncio
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote

import aiohttp
import msgspec

from service.clock import Clock
from service.errors import TenantMustWait
from service.graph.body import BodyCut, BodyTooLarge, read_body, real_timeout
from service.graph.clouds import Endpoints
from service.graph.protocol import interpret
from service.metrics import Metrics
from service.settings import Tenant

# A token is renewed so long before it expires, or a fifth of its life if that is less. Seconds.
MARGIN_SECONDS: Final = 300.0
REQUEST_SECONDS: Final = 10.0
# Where the login does not say how long a token lives; Entra's live 3,600 s and more.
LIFE_SECONDS: Final = 600.0
MOST_BODY_BYTES: Final = 256 * 1024
# An outage of the login may pass in seconds; what it refuses, a person has to put right.
FIRST_WAIT_FAILED: Final = 5.0
FIRST_WAIT_REFUSED: Final = 30.0
LONGEST_WAIT: Final = 600.0
NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)

HINTS: Final = {
    90002: "the tenant id is not known to this cloud",
    700016: "client_id is not known in this tenant: check the id, and that an administrator consented",
    700027: "the certificate is not one of the application's",
    7000112: "the application is disabled",
    7000215: "the client_secret is wrong: it must be the secret's value, not its id",
    7000222: "the client_secret has expired: make a new one",
    53003: "a conditional access policy blocks the application",
    500011: "Graph's service principal is missing in this tenant",
    90033: "the login is temporarily unavailable",
}


class Tokens(Protocol):
    """Where tokens come from."""

    async def token(self, tenant: Tenant) -> str:
        """A token that is valid now. Raises TenantMustWait (`no_token`)."""
        ...

    def invalidate(self, tenant: Tenant, token: str) -> None:
        """Graph refused this token: the next one asked for is new."""
        ...


class _Reply(msgspec.Struct):
    access_token: str = ""
    expires_in: float = 0.0


class _Refusal(msgspec.Struct):
    error: str = ""
    error_description: str = ""
    error_codes: list[int] = []


_REPLY: Final = msgspec.json.Decoder(_Reply, strict=False)  # `expires_in` was seen as text in older replies
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


class _NoToken(Exception):
    """The login did not give one; `is_refusal` when asking again will not help by itself."""

    def __init__(self, sentence: str, is_refusal: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(sentence)
        self.is_refusal = is_refusal
        self.retry_after_seconds = retry_after_seconds


@dataclass
class _Entry:
    """What is known of one tenant. Times are Unix seconds of the clock."""

    token: str = ""
    renew_at: float = 0.0
    expires_at: float = 0.0
    failures: int = 0
    wait_until: float = 0.0
    sentence: str = ""
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)


class ClientSecretTokens:
    """Tokens for a client secret."""

    def __init__(self, http: aiohttp.ClientSession, endpoints: Endpoints, clock: Clock, metrics: Metrics) -> None:
        self._http = http
        self._endpoints = endpoints
        self._clock = clock
        self._metrics = metrics
        self._entries: dict[tuple[str, str], _Entry] = {}

    async def token(self, tenant: Tenant) -> str:
        """A token that is valid now, from the cache where it is fresh.

        Raises TenantMustWait (`no_token`) with a sentence for a person; until that wait is over the login is not asked
        again. A token that is still valid is used while renewing fails. Cancelling leaves nothing behind: the next
        caller asks.
        """
        entry = self._entry(tenant)
        now = self._clock.now()
        if now < entry.renew_at or (now < entry.expires_at and entry.renewing.locked()):
            return entry.token
        async with entry.renewing:
            now = self._clock.now()
            if now >= entry.renew_at and now >= entry.wait_until:
                await self._renew(tenant, entry)
        now = self._clock.now()
        if now < entry.expires_at:
            return entry.token
        raise TenantMustWait("no_token", max(1.0, entry.wait_until - now), entry.sentence)

    def invalidate(self, tenant: Tenant, token: str) -> None:
        """Forgets `token`, unless a newer one is there already: many requests may learn of it at once."""
        entry = self._entry(tenant)
        if entry.token == token:
            entry.token, entry.renew_at, entry.expires_at = "", 0.0, 0.0

    def _entry(self, tenant: Tenant) -> _Entry:
        return self._entries.setdefault((tenant.id.lower(), tenant.client_id.lower()), _Entry())

    async def _renew(self, tenant: Tenant, entry: _Entry) -> None:
        started = self._clock.now()
        try:
            reply = await self._ask(tenant)
        except _NoToken as problem:
            self._remember_failure(entry, problem)
            return
        life = reply.expires_in if 1.0 <= reply.expires_in < float("inf") else LIFE_SECONDS
        entry.token = reply.access_token
        entry.expires_at = started + life
        entry.renew_at = entry.expires_at - min(MARGIN_SECONDS, life / 5)
        entry.failures, entry.wait_until, entry.sentence = 0, 0.0, ""

    def _remember_failure(self, entry: _Entry, problem: _NoToken) -> None:
        entry.failures += 1
        first = FIRST_WAIT_REFUSED if problem.is_refusal else FIRST_WAIT_FAILED
        wait = min(LONGEST_WAIT, first * 2.0 ** min(entry.failures - 1, 16))
        wait *= random.uniform(0.8, 1.0)  # noqa: S311 - jitter, no secret
        entry.wait_until = self._clock.now() + max(wait, problem.retry_after_seconds or 0.0)
        entry.sentence = str(problem)

    async def _ask(self, tenant: Tenant) -> _Reply:
        """One request to the login, measured. Raises _NoToken."""
        if not tenant.client_secret:
            raise _NoToken("There is no token: this tenant has no client_secret in the settings.", True)
        started, outcome = self._clock.now(), "error"
        try:
            status, headers, body = await self._post(tenant)
            meaning = interpret(status, headers, self._clock.now())
            if meaning.kind == "ok":
                reply = _read_reply(body)
                outcome = "ok"
                return reply
            if meaning.kind == "throttled":
                outcome = "throttled"
                raise _NoToken("There is no token: the login is throttled.", False, meaning.retry_after_seconds)
            if meaning.kind == "failed":
                sentence = f"There is no token: the login answered {status}."
                raise _NoToken(sentence, False, meaning.retry_after_seconds)
            outcome = "refused" if meaning.kind == "refused" else "unauthorized"
            raise _NoToken(_sentence(status, body), True)
        except TimeoutError:
            outcome = "timeout"
            raise _NoToken("There is no token: the login did not answer in time.", False) from None
        except (aiohttp.ClientPayloadError, BodyCut, BodyTooLarge):
            outcome = "cut"
            raise _NoToken("There is no token: the login's answer was cut.", False) from None
        except (aiohttp.ClientError, OSError) as exc:
            raise _NoToken(f"There is no token: the login cannot be reached ({type(exc).__name__}).", False) from None
        finally:
            self._metrics.graph_seconds.labels("token", outcome).observe(self._clock.now() - started)

    async def _post(self, tenant: Tenant) -> tuple[int, Mapping[str, str], bytes]:
        url = f"{self._endpoints.login_url}/{quote(tenant.id, safe='')}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": tenant.client_id,
            "client_secret": tenant.client_secret.reveal(),
            "scope": self._endpoints.scope,
        }
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip"}
        async with (
            real_timeout(self._clock, REQUEST_SECONDS),
            self._http.post(
                url, data=form, headers=headers, allow_redirects=False, auto_decompress=False, timeout=NO_TIMEOUT
            ) as response,
        ):
            return response.status, response.headers, await read_body(response, MOST_BODY_BYTES)


def _read_reply(body: bytes) -> _Reply:
    try:
        reply = _REPLY.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        reply = _Reply()
    # A token goes into a header, so it is one line of visible ASCII.
    if not re.fullmatch(r"[\x21-\x7e]+", reply.access_token):
        raise _NoToken("There is no token: the login's answer holds none.", False)
    return reply


def _sentence(status: int, body: bytes) -> str:
    """What a person can act on: the number of the login's error and what it means, never the login's own text."""
    try:
        refusal = _REFUSAL.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        refusal = _Refusal()
    found = re.search(r"AADSTS([0-9]{1,9})", refusal.error_description)
    number = refusal.error_codes[0] if refusal.error_codes else int(found[1]) if found else None
    if number is None:
        return f"There is no token: the login answered {status}."
    hint = HINTS.get(number)
    return f"There is no token: the login answered AADSTS{number}" + (f", {hint}." if hint else ".")
