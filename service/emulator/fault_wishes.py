"""What may be scripted: kinds of traffic, actions, the fields of each; and from a fault's JSON form to its rule."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from service.emulator.odata import GUID

READS = ("record", "sessions", "participants", "list")
REQUESTS = (*READS, "token", "subscriptions")
NOTICES = ("notifications", "lifecycle")
KINDS = (*REQUESTS, *NOTICES, "clock")
OF_A_CALL = ("record", "sessions", "participants")
PAGED = ("sessions", "participants", "list")

# 31 years: what is longer, or infinite, is no time, and a clock that is further off may leave the calendar.
MOST_SECONDS = 1e9
MOST_COUNT = 1_000_000_000
STATUSES = (400, 401, 403, 404, 410, 429, 500, 502, 503, 504, 509)
RETRY_AFTER_FORMS = ("seconds", "date")
COMMON = frozenset({"kind", "action", "count", "probability", "forSeconds", "afterSeconds", "tenantId"})
OF_REQUESTS = frozenset({"callId", "page", "method"})
METHODS = ("GET", "POST", "PATCH", "DELETE")
HEADER_TEXT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?")
HOST_TEXT = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")


@dataclass(frozen=True)
class Action:
    """One way to go wrong."""

    kinds: tuple[str, ...]
    """What it can befall."""
    fields: frozenset[str] = frozenset()
    """Its own, beside those that every fault has."""
    seconds: float = 0.0
    """What `seconds` is where none is given."""


ACTIONS = {
    "status": Action(REQUESTS, frozenset({"status", "retryAfter", "retryAfterForm"})),
    "not-ready": Action(OF_A_CALL, frozenset({"seconds"}), 7200.0),
    "hang": Action(REQUESTS, frozenset({"seconds"}), 3600.0),
    "hold": Action(REQUESTS, frozenset({"seconds"}), 3600.0),
    "drip": Action(REQUESTS, frozenset({"seconds"}), 5.0),
    "close": Action(REQUESTS),
    "cut": Action(REQUESTS),
    "cut-gzip": Action(REQUESTS),
    "cut-json": Action(REQUESTS),
    "html": Action(REQUESTS, frozenset({"status"})),
    "content-type": Action(REQUESTS, frozenset({"contentType"})),
    "body": Action(REQUESTS, frozenset({"body"})),
    "new-version": Action(OF_A_CALL),
    "missing": Action(READS),
    "empty-page": Action(PAGED),
    "foreign-link": Action(READS, frozenset({"host"})),
    "looping-link": Action(PAGED),
    "short-token": Action(("token",), frozenset({"seconds"}), 60.0),
    "duplicate": Action(NOTICES, frozenset({"seconds"}), 5.0),
    "reorder": Action(NOTICES, frozenset({"seconds"}), 60.0),
    "delay": Action(NOTICES, frozenset({"seconds"}), 600.0),
    "silence": Action(NOTICES),
    "skew": Action(("clock",), frozenset({"seconds"})),
}
FIELDS = COMMON | OF_REQUESTS | frozenset(name for action in ACTIONS.values() for name in action.fields)


class WrongFault(ValueError):
    """A fault that makes no sense; the message is one sentence that says what to change."""


@dataclass
class Rule:
    """One fault in force. Empty ids and page 0 match all. Seconds are of the emulator's clock."""

    id: int
    action: str
    kinds: tuple[str, ...]
    begins_at: float
    """Unix seconds."""
    ends_at: float | None
    """None: never."""
    call_id: str = ""
    tenant_id: str = ""
    method: str = ""
    page: int = 0
    """Of a collection, from 1; a record with what it expands is page 1 of each."""
    status: int = 0
    retry_after: float | None = None
    """Seconds in the answer's `Retry-After`; None sends none."""
    retry_after_form: str = "seconds"
    seconds: float = 0.0
    content_type: str = "text/plain"
    host: str = "graph.example.org"
    body: Any = None
    left: int | None = None
    """How often it will still act; None: always."""
    probability: float = 1.0
    acted: int = 0
    waiting: int = 0
    """Requests that it lets stand now: `hang` before their effect, `hold` after it."""
    removed: asyncio.Event = field(default_factory=asyncio.Event)
    wish: dict[str, Any] = field(default_factory=dict)

    def is_in_force(self, now: float) -> bool:
        """Whether its time has come and is not over, and it has something left."""
        return self.begins_at <= now and (self.ends_at is None or now < self.ends_at) and self.left != 0

    def show(self, now: float) -> dict[str, Any]:
        """As the control site shows it: what was asked for, and how it stands."""
        shown: dict[str, Any] = {**self.wish, "id": self.id, "action": self.action, "acted": self.acted}
        shown |= {"left": self.left, "inForce": self.is_in_force(now), "waiting": self.waiting}
        return shown


