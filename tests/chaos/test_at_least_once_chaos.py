"""Half a minute of `make chaos ARGS="--delivery at-least-once"`: nothing lost, and what is repeated is only counted."""

from pathlib import Path

from tests.chaos.short import short_run
from tests.chaos.world import AT_LEAST_ONCE, Size

EVENTS, SECONDS, SEED = 1_500, 30.0, 2
FEWEST_KILLS = 8


async def test_half_a_minute_of_chaos_without_transactions_loses_nothing(kafka_packages: None, tmp_path: Path) -> None:
    """No call's last version is missing, wrong or half, and no summary stands where events are missing."""
    size = Size(EVENTS, SECONDS, SEED, AT_LEAST_ONCE)
    report = await short_run(size, tmp_path)

    assert report.is_right, report.as_json().decode()
    assert report.faults["half versions with a summary"] == 0
    assert report.kills >= FEWEST_KILLS
    assert report.verdict["events"] >= EVENTS
    assert "duplicated" in report.counted
