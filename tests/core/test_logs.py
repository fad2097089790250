"""Log lines: one line each, in the chosen form, without secrets and without what a stranger wrote between the lines."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from service.logs import RateLimit, RepeatFilter, describe, escape, set_up
from service.settings import Log, Secret, load


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """The set-up is the process's; the next test must not write into this one's stream."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers, root.level = handlers, level


def written(level: Literal["debug", "info", "warning", "error"] = "info", form: Any = "auto") -> io.StringIO:
    stream = io.StringIO()
    set_up(Log(level=level, format=form), stream)
    return stream


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_elsewhere_than_on_a_terminal_a_line_is_json() -> None:
    """Time, level and event first; values are fields."""
    stream = written()
    structlog.get_logger().info("lane opened", lane=3)

    [line] = lines_of(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["level"], line["event"], line["lane"]) == ("info", "lane opened", 3)
    assert line["timestamp"].endswith("Z")


def test_level_is_a_threshold() -> None:
    """What is below it is not written."""
    stream = written("warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("heard")

    assert [line["event"] for line in lines_of(stream)] == ["heard"]


def test_exception_is_one_line_in_json() -> None:
    """A log collector splits at newlines."""
    stream = written()
    try:
        int("first\nsecond")
    except ValueError:
        structlog.get_logger().exception("broken")
        logging.getLogger("aiohttp.server").exception("broken too")

    ours, theirs = lines_of(stream)
    assert "ValueError: invalid literal" in ours["exception"]
    assert "ValueError: invalid literal" in theirs["exception"]


@pytest.mark.parametrize("form", ["json", "console"])
def test_control_characters_are_escaped(form: str) -> None:
    """Text from outside can neither forge a line nor speak to the terminal."""
    stream = written(form=form)
    evil = "a\r\n2026-11-22 forged\x1b[2J\u2028b\u202e"
    structlog.get_logger().info("seen", text=evil)
    logging.getLogger("aiokafka").warning("seen %s", evil)

    assert stream.getvalue().count("\n") == 2
    for character in "\r\x1b\u2028\u202e":
        assert character not in stream.getvalue()


def test_escape_leaves_other_text_alone() -> None:
    """Names of people keep their letters."""
    assert escape("Zoë 通話 \t|\ud800") == "Zoë 通話 \\t|\\ud800"


@pytest.mark.parametrize("form", ["json", "console"])
def test_secret_is_masked_by_its_type_wherever_it_stands(form: str) -> None:
    """By name would be weaker: a new field would show."""
    stream = written(form=form)
    secret = Secret("hunter2hunter2")
    structlog.get_logger().info("settings", a=secret, b={"c": [secret]}, d=f"{secret}")
    logging.getLogger("azure").warning("token %s", secret)

    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") == 4


def test_libraries_speak_from_warning_up_in_the_same_form() -> None:
    """aiokafka tells much at INFO that means nothing to an operator."""
    stream = written("debug")
    logging.getLogger("aiokafka.consumer").info("Subscribed to topic(s)")
    logging.getLogger("aiokafka.consumer").warning("Heartbeat failed for group %s", "g")

    [line] = lines_of(stream)
    assert (line["logger"], line["level"]) == ("aiokafka.consumer", "warning")
    assert line["event"] == "Heartbeat failed for group g"


def test_second_set_up_replaces_the_first() -> None:
    """Each line is written once."""
    first, second = written(), written()
    logging.getLogger("x").warning("once")
    structlog.get_logger().info("once")

    assert first.getvalue() == ""
    assert len(lines_of(second)) == 2


class Time:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def record(text: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", logging.WARNING, __file__, 1, text, arguments, None)


def test_outage_gives_a_line_now_and_then() -> None:
    """Ten brokers failing ten times a second for an hour are some 120 lines, and each says how many it stands for."""
    time = Time()
    repeats = RepeatFilter(time)
    passed = []
    for step in range(36_000):
        time.now += 0.1
        line = record("Unable connect to node with id %s: %s", step % 10, "refused")
        if repeats.filter(line):
            passed.append(getattr(line, "repeated", 1))

    assert 100 <= len(passed) <= 125
    assert passed[0] == 1
    assert passed[1] == pytest.approx(300, abs=2)


@pytest.mark.parametrize(
    "error",
    [
        "ProducerClosed()",
        "ProducerFenced('There is a newer producer')",
        "KafkaError('Unexpected error during batch delivery')",
        "KeyError(<aiokafka.producer.message_accumulator.MessageBatch object at 0x7f6dc6b34390>)",
    ],
)
def test_waiters_of_a_producer_that_was_given_up_are_no_error(error: str) -> None:
    """aiokafka leaves them behind; a future of anything else that nobody asked is told at once."""
    repeats = RepeatFilter(Time())

    assert not repeats.filter(
        record(f"Future exception was never retrieved\nfuture: <Future finished exception={error}>")
    )
    assert repeats.filter(
        record("Future exception was never retrieved\nfuture: <Future finished exception=KeyError()>")
    )


def test_harmless_sentence_is_told_only_when_it_lasts() -> None:
    """A new topic has no leader for a moment; one that has none for longer is a finding."""
    time = Time()
    repeats = RepeatFilter(time)

    def says() -> bool:
        time.now += 1.0
        return repeats.filter(record("Got error produce response: %s", "NotLeaderForPartitionError"))

    assert not any(says() for _ in range(9))
    assert any(says() for _ in range(3))
    time.now += 3600
    assert not says()


def test_rate_limit_counts_what_it_holds_back() -> None:
    """No occurrence is uncounted, whichever key comes between."""
    time = Time()
    limit = RateLimit(1.0, time)

    assert [limit.admit("a"), limit.admit("a"), limit.admit("b", 4), limit.admit("a", 2)] == [1, 0, 4, 0]
    time.now += 1.0
    assert limit.admit("a") == 4


def test_effective_configuration_is_described_without_secrets() -> None:
    """Every setting by its dotted name, once at start."""
    settings = load(
        {
            "CALLSTREAM_TENANTS__CONTOSO__ID": "c0ffee00-1111-4222-8333-444455556666",
            "CALLSTREAM_TENANTS__CONTOSO__CLIENT_ID": "app",
            "CALLSTREAM_TENANTS__CONTOSO__CLIENT_SECRET": "hunter2hunter2",
            "CALLSTREAM_CLIENT_STATE__KEYS__1": "hunter2hunter2hunter2",
        }
    )
    described = describe(settings)

    assert "hunter2" not in str(described)
    assert described["tenants.contoso.client_secret"] == "***"
    assert described["client_state.keys.1"] == "***"
    assert described["kafka.partitions"] == 12
    assert described["retry.delays"] == ["1m", "10m", "1h"]
