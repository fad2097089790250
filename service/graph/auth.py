"""Shell: application tokens, one per tenant, cached and renewed before they expire by one task at a time.

How a token is asked for is a `Login`'s affair (`signin/azure`, `signin/secret`); here is when. Neither a
secret nor a token nor the login's own text is ever logged or raised; the number of its error is.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp

from service.clock import Clock
from service.errors import TenantMustWait
from service.metrics import Metrics
from service.settings import Tenant
from service.signin.check import has_azure, is_tls
from service.signin.clouds import Endpoints
from service.signin.credentials import Grant, Login, NoToken
from service.signin.secret import SecretLogin

# A token is renewed so long before it expires, or a fifth of its life if that is less. Seconds.
MARGIN_SECONDS: Final = 300.0
# Where the login does not say how long a token lives; Entra's live 3,600 s and more.
LIFE_SECONDS: Final = 600.0
# An outage of the login may pass in seconds; what it refuses, a person has to put right.
FIRST_WAIT_FAILED: Final = 5.0
FIRST_WAIT_REFUSED: Final = 30.0
LONGEST_WAIT: Final = 600.0


class Tokens(Protocol):
    """Where tokens come from."""

    async def token(self, tenant: Tenant) -> str:
        """A token that is valid now. Raises TenantMustWait (`no_token`)."""
        ...

    def invalidate(self, tenant: Tenant, token: str) -> None:
        """Graph refused this token: the next one asked for is new."""
        ...


@dataclass
class _Entry:
    """What is known of one tenant. Times are Unix seconds of the clock."""

    token: str = ""
    renew_at: float = 0.0
    expires_at: float = 0.0
    failures: int = 0
    wait_until: float = 0.0
    sentence: str = ""
    stamp: object = None
    """The credential's files as they were when the login was last asked."""
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)


class TenantTokens:
    """Tokens of any number of tenants, each with its own login; one that is refused holds up no other."""

    def __init__(self, login_of: Callable[[Tenant], Login], clock: Clock, metrics: Metrics) -> None:
        self._login_of = login_of
        self._clock = clock
        self._metrics = metrics
        self._entries: dict[tuple[str, str], _Entry] = {}

    async def token(self, tenant: Tenant) -> str:
        """A token that is valid now, from the cache where it is fresh.

        Raises TenantMustWait (`no_token`) with a sentence for a person; until that wait is over, or a file of the
        credential has changed, the login is not asked again. A token that is still valid is used while renewing fails.
        Cancelling leaves nothing behind: the next caller asks.
        """
        entry = self._entry(tenant)
        now = self._clock.now()
        if now < entry.renew_at or (now < entry.expires_at and entry.renewing.locked()):
            return entry.token
        async with entry.renewing:
            login = self._login_of(tenant)
            now = self._clock.now()
            may_ask = now >= entry.wait_until or entry.stamp != login.stamp(tenant)
            if now >= entry.renew_at and may_ask:
                await self._renew(tenant, login, entry)
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

    async def _renew(self, tenant: Tenant, login: Login, entry: _Entry) -> None:
        started = self._clock.now()
        # Before the files are read: one that changes meanwhile is looked at again rather than missed.
        entry.stamp = login.stamp(tenant)
        try:
            grant = await self._measured(login, tenant)
        except NoToken as problem:
            self._remember_failure(entry, problem)
            return
        is_told = 1.0 <= grant.life_seconds < float("inf")
        life = grant.life_seconds if is_told else LIFE_SECONDS
        entry.token = grant.token
        entry.expires_at = started + life
        entry.renew_at = entry.expires_at - min(MARGIN_SECONDS, life / 5)
        entry.failures, entry.wait_until, entry.sentence = 0, 0.0, ""

    async def _measured(self, login: Login, tenant: Tenant) -> Grant:
        started = self._clock.now()
        outcome: str | None = "error"
        try:
            grant = await login.grant(tenant)
            outcome = "ok"
        except NoToken as problem:
            outcome = problem.outcome
            raise
        finally:
            if outcome:
                self._metrics.graph_seconds.labels("token", outcome).observe(self._clock.now() - started)
        return grant

    def _remember_failure(self, entry: _Entry, problem: NoToken) -> None:
        entry.failures += 1
        first = FIRST_WAIT_REFUSED if problem.is_refusal else FIRST_WAIT_FAILED
        wait = min(LONGEST_WAIT, first * 2.0 ** min(entry.failures - 1, 16))
        wait *= random.uniform(0.8, 1.0)  # noqa: S311 - jitter, no secret
        entry.wait_until = self._clock.now() + max(wait, problem.retry_after_seconds or 0.0)
        entry.sentence = str(problem)


class ClientSecretTokens(TenantTokens):
    """Tokens for client secrets, without azure-identity."""

    def __init__(self, http: aiohttp.ClientSession, endpoints: Endpoints, clock: Clock, metrics: Metrics) -> None:
        login = SecretLogin(http, endpoints, clock)
        super().__init__(lambda _: login, clock, metrics)


def tokens_of(http: aiohttp.ClientSession, endpoints: Endpoints, clock: Clock, metrics: Metrics) -> TenantTokens:
    """Tokens for every kind of credential that `check_credentials` lets pass, cached."""
    return TenantTokens(logins(http, endpoints, clock), clock, metrics)


def logins(http: aiohttp.ClientSession, endpoints: Endpoints, clock: Clock) -> Callable[[Tenant], Login]:
    """How each tenant signs in.

    azure-identity signs in where it is installed. A client secret over plain http, to an emulator on this machine, goes
    the short way, since the library takes https alone; so does every client secret where it is not installed.
    """
    secret = SecretLogin(http, endpoints, clock)
    if not has_azure():
        return lambda _: secret
    # Imported late: it takes most of a second, and `callstream[azure]` is an extra.
    from service.signin.azure import AzureLogin

    azure = AzureLogin(http, endpoints, clock)
    plain = not is_tls(endpoints)
    return lambda tenant: secret if plain and tenant.credential == "client-secret" else azure
