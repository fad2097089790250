"""Inputs that get past the first check: a JSON document changed as a document, with words that the readers know.

Half of the time libFuzzer's own changes of bytes are taken, so that broken framing is tried too.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from msgspec import inspect

from service.record.model import ENUMS, CallRecord
from tests.fuzz.target_notification import STATES, TENANTS

CALL = "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33"
# What has hurt parsers before: numbers at their limits, half surrogates, look-alikes, text that breaks lines.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30),
    *(0.0, -0.0, 1e308, 5e-324, float("inf"), float("nan"), 1.5),
    *(
        "",
        " ",
        "\x00",
        "\n",
        "\r\n{}",
        "\x1b[2J",
        "\u2028",
        "\u202e",
        "\ud800",
        "\udfff",
        "\uff41",
        "\u212a",
        "é",
        "x" * 300,
    ),
    *("NaN", "INF", "-PT1S", "PT1S", "P1Y", "PT0.0000001S", "PT99999999999S", "P99999999999D", "+", "+49*******"),
    *("2026-11-22T10:00:00Z", "9999-12-31T23:59:59.9999999Z", "0001-01-01T00:00:00+14:00", "2026-13-40T25:61:61Z"),
    *("2016-12-31T23:59:60Z", "2026-11-22T10:00:00.1234567-11:30", "2026-11-22"),
    *([], {}, [[]], [{}], [None], {"": None}),
)
_STATES = tuple(state for states in STATES.values() for state in states)
_NOTIFICATION_WORDS = (
    *(
        "value",
        "tenantId",
        "subscriptionId",
        "clientState",
        "changeType",
        "resource",
        "resourceData",
        "id",
        "@odata.id",
    ),
    *("lifecycleEvent", "subscriptionExpirationDateTime", "validationTokens", "encryptedContent", "callId", "source"),
    *("receivedAt", "version", "attempt", "firstSeenAt", "dueAt", "reason", "listedHour", "look", "etag", "offset"),
    *("kind", "report", "backfill", "lane", "tallies", "notices", "firstHour", "endHour", "day", "hours"),
)
_NOTIFICATION_VALUES = (
    *TENANTS,
    *_STATES,
    *(state.swapcase() for state in _STATES[:1]),
    *(state + "=" for state in _STATES[:1]),
    *(CALL, CALL.upper(), "{" + CALL + "}", CALL.replace("-", ""), "../" + CALL, CALL + "/sessions"),
    *(f"communications/callRecords/{CALL}", f"/communications/callRecords('{CALL}')", "communications/callRecords"),
    *(f"https://evil.example/communications/callRecords/{CALL}", f"communications/callRecords/{CALL}/../../users"),
    *("communications/callRecords/%2e%2e", "users/1", "updated", "reauthorizationRequired", "missed", "webhook"),
)


def _model_words() -> tuple[str, ...]:
    """Every property of the resource tree, as it is on the wire."""
    found: set[str] = set()
    waiting: list[Any] = [inspect.type_info(CallRecord)]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, inspect.StructType):
            names = {field.encode_name for field in kind.fields}
            if not names <= found:
                found |= names
                waiting += [field.type for field in kind.fields]
        for part in ("types", "item_type", "value_type", "type"):
            inner = getattr(kind, part, None)
            waiting += inner if isinstance(inner, tuple) else [inner] if inner is not None else []
    return tuple(sorted(found))


WORDS = (*_model_words(), *_NOTIFICATION_WORDS, "error", "code", "@odata.nextLink", "@odata.nextlink", "message")
VALUES = (*_NOTIFICATION_VALUES, *(member for members in sorted(map(sorted, ENUMS.values())) for member in members))

_Place = tuple[Any, Any]


def mutated(
    data: bytes, most_bytes: int, seed: int, mutate_bytes: Callable[[bytes, int], bytes], head: int = 0
) -> bytes:
    """The next input. `head` bytes in front are no JSON and stay."""
    random = Random(seed)
    if random.random() < 0.5:
        return mutate_bytes(data, most_bytes)
    try:
        document = json.loads(data[head:])
    except (ValueError, RecursionError):
        return mutate_bytes(data, most_bytes)
    for _ in range(random.choice((1, 1, 2, 4))):
        document = _changed(document, random)
    try:
        text = json.dumps(document, ensure_ascii=random.random() < 0.8, separators=(",", ":"))
    except (ValueError, RecursionError):
        return mutate_bytes(data, most_bytes)
    if random.random() < 0.1:
        text = _doubled(text, random)
    made = data[:head] + text.encode("utf-8", "surrogatepass")
    return made if len(made) <= most_bytes else mutate_bytes(data, most_bytes)


def _changed(document: Any, random: Random) -> Any:
    """One change at one place, chosen among all places of the document alike."""
    places = list(_places(document))
    if not places or random.random() < 0.02:
        return random.choice((document, [document], {"value": document}, _value(random)))
    parent, name = random.choice(places)
    match random.randrange(7):
        case 0 | 1:
            parent[name] = _value(random)
        case 2:
            del parent[name]
        case 3:
            other, there = random.choice(places)
            if other is not parent:
                parent[name] = _copied(other[there])
        case 4 if isinstance(parent, dict):
            parent[random.choice(WORDS)] = _value(random)
        case 5 if isinstance(parent, dict):
            parent[_respelt(str(name), random)] = parent.pop(name)
        case 6:
            parent[name] = _wrapped(parent[name], random)
        case _ if isinstance(parent, list):
            parent += [_copied(parent[name]) for _ in range(random.choice((1, 2, 10)))]
    return document


def _places(value: Any) -> list[_Place]:
    found: list[_Place] = []
    waiting = [value]
    while waiting:
        parent = waiting.pop()
        names = list(parent) if isinstance(parent, dict) else range(len(parent)) if isinstance(parent, list) else ()
        for name in names:
            found.append((parent, name))
            waiting.append(parent[name])
    return found


def _value(random: Random) -> Any:
    chosen = random.choice(random.choice((ODD, VALUES)))
    return _copied(chosen) if isinstance(chosen, list | dict) else chosen


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _respelt(name: str, random: Random) -> str:
    return random.choice((name.upper(), name.lower(), name + " ", "@" + name, name[:-1], name + "@odata.nextLink"))


def _wrapped(value: Any, random: Random) -> Any:
    for _ in range(random.choice((1, 2, 50, 200))):
        value = [value] if random.random() < 0.5 else {random.choice(WORDS): value}
    return value


def _doubled(text: str, random: Random) -> str:
    """A name that stands twice: parsers differ in which one counts."""
    word = random.choice(WORDS)
    twice = f'{{"{word}":{json.dumps(_value(random))},'
    at = text.find("{", random.randrange(max(1, len(text))))
    return text if at < 0 else text[:at] + twice + text[at + 1 :]
