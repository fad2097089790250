"""Core: what becomes of a notification. Rules of design section 5 as values and small functions; no I/O, no clock.

Every notification ends in exactly one of `Publish`, `Skip`, `Later` (a retry topic) or `Dead` (the dead-letter topic).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from service.clock import from_iso, iso
from service.errors import CallstreamError, GraphUnavailable, RecordNotFound, SetAside, TenantMustWait
from service.lanes.ledger import Entry
from service.notification import Notification
from service.settings import Retry, parse_delays

LIVE_SOURCES = ("webhook", "eventhub")
# The reason of a notification that takes its one more look (design section 5, "a stale read").
UNCHANGED = "unchanged"
# The reason of a notification whose record goes on being fetched beside the batches.
LONG_FETCH = "long_fetch"
# The reason of one that came while the record was being fetched for another: what that brings may be older than it.
JOINED_FETCH = "joined_fetch"


@dataclass(frozen=True)
class ShapedRecord:
    """One version of a call, ready to be published: every message encoded, the record itself let go."""

    version: int
    events: Sequence[tuple[str, bytes, str]]
    """(topic kind, message, event id) in document order."""
    summary: bytes
    last_modified: str
    """lastModifiedDateTime, for the `ce_time` header; empty when Graph sent none."""
    size_bytes: int
    """Of all messages together."""
    fetched_at: str
    raw: bytes | None = None
    """The record itself after the privacy policy, gzip; None where nothing is archived."""
    ended: str = ""
    """endDateTime of the call, UTC text; empty when Graph sent none."""


class SkipReason(Enum):
    """Why a notification needs nothing."""

    PUBLISHED = "published"
    DEAD = "dead"
    OVERTAKEN = "overtaken"
    MERGED = "merged"


@dataclass(frozen=True)
class Skip:
    """Nothing to do."""

    reason: SkipReason
    notification: Notification | None = field(default=None, compare=False)
    """Which one; None for one that was merged into another."""


@dataclass(frozen=True)
class Later:
    """Look again after the delay of retry tier `tier` (an index into the retry topics)."""

    tier: int
    notification: Notification


@dataclass(frozen=True)
class Publish:
    """Publish this version (if the ledger still lacks it when the transaction begins)."""

    notification: Notification
    shaped: ShapedRecord
    second_look: Later | None = None
    """In the same transaction, where a newer version is known to exist; the notification comes to its end there."""


@dataclass(frozen=True)
class Dead:
    """Set aside. `entry` stands in the ledger, so that reconcile does not queue it again; None leaves the ledger."""

    reason: str
    error: str
    notification: Notification
    entry: Entry | None = None
    version: int = 0
    """Which version, 0 where none is known."""
    published: int = 0
    """The version that was published before; 0 for none."""


Outcome = Publish | Skip | Later | Dead


@dataclass(frozen=True)
class Rules:
    """The settings of `retry` as numbers. Seconds throughout."""

    delays: tuple[float, ...]
    not_ready_seconds: float
    most_attempts: int
    """Failed attempts until the waits between them add up to `give_up_hours`."""
    second_look_tier: int = field(default=0)

    @classmethod
    def of(cls, retry: Retry) -> "Rules":
        """The second look waits in the second tier (10 minutes by default), else in the only one."""
        delays = parse_delays(retry.delays)
        give_up = retry.give_up_hours * 3600
        attempts, waited = 0, 0.0
        while waited < give_up:
            waited += delays[min(attempts, len(delays) - 1)]
            attempts += 1
        return cls(delays, retry.not_ready_hours * 3600, attempts, min(1, len(delays) - 1))

    def tier(self, attempt: int) -> int:
        """Where the failed attempt number `attempt` (from 1) waits."""
        return min(attempt, len(self.delays)) - 1

    def tier_not_before(self, seconds: float) -> int:
        """The shortest tier that lasts so long, else the longest."""
        return next((index for index, delay in enumerate(self.delays) if delay >= seconds), len(self.delays) - 1)

    def tier_for_wait(self, seconds: float) -> int:
        """The longest tier that is over when the wait is, else the shortest."""
        fitting = [index for index, delay in enumerate(self.delays) if delay <= seconds]
        return fitting[-1] if fitting else 0


def first_seen(notification: Notification) -> float:
    """Unix time at which the notification was first received; 0 when the text is no time, so that it counts as old."""
    try:
        return from_iso(notification.first_seen_at or notification.received_at)
    except ValueError:
        return 0.0


def needs_no_fetch(notification: Notification, entry: Entry | None) -> SkipReason | None:
    """Decides by the ledger alone, before Graph is asked; None when the record must be looked at.

    A live notification names no version, so only the record itself can tell. A replay goes past what is dead.
    """
    if entry is None or notification.version is None or notification.version > entry.version:
        return None
    if entry.dead:
        return None if notification.source == "replay" else SkipReason.DEAD
    return SkipReason.PUBLISHED


def after_fetch(
    notification: Notification, shaped: ShapedRecord, entry: Entry | None, rules: Rules, now: float
) -> Outcome:
    """The record was read whole: publish it, or see that the ledger has this version or a newer one."""
    replays_dead = notification.source == "replay" and entry is not None and entry.dead
    if entry is None or shaped.version > entry.version or (replays_dead and shaped.version == entry.version):
        if expected(notification) <= shaped.version:
            return Publish(notification, shaped)
        # A version is listed that Graph does not show yet. There are no more such looks than versions to publish.
        knowing = with_version(notification, shaped.version)
        return Publish(notification, shaped, second_look(knowing, rules, now))
    # What Graph shows may be stale: a live notification speaks of some change, a listed version is one that exists.
    # A replay may have been merged with a live one.
    is_owed = notification.source in (*LIVE_SOURCES, "replay")
    expects_more = is_owed or expected(notification) > shaped.version
    if expects_more and notification.reason != UNCHANGED:
        return second_look(notification, rules, now)
    if entry.dead:
        return Skip(SkipReason.DEAD, notification)
    reason = SkipReason.PUBLISHED if shaped.version == entry.version else SkipReason.OVERTAKEN
    return Skip(reason, notification)


def second_look(notification: Notification, rules: Rules, now: float) -> Later:
    """Graph may have shown an old state: one more look, later."""
    return later(notification, UNCHANGED, rules.second_look_tier, rules, now)


def after_failure(
    notification: Notification, error: CallstreamError, entry: Entry | None, rules: Rules, now: float
) -> Outcome:
    """The record could not be read: wait for the tenant, try again later, or set it aside."""
    if isinstance(error, TenantMustWait):
        return later(notification, error.reason, rules.tier_for_wait(error.wait_seconds), rules, now)
    if isinstance(error, SetAside):
        return dead(notification, error.reason, str(error), entry)
    tried = msgspec.structs.replace(notification, attempt=notification.attempt + 1)
    # As far in the future it is no time either: somebody else wrote it.
    if isinstance(error, RecordNotFound) and abs(now - first_seen(notification)) >= rules.not_ready_seconds:
        return dead(tried, "unavailable", str(error), entry)
    if not isinstance(error, RecordNotFound) and tried.attempt >= rules.most_attempts:
        # Its kinds (a record that kept changing, a refused link) are one reason to whoever reads dead letters.
        reason = GraphUnavailable.reason if isinstance(error, GraphUnavailable) else error.reason
        return dead(tried, reason, str(error), entry)
    tier = rules.tier(tried.attempt)
    if isinstance(error, GraphUnavailable):
        tier = max(tier, rules.tier_not_before(error.retry_after_seconds))
    return later(tried, error.reason, tier, rules, now)


def later(notification: Notification, reason: str, tier: int, rules: Rules, now: float) -> Later:
    """To retry tier `tier`, due after its delay."""
    waiting = msgspec.structs.replace(
        notification,
        first_seen_at=notification.first_seen_at or notification.received_at,
        due_at=iso(now + rules.delays[tier]),
        reason=reason,
    )
    return Later(tier, waiting)


def dead(notification: Notification, reason: str, error: str, entry: Entry | None, version: int | None = None) -> Dead:
    """To the dead letters. What is published stays what the ledger says; otherwise it learns of the dead version."""
    known = version if version is not None else notification.version or 0
    supersedes = entry is None or known > entry.version
    published = 0 if entry is None or entry.dead else entry.version
    return Dead(reason, error, notification, Entry(known, dead=True) if supersedes else None, known, published)


def not_its_own(notification: Notification) -> Notification:
    """The notification, once its fetch beside the batches has found that everything was published before."""
    return msgspec.structs.replace(notification, reason=None)


def expected(notification: Notification) -> int:
    """The newest version that is known to exist; 0 for none."""
    return max(notification.version or 0, notification.known_version or 0)


def with_version(notification: Notification, version: int) -> Notification:
    """The notification, knowing that this version is to be had at least, or the newest that was known before."""
    newest = max(version, expected(notification))
    return msgspec.structs.replace(notification, version=newest, known_version=None)


def silent() -> GraphUnavailable:
    """The failure of a look that brought nothing by the deadline."""
    return GraphUnavailable("Graph had not sent the whole record by the deadline")


def merge(same_call: Sequence[Notification]) -> Notification:
    """One notification for several of the same call: the newest look that was asked for, with all that is known.

    A live one wins over a backfill (it is owed the second look), a fresh one over one that has been retried. It is as
    young as the youngest of them: a record that somebody has just heard of may not be ready yet.
    """
    chosen = max(
        same_call, key=lambda n: (n.source == "replay", n.source in LIVE_SOURCES, n.reason is None, first_seen(n))
    )
    versions = [n.version for n in same_call]
    version = None if None in versions else max(v for v in versions if v is not None)
    newest = max(expected(n) for n in same_call)
    # A second look that was taken answers for what was known then, not for a version that was listed since.
    answered = max((expected(n) for n in same_call if n.reason == UNCHANGED), default=0)
    is_answered = chosen.reason != UNCHANGED or newest <= answered
    # The keeper waits for the end of every id of its newest look, whichever notification brings it.
    listed = max(same_call, key=lambda n: n.look or 0)
    youngest = max(same_call, key=first_seen)
    is_youngest = first_seen(chosen) >= first_seen(youngest)
    return msgspec.structs.replace(
        chosen,
        version=version,
        known_version=newest if newest > (version or 0) else None,
        reason=chosen.reason if is_answered else None,
        first_seen_at=chosen.first_seen_at if is_youngest else youngest.first_seen_at or youngest.received_at,
        attempt=min(n.attempt for n in same_call),
        listed_hour=listed.listed_hour,
        look=listed.look,
    )
