"""Core: when most of what is tried fails for one reason, that is an outage, not a thousand dead letters. No I/O.

A watch sees one side of one tenant: reading its records from Graph, or publishing them. It remembers how the last
distinct records ended. While there is an outage nothing is tried but one record now and then, the probe, after waits
that grow; whatever else comes waits in a retry topic, uncounted, and nothing is set aside.

Requests that fail are another matter (`graph/budget.py`): here every answer may be a good one, of the wrong shape.
"""

from dataclasses import dataclass, field

from service.errors import CallstreamError, GraphUnavailable, RecordNotFound, TenantMustWait
from service.lanes import policy
from service.lanes.policy import Dead, Later, Outcome, Rules
from service.notification import Notification

LAST_RECORDS = 20
# Fewer different ones may be poison, each in its own right.
FEWEST_RECORDS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 30.0, 600.0
# Without an end for so long a probe is lost: its process's lane has moved, or its record was not there.
PROBE_SECONDS = 60.0
# So long after a wait only records that have not failed may be the probe: among a handful of poisonous ones in a quiet
# tenant the first good one shall not wait for its turn.
FRESH_SECONDS = 60.0

# The reason of a notification that waits for the end of an outage.
OUTAGE = "outage"
# These would be set aside at the first failure. They are given one more look, by which time more is known of the
# others: that all went well before says nothing about now.
AT_ONCE = ("not_a_call_record", "unpublishable")


@dataclass
class Watch:
    """One side of one tenant. Keys are the calls' Kafka keys; times are Unix seconds."""

    reason: str = ""
    """Of the outage; empty while there is none."""
    since: float = 0.0
    until: float = 0.0
    """No probe before this."""
    _ends: dict[bytes, str] = field(default_factory=dict)
    """How the last distinct records ended, the latest last: the reason, or empty where one went well."""
    _level: int = 0
    _probe: bytes | None = None
    _probe_until: float = 0.0

    def wait_seconds(self, key: bytes, now: float) -> float:
        """How long a record must wait before it may be tried; 0 for now."""
        if not self.reason or key == self._probe:
            return 0.0
        after = self.until
        if self._probe is not None:
            after = max(after, self._probe_until)
        elif self._ends.get(key):
            after += FRESH_SECONDS
        return max(0.0, after - now)

    def started(self, key: bytes, now: float) -> None:
        """A record is being tried; in an outage it is the probe."""
        if self.reason:
            self._probe, self._probe_until = key, now + PROBE_SECONDS

    def went_well(self, key: bytes) -> bool:
        """A record ended well; gives whether that ends an outage. What had begun before the outage ends none."""
        self._remember(key, "")
        if not self.reason or key != self._probe:
            return False
        self.reason, self._level, self._probe = "", 0, None
        self._ends.clear()
        return True

    def failed(self, key: bytes, reason: str, now: float) -> bool:
        """A record failed for this reason; gives whether an outage begins with it: the latest distinct records all did,
        or most of those that are remembered."""
        self._remember(key, reason)
        if self.reason:
            if key == self._probe:
                self._wait(now)
            return False
        ends = list(self._ends.values())
        are_latest = ends[-FEWEST_RECORDS:] == [reason] * FEWEST_RECORDS
        if not are_latest and (len(ends) < LAST_RECORDS or 2 * ends.count(reason) <= LAST_RECORDS):
            return False
        self.reason, self.since, self._level = reason, now, 0
        self._wait(now)
        return True

    def undecided(self, key: bytes) -> None:
        """A record ended in a way that says nothing: another may be the probe."""
        if key == self._probe:
            self._probe = None

    def _wait(self, now: float) -> None:
        self._probe = None
        self.until = now + min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(self._level, 16))
        self._level += 1

    def _remember(self, key: bytes, end: str) -> None:
        self._ends.pop(key, None)
        self._ends[key] = end
        while len(self._ends) > LAST_RECORDS:
            del self._ends[next(iter(self._ends))]


def symptom(error: CallstreamError, outcome: Outcome) -> str | None:
    """The reason that a failed look counts under; None for what is normal, or known to be its tenant's or its own."""
    if isinstance(error, TenantMustWait):
        return None
    if isinstance(error, RecordNotFound):
        return outcome.reason if isinstance(outcome, Dead) else None
    return GraphUnavailable.reason if isinstance(error, GraphUnavailable) else error.reason


def spared(
    watch: Watch, notification: Notification, outcome: Outcome, reason: str, rules: Rules, now: float
) -> Outcome:
    """What becomes of a notification that failed for `reason`: `outcome`, or it waits, uncounted."""
    if watch.reason:
        return waits(watch, notification, rules, now)
    if isinstance(outcome, Dead) and reason in AT_ONCE and notification.reason != reason:
        return policy.later(notification, reason, 0, rules, now)
    return outcome


def waits(watch: Watch, notification: Notification, rules: Rules, now: float) -> Later:
    """To the retry topic that fits the wait; no attempt."""
    tier = rules.tier_for_wait(watch.wait_seconds(notification.key, now))
    return policy.later(notification, OUTAGE, tier, rules, now)
