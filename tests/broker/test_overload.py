"""Too much at once, in the small form of `python -m bench.overload`: `serve` is a process, watched from outside."""

from pathlib import Path

from bench.overload import MOST_MB, QUICK, flood, large


async def test_ten_times_what_lanes_can_do_is_answered_in_time_and_drains(
    kafka: str, prefix: str, tmp_path: Path
) -> None:
    """Graph repeats nothing, for no answer was late; everything is published once the flood is over."""
    seen = await flood(kafka, tmp_path, QUICK, lambda _: None, prefix)

    assert seen.notifications == 100
    assert seen.published_a_second < seen.offered_a_second / 4
    assert (seen.late_answers, seen.repeated) == (0, 0)
    assert seen.most_mb < MOST_MB


async def test_records_larger_than_all_others_starve_nobody(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Some of them stand half read, and no more may be held: another tenant's calls are published all the same."""
    seen = await large(kafka, tmp_path, QUICK, lambda _: None, prefix)

    assert seen.events > 1000
    assert seen.broken() == []
    assert seen.large_before <= 1, "only the one of a single page is not kept back"
    assert seen.most_mb < MOST_MB
