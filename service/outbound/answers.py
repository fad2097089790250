"""Core: what status and headers of an answer mean for whoever asked: good, no use, or later, and how much later.

Sources: graph-contract 9; https://learn.microsoft.com/graph/throttling ; RFC 9110 10.2.3.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final, Literal

# The longest wait that is believed. Graph asks for seconds or minutes; a mistyped header must not silence a tenant.
LONGEST_RETRY_AFTER: Final = 3600.0

Kind = Literal[
    "ok", "not_found", "rejected", "unauthorized", "forbidden", "throttled", "failed", "refused", "not_a_record"
]


@dataclass(frozen=True)
class Meaning:
    """What an answer's status and headers say.

    `rejected` is a 4xx that asking again will not change, `failed` what may be better the next time, `refused` what
    this program will not follow or take.
    """

    kind: Kind
    retry_after_seconds: float | None = None


def interpret(status: int, headers: Mapping[str, str], now: float) -> Meaning:
    """`headers` look names up without case; `now` (Unix seconds) is used where the answer has no `Date`."""
    if status == 200:
        return Meaning("ok")
    if 300 <= status < 400:
        # Following one would send the token wherever it points.
        return Meaning("refused")
    known: dict[int, Kind] = {401: "unauthorized", 403: "forbidden", 404: "not_found"}
    if status in known:
        return Meaning(known[status])
    wait = retry_after_seconds(headers.get("Retry-After"), headers.get("Date"), now)
    if status == 429:
        return Meaning("throttled", wait)
    if 400 <= status < 500 and status not in (408, 423, 425):
        return Meaning("rejected")
    return Meaning("failed", wait)


def retry_after_seconds(value: str | None, date: str | None, now: float) -> float | None:
    """How long `Retry-After` asks to wait, from 0 to `LONGEST_RETRY_AFTER`; None when it is absent or unreadable.

    Graph documents seconds; HTTP allows a date as well (RFC 9110 10.2.3), which is counted from the answer's own
    `Date`, so that two clocks that differ do no harm.
    """
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", text):
        return min(float(text), LONGEST_RETRY_AFTER)
    moment = _http_date(text)
    if moment is None:
        return None
    base = _http_date(date) if date else None
    return min(max(0.0, moment - (now if base is None else base)), LONGEST_RETRY_AFTER)


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text.strip())
        # An HTTP date is GMT; forms without a zone would be read as this machine's.
        return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
