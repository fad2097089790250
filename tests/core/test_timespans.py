"""Durations as the SDKs write them."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.emulator.expect_values import seconds_of
from service.emulator.timespans import as_iso


@pytest.mark.parametrize(
    ("written", "iso"),
    [
        ("0:00:00.036000", "PT0.036S"),
        ("0:02:20.638930", "PT140.63893S"),
        ("1 day, 0:00:01", "PT86401S"),
        ("-1 day, 23:59:59", "-PT1S"),
        ("1.00:00:01.5000000", "PT86401.5S"),
        ("-00:01:26.7638670", "-PT86.763867S"),
        ("0:00:00", "PT0S"),
        ("PT2M20.6389308S", "PT2M20.6389308S"),
        ("Single", "Single"),
    ],
)
def test_what_an_sdk_writes_becomes_iso_8601(written: str, iso: str) -> None:
    """Python's and .NET's forms; everything else stays."""
    assert as_iso(written) == iso


@given(st.timedeltas())
def test_every_timedelta_keeps_its_value(duration: dt.timedelta) -> None:
    """To the microsecond, with its sign."""
    seconds = seconds_of(as_iso(str(duration)))

    assert seconds is not None
    assert round(seconds * 1_000_000) == duration // dt.timedelta(microseconds=1)
