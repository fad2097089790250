"""Core: what stands in `{prefix}.keeper-inbox`: what lanes report to the keeper, and what people ask of it. No I/O.

A lane reports in the transaction that does the work, so a report is as true as the events: of every id that a look of
the keeper listed it says once what became of it, and now and then when it last saw a notice of Graph's.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from service.clock import from_iso, iso
from service.lanes.policy import LIVE_SOURCES, LONG_FETCH, Dead, Later, Outcome, Publish, Skip, SkipReason
from service.notification import UNREADABLE

LISTED_SOURCES = ("reconcile", "backfill")
# A lane says at most so often when it last saw a notice. Seconds.
NOTICE_SECONDS = 60.0

LookKey = tuple[str, int, int]
"""Lower-case tenant id, hour, look."""


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """What became of some of the records of one look of one hour."""

    tenant_id: str
    hour: int
    look: int
    known: int = 0
    """Published already, or by a notice."""
    healed: int = 0
    """Published because of the look."""
    dead: int = 0
    """Named in a dead letter, now or before."""


class Report(msgspec.Struct, frozen=True, kw_only=True, tag="report", tag_field="kind", rename="camel"):
    """What one transaction of a lane did for the keeper."""

    lane: int
    tallies: list[Tally] = []
    notices: dict[str, str] = {}
    """Tenant id → when its newest notice was received, as UTC text."""


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, tag="backfill", tag_field="kind", rename="camel"):
    """Somebody asks for every hour of [first_hour, end_hour) to be listed again."""

    id: str
    tenant_id: str
    first_hour: int
    end_hour: int


Message = Report | JobRequest
_decoder = msgspec.json.Decoder(Message)


def decode_message(value: bytes | None) -> Message | None:
    """None for anything that is no message to the keeper."""
    try:
        message: Message = _decoder.decode(value or b"")
    except UNREADABLE:
        return None
    return message


def tally(outcomes: Iterable[Outcome]) -> list[Tally]:
    """Counts the listed ids that came to their end; one that goes to a retry topic has not."""
    counted: Counter[tuple[LookKey, str]] = Counter()
    for outcome in outcomes:
        notification = outcome.notification
        if notification is None or notification.look is None or notification.listed_hour is None:
            continue
        if (what := _what(outcome)) is not None:
            counted[(notification.tenant_id, notification.listed_hour, notification.look), what] += 1
    keys = sorted({key for key, _ in counted})
    return [Tally(*key, *(counted[key, what] for what in ("known", "healed", "dead"))) for key in keys]


def _what(outcome: Outcome) -> str | None:
    match outcome:
        case Publish(second_look=Later()):
            return None
        case Publish(notification):
            # Merged with a live notice it would have been published anyway.
            return "healed" if notification.source in LISTED_SOURCES else "known"
        case Skip(SkipReason.PUBLISHED, notification) if notification is not None:
            # A record that went on beside the batches: what was published is this very look's.
            is_own = notification.reason == LONG_FETCH and notification.source in LISTED_SOURCES
            return "healed" if is_own else "known"
        case Skip(SkipReason.OVERTAKEN):
            return "known"
        case Skip(SkipReason.DEAD) | Dead():
            return "dead"
        case _:
            return None


class Notices:
    """When a lane last saw a live notice of each tenant, told at most once in `NOTICE_SECONDS`."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def news(self, outcomes: Iterable[Outcome], now: float) -> Mapping[str, str]:
        """What is worth telling. A crash before it is told costs nothing: the next notice tells it."""
        newest: dict[str, float] = {}
        for outcome in outcomes:
            notification = outcome.notification
            if notification is None or notification.source not in LIVE_SOURCES or isinstance(outcome, Later):
                continue
            # None was received later than now, whatever another tool wrote: the keeper would hear of no gap any more.
            tenant_id, received = notification.tenant_id.lower(), min(unix_or_zero(notification.received_at), now)
            if received > newest.get(tenant_id, 0.0) and now >= self._told.get(tenant_id, 0.0) + NOTICE_SECONDS:
                newest[tenant_id] = received
        for tenant_id in newest:
            self._told[tenant_id] = now
        return {tenant_id: iso(received) for tenant_id, received in newest.items()}


def unix_or_zero(text: str) -> float:
    """UTC text as Unix seconds; 0 when it is none."""
    try:
        return from_iso(text)
    except ValueError:
        return 0.0
