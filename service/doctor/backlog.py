"""What lanes have not done yet: notices and listed records that wait, and retries by reason.

A group's lag in Kafka's own count never reads 0 with transactions (their markers count), so what is told is the first
record that nobody has handled, and its age.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from service.clock import from_iso
from service.doctor import reading
from service.doctor.case import Case
from service.doctor.finding import Look, broken, ok, warn
from service.kafka.delivery import offsets_group
from service.notification import Notification

SLOW_SECONDS, STANDING_SECONDS = 60.0, 900.0
# A retry is looked at some seconds after it is due; behind a long batch it may be a minute.
OVERDUE_SECONDS = 300.0
MOST_OF_EACH = 2000
NEWEST_OF_EACH = 20
# Brokers stamp the ledger: a stamp that lies ahead of us is a clock that does.
AHEAD_SECONDS = 30.0
WORDS = {
    "not_found": "Graph has no record yet",
    "graph_unavailable": "Graph failed",
    "tenant_waits": "their tenant has to wait",
    "changed": "new versions kept appearing",
    "unchanged": "one more look at what Graph showed stale",
    "long_fetch": "large records, being fetched",
    "joined_fetch": "large records, being fetched for another notice",
    "budget": "the budget of requests is used up",
    "internal": "a bug; see the log",
}
HARMLESS = ("not_found", "unchanged", "changed", "long_fetch", "joined_fetch", "budget")
_notification = msgspec.json.Decoder(Notification)


@dataclass(frozen=True)
class Waiting:
    """What one topic holds that no lane has handled. Times are Unix seconds."""

    count: int
    """At most: markers of transactions count too."""
    oldest: float | None
    lane: int = 0


async def check_lag(case: Case) -> Iterable[Look]:
    """The oldest notice and the oldest listed record that wait; the newest notices, for a later link."""
    topics = case.topics
    found = await _unhandled(case, [topics.notifications, topics.backfill], most=1)
    await _newest_notices(case)
    looks = [
        judge_lag(waiting_in(found, topics.notifications), "notices", time.time()),
        judge_lag(waiting_in(found, topics.backfill), "listed records", time.time()),
    ]
    looks = [look for look in looks if look.status != "ok"] or looks[:1]
    return [*looks, *await _broker_clock(case)]


async def check_retries(case: Case) -> Iterable[Look]:
    """Counted by why they wait; one long past its time means that its lane does not move."""
    found = await _unhandled(case, list(case.topics.retry), most=MOST_OF_EACH)
    notifications = [one for records in found.values() for record in records.records if (one := decoded(record))]
    return judge_retries(notifications, case.clock.now())


@dataclass(frozen=True)
class Unhandled:
    """One partition's records past what is committed."""

    count: int
    records: list[ConsumerRecord]


async def _unhandled(case: Case, names: list[str], most: int) -> dict[TopicPartition, Unhandled]:
    partitions = [TopicPartition(name, lane) for name in names for lane in range(case.settings.kafka.partitions)]
    bounds = await reading.bounds(case)
    group = offsets_group(case.settings.kafka, case.topics)
    committed = await case.admin.list_consumer_group_offsets(group, partitions=partitions)
    spans = {}
    for one in partitions:
        offset = committed[one].offset if one in committed else -1
        spans[one] = (max(offset, bounds[one].first), bounds[one].stable)
    read = await reading.read(case.settings.kafka, spans, most)
    return {one: Unhandled(max(0, spans[one][1] - spans[one][0]), read[one]) for one in partitions}


def waiting_in(found: Mapping[TopicPartition, Unhandled], topic: str) -> Waiting:
    """Over the lanes of one topic. A partition without a record past its offset has only markers left."""
    ours = [(one, there) for one, there in found.items() if one.topic == topic and there.records]
    if not ours:
        return Waiting(0, None)
    first, there = min(ours, key=lambda one: one[1].records[0].timestamp)
    return Waiting(sum(one.count for _, one in ours), there.records[0].timestamp / 1000, first.partition)


def judge_lag(waiting: Waiting, what: str, now: float) -> Look:
    """How long the oldest has waited."""
    if waiting.oldest is None:
        return ok("Nothing waits: every notice has been handled.")
    age = max(0.0, now - waiting.oldest)
    seen = f"Up to {waiting.count:,} {what} wait, the oldest for {_span(age)} (lane {waiting.lane})."
    todo = "See the link workers and the tenants' links; else add workers, up to the number of partitions."
    # The list of a day may well take hours to work off; notices may not.
    if age > STANDING_SECONDS and what == "notices":
        return broken(seen, todo)
    return warn(seen, todo) if age > SLOW_SECONDS and what == "notices" else ok(seen)


def decoded(record: ConsumerRecord) -> Notification | None:
    """None for what is no notification."""
    try:
        return _notification.decode(record.value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def judge_retries(notifications: Iterable[Notification], now: float) -> list[Look]:
    """`now` is of the clock that the lanes go by."""
    reasons: Counter[str] = Counter()
    overdue = 0.0
    for one in notifications:
        reasons[one.reason or "unknown"] += 1
        overdue = max(overdue, now - _moment(one.due_at, now))
    if not reasons:
        return [ok("None waits.")]
    said = "; ".join(
        f"{count:,} {reason} ({WORDS.get(reason, 'an unknown reason')})" for reason, count in reasons.most_common()
    )
    seen = f"{reasons.total():,} wait: {said}."
    if overdue > OVERDUE_SECONDS:
        late = f"{seen} One is {_span(overdue)} past its time."
        return [broken(late, "Its lane does not move: see the link workers, and the workers' log.")]
    worst = [reason for reason in reasons if reason not in HARMLESS]
    todo = "See the tenants' links token and permission; what Graph fails at passes." if worst else ""
    return [warn(seen, todo) if worst else ok(seen)]


def _moment(text: str | None, otherwise: float) -> float:
    try:
        return from_iso(text) if text else otherwise
    except ValueError:
        return otherwise


async def _newest_notices(case: Case) -> None:
    """What came last for each tenant, handled or not: the end of every partition."""
    partitions = [TopicPartition(case.topics.notifications, lane) for lane in range(case.settings.kafka.partitions)]
    for records in (await _tail(case, partitions)).values():
        for record in records:
            if (one := decoded(record)) is not None:
                newest = case.newest_notices.get(one.tenant_id, 0.0)
                case.newest_notices[one.tenant_id] = max(newest, _moment(one.received_at, 0.0))


async def _broker_clock(case: Case) -> list[Look]:
    """Brokers stamp what lanes write to the ledger."""
    partitions = [TopicPartition(case.topics.ledger, lane) for lane in range(case.settings.kafka.partitions)]
    stamps = [record.timestamp for records in (await _tail(case, partitions)).values() for record in records]
    ahead = max(stamps, default=0) / 1000 - time.time()
    if ahead < AHEAD_SECONDS:
        return []
    seen = f"A broker's clock is {_span(ahead)} ahead of this machine's: retries come late by as much."
    return [warn(seen, "Set the clocks of brokers and workers by NTP.")]


async def _tail(case: Case, partitions: list[TopicPartition]) -> dict[TopicPartition, list[ConsumerRecord]]:
    bounds = await reading.bounds(case)
    spans = {
        one: (max(found.first, found.stable - NEWEST_OF_EACH), found.stable)
        for one in partitions
        if (found := bounds[one])
    }
    return await reading.read(case.settings.kafka, spans, NEWEST_OF_EACH)


def _span(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )
