"""Shell: tokens for OAUTHBEARER, one at a time for all clients of the process, renewed before they end.

Any OAuth 2 login by the client credentials grant (RFC 6749 section 4.4, the client in the Authorization header, as
Kafka's own clients send it), or Microsoft Entra through azure-identity. Neither a secret nor a token nor the login's
own text is ever raised or logged.
"""

import asyncio
from base64 import b64encode
from typing import Final
from urllib.parse import quote, urlsplit
from weakref import WeakKeyDictionary

import aiohttp
import msgspec
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection, OAuthAuthenticator
from aiokafka.errors import KafkaError, SaslAuthenticationFailed

from service.clock import Clock
from service.outbound.body import BodyCut, BodyTooLarge, read_body
from service.outbound.session import http_session
from service.settings import Connection, Tenant
from service.signin.clouds import CLOUDS, Endpoints
from service.signin.credentials import (
    MOST_BODY_BYTES,
    REQUEST_SECONDS,
    Grant,
    NoToken,
    check_status,
    checked,
    unreachable,
)

WHO: Final = "the token endpoint"
# A token is renewed so long before its end, or a fifth of its life if that is less. Seconds.
MARGIN_SECONDS: Final = 300.0
# Where the login does not say how long a token lives.
LIFE_SECONDS: Final = 600.0
# A login that gave none is not asked again for so long, however many clients want to connect. Seconds.
PAUSE_SECONDS: Final = 5.0
# What RFC 6749 section 5.2 calls the ways to be refused, and the settings that each points at.
REFUSALS: Final = {
    "invalid_client": "oauth_client_id and {}.oauth_client_secret",
    "unauthorized_client": "oauth_client_id",
    "invalid_scope": "oauth_scope",
    "unsupported_grant_type": "oauth_token_url",
}


class TokenMissing(KafkaError):  # type: ignore[misc]
    """There is no token to show to a broker. The text is a whole sentence for a person."""

    retriable = True

    def __str__(self) -> str:
        return str(self.args[0])


class _Reply(msgspec.Struct):
    access_token: str = ""
    expires_in: float = 0.0
    error: str = ""


_REPLY: Final = msgspec.json.Decoder(_Reply, strict=False)


class OAuthTokens(AbstractTokenProvider):  # type: ignore[misc]
    """What aiokafka asks at each new connection."""

    def __init__(self, kafka: Connection) -> None:
        self._kafka = kafka
        self._asking = asyncio.Lock()
        self._token = ""
        # On the loop's clock, in seconds.
        self._renew_at = self._expires_at = self._not_before = float("-inf")
        self._trouble = ""

    async def token(self) -> str:
        """A token that is valid now. Raises `TokenMissing`."""
        now = asyncio.get_running_loop().time
        if now() < self._renew_at:
            return self._token
        async with self._asking:
            if now() >= self._renew_at and now() >= self._not_before:
                await self._renew(now())
        if now() < self._expires_at:
            return self._token
        raise TokenMissing(self._trouble)

    def extensions(self) -> dict[str, str]:
        """SASL extensions (RFC 7628) that go with the token."""
        pairs = (pair.partition("=") for pair in self._kafka.oauth_extensions.split(",") if pair.strip())
        return {name.strip(): value.strip() for name, _, value in pairs}

    async def _renew(self, now: float) -> None:
        try:
            grant = await _grant(self._kafka)
        except NoToken as problem:
            self._trouble, self._not_before = str(problem), now + PAUSE_SECONDS
            return
        life = grant.life_seconds if 1.0 <= grant.life_seconds < float("inf") else LIFE_SECONDS
        self._token, self._expires_at = grant.token, now + life
        self._renew_at = self._expires_at - min(MARGIN_SECONDS, life / 5)


