"""The short form of `make chaos`: a minute of strikes at every part of the service, and not one event lost or twice."""

from pathlib import Path

from tests.chaos.short import short_run
from tests.chaos.world import Size

EVENTS, SECONDS, SEED = 3_000, 60.0, 1
FEWEST_KILLS = 15


async def test_a_minute_of_chaos_loses_and_repeats_nothing(kafka_packages: None, tmp_path: Path) -> None:
    """Three brokers, two receivers, three workers, an emulator; SIGKILL, SIGSTOP, SIGTERM, cut and slow connections."""
    size = Size(EVENTS, SECONDS, SEED)
    report = await short_run(size, tmp_path)

    assert report.is_right, report.as_json().decode()
    assert report.kills >= FEWEST_KILLS
    assert report.verdict["events"] >= EVENTS
    assert "| lost | 0 |" in report.as_markdown()
