"""How Graph says no: the error bodies of graph-contract 9.3, raised as one exception."""

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """An answer that is not the wished one; the site turns it into Graph's error body."""

    def __init__(self, status: int, code: str, message: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def error_body(code: str, message: str, date: str, request_id: str, client_request_id: str) -> dict[str, Any]:
    """Graph's error body; `date` is text without offset, as Graph sends it here."""
    inner = {"date": date, "request-id": request_id, "client-request-id": client_request_id}
    return {"error": {"code": code, "message": message, "innerError": inner}}


def bad_request(message: str) -> Refusal:
    """400."""
    return Refusal(400, "BadRequest", message)


def unauthenticated(message: str) -> Refusal:
    """401: no token, or one that is unknown or expired."""
    return Refusal(401, "InvalidAuthenticationToken", message, {"WWW-Authenticate": 'Bearer realm="", charset="UTF-8"'})


def forbidden(message: str) -> Refusal:
    """403."""
    return Refusal(403, "Forbidden", message)


def not_found(message: str = "") -> Refusal:
    """404; for a call record the message was seen empty (graph-contract 6.10)."""
    return Refusal(404, "NotFound", message)


def too_many_requests(retry_after_seconds: int) -> Refusal:
    """429 with `Retry-After` in whole seconds."""
    headers = {"Retry-After": str(retry_after_seconds)}
    return Refusal(429, "TooManyRequests", "The request has been throttled: too many requests.", headers)
