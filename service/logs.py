"""Log lines: JSON in a pod, readable text on a terminal, chosen once at start; always on stderr, because stdout belongs
to what a command was asked for. Our own lines come through structlog; those of libraries (aiokafka, aiohttp, azure)
through the standard library, from WARNING up, in the same form.

A line is one line: control characters are escaped, so no text from outside can forge a second one.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service.settings import Log, Secret

MASK = "***"
# A broker outage makes aiokafka say the same sentence several times a second, in every client of the process.
SECONDS_BETWEEN_REPEATS = 30.0
# These pass by themselves when topics are new or leaders move; they are told only if they last this long.
HARMLESS = re.compile(
    r"NotLeaderForPartition|LeaderNotAvailable|GroupCoordinatorNotAvailable|GroupLoadInProgress"
    r"|Unable to request metadata|Marking the coordinator dead|not found in cluster metadata|auto-create"
    # Waiters within aiokafka that nobody asks when a producer is given up; who sent something has been told.
    r"|never retrieved\nfuture: <Future finished exception="
    r"(?:Producer(?:Closed|Fenced)\(|KafkaError\('Unexpected error during batch|KeyError\(<aiokafka\.)"
)
SECONDS_OF_GRACE = 10.0
MOST_KEYS = 500

# C0, DEL and C1, the line separators that terminals and viewers obey, and what turns the direction of writing.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_BUT_NEWLINE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def set_up(log: Log, stream: TextIO | None = None) -> None:
    """Sends every log line of the process to `stream` (stderr) in the chosen form. Calling it again replaces it."""
    target = stream or sys.stderr
    on_terminal = target.isatty()
    is_json = log.format == "json" or (log.format == "auto" and not on_terminal)
    level = logging.getLevelNamesMapping()[log.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _mask_secrets,
    ]
    shared += [structlog.processors.format_exc_info] if is_json else [_escape_console]
    renderer: Processor = _render_json if is_json else structlog.dev.ConsoleRenderer(colors=on_terminal)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=target),
        cache_logger_on_first_use=False,  # a logger made at import must follow a later set-up
    )
    _route_standard_library(max(level, logging.WARNING), shared, renderer, target)


def _route_standard_library(level: int, shared: list[Processor], renderer: Processor, target: TextIO) -> None:
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), _library_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(RepeatFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # It warns of each refusal with the login's own text, ids and all; the service says it once, in its own words.
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)
    logging.captureWarnings(capture=True)


class RateLimit:
    """At most one line for each key in `seconds`; the next line says how many it stands for. Real time: it is the
    machine's disk that is spared.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._now = now
        self._state: dict[str, tuple[float, int]] = {}

    def admit(self, key: str, count: int = 1) -> int:
        """0 to stay silent; else how many occurrences the line stands for, this one included."""
        now = self._now()
        last, held = self._state.get(key, (float("-inf"), 0))
        held += count
        if now - last < self._seconds:
            self._state[key] = (last, held)
            return 0
        if len(self._state) >= MOST_KEYS:
            self._state.clear()
        self._state[key] = (now, 0)
        return held


class RepeatFilter(logging.Filter):
    """Lets a library's sentence through now and then instead of each time; what is harmless only when it lasts."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._limit = RateLimit(SECONDS_BETWEEN_REPEATS, now)
        self._harmless_since: dict[str, tuple[float, float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Counts by the sentence before its arguments are put in, so that ten brokers make one line, not ten."""
        key = f"{record.name} {str(record.msg)[:200]}"
        if HARMLESS.search(record.getMessage()) and not self._lasts(key):
            return False
        count = self._limit.admit(key)
        if count > 1:
            record.__dict__["repeated"] = count
        return count > 0

    def _lasts(self, key: str) -> bool:
        """Whether this harmless sentence has been said for longer than the grace, without a long pause."""
        now = self._now()
        first, last = self._harmless_since.get(key, (now, now))
        if now - last > SECONDS_OF_GRACE:
            first = now
        if len(self._harmless_since) >= MOST_KEYS:
            self._harmless_since.clear()
        self._harmless_since[key] = (first, now)
        return now - first >= SECONDS_OF_GRACE


def describe(settings: msgspec.Struct) -> dict[str, Any]:
    """Every setting by its dotted name, secrets masked (empty where none is set): to be logged once at start."""
    found: dict[str, Any] = {}
    _describe(settings, "", found)
    return found


def _describe(value: Any, name: str, found: dict[str, Any]) -> None:
    if isinstance(value, msgspec.Struct):
        value = {field: getattr(value, field) for field in value.__struct_fields__}
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            _describe(part, f"{name}.{key}" if name else str(key), found)
    else:
        found[name] = _masked(value)


def escape(text: str, what: re.Pattern[str] = _CONTROL) -> str:
    r"""Control characters as `\x1b` or `\u2028`, everything else as it is."""
    return what.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def _masked(value: Any) -> Any:
    """`value` with every `Secret` in it replaced, at any depth."""
    if isinstance(value, Secret):
        return MASK if value else ""
    if isinstance(value, Mapping):
        return {str(key): _masked(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(part) for part in value]
    return value


def _mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: _masked(value) for key, value in event.items()} if _holds_more_than_plain(event) else event


def _holds_more_than_plain(event: EventDict) -> bool:
    return any(not isinstance(value, str | int | float | None) for value in event.values())


def _library_name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    event["logger"] = record.name
    return event


def _escape_console(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Escapes what a terminal would obey; a traceback keeps its newlines, because a person reads it there."""
    event = structlog.processors.format_exc_info(_, __, event)
    for key, value in event.items():
        if key.startswith("_"):
            continue
        if key == "exception":
            event[key] = escape(str(value), _CONTROL_BUT_NEWLINE)
        elif not isinstance(value, int | float | None):
            event[key] = escape(str(value))
    return event


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event") if key in event}
    return json.dumps({**first, **event}, default=str, ensure_ascii=True)
