"""Shell: Graph's `/subscriptions` for one tenant at a time; what an answer means is decided in
`service.graph.subscription`.

Source: https://learn.microsoft.com/graph/api/resources/subscription and the pages beside it (graph-contract 1 and 4).
Never reauthorize and renew one subscription within 10 minutes; renewing does both (graph-contract 4).
"""

import uuid
from collections.abc import Callable, Mapping
from typing import TypeVar

import aiohttp
import msgspec
from yarl import URL

from service.clock import Clock, iso
from service.errors import GraphUnavailable
from service.graph.auth import Tokens
from service.graph.protocol import RefusedLink, next_subscription_page
from service.graph.subscription import (
    ConsentMissing,
    Kind,
    NewSubscription,
    Subscription,
    SubscriptionGone,
    interpret,
    is_subscription_id,
)
from service.metrics import Metrics
from service.notification import UNREADABLE
from service.outbound.body import BodyCut, BodyTooLarge, read_body
from service.settings import Tenant

# Creating waits for two handshakes of up to 10 s each (graph-contract 2). Real seconds.
REQUEST_SECONDS = 40.0
MOST_PAGES = 100
MOST_BODY_BYTES = 4 * 1024 * 1024

T = TypeVar("T")


class _Page(msgspec.Struct):
    value: list[msgspec.Raw]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)


class Subscriptions:
    """Calls to Graph. Each raises `SubscriptionError`, `TenantMustWait` or `GraphUnavailable`, and nothing is tried
    twice, save once with a new token: the keeper comes again anyway.
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
        return await self._call("create", tenant, "POST", self._base, _one, new)

    async def get(self, tenant: Tenant, subscription_id: str) -> Subscription:
        """One by its id; `SubscriptionGone` when there is none."""
        return await self._call("get", tenant, "GET", self._url(subscription_id), _one)

    async def list(self, tenant: Tenant) -> list[Subscription]:
        """All that this application has in the tenant, whatever their resource, over all pages."""
        found: list[Subscription] = []
        url: str | None = self._base
        for _ in range(MOST_PAGES):
            if url is None:
                return found
            page = await self._call("list", tenant, "GET", url, _page)
            found += _readable(page.value)
            url = self._checked(page.next_link)
        raise GraphUnavailable("The list of subscriptions has no end.")

    async def renew(self, tenant: Tenant, subscription_id: str, expires_at: float) -> Subscription:
        """Moves the expiration to `expires_at` (Unix seconds), and reauthorizes; `SubscriptionGone` on 404."""
        body = {"expirationDateTime": iso(expires_at)}
        return await self._call("renew", tenant, "PATCH", self._url(subscription_id), _one, body)

    async def delete(self, tenant: Tenant, subscription_id: str) -> None:
        """`SubscriptionGone` when it was not there."""
        await self._call("delete", tenant, "DELETE", self._url(subscription_id), len)

    async def reauthorize(self, tenant: Tenant, subscription_id: str) -> None:
        """Keeps delivery alive without moving the expiration."""
        await self._call("reauthorize", tenant, "POST", self._url(subscription_id) + "/reauthorize", len)

    def _url(self, subscription_id: str) -> str:
        if not is_subscription_id(subscription_id):
            raise SubscriptionGone("A subscription's id must be a GUID.")
        return f"{self._base}/{subscription_id}"

    def _checked(self, link: str | None) -> str | None:
        """A link that leads to another host would carry our token there."""
        try:
            return None if link is None else next_subscription_page(link, self._base)
        except RefusedLink as exc:
            raise GraphUnavailable(f"A next link of the list of subscriptions was refused: {exc}.") from None

    async def _call(
        self, kind: Kind, tenant: Tenant, method: str, url: str, read: Callable[[bytes], T], body: object = None
    ) -> T:
        """One request and its meaning, counted once; `read` makes of a good answer what it stands for."""
        outcome = "failed"
        try:
            answer = read(await self._request(kind, tenant, method, url, body))
            outcome = "ok"
        finally:
            self._metrics.subscription_renewals.labels(kind, outcome).inc()
        return answer

    async def _request(self, kind: Kind, tenant: Tenant, method: str, url: str, body: object) -> bytes:
        """A good answer's body. A refused token is replaced once: it may have been revoked before its time.

        One that lacks the permission is forgotten: what is granted meanwhile stands in the next one alone.
        """
        token = await self._tokens.token(tenant)
        status, headers, answer = await self._exchange(token, method, url, body)
        if status == 401:
            self._tokens.invalidate(tenant, token)
            token = await self._tokens.token(tenant)
            status, headers, answer = await self._exchange(token, method, url, body)
        if error := interpret(kind, status, headers, answer, self._clock.now()):
            if isinstance(error, ConsentMissing):
                self._tokens.invalidate(tenant, token)
            raise error
        return answer

    async def _exchange(self, token: str, method: str, url: str, body: object) -> tuple[int, Mapping[str, str], bytes]:
        """One request over the wire, measured. Raises `GraphUnavailable` when there is no whole answer."""
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "client-request-id": str(uuid.uuid4()),
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        payload = None if body is None else msgspec.json.encode(body)
        started, outcome = self._clock.now(), "error"
        try:
            async with self._http.request(
                method,
                URL(url, encoded=True),  # a next link goes out as Graph wrote it
                data=payload,
                headers=headers,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            ) as reply:
                answer = await read_body(reply, MOST_BODY_BYTES)
                outcome = _outcome(reply.status)
                return reply.status, reply.headers, answer
        except TimeoutError as exc:
            outcome = "timeout"
            raise GraphUnavailable(f"Graph did not answer within {REQUEST_SECONDS:g} s.") from exc
        except (aiohttp.ClientPayloadError, BodyCut, BodyTooLarge) as exc:
            outcome = "cut"
            raise GraphUnavailable("Graph's answer was cut, or too large to be one.") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise GraphUnavailable(f"Graph could not be asked: {type(exc).__name__}.") from exc
        finally:
            self._metrics.graph_seconds.labels("subscriptions", outcome).observe(self._clock.now() - started)


def _outcome(status: int) -> str:
    """One of `metrics.GRAPH_OUTCOMES`."""
    known = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "throttled"}
    return "ok" if 200 <= status < 300 else known.get(status, "error")


def _one(answer: bytes) -> Subscription:
    try:
        return msgspec.json.decode(answer, type=Subscription)
    except UNREADABLE:
        raise GraphUnavailable("Graph answered with something that is no subscription.") from None


def _page(answer: bytes) -> _Page:
    try:
        return msgspec.json.decode(answer, type=_Page)
    except UNREADABLE:
        raise GraphUnavailable("Graph answered with something that is no list of subscriptions.") from None


def _readable(items: list[msgspec.Raw]) -> list[Subscription]:
    """Those that can be read; another product's oddity must not stop us from finding ours."""
    found: list[Subscription] = []
    for raw in items:
        try:
            found.append(msgspec.json.decode(raw, type=Subscription))
        except UNREADABLE:
            continue
    return found
