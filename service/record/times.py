"""Date-times and durations as Graph writes them: read and re-written without losing a digit.

Graph's instants have up to seven fraction digits, one more than `datetime` holds, so fractions stay text or integers
here and never pass through a float. Both readers remember what they have read: in telemetry the same few texts come
again and again.
"""

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeVar

import msgspec

Reading = TypeVar("Reading")

# OData's Edm.Duration (ISO 8601 without years, months and weeks), its digits bounded so that every result fits a double
# exactly or rounds once: https://docs.oasis-open.org/odata/odata/v4.01/odata-v4.01-part1-protocol.html
_DURATION = re.compile(
    r"(-)?P(?=[0-9T])(?:([0-9]{1,7})D)?"
    r"(?:T(?=[0-9])(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?(?:([0-9]{1,9})(?:\.([0-9]{1,30}))?S)?)?"
)
# What nearly all of Graph's durations look like. At most 14 digits: no two such numbers share a double, so the double
# nearest to the text is whole only where the text is.
_SECONDS = re.compile(r"PT([0-9]{1,5}(?:\.[0-9]{1,9})?)S")
_MOMENT = r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)"
_DATE_TIME = re.compile(rf"{_MOMENT}(?:\.([0-9]{{1,30}}))?(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))")
# Many of them, one a line, for one look: seconds as JSON writes numbers, so without zeros in front; instants in UTC.
_ALL_SECONDS = re.compile(r"(?:PT(?:0|[1-9][0-9]{0,4})(?:\.[0-9]{1,9})?S\n)*")
_ALL_UTC = re.compile(rf"(?:{_MOMENT.replace('(', '(?:')}(?:\.[0-9]{{1,30}})?Z\n)*")
_floats: Final = msgspec.json.Decoder(list[float]).decode

# Distinct texts in use at a time: durations in whole milliseconds below a minute, and the instants of some thousand
# records.
_REMEMBERED = 65_536


class _Remembered(dict[str, Reading]):
    """What a reader has made of the texts it was given; a full one forgets them all and begins anew.

    Each text of a record is asked for two or three times within the record, so what was used last need not be known.
    That costs half of `lru_cache`, in time and in memory.

    `read_all` reads many texts at once, None where they are not all of the usual form: one look at a record's texts
    costs a third of a look at each.
    """

    def __init__(
        self, read: Callable[[str], Reading], read_all: Callable[[Collection[str]], Iterable[Reading] | None]
    ) -> None:
        super().__init__()
        self._read = read
        self._read_all = read_all

    def all_well_formed(self, texts: Collection[str]) -> bool:
        """Whether the reader makes something of each of the texts. They are known afterwards.

        Read again even if they are known: most are not, and asking costs as much as reading.
        """
        readings = self._read_all(texts)
        if readings is None:
            return all(self[text] is not None for text in texts)
        if len(self) + len(texts) > _REMEMBERED:
            self.clear()
        self.update(zip(texts, readings, strict=True))
        return True

    def __missing__(self, text: str) -> Reading:
        if len(self) >= _REMEMBERED:
            self.clear()
        reading = self[text] = self._read(text)
        return reading


def quotient(numerator: int, denominator: int) -> int | float:
    """The exact quotient where it is whole, else the double nearest to it (Python rounds int / int correctly, once)."""
    whole, rest = divmod(numerator, denominator)
    return numerator / denominator if rest else whole


def duration_sign(text: str) -> int:
    """1 for a duration, -1 for a negative one, 0 for text that is none. `-PT0S` is not negative."""
    found = _DURATION.fullmatch(text)
    if found is None:
        # The other way of writing a negative one, a sign at a component.
        return -1 if "-" in text and _DURATION.fullmatch(text.replace("-", "")) else 0
    return -1 if found[1] and any(digit in "123456789" for digit in text) else 1


