"""Where two JSON values differ, for people; and the same comparison as a digest, for memory."""

import hashlib
import json
import math
from typing import Any

import orjson

_ABSENT = object()

#: Rounding of a conversion can differ in the last bits; a wrong value differs in more.
_RELATIVE_TOLERANCE = 1e-9


def differences(expected: Any, actual: Any) -> list[str]:
    """Paths where `actual` differs from `expected`, each with both values; empty when they are equal.

    Numbers are compared by value (5 is 5.0), `reasons` without order, and of an entry in `failures` only stage and
    reason: where it was found may be told in more words than the expectation has.
    """
    return list(_walk(_comparable(expected), _comparable(actual), ""))


def _comparable(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _comparable(item, key) for key, item in value.items()}
    if not isinstance(value, list):
        return value
    if name == "failures":
        return [{"stage": e.get("stage"), "reason": e.get("reason")} if isinstance(e, dict) else e for e in value]
    items = [_comparable(item) for item in value]
    return sorted(items, key=str) if name == "reasons" else items


def _walk(expected: Any, actual: Any, path: str) -> list[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        names = [*expected, *(name for name in actual if name not in expected)]
        found = []
        for name in names:
            inner = f"{path}.{name}" if path else name
            found += _walk(expected.get(name, _ABSENT), actual.get(name, _ABSENT), inner)
        return found
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return [f"{path}: expected {len(expected)} entries, got {len(actual)}"]
        found = []
        for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
            found += _walk(one, other, f"{path}[{number}]")
        return found
    return [] if _equal(expected, actual) else [f"{path}: expected {_show(expected)}, got {_show(actual)}"]


def _equal(expected: Any, actual: Any) -> bool:
    if _is_number(expected) and _is_number(actual):
        return math.isclose(expected, actual, rel_tol=_RELATIVE_TOLERANCE)
    return type(expected) is type(actual) and bool(expected == actual)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 120 else shown[:117] + "..."


def digest(value: Any) -> bytes:
    """16 bytes: equal digests mean no `differences`. Unequal ones need that second look, to which 5 is 5.0."""
    canonical = orjson.dumps(_settled(value), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(canonical, digest_size=16).digest()


def _settled(value: Any) -> Any:
    """An event or a summary with what `differences` does not look at brought into one form; far cheaper than that."""
    if not isinstance(value, dict):
        return value
    quality, failures = value.get("quality"), value.get("failures")
    if isinstance(quality, dict):
        value = value | {"quality": _comparable(quality)}
    if isinstance(failures, list) and failures:
        value = value | {"failures": _comparable(failures, "failures")}
    return value
