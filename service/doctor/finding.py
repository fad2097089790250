"""Core: what a look at one link of the chain brings, and what all of them together say. No I/O, no clock."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import msgspec

Status = Literal["ok", "warn", "broken", "skipped"]
STATUSES: tuple[Status, ...] = get_args(Status)
FORMAT_VERSION = 1
"""Of the JSON document; additions do not change it."""


class Finding(msgspec.Struct, frozen=True):
    """One line. `seen` and `todo` are whole sentences for a person and hold no secrets."""

    link: str
    """Name of the link, from `walk.CHAIN`."""
    status: Status
    seen: str
    todo: str = ""
    """What to do; empty when there is nothing to do."""
    tenant: str = ""
    """Configured name, where the link is one tenant's own."""

    @property
    def place(self) -> str:
        """`token` or `token contoso`."""
        return f"{self.link} {self.tenant}".rstrip()


class Look(msgspec.Struct, frozen=True):
    """What a check says, before it is known in whose name."""

    status: Status
    seen: str
    todo: str = ""

    def at(self, link: str, tenant: str = "") -> Finding:
        """As the line of a link."""
        return Finding(link, self.status, self.seen, self.todo, tenant)


def ok(seen: str) -> Look:
    """As it should be."""
    return Look("ok", seen)


def warn(seen: str, todo: str) -> Look:
    """It works, and somebody should know."""
    return Look("warn", seen, todo)


def broken(seen: str, todo: str) -> Look:
    """It does not work."""
    return Look("broken", seen, todo)


def skipped(seen: str) -> Look:
    """Not looked at, because it could not be seen."""
    return Look("skipped", seen)


def first_broken(findings: Iterable[Finding]) -> Finding | None:
    """Where to begin; None when nothing is broken."""
    return next((one for one in findings if one.status == "broken"), None)


def exit_code(findings: Iterable[Finding]) -> int:
    """1 when something is broken, else 0: a warning stops nothing."""
    return 1 if first_broken(findings) else 0


def document(findings: Sequence[Finding], at: str, version: str) -> dict[str, Any]:
    """What `--json` prints (docs/doctor.md). `at` is UTC text, `version` the program's."""
    counts = Counter(one.status for one in findings)
    first = first_broken(findings)
    return {
        "format": FORMAT_VERSION,
        "callstream": version,
        "at": at,
        "verdict": "broken" if first else "warn" if counts["warn"] else "ok",
        "first": _as_json(first) if first else None,
        "counts": {status: counts[status] for status in STATUSES},
        "findings": [_as_json(one) for one in findings],
    }


def closing_line(findings: Sequence[Finding]) -> str:
    """The last line for a person."""
    first, warnings = first_broken(findings), sum(one.status == "warn" for one in findings)
    also = f"{warnings} warning{'s' if warnings != 1 else ''}"
    if first is None:
        return f"Nothing is broken; {also}." if warnings else "Every link is as it should be."
    count = sum(one.status == "broken" for one in findings)
    is_are = "is" if count == 1 else "are"
    return f"{count} {is_are} broken{f', {also}' if warnings else ''}. Begin with {first.place}."


def _as_json(one: Finding) -> dict[str, Any]:
    return {
        "link": one.link,
        "tenant": one.tenant or None,
        "status": one.status,
        "seen": one.seen,
        "todo": one.todo or None,
    }
