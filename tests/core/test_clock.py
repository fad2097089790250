"""Dates as text: what is read can be written again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clock import from_iso, iso

FIRST, LAST = "0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    "text", [FIRST, "1969-12-31T23:59:59.999Z", "2026-11-22T10:00:00.000Z", "9999-12-31T23:59:59Z"]
)
def test_a_date_of_the_years_1_to_9999_is_read(text: str) -> None:
    """All that Graph and Kafka can sensibly hold, to the ends."""
    assert iso(from_iso(text))[:19] == text[:19]


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59.9999999Z",
        "2026-11-22T10:00:00",
        "never",
    ],
)
def test_what_cannot_be_written_is_not_read(text: str) -> None:
    """In UTC, or rounded to what a float holds, such a date lies outside the years that there are."""
    with pytest.raises(ValueError, match=r"date-time|Invalid isoformat"):
        from_iso(text)


@given(st.datetimes().map(str), st.sampled_from(["", "Z", "+00:00", "+14:00", "-14:00", "+00:01", "-23:59"]))
def test_every_date_that_is_read_can_be_written(text: str, offset: str) -> None:
    """A date that raised only when it was shown would be found far from whoever sent it."""
    try:
        seconds = from_iso(text + offset)
    except ValueError:
        return

    assert abs(from_iso(iso(seconds)) - seconds) < 0.0011
