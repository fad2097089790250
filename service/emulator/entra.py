"""Entra's words for refusing a token.

Sources: https://learn.microsoft.com/entra/identity-platform/reference-error-codes , and what users report in public
issues where the page has a number but no text.
"""

import uuid
from typing import Any

from service.clock import iso


class LoginRefusal(Exception):
    """Entra's answer to a token request that it does not grant."""

    def __init__(self, status: int, error: str, number: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.number = number

    def body(self, now: float) -> dict[str, Any]:
        """Entra's error body; `now` is Unix seconds."""
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        stamp = iso(now)[:19].replace("T", " ") + "Z"
        text = f"AADSTS{self.number}: {self} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
        return {
            "error": self.error,
            "error_description": text,
            "error_codes": [self.number],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
        }


def invalid_client(number: int, message: str) -> LoginRefusal:
    """The application did not prove who it is."""
    return LoginRefusal(401, "invalid_client", number, message)
