"""What the service must publish for a call record, computed from the wire document alone."""

from typing import Any

Document = dict[str, Any]
Event = dict[str, Any]


def expected_events(tenant_id: str, document: Document) -> dict[str, Event]:
    """Every stream event of this version by its id."""
    raise NotImplementedError


def expected_summary(tenant_id: str, document: Document) -> Event:
    """The call summary of this version."""
    raise NotImplementedError


def differences(expected: Any, actual: Any) -> list[str]:
    """Paths where `actual` differs from `expected`, each with both values; empty when equal."""
    raise NotImplementedError
