"""The scripted faults in force: which request, notification or clock goes wrong, and how often.

Rules are asked in the order they were added. The first that matches a request and wants to act does; what befalls a
notification adds up. Probabilities come from one seeded generator, so that a run can be repeated.
"""

import asyncio
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.clock import Clock
from service.emulator.fault_wishes import MOST_SECONDS, Rule, WrongFault, read_fault
from service.errors import UserError


@dataclass(frozen=True)
class Occasion:
    """What may go wrong now."""

    kind: str
    tenant_id: str = ""
    call_id: str = ""
    page: int = 1
    method: str = ""
    age_seconds: float | None = None
    """Since the call was first made; None where there is no such call."""


class Faults:
    """The rules. `clock` is the emulator's own, which no fault puts wrong."""

    def __init__(self, seed: int, clock: Clock, wishes: Iterable[Mapping[str, Any]] = ()) -> None:
        """Raises UserError for a wish that makes no sense: these come from whoever starts the emulator."""
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._clock = clock
        self._ids = itertools.count(1)
        self.rules: list[Rule] = []
        for number, wish in enumerate(wishes, start=1):
            try:
                self.add(wish)
            except WrongFault as wrong:
                raise UserError(f"Scripted fault number {number}: {wrong}") from None

    def add(self, wish: Mapping[str, Any]) -> Rule:
        """A rule from its JSON form, in force from now on. Raises WrongFault."""
        rule = read_fault(wish, next(self._ids), self._clock.now())
        self.rules.append(rule)
        return rule

    def remove(self, rule_id: int | None = None) -> int:
        """Takes away one rule, or all; how many went. Requests that it let stand go on."""
        for rule in self.rules:
            if rule_id in (None, rule.id):
                rule.removed.set()
        kept = [rule for rule in self.rules if rule_id is not None and rule.id != rule_id]
        gone, self.rules = len(self.rules) - len(kept), kept
        return gone

    def show(self) -> list[dict[str, Any]]:
        """Every rule as the control site shows it."""
        now = self._clock.now()
        return [rule.show(now) for rule in self.rules]

    def strike(self, occasion: Occasion) -> Rule | None:
        """The first rule that acts, or None."""
        return next(self.strikes(occasion), None)

    def strikes(self, occasion: Occasion) -> Iterator[Rule]:
        """Every rule that acts; each counts when it is taken."""
        now = self._clock.now()
        for rule in self.rules:
            if not rule.is_in_force(now) or not _matches(rule, occasion):
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            rule.acted += 1
            rule.left = None if rule.left is None else rule.left - 1
            yield rule

    def within(self, seconds: float) -> float:
        """A random part of a time, from the same generator."""
        return self._random.random() * seconds

    def skew_seconds(self) -> float:
        """How far the clock that Graph shows is ahead of the emulator's own; below 0: behind."""
        if not self.rules:
            return 0.0
        now = self._clock.now()
        skew = sum(rule.seconds for rule in self.rules if rule.action == "skew" and rule.is_in_force(now))
        return min(max(skew, -MOST_SECONDS), MOST_SECONDS)


class ShownClock(Clock):
    """What Graph takes for the time: record times, list windows, subscriptions and `Date` follow it, waits do not."""

    def __init__(self, own: Clock, faults: Faults) -> None:
        super().__init__(own.speed, own.now())
        self._own = own
        self._faults = faults

    def now(self) -> float:
        """Unix time, wrong by as much as is scripted; it jumps when a fault of the clock begins or ends."""
        return self._own.now() + self._faults.skew_seconds()

    async def sleep(self, seconds: float) -> None:
        """As the emulator's own clock; so do all waits."""
        await self._own.sleep(seconds)

    def real_seconds(self, seconds: float) -> float:
        """As the emulator's own clock."""
        return self._own.real_seconds(seconds)

    def timeout(self, seconds: float) -> asyncio.Timeout:
        """As the emulator's own clock."""
        return self._own.timeout(seconds)


def _matches(rule: Rule, occasion: Occasion) -> bool:
    return (
        occasion.kind in rule.kinds
        and rule.call_id in ("", occasion.call_id.lower())
        and rule.tenant_id in ("", occasion.tenant_id.lower())
        and rule.method in ("", occasion.method)
        and rule.page in (0, occasion.page)
        and (rule.action != "not-ready" or (occasion.age_seconds is not None and occasion.age_seconds < rule.seconds))
    )
