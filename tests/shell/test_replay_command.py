"""`callstream replay`: one sentence for each mistake that needs no Kafka, and its words."""

import asyncio
import os
import sys

import pytest

from service.cli.main import run
from service.cli.replay import lines, summary
from service.replay import Tally

WRONG = [
    (["--prefix", "new"], "--from-raw"),
    (["--from-raw", "--prefix", "no spaces"], "--prefix takes"),
    (["--from-raw", "--prefix", "new", "--from", "yesterday"], "--from takes a date"),
    (["--from-raw", "--prefix", "new", "--to", "soon"], "--to takes a date"),
    (["--from-raw", "--prefix", "new", "--from", "2026-11-02", "--to", "2026-11-01"], "--from must be before --to"),
    (["--from-raw", "--prefix", "new", "--tenant", "nobody"], "There is no tenant 'nobody'"),
    (["--from-raw", "--prefix", "new"], "--prefix must be another one than new"),
]


@pytest.mark.parametrize(("arguments", "sentence"), WRONG)
def test_a_mistake_is_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, with exit code 2, before Kafka is asked."""
    for name in [name for name in os.environ if name.startswith("CALLSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CALLSTREAM_KAFKA__TOPIC_PREFIX", "new" if "another" in sentence else "callrecords")
    code = run(["replay", *arguments])

    said = capsys.readouterr().err.splitlines()
    assert code == 2
    assert len(said) == 1
    assert sentence in said[0]


async def test_without_kafka_one_sentence_says_where_it_was_looked_for() -> None:
    """And the exit code is 1: nothing was wrong with what was typed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service", "replay", "--from-raw", "--prefix", "new"),
        env={**os.environ, "CALLSTREAM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()

    assert process.returncode == 1
    assert said.decode().splitlines()[-1].startswith("callstream: Kafka does not answer at 127.0.0.1:1")
    assert "Traceback" not in said.decode()


def test_what_was_done_is_said_in_words() -> None:
    """Only what there is."""
    tally = Tally(published=1200, events=30_000, known=5)
    assert summary(tally, "new") == "1,200 versions with 30,000 events are published under new; 5 were there already."
    whole = summary(Tally(passed_over=1, dead=2, unreadable=3), "new")
    for words in ("1 were not asked for", "2 do not fit into Kafka and are in new.dead-letter", "3 could not be read"):
        assert words in whole


def test_without_a_terminal_each_lane_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written over."""
    from rich.console import Console

    tell = lines(Console(width=200))
    for tally in (Tally(lanes=2), Tally(lanes=2, lanes_done=1, published=3), Tally(lanes=2, lanes_done=1, published=3)):
        tell(tally)

    assert capsys.readouterr().out == "lane 1 of 2: 3 versions published, 0 events, 0 there already\n"
