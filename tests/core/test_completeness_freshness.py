"""Graph's delay and ours are two histograms, so that nobody blames the wrong one."""

import msgspec
import pytest

from service.clock import Clock, iso
from service.lanes.accounts import Accounts
from service.lanes.policy import Publish, ShapedRecord
from service.metrics import Metrics
from service.notification import Notification
from service.settings import Tenant

TENANT = Tenant(id="c0ffee00-1111-4222-8333-444455556666", client_id="11111111-2222-4333-8444-555555555555")
ENDED = 1_790_000_000.0
MODIFIED, NOTICED, NOW = ENDED + 900, ENDED + 960, ENDED + 965


def observed(**changes: object) -> dict[str, float]:
    """Sums of all histograms after one publication."""
    metrics = Metrics(tenants=["contoso"])
    shaped = ShapedRecord(1, [], b"{}", iso(MODIFIED), 2, iso(NOW), ended=iso(ENDED))
    fields = {key: value for key, value in changes.items() if key in ShapedRecord.__dataclass_fields__}
    shaped = ShapedRecord(**{**{name: getattr(shaped, name) for name in shaped.__dataclass_fields__}, **fields})  # type: ignore[arg-type]
    notice = Notification(tenant_id=TENANT.id, call_id=TENANT.id, source="webhook", received_at=iso(NOTICED))
    given = {key: value for key, value in changes.items() if key not in fields}
    publish = Publish(msgspec.structs.replace(notice, **given), shaped)
    Accounts(metrics, Clock(speed=0.001, start=NOW), {"contoso": TENANT}).committed([publish], 0.1)
    get = metrics.registry.get_sample_value
    return {
        "record": get("callstream_graph_delay_seconds_sum", {"part": "record"}) or 0.0,
        "notice": get("callstream_graph_delay_seconds_sum", {"part": "notice"}) or 0.0,
        "ours": get("callstream_notice_to_event_seconds_sum") or 0.0,
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"record": 900, "notice": 60, "ours": 5}),
        ({"version": 4}, {"record": 0, "notice": 60, "ours": 5}),
        ({"source": "reconcile"}, {"record": 0, "notice": 0, "ours": 0}),
        ({"ended": "", "last_modified": "never"}, {"record": 0, "notice": 0, "ours": 5}),
        ({"last_modified": iso(NOTICED + 30)}, {"record": 990, "notice": 0, "ours": 5}),
    ],
)
def test_each_delay_is_counted_where_it_arose(changes: dict[str, object], expected: dict[str, float]) -> None:
    """From end to first version, from version to notice, from notice to event; found by list there is no notice."""
    assert observed(**changes) == pytest.approx(expected, abs=0.05)
