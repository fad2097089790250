"""What may be asked of the directory's collections: `$filter`, `$select`, `$top`. What is not understood is refused.

Understood is what `az ad`, Microsoft's PowerShell module and people write when they look for one application.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from service.emulator.refusals import Refusal

Thing = dict[str, Any]
_EQUAL = re.compile(r"(appId|displayName|id)\s+eq\s+'((?:[^']|'')*)'")
_BEGINS = re.compile(r"startswith\(\s*(displayName|appId)\s*,\s*'((?:[^']|'')*)'\s*\)", re.IGNORECASE)
_ANY = re.compile(
    r"(servicePrincipalNames|identifierUris)/any\(\s*(\w+)\s*:\s*(\w+)\s+eq\s+'((?:[^']|'')*)'\s*\)", re.IGNORECASE
)


def found(things: list[Thing], query: Mapping[str, str]) -> list[Thing]:
    """Those that `$filter` lets through, at most `$top`; 400 for what is not understood."""
    test = _test(query.get("$filter", ""))
    top = query.get("$top", "999")
    if not top.isascii() or not top.isdigit() or not 1 <= int(top) <= 999:
        raise Refusal(
            400, "Request_UnsupportedQuery", f"Invalid page size specified: '{top}'. Must be between 1 and 999."
        )
    return [thing for thing in things if test(thing)][: int(top)]


def selected(thing: Thing, query: Mapping[str, str]) -> Thing:
    """The properties that `$select` names; 400 for one that the type does not have."""
    if not query.get("$select"):
        return thing
    names = [name.strip() for name in query["$select"].split(",")]
    unknown = next((name for name in names if name not in thing), None)
    if unknown is not None:
        raise Refusal(400, "Request_BadRequest", f"Could not find a property named '{unknown}'.")
    return {name: thing[name] for name in names}


def _test(text: str) -> Callable[[Thing], bool]:
    text = text.strip()
    if not text:
        return lambda _: True
    if match := _EQUAL.fullmatch(text):
        name, value = match[1], _unquoted(match[2])
        return lambda thing: str(thing.get(name)).lower() == value
    if match := _BEGINS.fullmatch(text):
        name, value = match[1], _unquoted(match[2])
        return lambda thing: str(thing.get(name)).lower().startswith(value)
    if (match := _ANY.fullmatch(text)) and match[2] == match[3]:
        name, value = match[1], _unquoted(match[4])
        return lambda thing: value in [str(one).lower() for one in thing.get(name) or ()]
    raise Refusal(400, "Request_UnsupportedQuery", "Unsupported Query.")


def _unquoted(text: str) -> str:
    return text.replace("''", "'").lower()
