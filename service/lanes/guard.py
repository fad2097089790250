"""Shell: the watches over all tenants of the process: asked before a look, told how it ended, shown to people."""

from collections.abc import Mapping
from typing import Any

import structlog

from service.clock import Clock, iso
from service.errors import CallstreamError
from service.lanes.outage import Watch, spared, symptom, waits
from service.lanes.policy import Dead, Later, Outcome, Rules
from service.metrics import Metrics
from service.notification import Notification

log = structlog.get_logger()

UNPUBLISHABLE = "unpublishable"


class Guard:
    """Reading and publishing are watched apart: what is read well may still not be taken by Kafka."""

    def __init__(self, tenants: Mapping[str, str], rules: Rules, clock: Clock, metrics: Metrics) -> None:
        """`tenants`: lower-case tenant id → configured name."""
        self._names = dict(tenants)
        self._reading = {tenant: Watch() for tenant in tenants}
        self._publishing = {tenant: Watch() for tenant in tenants}
        self._rules = rules
        self._clock = clock
        self._metrics = metrics

    def held_back(self, notification: Notification) -> Later | None:
        """The outcome of a notification that must not be tried now; None when it may."""
        now = self._clock.now()
        watches = [watch for watch in self._watches(notification) if watch.wait_seconds(notification.key, now) > 0]
        if not watches:
            return None
        longest = max(watches, key=lambda watch: watch.wait_seconds(notification.key, now))
        return waits(longest, notification, self._rules, now)

    def is_on(self, notification: Notification) -> bool:
        """Whether the tenant has an outage of either kind."""
        return any(watch.reason for watch in self._watches(notification))

    @property
    def refuses(self) -> bool:
        """Whether Kafka takes most of some tenant's records no more."""
        return any(watch.reason for watch in self._publishing.values())

    def started(self, notification: Notification) -> None:
        """It is being tried."""
        for watch in self._watches(notification):
            watch.started(notification.key, self._clock.now())

    def was_read(self, notification: Notification) -> None:
        """Its record came whole."""
        self._well(self._reading, notification)

    def was_published(self, notification: Notification) -> None:
        """Its record is committed."""
        self._well(self._publishing, notification)

    def was_known(self, notification: Notification) -> None:
        """There was nothing to publish, so nothing is known of publishing."""
        self._publishing[notification.tenant_id.lower()].undecided(notification.key)

    def unread(self, notification: Notification, error: CallstreamError, outcome: Outcome) -> Outcome:
        """What becomes of it after `error`; `outcome` is what its own rules say."""
        reason = symptom(error, outcome)
        self.was_known(notification)
        if reason is None:
            self._reading[notification.tenant_id.lower()].undecided(notification.key)
            return outcome
        return self._failed(self._reading, notification, outcome, reason, str(error))

    def unpublished(self, notification: Notification, outcome: Dead) -> Outcome:
        """What becomes of it after Kafka's refusal; `outcome` is what its own rules say."""
        return self._failed(self._publishing, notification, outcome, UNPUBLISHABLE, outcome.error)

    def status(self) -> dict[str, Any]:
        """By tenant name, the outages there are, for the status page."""
        found: dict[str, Any] = {}
        for side in (self._reading, self._publishing):
            for tenant, watch in side.items():
                if watch.reason:
                    one = {"reason": watch.reason, "since": iso(watch.since), "nextTryAt": iso(watch.until)}
                    found.setdefault(self._names[tenant], []).append(one)
        return found

    def _watches(self, notification: Notification) -> tuple[Watch, Watch]:
        tenant = notification.tenant_id.lower()
        return self._reading[tenant], self._publishing[tenant]

    def _well(self, side: Mapping[str, Watch], notification: Notification) -> None:
        tenant = notification.tenant_id.lower()
        reason = side[tenant].reason
        if side[tenant].went_well(notification.key):
            log.info("the outage is over", tenant=self._names[tenant], reason=reason)
            self._metrics.outage.labels(self._names[tenant], reason).set(0)

    def _failed(
        self, side: Mapping[str, Watch], notification: Notification, outcome: Outcome, reason: str, error: str
    ) -> Outcome:
        tenant, now = notification.tenant_id.lower(), self._clock.now()
        watch = side[tenant]
        if watch.failed(notification.key, reason, now):
            log.warning(
                "most records fail for one reason; they wait, and none is set aside",
                tenant=self._names[tenant],
                reason=reason,
                error=error,
                wait_seconds=round(watch.until - now, 1),
            )
            self._metrics.outage.labels(self._names[tenant], reason).set(1)
        return spared(watch, notification, outcome, reason, self._rules, now)
