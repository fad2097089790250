"""Whether the token opens the call records: its roles, where it can be read, and one small request.

A token is Graph's to read; that its claims can be seen is not promised
(https://learn.microsoft.com/entra/identity-platform/access-tokens), so what cannot be read is no fault.
"""

import base64
import uuid
from collections.abc import Iterable
from urllib.parse import urlencode

import aiohttp
import msgspec

from service.clock import iso
from service.doctor.case import Case, error_text
from service.doctor.finding import Look, broken, ok, warn
from service.graph.protocol import error_code, list_url, read_headers
from service.settings import Tenant

ROLE = "CallRecords.Read.All"
SECONDS = 15.0
# A window of the list so small that it costs Graph next to nothing; one request of the list's budget.
WINDOW_SECONDS = 60.0


class Claims(msgspec.Struct):
    """What of a token's claims is looked at."""

    roles: list[str] = []
    scp: str = ""
    aud: str = ""


def read_claims(token: str) -> Claims | None:
    """The claims of a JWT, unverified; None for what is none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=Claims)
    except (ValueError, msgspec.MsgspecError):
        return None


async def check(case: Case, name: str, tenant: Tenant) -> Iterable[Look]:
    """Roles first, because they name what is missing; then Graph's own answer, which is what counts."""
    token = case.grants[name].token
    claims = read_claims(token)
    if claims is not None and ROLE not in claims.roles:
        return [_missing(case, tenant, claims.roles)]
    try:
        status, code = await _list(case, token)
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        todo = "Run the doctor again; if it stays so, Graph has an outage."
        return [warn(f"The token is there, but Graph did not answer a read ({error_text(exc)}).", todo)]
    if status == 403 and claims is None:
        return [_missing(case, tenant, None)]
    return [judge(status, code)]


async def _list(case: Case, token: str) -> tuple[int, str]:
    now = case.clock.now()
    url = list_url(case.graph.root_url, _moment(now - WINDOW_SECONDS), _moment(now))
    headers = read_headers(token, str(uuid.uuid4())) | {"Accept-Encoding": "identity"}
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    async with case.http.get(url, headers=headers, allow_redirects=False, timeout=timeout) as reply:
        return reply.status, "" if reply.status == 200 else error_code(await reply.read())


def judge(status: int, code: str) -> Look:
    """Graph's answer to a list of call records, asked with a token that has the role or that cannot be read."""
    if status == 200:
        return ok(f"The token has the role {ROLE}, and Graph lists call records.")
    said = f"{status} {code}".rstrip()
    if status == 401:
        seen = f"Graph refuses the token that the login has just given ({said})."
        return broken(seen, "Compare graph.cloud with the tenant's cloud: tokens of one are not taken by another.")
    if status == 403:
        seen = f"The token has the role {ROLE}, and Graph refuses to list call records all the same ({said})."
        todo = "Wait some minutes after a consent; else look for an application access policy in the tenant."
        return broken(seen, todo)
    if status == 429:
        return warn("The token is there, but Graph throttles the list now (429).", "Nothing; it passes.")
    return warn(f"The token is there, but Graph answered a read with {said}.", "Nothing, if it passes.")


def _missing(case: Case, tenant: Tenant, roles: list[str] | None) -> Look:
    """No consent. `roles`: those that the token has, None where it cannot be read."""
    if roles is None:
        has = "Graph answers 403"
    else:
        has = f"The token has {'the role ' + ' and '.join(roles) if roles else 'no role'}"
    todo = f"Add the application permission {ROLE} (not a delegated one) and have an administrator consent"
    if not case.graph.is_custom:
        query = urlencode({"client_id": tenant.client_id})
        todo += f": {case.graph.login_url}/{tenant.id}/adminconsent?{query}"
    return broken(f"{has}; consent to {ROLE} is missing.", todo if "http" in todo else f"{todo}.")


def _moment(unix_seconds: float) -> str:
    return iso(unix_seconds)[:19] + "Z"
