"""Shell: signing in with a client secret over the process's own session: what works without azure-identity, and over
the plain http of an emulator on this machine.

Source: graph-contract 10; https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow .
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import aiohttp
import msgspec

from service.clock import Clock
from service.outbound.body import BodyCut, BodyTooLarge, read_body, real_timeout
from service.settings import Tenant
from service.signin.clouds import Endpoints
from service.signin.credentials import (
    MOST_BODY_BYTES,
    REQUEST_SECONDS,
    Grant,
    NoToken,
    check_status,
    checked,
    unreachable,
)
from service.signin.files import read_secret, stamp

NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None)


class _Reply(msgspec.Struct):
    access_token: str = ""
    expires_in: float = 0.0


_REPLY: Final = msgspec.json.Decoder(_Reply, strict=False)  # `expires_in` was seen as text in older replies


class SecretLogin:
    """The client-credentials grant with a client secret."""

    def __init__(self, http: aiohttp.ClientSession, endpoints: Endpoints, clock: Clock) -> None:
        self._http = http
        self._endpoints = endpoints
        self._clock = clock

    def stamp(self, tenant: Tenant) -> object:
        """Changes when the secret's file does."""
        return stamp(tenant)

    async def grant(self, tenant: Tenant) -> Grant:
        """One request to the login. Raises NoToken."""
        secret = await read_secret(tenant)
        try:
            status, headers, body = await self._post(tenant, secret)
        except TimeoutError:
            sentence = "There is no token: the login did not answer in time."
            raise NoToken(sentence, is_refusal=False, outcome="timeout") from None
        except (aiohttp.ClientPayloadError, BodyCut, BodyTooLarge):
            sentence = "There is no token: the login's answer was cut."
            raise NoToken(sentence, is_refusal=False, outcome="cut") from None
        except (aiohttp.ClientError, OSError) as exc:
            raise unreachable("the login", exc) from None
        check_status(status, headers, body, self._clock.now())
        reply = _read_reply(body)
        return checked(reply.access_token, reply.expires_in)

    async def _post(self, tenant: Tenant, secret: str) -> tuple[int, Mapping[str, str], bytes]:
        url = f"{self._endpoints.login_url}/{quote(tenant.id, safe='')}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": tenant.client_id,
            "client_secret": secret,
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
        return _REPLY.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _Reply()