class _Authenticator(OAuthAuthenticator):  # type: ignore[misc]
    """aiokafka 0.14 takes whatever a broker says of a token for a yes, and goes on with a connection on which it is
    nobody, to a cluster without brokers. A yes is empty, a no is not (RFC 7628 section 3.2.2).
    """

    async def step(self, payload: bytes | None) -> tuple[bytes, bool] | None:
        """The token first; then nothing, or `SaslAuthenticationFailed`."""
        if payload:
            raise SaslAuthenticationFailed("the broker refused the token")
        found: tuple[bytes, bool] | None = await super().step(payload)
        return found


AIOKafkaConnection.authenticator_oauth = lambda connection: _Authenticator(
    sasl_oauth_token_provider=connection._sasl_oauth_token_provider
)

_providers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Connection, OAuthTokens]] = WeakKeyDictionary()


def tokens_of(kafka: Connection) -> OAuthTokens:
    """The one provider of these settings in the running loop."""
    known = _providers.setdefault(asyncio.get_running_loop(), {})
    return known.setdefault(kafka, OAuthTokens(kafka))


async def _grant(kafka: Connection) -> Grant:
    """A new token. Raises NoToken."""
    async with http_session(kafka.ca_file) as http:
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                if kafka.oauth_credential == "client-secret":
                    return await _with_secret(kafka, http)
                return await _from_entra(kafka, http)
        except TimeoutError:
            raise NoToken(f"There is no token: {WHO} did not answer in time.", is_refusal=False) from None


async def _with_secret(kafka: Connection, http: aiohttp.ClientSession) -> Grant:
    form = {"grant_type": "client_credentials"} | ({"scope": kafka.oauth_scope} if kafka.oauth_scope else {})
    # Section 2.3.1: both are form-encoded before they are joined.
    client = f"{quote(kafka.oauth_client_id, '')}:{quote(kafka.oauth_client_secret.reveal(), '')}"
    basic = "Basic " + b64encode(client.encode()).decode()
    headers = {"Authorization": basic, "Accept": "application/json", "Accept-Encoding": "identity"}
    try:
        async with http.post(
            kafka.oauth_token_url, data=form, headers=headers, allow_redirects=False, auto_decompress=False
        ) as answer:
            body = await read_body(answer, MOST_BODY_BYTES)
    except (aiohttp.ClientPayloadError, BodyCut, BodyTooLarge):
        raise NoToken(f"There is no token: the answer of {WHO} was cut.", is_refusal=False) from None
    except (aiohttp.ClientError, OSError) as error:
        raise unreachable(WHO, error, f": {kafka.setting}.oauth_token_url says where it is") from None
    reply = _read(body)
    check_status(answer.status, answer.headers, body, 0.0, WHO, _hint(kafka, reply.error))
    return checked(reply.access_token, reply.expires_in, WHO)


async def _from_entra(kafka: Connection, http: aiohttp.ClientSession) -> Grant:
    # Imported late: it takes most of a second, and `callstream[azure]` is an extra.
    from service.signin.azure import AzureLogin

    identity = Tenant(
        id=kafka.oauth_tenant_id,
        client_id=kafka.oauth_client_id,
        credential=kafka.oauth_credential,
        federated_token_file=kafka.oauth_token_file,
    )
    return await AzureLogin(http, _entra(kafka), Clock()).grant(identity)


def _entra(kafka: Connection) -> Endpoints:
    """The login that serves the scope's cloud, or the one that `oauth_token_url` names."""
    cloud = CLOUDS["usgov-l4" if "usgovcloudapi.net" in kafka.oauth_scope else "global"]
    custom = urlsplit(kafka.oauth_token_url)
    login = f"{custom.scheme}://{custom.netloc}" if custom.netloc else cloud.login_url
    return Endpoints("", login, kafka.oauth_scope, cloud.assertion_audience, is_custom=bool(custom.netloc))


def _read(body: bytes) -> _Reply:
    try:
        return _REPLY.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _Reply()


def _hint(kafka: Connection, error: str) -> str:
    """What to look at; the login's own word is shown only where the standard has it."""
    if settings := REFUSALS.get(error):
        return f"{error}, look at {kafka.setting}.{settings.format(kafka.setting)}"
    return f"look at {kafka.setting}.oauth_token_url"
