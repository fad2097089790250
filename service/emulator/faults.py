"""Scripted misbehaviour of the reading side: which request goes wrong, how, and how often.

Rules are asked in the order they were added; the first that matches and wants to act does. Probabilities come from one
seeded generator, so that a run can be repeated.
"""

import itertools
import random
from dataclasses import dataclass
from typing import Any

from service.emulator.refusals import bad_request

KINDS = ("record", "sessions", "participants", "list", "token", "subscriptions")
ACTIONS = ("status", "hang", "cut", "cut-gzip", "html", "drip")
DEFAULT_SECONDS = {"hang": 3600.0, "drip": 5.0}
STATUSES = (400, 401, 403, 404, 429, 500, 502, 503, 504)
FIELDS = frozenset({"kind", "callId", "tenantId", "count", "probability", "action", "status", "retryAfter", "seconds"})


@dataclass
class Rule:
    """One fault. Empty `kind`, `call_id`, `tenant_id` match everything of the reading side (tokens only when named)."""

    id: int
    action: str
    kind: str = ""
    call_id: str = ""
    tenant_id: str = ""
    status: int = 0
    retry_after: float | None = None
    """Seconds in the answer's `Retry-After`; None sends none."""
    seconds: float = 0.0
    """Of the clock: how long `hang` and `drip` last."""
    left: int | None = None
    """How often it will still act; None: always."""
    probability: float = 1.0
    acted: int = 0

    def matches(self, kind: str, tenant_id: str, call_id: str) -> bool:
        """Whether this request is meant."""
        is_kind = self.kind == kind or (not self.kind and kind not in ("token", "subscriptions"))
        is_call = not self.call_id or self.call_id == call_id.lower()
        return is_kind and is_call and (not self.tenant_id or self.tenant_id == tenant_id.lower())

    def show(self) -> dict[str, Any]:
        """As the control site shows it."""
        return {
            "id": self.id,
            "action": self.action,
            "kind": self.kind,
            "callId": self.call_id,
            "tenantId": self.tenant_id,
            "status": self.status,
            "retryAfter": self.retry_after,
            "seconds": self.seconds,
            "left": self.left,
            "probability": self.probability,
            "acted": self.acted,
        }


class Faults:
    """The rules in force."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._ids = itertools.count(1)
        self.rules: list[Rule] = []

    def add(self, wish: dict[str, Any]) -> Rule:
        """A rule from its JSON form (`docs/emulator.md`); 400 when it makes no sense."""
        unknown = sorted(set(wish) - FIELDS)
        _require(not unknown, f"unknown field {', '.join(unknown)}; known are {', '.join(sorted(FIELDS))}")
        status, action = wish.get("status"), wish.get("action", "status")
        _require(action in ACTIONS, f"action must be one of {', '.join(ACTIONS)}")
        _require(action != "status" or status in STATUSES, f"status must be one of {', '.join(map(str, STATUSES))}")
        _require(wish.get("kind", "") in ("", *KINDS), f"kind must be one of {', '.join(KINDS)}")
        count, probability = wish.get("count"), wish.get("probability", 1.0)
        _require(count is None or (_is_number(count) and count >= 1), "count must be 1 or more")
        _require(_is_number(probability) and 0 < probability <= 1, "probability must be above 0 and at most 1")
        for name in ("seconds", "retryAfter"):
            _require(wish.get(name) is None or (_is_number(wish[name]) and wish[name] >= 0), f"{name} must be a number")
        rule = Rule(
            id=next(self._ids),
            action=action,
            kind=wish.get("kind", ""),
            call_id=str(wish.get("callId", "")).lower(),
            tenant_id=str(wish.get("tenantId", "")).lower(),
            status=status or 0,
            retry_after=wish.get("retryAfter"),
            seconds=float(DEFAULT_SECONDS.get(action, 0.0) if wish.get("seconds") is None else wish["seconds"]),
            left=None if count is None else int(count),
            probability=probability,
        )
        self.rules.append(rule)
        return rule

    def remove(self, rule_id: int | None = None) -> int:
        """Takes away one rule, or all; how many went."""
        kept = [rule for rule in self.rules if rule_id is not None and rule.id != rule_id]
        gone, self.rules = len(self.rules) - len(kept), kept
        return gone

    def strike(self, kind: str, tenant_id: str = "", call_id: str = "") -> Rule | None:
        """The rule that acts on this request, or None."""
        for rule in self.rules:
            if rule.left == 0 or not rule.matches(kind, tenant_id, call_id):
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            rule.acted += 1
            rule.left = None if rule.left is None else rule.left - 1
            return rule
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(is_right: bool, message: str) -> None:
    if not is_right:
        raise bad_request(f"A fault's {message}.")
