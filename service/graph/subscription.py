"""Core: a subscription as Graph shows it, the body that creates one, and what Graph's answers mean. No I/O, no clock.

Source: https://learn.microsoft.com/graph/api/resources/subscription and https://learn.microsoft.com/graph/errors
(graph-contract 1, 9, 12).
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import msgspec

from service.clock import from_iso
from service.errors import CallstreamError, GraphUnavailable, TenantMustWait
from service.graph.protocol import printable
from service.outbound.answers import retry_after_seconds

RESOURCE = "communications/callRecords"
WAIT_SECONDS = 60.0  # when Graph says 429 without Retry-After, or consent is missing
LONGEST_DETAIL = 300  # characters of Graph's own words in a log line

Kind = Literal["create", "get", "list", "renew", "delete", "reauthorize"]
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


HandshakeCause = Literal["tls", "answer", "unreachable", "unknown"]

# In Graph's words: its messages are no contract, so what none of these finds stays `unknown` and is shown as it is.
_CAUSES: tuple[tuple[HandshakeCause, str], ...] = (
    ("tls", r"ssl|tls|certificate|trust relationship|secure channel"),
    ("answer", r"status code|200 ok|content.?type|response body|validation token|not the decoded"),
    ("unreachable", r"timed? ?out|resolve|unable to connect|connect|unreachable|no such host|refused|disconnected"),
)
HANDSHAKE_TODO: dict[HandshakeCause, str] = {
    "tls": "The certificate of receiver.public_url must be publicly trusted, match its host name, come with its "
    "intermediate certificates, and be served with TLS 1.2 or later.",
    "answer": "What answers at receiver.public_url is not callstream, or a proxy changes the answer: /notifications "
    "and /lifecycle must reach the receiver with their query, and its 200 with plain text must come back as it is.",
    "unreachable": "Graph cannot reach receiver.public_url from the internet, or got no answer within 10 s: check its "
    "public DNS name, the firewall (HTTPS from Microsoft 365) and that the receiver is running.",
}


def handshake_cause(detail: str) -> HandshakeCause:
    """Which link of the handshake failed, by Graph's words."""
    found = (cause for cause, words in _CAUSES if re.search(words, detail.partition(":")[2], re.IGNORECASE))
    return next(found, "unknown")


class SubscriptionError(CallstreamError):
    """Graph refused a subscription call. `todo` says to a person what mends it."""

    reason = "subscription"
    todo: str = "Look at Graph's words in this line; the keeper tries again. `callstream doctor` looks at every link."


class ConsentMissing(TenantMustWait):
    """403: the permission is not there, or was taken away."""

    reason = "consent_missing"
    todo: ClassVar[str] = "Grant the application permission CallRecords.Read.All and give admin consent in this tenant."


class HandshakeFailed(SubscriptionError):
    """400 on create: Graph could not validate a URL, or takes none of its kind (it must be https)."""

    reason = "handshake_failed"
    todo = (
        "Graph must reach receiver.public_url over HTTPS from the internet, with a publicly trusted certificate, "
        "and both /notifications and /lifecycle must answer within 10 s."
    )

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.cause = handshake_cause(detail)
        self.todo = HANDSHAKE_TODO.get(self.cause, self.todo)


class SubscriptionExists(SubscriptionError):
    """409: this application has one with the same resource and changeType; `existing_id` where Graph names it."""

    reason = "subscription_exists"
    todo = (
        "Another subscription of this application registration to call records stands in the way: "
        "delete it, or use a registration of its own for each deployment."
    )

    def __init__(self, detail: str, existing_id: str | None) -> None:
        super().__init__(detail)
        self.existing_id = existing_id


class QuotaReached(SubscriptionError):
    """403: the organization has 100 callRecord subscriptions already (graph-contract 1.4)."""

    reason = "quota_reached"
    todo = "Delete subscriptions to call records that nobody uses; an organization may have 100."


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


class _ErrorDetail(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _ErrorDetail


def is_subscription_id(text: str) -> bool:
    """Whether `text` may stand in a URL as a subscription's id."""
    return _GUID.fullmatch(text) is not None


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
    wait = retry_after_seconds(headers.get("Retry-After"), headers.get("Date"), now)
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
    """Code and message of Graph's error body, printable; empty where it is none, as is a code of more than 64
    characters or of odd ones (graph-contract 9.3).

    What stands between Graph and us may repeat our request in it: what looks like a token or a `clientState` is masked.
    """
    try:
        error = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ""
    return printable(_shown(error.code)), _shown(error.message)


_SECRET = re.compile(r"(?i:bearer)\s+\S+|eyJ[A-Za-z0-9_-]{8,}[A-Za-z0-9_.-]*|k[0-9]{1,9}\.[A-Za-z0-9_-]{43}")


def _shown(text: str) -> str:
    return _SECRET.sub("***", "".join(character if character.isprintable() else " " for character in text))


def describe_error(error: CallstreamError) -> dict[str, Any]:
    """Log fields: what failed and what a person can do."""
    todo = getattr(error, "todo", "Nothing, if it passes; the keeper tries again.")
    reason = error.cause if isinstance(error, TenantMustWait) else error.reason
    if isinstance(error, HandshakeFailed):
        reason = f"{error.reason}: {error.cause}"
    return {"reason": reason, "error": str(error), "todo": todo}