def _milliseconds(text: str) -> int | float | None:
    plain = _SECONDS.fullmatch(text)
    if plain is not None:
        value = float(f"{plain[1]}e3")  # read with three digits more before the point, it is rounded once
        return int(value) if value.is_integer() else value
    if duration_sign(text) != 1:
        return None
    found = _DURATION.fullmatch(text)
    if found is None:  # pragma: no cover
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.group(2, 3, 4, 5))
    fraction = found[6] or ""
    scale = 10 ** len(fraction)
    ticks = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * scale + int(fraction or 0)
    return quotient(ticks * 1000, scale)


def _lines(texts: Collection[str], form: re.Pattern[str]) -> str | None:
    """The texts, one a line, if each is of the form; a text of two lines is not."""
    lines = "\n".join((*texts, ""))
    return lines if form.fullmatch(lines) is not None and lines.count("\n") == len(texts) else None


def _all_milliseconds(texts: Collection[str]) -> Iterable[int | float] | None:
    lines = _lines(texts, _ALL_SECONDS)
    if lines is None:
        return None
    # `PT0.0251219S` becomes `0.0251219e3`, which JSON knows how to round.
    values = _floats("[" + lines[2:-2].replace("S\nPT", "e3,") + "e3]") if texts else ()
    return [int(value) if value.is_integer() else value for value in values]


_DURATIONS: Final = _Remembered(_milliseconds, _all_milliseconds)

are_durations: Final[Callable[[Collection[str]], bool]] = _DURATIONS.all_well_formed
"""Whether all the texts are durations that are not negative."""

milliseconds: Final[Callable[[str], int | float | None]] = _DURATIONS.__getitem__
"""The length of a duration in milliseconds (`PT2M20.6389308S` is 140638.9308).

None if it is negative or no duration.
"""


def _utc(text: str) -> str | None:
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    sign = found[8]
    if sign is None:
        return text
    shift = int(found[9]) * 60 + int(found[10])
    fraction = f".{found[7]}" if found[7] else ""
    if not shift:
        return f"{text[:19]}{fraction}Z"
    try:
        moment = dt.datetime.fromisoformat(text[:19]) - dt.timedelta(minutes=-shift if sign == "-" else shift)
    except (ValueError, OverflowError):
        return text
    return f"{moment.isoformat()}{fraction}Z"


def _all_utc(texts: Collection[str]) -> Iterable[str] | None:
    return None if _lines(texts, _ALL_UTC) is None else texts


_INSTANTS: Final = _Remembered(_utc, _all_utc)

are_date_times: Final[Callable[[Collection[str]], bool]] = _INSTANTS.all_well_formed
"""Whether all the texts are date-times with an offset."""

utc: Final[Callable[[str], str | None]] = _INSTANTS.__getitem__
"""A date-time in UTC with all the digits it came with; None if it is no date-time with an offset.

Where UTC would leave the years 1 to 9999, or there is no such day, it stays as it is.
"""


def as_utc(text: str | None) -> str | None:
    """For an event: the date-time in UTC, or the text as it is when it is no date-time."""
    if text is None:
        return None
    shifted = utc(text)
    return text if shifted is None else shifted


def seconds_between(start: str | None, end: str | None) -> int | float | None:
    """Seconds from one date-time to another, exact to the last digit sent.

    None if either is none, or the end comes first.
    """
    first, last = _instant(start), _instant(end)
    if first is None or last is None:
        return None
    digits = max(first[1], last[1])
    ticks = last[0] * 10 ** (digits - last[1]) - first[0] * 10 ** (digits - first[1])
    return None if ticks < 0 else quotient(ticks, 10**digits)


def _instant(text: str | None) -> tuple[int, int] | None:
    """A date-time as a count of ticks since year 1 and the number of fraction digits that make a tick."""
    found = None if text is None else _DATE_TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = found.groups(default="")
    try:
        days = dt.date(int(year), int(month), int(day)).toordinal()
    except ValueError:
        return None
    minutes = (days * 24 + int(hour)) * 60 + int(minute)
    if sign:
        offset = int(offset_hours) * 60 + int(offset_minutes)
        minutes += offset if sign == "-" else -offset
    return (minutes * 60 + int(second)) * 10 ** len(fraction) + int(fraction or 0), len(fraction)
