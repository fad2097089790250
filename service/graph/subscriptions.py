"""Shell: Graph's `/subscriptions` for one tenant at a time; what an answer means is decided by pure functions below.

Source: https://learn.microsoft.com/graph/api/resources/subscription and the pages beside it (graph-contract 1 and 4).
Never reauthorize and renew one subscription within 10 minutes; renewing does both (graph-contract 4).
"""

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import urlsplit

import aiohttp
import msgspec

from service.clock import Clock, from_iso, iso
from service.errors import CallstreamError, GraphUnavailable, TenantMustWait
from service.metrics import Metrics
from service.settings import Tenant

RESOURCE = "communications/callRecords"
# Creating waits for two handshakes of up to 10 s each (graph-contract 2). Real seconds.
REQUEST_SECONDS = 40.0
MOST_PAGES = 100
WAIT_SECONDS = 60.0  # when Graph says 429 without Retry-After
LONGEST_DETAIL = 300  # characters of Graph's own words in a log line

Kind = Literal["create", "get", "list", "renew", "delete", "reauthorize"]
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


class Tokens(Protocol):
    """Where access tokens come from."""

    async def token(self, tenant: Tenant) -> str:
        """A valid token; raises `TenantMustWait` with cause `no_token`."""


class SubscriptionError(CallstreamError):
    """Graph refused a subscription call. `todo` says to a person what mends it."""

    reason = "subscription"
    todo: ClassVar[str] = "Look at Graph's words in this line; the keeper tries again."


class ConsentMissing(TenantMustWait):
    """403: the permission is not there, or was taken away."""

    reason = "consent_missing"
    todo: ClassVar[str] = "Grant the application permission CallRecords.Read.All and give admin consent in this tenant."


class HandshakeFailed(SubscriptionError):
    """400 on create: Graph could not validate a URL (a well-formed body is refused for nothing else)."""

    reason = "handshake_failed"
    todo: ClassVar[str] = (
        "Graph must reach receiver.public_url over HTTPS from the internet, with a publicly trusted certificate, "
        "and both /notifications and /lifecycle must answer within 10 s: `callstream doctor` checks them."
    )


class SubscriptionExists(SubscriptionError):
    """409: this application has one with the same resource and changeType; `existing_id` where Graph names it."""

    reason = "subscription_exists"
    todo: ClassVar[str] = (
        "Another subscription of this application registration to call records stands in the way: "
        "delete it, or use a registration of its own for each deployment."
    )

    def __init__(self, detail: str, existing_id: str | None) -> None:
        super().__init__(detail)
        self.existing_id = existing_id


class QuotaReached(SubscriptionError):
    """403: the organization has 100 callRecord subscriptions already (graph-contract 1.4)."""

    reason = "quota_reached"
    todo: ClassVar[str] = "Delete subscriptions to call records that nobody uses; an organization may have 100."


class SubscriptionGone(SubscriptionError):
    """404: expired, deleted, or never this application's. Create a new one, do not retry."""

    reason = "subscription_gone"


