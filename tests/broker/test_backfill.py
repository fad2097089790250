"""`callstream backfill` and `callstream completeness` beside a running service: what they say and how they end."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from service.cli.backfill import backfill_command, fraction, read_range, step_text
from service.cli.completeness import completeness_command, share, wait_text
from service.clock import iso
from service.emulator.options import DEMO_TENANT_ID
from service.errors import UserError
from service.reconcile.hours import JobProgress
from service.settings import Keeper
from tests.broker.lane_bench import eventually
from tests.broker.test_reconcile import DEAF, World, budgets_held, status, until_total, world_of

NEVER = Keeper(period_seconds=5.0, reconcile_period_seconds=5.0, reconcile_days=0)
NOW = 1_790_000_000.0


def config(world: World, path: Path) -> Path:
    """The service's settings as a person would write them for a command."""
    kafka = world.settings.kafka
    path.write_text(
        f'[kafka]\nbootstrap_servers = "{kafka.bootstrap_servers}"\ntopic_prefix = "{kafka.topic_prefix}"\n'
        f'partitions = {kafka.partitions}\n[tenants.contoso]\nid = "{DEMO_TENANT_ID}"\nclient_id = "app"\n'
    )
    return path


async def test_backfill_publishes_what_is_missing_and_completeness_says_so(
    kafka: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the asked range; again it changes nothing; the table and the JSON agree."""
    async with world_of(kafka, prefix, speed=1.0, keeper=NEVER, delivery=DEAF) as world:
        inside, outside = world.make(7, 60), world.make(3, 100)
        file = config(world, tmp_path / "callstream.toml")
        async with world.serving() as service:
            await eventually(lambda: _is_keeper(service), "the keeper is active")
            begin, end = iso(time.time() - 70 * 3600), iso(time.time() - 50 * 3600)
            assert await backfill_command(begin, end, None, detach=False, config=file) == 0
            said = capsys.readouterr().out
            await world.until_published(inside)
            assert "7 listed, 7 of them published by this, 0 set aside, 0 missing." in said
            assert await backfill_command(begin, end, "contoso", detach=False, config=file) == 0
            assert "7 listed, 0 of them published by this" in capsys.readouterr().out
            await world.until_published(inside)
            assert not set(outside) & set(await world.published())
            job = (await status(service))["jobs"][0]
            assert job["done"]
            assert job["hours"] == job["hours_listed"] >= 20

            await until_total(service, listed=7, published=7)
            assert await completeness_command(None, True, file) == 0
            found: dict[str, Any] = json.loads(capsys.readouterr().out)["contoso"]
            assert found["total"] | {"late": 0} == found["total"]
            assert (found["total"]["listed"], found["total"]["healed"], found["total"]["missing"]) == (7, 7, 0)
            assert await completeness_command("contoso", False, file) == 0
            table = capsys.readouterr().out
            assert "contoso" in table
            assert "100 %" in table
            budgets_held(world.emulator)()


async def test_backfill_goes_on_without_its_command_and_over_a_restart(kafka: str, prefix: str, tmp_path: Path) -> None:
    """Asked for and left alone; the keeper is killed; the next one finishes it."""
    async with world_of(kafka, prefix, speed=1.0, keeper=NEVER, delivery=DEAF, list_page=2) as world:
        ids = world.make(12, 60)
        file = config(world, tmp_path / "callstream.toml")
        begin, end = iso(time.time() - 70 * 3600), iso(time.time() - 50 * 3600)
        async with world.serving("work"):
            async with world.serving("receive,keep") as first:
                await eventually(lambda: _is_keeper(first), "the keeper is active")
                assert await backfill_command(begin, end, None, detach=True, config=file) == 0
                await eventually(lambda: _has_job(first), "the keeper has the job")
            async with world.serving("receive,keep"):
                assert await backfill_command(begin, end, None, detach=False, config=file) == 0
            await world.until_published(ids)


async def test_commands_say_in_one_sentence_what_is_wrong(kafka: str, prefix: str, tmp_path: Path) -> None:
    """No keeper has ever run; no such tenant."""
    async with world_of(kafka, prefix, speed=1.0, keeper=NEVER) as world:
        file = config(world, tmp_path / "callstream.toml")
        with pytest.raises(UserError, match="no keeper has run") as never:
            await completeness_command(None, False, file)
        with pytest.raises(UserError, match="no tenant 'nobody': configured are contoso"):
            await completeness_command("nobody", False, file)
    assert never.value.exit_code == 1


@pytest.mark.parametrize(
    ("begin", "end", "sentence"),
    [
        ("yesterday", None, "--from 'yesterday' is no date"),
        ("2026-09-20", "soon", "--to 'soon' is no date"),
        ("2026-09-21", "2026-09-20", "--from must lie before --to"),
        ("2030-01-01", None, "--from must lie before --to"),
        ("2030-01-01", "2030-01-02", "in the future"),
        ("2026-01-01", "2026-01-02", "more than 30 days ago"),
    ],
)
def test_wrong_dates_are_one_sentence(begin: str, end: str | None, sentence: str) -> None:
    """Exit code 2: wrong input."""
    with pytest.raises(UserError, match=sentence) as wrong:
        read_range(begin, end, NOW)
    assert wrong.value.exit_code == 2


def test_ranges_are_whole_hours_within_what_graph_keeps() -> None:
    """Widened to full hours, cut at 30 days; a date is its first instant in UTC."""
    hour = int(NOW // 3600)

    assert (
        read_range("2026-09-20T05:10Z", "2026-09-20T07:50:00+00:00", NOW)[1]
        - read_range("2026-09-20T05:10", None, NOW)[0]
        == 3
    )
    assert read_range("2020-01-01", None, NOW) == (hour - 720, hour + 1)


def test_progress_is_half_listing_and_half_publishing() -> None:
    """It never goes back and ends at 1."""
    step = JobProgress(hours=4, hours_listed=2, listed=10, settled=5, missing=5, set_aside=0, healed=5)

    assert fraction(step) == pytest.approx(0.375)
    assert step_text(step) == "2/4 hours listed, 5/10 records done"
    assert fraction(JobProgress(4, 4, 0, 0, 0, 0, 0)) == 1.0
    assert share({"listed": 100_000, "published": 99_998, "set_aside": 1}) == "99.99 %"
    assert (wait_text(3), wait_text(700), wait_text(9000)) == ("3 s", "12 min", "2.5 h")


async def _is_keeper(service: Any) -> bool:
    return bool(await status(service))


async def _has_job(service: Any) -> bool:
    await asyncio.sleep(1.5)  # and has written it
    return bool((await status(service)).get("jobs"))
