"""How single wire values must come out: typed fields, durations, times. Pure; knows nothing of events.

Written from design section 6 and graph-contract 7.8 alone, apart from the service's own decoder, so that a mistake in
one of the two shows as a difference.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

Field = Callable[[Any], Any]

_DURATION = re.compile(
    r"(?P<sign>[+-]?)P(?!$)(?:(?P<d>\d+)D)?(?:T(?=\d)(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?",
    re.ASCII,
)
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(?:(Z)|([+-])(\d\d):(\d\d))", re.ASCII | re.IGNORECASE)


def text(value: Any) -> str | None:
    """Text as it is, the empty one too."""
    return value if isinstance(value, str) else None


def flag(value: Any) -> bool | None:
    """A JSON boolean; anything else is odd."""
    return value if isinstance(value, bool) else None


def number(value: Any) -> int | float | None:
    """A finite JSON number. OData's texts "NaN", "INF" and "-INF" are no value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def whole(value: Any) -> int | None:
    """A JSON number without a fraction."""
    plain = number(value)
    return int(plain) if plain is not None and plain == int(plain) else None


def seconds_of(duration: Any) -> Decimal | None:
    """Seconds of an ISO 8601 duration as OData allows it (days to seconds, a sign); None when it is none."""
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if match is None:
        return None
    total = (
        int(match["d"] or 0) * 86400
        + int(match["h"] or 0) * 3600
        + int(match["m"] or 0) * 60
        + Decimal(match["s"] or 0)
    )
    return -total if match["sign"] == "-" else total


def milliseconds(duration: Any) -> int | float | None:
    """A duration as milliseconds with all its digits. A negative one is odd, so it is no value."""
    seconds = seconds_of(duration)
    return None if seconds is None or seconds < 0 else plain_number(seconds * 1000)


def plain_number(value: Decimal) -> int | float:
    """The nearest JSON number, without a point where none is needed."""
    return int(value) if value == value.to_integral_value() else float(value)


def utc(value: Any) -> str | None:
    """A date-time as UTC text with the digits it had. Text that is no date-time stays as it is."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[3] == "Z":
        return text(value)
    try:
        moment = dt.datetime.fromisoformat(match[1]) - _offset(match)
    except (OverflowError, ValueError):
        return text(value)
    return moment.isoformat() + (match[2] or "") + "Z"


def duration_seconds(start: Any, end: Any) -> int | float | None:
    """Exact seconds between two date-time texts; None when one is missing or the end comes first."""
    first, last = _instant(start), _instant(end)
    if first is None or last is None or last < first:
        return None
    return plain_number(last - first)


def _instant(value: Any) -> Decimal | None:
    """Seconds since year 1 with every fraction digit: a datetime would lose the seventh."""
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        since = dt.datetime.fromisoformat(match[1]) - dt.datetime.min  # noqa: DTZ901 - both are UTC by construction
    except ValueError:
        return None
    return (
        Decimal(since.days * 86400 + since.seconds)
        + Decimal("0" + (match[2] or ""))
        - int(_offset(match).total_seconds())
    )


def _offset(match: re.Match[str]) -> dt.timedelta:
    if match[4] is None:
        return dt.timedelta()
    size = dt.timedelta(hours=int(match[5]), minutes=int(match[6]))
    return -size if match[4] == "-" else size


def texts(value: Any) -> list[str] | None:
    """A collection of texts; an empty one is kept, it says that there is nothing."""
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else None


def project(source: Any, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The known fields of a wire object under their event names; absent, null and odd values are left out.

    A field read by `milliseconds` gets the suffix `Ms`.
    """
    if not isinstance(source, dict):
        return {}
    result = {}
    for name, read in fields.items():
        value = read(source.get(name))
        if value is not None:
            result[name + "Ms" if read is milliseconds else name] = value
    return result


def objects(value: Any) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a collection with their position; null, absent and empty are the same."""
    return [(n, item) for n, item in enumerate(value) if isinstance(item, dict)] if isinstance(value, list) else []
