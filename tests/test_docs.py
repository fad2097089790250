"""What can drift is generated or tested: the reference pages, and the sums that they promise."""

import re

from service.cli.reference import DOCS, TODO, families, metrics_page, settings_page, sorted_entries
from service.logs import describe
from service.metrics import REFUSED
from service.settings import Settings
from tests.shell.receiving import item, lifecycle_item, open_receiver


def test_settings_page_is_the_code_s() -> None:
    """Written by `python -m service.cli.reference`."""
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == settings_page()


def test_metrics_page_is_the_code_s() -> None:
    """Written by `python -m service.cli.reference`."""
    assert (DOCS / "metrics.md").read_text(encoding="utf-8") == metrics_page()


def test_every_setting_is_explained() -> None:
    """A meaning for each, and the same list that is logged at start."""
    entries = sorted_entries()

    assert [entry.name for entry in entries if not entry.meaning] == []
    fixed = {entry.name for entry in entries if "<" not in entry.name}
    assert fixed | {"client_state.keys", "privacy.keys", "tenants"} == set(describe(Settings()))


def test_every_series_is_explained() -> None:
    """What it counts and what to do about it; nothing is explained that is gone."""
    names = {family.name.removeprefix("callstream_") for family in families()}

    assert names == set(TODO)
    assert all(family.documentation.endswith(".") for family in families())


def test_names_carry_their_unit() -> None:
    """Seconds and bytes, as Prometheus asks."""
    for family in families():
        assert re.fullmatch(r"callstream_[a-z_]+", family.name)
        assert "millisecond" not in family.documentation.lower()
        if "seconds" in family.documentation.lower():
            assert family.name.endswith("_seconds")


def test_every_line_of_the_threat_model_names_tests_that_exist() -> None:
    """A defence that nobody tries is a hope."""
    page = (DOCS / "security.md").read_text(encoding="utf-8")
    tests = {
        name
        for path in (DOCS.parent / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    }
    tables = [table for table in page.split("\n\n") if "| Shown by |" in table or "| By |" in table]
    lines = [line for table in tables for line in table.splitlines()[2:]]

    assert len(lines) > 40
    assert [line for line in lines if not re.search(r"`(test_\w+|make \w+[^`]*)` ?(, .*)?\|$", line)] == []
    assert set(re.findall(r"`(test_\w+)`", page)) <= tests


async def test_received_is_stored_and_refused() -> None:
    """The sum that `docs/metrics.md` promises, over every way a notification can go."""
    good, forged = item(), item(clientState="forged")
    async with open_receiver() as running:
        await running.post({"value": [good, good, forged, lifecycle_item(), 7, item(tenantId=None)]})
        await running.post({"value": [item(resource="users/1"), item("no-guid")]})
        await running.post(b"nothing")
        running.shelf.is_open = False
        await running.post({"value": [good, forged]})

        refused = {reason: running.count("notifications_refused", reason=reason) for reason in REFUSED}
        assert all(refused.values()), refused
        assert running.count("notifications_received") == 10
        assert running.count("notifications_stored") == 3
        assert running.count("notifications_received") == running.count("notifications_stored") + sum(refused.values())