def read_fault(wish: Mapping[str, Any], rule_id: int, now: float) -> Rule:
    """The rule of a JSON object (`docs/emulator.md`), counted from `now` (Unix seconds). Raises WrongFault."""
    name = wish.get("action", "status")
    action = ACTIONS.get(name) if isinstance(name, str) else None
    if action is None:
        raise WrongFault(f"action must be one of {', '.join(ACTIONS)}")
    kinds = _kinds(wish.get("kind"), name, action)
    _check_fields(wish, name, action, kinds)
    _check_reach(wish, kinds)
    seconds = _number(wish, "seconds", lowest=-MOST_SECONDS if name == "skew" else 0.0)
    after = _number(wish, "afterSeconds") or 0.0
    lasts = _number(wish, "forSeconds")
    count = wish.get("count")
    return Rule(
        id=rule_id,
        action=name,
        kinds=kinds,
        begins_at=now + after,
        ends_at=None if lasts is None else now + after + lasts,
        call_id=_guid(wish, "callId"),
        tenant_id=_guid(wish, "tenantId"),
        method=_text(wish, "method"),
        page=wish.get("page") or 0,
        status=wish.get("status") or 0,
        retry_after=_number(wish, "retryAfter"),
        retry_after_form=wish.get("retryAfterForm", "seconds"),
        seconds=action.seconds if seconds is None else seconds,
        content_type=_text(wish, "contentType", HEADER_TEXT, "one line of visible ASCII") or "text/plain",
        host=_text(wish, "host", HOST_TEXT, "a host, with a port where one is needed") or "graph.example.org",
        body=wish.get("body"),
        left=count,
        probability=wish.get("probability", 1.0),
        wish=dict(wish),
    )


def _kinds(kind: object, name: str, action: Action) -> tuple[str, ...]:
    """What a fault without a kind means: every read it can befall, else all that it can befall first."""
    if kind in (None, ""):
        reads = tuple(one for one in action.kinds if one in READS)
        return reads or action.kinds[:1]
    _require(kind in KINDS, f"kind must be one of {', '.join(KINDS)}")
    _require(kind in action.kinds, f"action '{name}' can befall {', '.join(action.kinds)}, not '{kind}'")
    return (str(kind),)


def _check_fields(wish: Mapping[str, Any], name: str, action: Action, kinds: tuple[str, ...]) -> None:
    unknown = sorted(set(wish) - FIELDS)
    _require(not unknown, f"field {', '.join(unknown)} is unknown; known are {', '.join(sorted(FIELDS))}")
    of_kind = OF_REQUESTS if kinds[0] in REQUESTS else {"callId"} if kinds[0] in NOTICES else frozenset[str]()
    useless = sorted(set(wish) - COMMON - of_kind - action.fields)
    _require(not useless, f"field {', '.join(useless)} means nothing with action '{name}' on {kinds[0]}")
    if "clock" in kinds:
        useless = sorted({"count", "probability", "tenantId"} & set(wish))
        _require(not useless, f"field {', '.join(useless)} means nothing for the clock")
        _require(wish.get("seconds") is not None, "seconds must say how far the clock is off")
    if name == "body":
        _require("body" in wish and _is_json(wish["body"]), "body must be the JSON to answer")
    is_status_needed = name == "status" or (name == "html" and wish.get("status") is not None)
    is_known = _is_whole(wish.get("status")) and wish["status"] in STATUSES
    _require(not is_status_needed or is_known, f"status must be one of {', '.join(map(str, STATUSES))}")
    _require(wish.get("method") in (None, *METHODS), f"method must be one of {', '.join(METHODS)}")
    form = wish.get("retryAfterForm", "seconds")
    _require(form in RETRY_AFTER_FORMS, f"retryAfterForm must be one of {', '.join(RETRY_AFTER_FORMS)}")
    _require("retryAfterForm" not in wish or wish.get("retryAfter") is not None, "retryAfterForm needs retryAfter")
    for field_name in ("count", "page"):
        value = wish.get(field_name)
        is_right = value is None or (_is_whole(value) and 1 <= value <= MOST_COUNT)
        _require(is_right, f"{field_name} must be 1 or more, a whole number up to {MOST_COUNT}")
    probability = wish.get("probability", 1.0)
    _require(_is_number(probability) and 0 < probability <= 1, "probability must be above 0 and at most 1")


def _check_reach(wish: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
    """That what narrows a fault leaves anything for it to befall."""
    shown = ", ".join(kinds)
    if wish.get("callId"):
        _require(bool({*OF_A_CALL, "notifications"} & set(kinds)), f"callId means nothing for {shown}")
    if (page := wish.get("page")) is not None:
        _require(bool({"record", *PAGED} & set(kinds)), f"page means nothing for {shown}")
        _require(page == 1 or bool(set(PAGED) & set(kinds)), f"page of {shown} can only be 1")
    if method := wish.get("method"):
        known = METHODS if "subscriptions" in kinds else ("POST",) if "token" in kinds else ("GET",)
        _require(method in known, f"method of {shown} can only be {', '.join(known)}")


def _number(wish: Mapping[str, Any], name: str, lowest: float = 0.0) -> float | None:
    value = wish.get(name)
    if value is None:
        return None
    _require(_is_number(value), f"{name} must be a number")
    _require(not value < lowest, f"{name} must not be below {lowest:.0f}")
    _require(value <= MOST_SECONDS, f"{name} must be at most {MOST_SECONDS:.0f}")
    return float(value)


def _text(wish: Mapping[str, Any], name: str, form: re.Pattern[str] | None = None, what: str = "") -> str:
    """Empty where nothing is given."""
    value = wish.get(name, "")
    _require(isinstance(value, str), f"{name} must be text")
    _require(not value or form is None or form.fullmatch(value) is not None, f"{name} must be {what}")
    return str(value)


def _guid(wish: Mapping[str, Any], name: str) -> str:
    return _text(wish, name, GUID, "a GUID").lower()


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_json(value: object) -> bool:
    try:
        orjson.dumps(value)
    except TypeError:  # an integer above 64 bits, a tree that is too deep
        return False
    return True


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(is_right: bool, message: str) -> None:
    if not is_right:
        raise WrongFault(f"{message}.")