class Subscription(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What of a subscription the keeper looks at. `client_state` may be hidden (null) by Graph."""

    id: str
    resource: str = ""
    change_type: str = ""
    notification_url: str = ""
    lifecycle_notification_url: str | None = None
    expiration_date_time: str = ""
    client_state: str | None = None

    @property
    def expires_at(self) -> float:
        """Unix seconds; 0 when Graph's text is no date, so that it counts as due."""
        try:
            return from_iso(self.expiration_date_time)
        except (ValueError, OverflowError):
            return 0.0


class NewSubscription(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The body of a POST."""

    notification_url: str
    lifecycle_notification_url: str
    client_state: str
    expiration_date_time: str
    resource: str = RESOURCE
    # `updated` includes the first notification of a record (graph-contract 1.3).
    change_type: str = "updated"
    latest_supported_tls_version: str = "v1_2"


class _Page(msgspec.Struct):
    value: list[msgspec.Raw]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)


class _ErrorDetail(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _ErrorDetail


class Subscriptions:
    """Calls to Graph. Each raises `SubscriptionError`, `TenantMustWait` or `GraphUnavailable`, and nothing is tried
    twice: the keeper comes again anyway.
    """

    def __init__(
        self, http: aiohttp.ClientSession, tokens: Tokens, root_url: str, metrics: Metrics, clock: Clock
    ) -> None:
        """`root_url` is Graph's, for instance `https://graph.microsoft.com`."""
        self._http = http
        self._tokens = tokens
        self._base = f"{root_url.rstrip('/')}/v1.0/subscriptions"
        self._metrics = metrics
        self._clock = clock

    async def create(self, tenant: Tenant, new: NewSubscription) -> Subscription:
        """Graph shakes hands with both URLs before this returns."""
        return _one(await self._call("create", tenant, "POST", self._base, new))

    async def get(self, tenant: Tenant, subscription_id: str) -> Subscription:
        """One by its id; `SubscriptionGone` when there is none."""
        return _one(await self._call("get", tenant, "GET", self._url(subscription_id)))

    async def list(self, tenant: Tenant) -> list[Subscription]:
        """All that this application has in the tenant, whatever their resource, over all pages."""
        found: list[Subscription] = []
        url: str | None = self._base
        for _ in range(MOST_PAGES):
            if url is None:
                return found
            page = _page(await self._call("list", tenant, "GET", url))
            found += _readable(page.value)
            url = self._checked(page.next_link)
        raise GraphUnavailable("The list of subscriptions has no end.")

    async def renew(self, tenant: Tenant, subscription_id: str, expires_at: float) -> Subscription:
        """Moves the expiration to `expires_at` (Unix seconds), and reauthorizes; `SubscriptionGone` on 404."""
        body = {"expirationDateTime": iso(expires_at)}
        return _one(await self._call("renew", tenant, "PATCH", self._url(subscription_id), body))

    async def delete(self, tenant: Tenant, subscription_id: str) -> None:
        """`SubscriptionGone` when it was not there."""
        await self._call("delete", tenant, "DELETE", self._url(subscription_id))

    async def reauthorize(self, tenant: Tenant, subscription_id: str) -> None:
        """Keeps delivery alive without moving the expiration."""
        await self._call("reauthorize", tenant, "POST", self._url(subscription_id) + "/reauthorize")

    def _url(self, subscription_id: str) -> str:
        if not _GUID.fullmatch(subscription_id):
            raise SubscriptionGone("A subscription's id must be a GUID.")
        return f"{self._base}/{subscription_id}"

    def _checked(self, link: str | None) -> str | None:
        """A link that leads to another host would carry our token there."""
        if link is not None and urlsplit(link)[:2] != urlsplit(self._base)[:2]:
            raise GraphUnavailable("The list of subscriptions links to another host.")
        return link

    async def _call(self, kind: Kind, tenant: Tenant, method: str, url: str, body: object = None) -> bytes:
        """One request and its meaning, counted once."""
        outcome = "failed"
        try:
            answer = await self._request(kind, tenant, method, url, body)
            outcome = "ok"
        finally:
            self._metrics.subscription_renewals.labels(kind, outcome).inc()
        return answer

    async def _request(self, kind: Kind, tenant: Tenant, method: str, url: str, body: object) -> bytes:
        headers = {"Authorization": f"Bearer {await self._tokens.token(tenant)}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        payload = None if body is None else msgspec.json.encode(body)
        started, outcome = self._clock.now(), "error"
        try:
            async with self._http.request(
                method,
                url,
                data=payload,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            ) as reply:
                answer = await reply.read()
                outcome = _outcome(reply.status)
        except TimeoutError as exc:
            outcome = "timeout"
            raise GraphUnavailable(f"Graph did not answer within {REQUEST_SECONDS:g} s.") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise GraphUnavailable(f"Graph could not be asked: {type(exc).__name__}.") from exc
        finally:
            spent = self._clock.real_seconds(self._clock.now() - started)
            self._metrics.graph_seconds.labels("subscriptions", outcome).observe(spent)
        if error := interpret(kind, reply.status, reply.headers, answer, self._clock.now()):
            raise error
        return answer


def interpret(kind: Kind, status: int, headers: Mapping[str, str], body: bytes, now: float) -> CallstreamError | None:
    """What an answer means; None when it is the wished one. `now` is Unix seconds.

    Decided by status, then code. The message decides only where Graph leaves nothing else: a missing consent is
    wrapped as text into `ExtensionError`, a reached quota and the id behind a 409 are named in words (graph-contract
    1.4, 12).
    """
    if 200 <= status < 300:
        return None
    code, message = read_error(body)
    detail = f"{status} {code}: {message[:LONGEST_DETAIL]}"
    wait = retry_after_seconds(headers.get("Retry-After"), now)
    if status == 429 or (status in (503, 509) and wait is not None):
        return TenantMustWait("throttled", WAIT_SECONDS if wait is None else wait, detail)
    is_wrapped = code.lower() == "extensionerror" and "forbidden" in message.lower()
    if kind == "create" and status == 403 and re.search(r"\b(limit|quota)\b", message, re.IGNORECASE):
        return QuotaReached(detail)
    if status == 403 or is_wrapped:
        return ConsentMissing("forbidden", WAIT_SECONDS, detail)
    if status == 409:
        named = _GUID.search(message)
        return SubscriptionExists(detail, named[0].lower() if named else None)
    if status == 404 and kind not in ("create", "list"):
        return SubscriptionGone(detail)
    if status == 400 and code.lower() != "extensionerror":
        return HandshakeFailed(detail) if kind == "create" else SubscriptionError(detail)
    return GraphUnavailable(detail)


def read_error(body: bytes) -> tuple[str, str]:
    """Code and message of Graph's error body, printable; empty where it is none (graph-contract 9.3)."""
    try:
        error = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    return _printable(error.code), _printable(error.message)


def retry_after_seconds(text: str | None, now: float) -> float | None:
    """Seconds to wait, at least 0, from either form of `Retry-After`; None when there is none or it is unreadable."""
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _outcome(status: int) -> str:
    """One of `metrics.GRAPH_OUTCOMES`."""
    known = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "throttled"}
    return "ok" if 200 <= status < 300 else known.get(status, "error")


def _one(answer: bytes) -> Subscription:
    try:
        return msgspec.json.decode(answer, type=Subscription)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise GraphUnavailable("Graph answered with something that is no subscription.") from None


def _page(answer: bytes) -> _Page:
    try:
        return msgspec.json.decode(answer, type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise GraphUnavailable("Graph answered with something that is no list of subscriptions.") from None


def _readable(items: list[msgspec.Raw]) -> list[Subscription]:
    """Those that can be read; another product's oddity must not stop us from finding ours."""
    found: list[Subscription] = []
    for raw in items:
        try:
            found.append(msgspec.json.decode(raw, type=Subscription))
        except msgspec.DecodeError:
            continue
    return found


def describe_error(error: CallstreamError) -> dict[str, Any]:
    """Log fields: what failed and what a person can do."""
    todo = getattr(error, "todo", "Nothing, if it passes; the keeper tries again.")
    return {"reason": error.reason, "error": str(error), "todo": todo}
