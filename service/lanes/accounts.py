"""Shell: counts what a committed transaction did, and logs what a person should know of."""

from collections import Counter
from collections.abc import Mapping, Sequence

import structlog
from prometheus_client import Histogram

from service.clock import Clock, from_iso, iso
from service.lanes.policy import LIVE_SOURCES, Dead, Later, Outcome, Publish, Skip
from service.metrics import Metrics
from service.settings import Tenant

log = structlog.get_logger()

# Graph counts a record's versions from 1 (graph-contract 7.1, as observed).
FIRST_VERSION = 1


class Accounts:
    """Counts outcomes after their commit; nothing is counted that a crash could undo."""

    def __init__(self, metrics: Metrics, clock: Clock, tenants: Mapping[str, Tenant]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._names = {tenant.id.lower(): name for name, tenant in tenants.items()}

    def committed(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """One transaction, `seconds` of the machine's time from begin to commit."""
        events = sum(len(outcome.shaped.events) for outcome in outcomes if isinstance(outcome, Publish))
        self._metrics.transaction_events.observe(events)
        self._metrics.transaction_seconds.observe(seconds)
        for outcome in outcomes:
            match outcome:
                case Publish(second_look=again):
                    self._published(outcome)
                    if again is not None:
                        self._metrics.retried.labels(again.notification.reason).inc()
                case Skip(reason):
                    self._metrics.skipped.labels(reason.value).inc()
                case Later():
                    self._metrics.retried.labels(outcome.notification.reason).inc()
                case Dead():
                    self._dead(outcome)

    def rerouted(self, count: int) -> None:
        """Notifications sent to their own partition."""
        self._metrics.rerouted.inc(count)

    def malformed(self, count: int) -> None:
        """Kafka records that were no notification."""
        if count:
            self._metrics.dead.labels("malformed").inc(count)
            log.warning("dead letter", reason="malformed", count=count)

    def _published(self, outcome: Publish) -> None:
        notification = outcome.notification
        self._metrics.published.labels(self._names[notification.tenant_id.lower()]).inc()
        for kind, count in Counter([kind for kind, _, _ in outcome.shaped.events]).items():
            self._metrics.events.labels(kind).inc(count)
        if notification.source in LIVE_SOURCES:
            received = notification.first_seen_at or notification.received_at
            _observe(self._metrics.notice_to_event, notification.received_at, iso(self._clock.now()))
            _observe(self._metrics.graph_delay.labels("notice"), outcome.shaped.last_modified, received)
            if outcome.shaped.version == FIRST_VERSION:
                # A later version may come days after the call, and nobody is late.
                _observe(self._metrics.graph_delay.labels("record"), outcome.shaped.ended, outcome.shaped.last_modified)

    def _dead(self, outcome: Dead) -> None:
        self._metrics.dead.labels(outcome.reason).inc()
        log.warning(
            "dead letter",
            reason=outcome.reason,
            error=outcome.error,
            tenant_id=outcome.notification.tenant_id,
            call_id=outcome.notification.call_id,
            attempts=outcome.notification.attempt,
        )


def _observe(histogram: Histogram, begin: str, end: str) -> None:
    """Seconds between two UTC texts, not below 0; nothing when one of them is no time."""
    try:
        histogram.observe(max(0.0, from_iso(end) - from_iso(begin)))
    except ValueError:
        return
