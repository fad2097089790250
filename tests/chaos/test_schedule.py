"""The schedule of a chaos run: decided before it, by its seed alone."""

import itertools
from collections import Counter

import pytest

from tests.chaos.schedule import SESSION_SECONDS, TRACKS, kills, schedule

SHORT, LONG = 60.0, 1800.0


def test_a_seed_repeats_its_schedule() -> None:
    """Strike by strike; another seed has another."""
    assert schedule(7, SHORT) == schedule(7, SHORT)
    assert schedule(7, SHORT) != schedule(8, SHORT)


@pytest.mark.parametrize("seed", range(50))
def test_the_short_form_has_fifteen_kills_and_the_long_one_two_hundred(seed: int) -> None:
    """Whatever the seed; SIGKILLs alone are fifteen in a minute."""
    short = schedule(seed, SHORT)

    assert sum(strike.what == "kill" for strike in short) >= 15
    assert kills(schedule(seed, LONG)) >= 200


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_of_strike_falls_on_every_kind_of_process(seed: int) -> None:
    """In a run of half an hour, on each track all that it has; in a minute all but a few."""
    for track in TRACKS:
        fallen = [strike for strike in schedule(seed, LONG) if strike.track == track.name]

        assert {strike.what for strike in fallen} == set(track.deck)
        assert {strike.whom for strike in fallen} == set(track.whom)
    assert len({(strike.track, strike.what) for strike in schedule(seed, SHORT)}) >= 14


@pytest.mark.parametrize("seed", range(20))
def test_workers_are_left_two_sessions_between_strikes(seed: int) -> None:
    """Killed faster they would never be given their lanes; a zombie sleeps for longer than its session."""
    workers = [strike for strike in schedule(seed, SHORT) if strike.track == "workers"]
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(workers)]
    stops = [strike.seconds for strike in workers if strike.what == "stop"]

    assert min(gaps) >= 2 * SESSION_SECONDS - 0.1
    assert all(seconds > SESSION_SECONDS for seconds in stops)


def test_strikes_come_in_the_order_of_their_times_and_within_the_run() -> None:
    """And no moment is crowded: each track is one after the other."""
    strikes = schedule(1, SHORT)
    moments = Counter((strike.track, strike.at) for strike in strikes)

    assert [strike.at for strike in strikes] == sorted(strike.at for strike in strikes)
    assert all(0 < strike.at < SHORT for strike in strikes)
    assert set(moments.values()) == {1}
