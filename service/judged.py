"""What receiver and hub do alike with items: judged in portions, sorted, counted once, refusals told now and then."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

import structlog

from service.logs import RateLimit
from service.metrics import Metrics
from service.notification import LifecycleEvent, Notification, Refused, event_label

ITEMS_AT_A_TIME = 500  # judged before others get the loop: some 5 ms

log = structlog.get_logger()
Item = TypeVar("Item")


class Judged:
    """Items that are settled together: those of one POST, or of the events of one poll."""

    def __init__(self) -> None:
        self.notifications: list[Notification] = []
        self.events: list[LifecycleEvent] = []
        self.refused: Counter[str] = Counter()
        """Reason → how many."""

    @property
    def good(self) -> int:
        """How many are to be stored."""
        return len(self.notifications) + len(self.events)

    def add(self, item: Notification | LifecycleEvent | Refused) -> None:
        """Takes one verdict."""
        match item:
            case Notification():
                self.notifications.append(item)
            case LifecycleEvent():
                self.events.append(item)
            case Refused():
                self.refused[item.reason] += 1

    def count(self, metrics: Metrics, *, is_stored: bool = True) -> None:
        """Counts each item once; `is_stored`: whether the good ones are durable, all of them.

        The counters move in one step, so that every scrape sees received = stored + refused.
        """
        stored = self.good if is_stored else 0
        refused = self.refused + Counter(not_stored=self.good - stored)
        metrics.received.inc(stored + refused.total())
        metrics.stored.inc(stored)
        for reason, count in refused.items():
            metrics.refused.labels(reason).inc(count)
        for event in self.events if is_stored else ():
            metrics.lifecycle.labels(event_label(event.lifecycle_event)).inc()


async def unhurried(items: Sequence[Item]) -> AsyncIterator[Item]:
    """Each of them; now and then others get the loop."""
    for number, item in enumerate(items, 1):
        yield item
        if number % ITEMS_AT_A_TIME == 0:
            await asyncio.sleep(0)


def log_refused(refused: Refused, limit: RateLimit, **said: str) -> None:
    """Nothing that came from outside is logged, save a tenant id that is a GUID. `said` stands in the line as well."""
    if count := limit.admit(f"item {refused.reason}"):
        log.warning("notifications refused", reason=refused.reason, count=count, tenant_id=refused.tenant_id, **said)
