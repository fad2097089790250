"""Three days in half a minute, notices lost and a silent outage: all that is listed is published once, in budget."""

from bench.simulation import Script, simulate


async def test_three_days_end_complete(kafka: str, prefix: str) -> None:
    """Every call's last version, none twice, nothing throttled, and the figures say the same."""
    script = Script(days=3.0, tenants=2, calls_per_day=96, speed=9000.0, dropped=0.05, outages=((1.0, 1.5),))
    outcome = await simulate(kafka, prefix, script)

    assert outcome.missing == 0
    assert outcome.duplicated == 0
    assert outcome.calls == 3 * 96 * 2
    assert outcome.unnoticed > 50
    assert outcome.throttled == 0
    assert outcome.highest["list"] <= 8
    for status in outcome.figures.values():
        total = status["total"]
        assert total["listed"] == total["published"] == outcome.calls / 2
        assert total["missing"] == total["set_aside"] == 0
        assert total["healed"] >= outcome.unnoticed / 2
        assert status["say"] == []
