"""Two days in half a minute with all the trouble of the month: what is listed is published once, within the limits."""

from dataclasses import replace

from bench.simulation.run import simulate
from bench.simulation.script import Script

SCRIPT = Script(
    days=2.0,
    tenants=2,
    speed=8000.0,
    silent=((1.0, 1.4),),
    down=((1.5, 1.75),),
    secrets=(0.3,),
    late_secret=0.5,
    keys=(0.9,),
    key_kept_days=0.3,
    subscription_minutes=240,
)


async def test_two_days_end_complete(kafka: str, prefix: str) -> None:
    """Notices lost, Graph silent, secrets and a key replaced, the service down until the subscriptions lapsed."""
    outcome = await simulate(kafka, prefix, SCRIPT)

    assert outcome.faults() == []
    assert outcome.verdict["calls"] == 2 * 96 * 2
    assert outcome.verdict["events"] > 1500
    assert sum(day["healed"] for day in outcome.days) > 2 * 96 * 0.4
    assert {mark["what"] for mark in outcome.marks} == {"secret", "late secret", "key", "down", "back"}
    for gaps in outcome.gaps.values():
        assert any(begin < 1.75 < end for begin, end in gaps), "the subscription lapsed while the service was down"
    assert outcome.counts["graph_seconds_count{call=token,outcome=unauthorized}"] > 0, "a secret had ended"
    # What makes the limits worth counting: budgets were being spent. How far depends on what else the machine does.
    assert outcome.limits["list"]["highest"] >= SCRIPT.list_requests // 2
    assert outcome.limits["record"]["highest"] >= SCRIPT.record_requests // 3

    broken = replace(outcome, limits={"list": {**outcome.limits["list"], "throttled": 1}})
    assert ["limit list" in fault for fault in broken.faults()] == [True]
