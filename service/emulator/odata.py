"""What a read request may ask for: `$expand`, `$select`, `$filter`, `$skiptoken`, `Prefer`. Text in, values or 400 out.

Only what is documented for call records is understood (graph-contract 6.1 to 6.4); the rest is refused, as Graph does.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from service.clock import from_iso
from service.emulator.refusals import bad_request

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
CALL_RECORD_PROPERTIES = frozenset(
    (
        *("id", "version", "type", "modalities", "lastModifiedDateTime", "startDateTime", "endDateTime", "joinWebUrl"),
        *("organizer", "participants", "organizer_v2"),
    )
)
SESSION_PROPERTIES = frozenset(
    (
        *("id", "modalities", "startDateTime", "endDateTime", "isTest"),
        *("caller", "callee", "failureInfo"),
    )
)
PARTICIPANT_PROPERTIES = frozenset(("id", "identity", "administrativeUnitInfos"))

_DATE_CONDITION = re.compile(r"startDateTime\s+(lt|le|gt|ge)\s+([0-9T:.Z+\-]+)", re.IGNORECASE)
_PERSON_CONDITION = re.compile(
    r"participants_v2/any\(\s*(\w+)\s*:\s*(\w+)/id\s+eq\s+'((?:[^']|'')*)'\s*\)", re.IGNORECASE
)


@dataclass(frozen=True)
class Preferences:
    """The `Prefer` header, and `odata.metadata` of `Accept` (graph-contract 6.2)."""

    omit_nulls: bool = False
    unknown_members: bool = False
    page_size: int | None = None
    no_metadata: bool = False

    @property
    def applied(self) -> str:
        """Value of `Preference-Applied`; empty when there is nothing to say."""
        parts = ["omit-values=nulls"] if self.omit_nulls else []
        parts += ["include-unknown-enum-members"] if self.unknown_members else []
        parts += [f"odata.maxpagesize={self.page_size}"] if self.page_size else []
        return ",".join(parts)


def read_preferences(headers: Mapping[str, str], prefer: list[str]) -> Preferences:
    """`prefer` holds every `Prefer` header; unknown preferences are ignored, as RFC 7240 asks."""
    wishes = {part.strip().lower() for header in prefer for part in header.split(",")}
    sizes = [wish.partition("=")[2] for wish in wishes if wish.startswith("odata.maxpagesize=")]
    size = next((int(text) for text in sizes if text.isascii() and text.isdigit() and int(text) > 0), None)
    return Preferences(
        omit_nulls="omit-values=nulls" in wishes,
        unknown_members="include-unknown-enum-members" in wishes,
        page_size=size,
        no_metadata="odata.metadata=none" in headers.get("Accept", "").lower(),
    )


def check_options(query: Mapping[str, str], allowed: tuple[str, ...]) -> None:
    """400 for a system query option that this call does not have; `$` may be left out nowhere."""
    for name in query:
        if name.startswith("$") and name not in allowed:
            raise bad_request(f"The query option '{name}' is not allowed for this request.")


@dataclass(frozen=True)
class Expand:
    """What `$expand` of a call record asks for."""

    sessions: bool = False
    segments: bool = False
    participants: bool = False


def read_expand(text: str) -> Expand:
    """`sessions`, `sessions($expand=segments)`, `participants_v2`, in any order."""
    expand = Expand()
    for part in _top_level_parts(text):
        match part.replace(" ", ""):
            case "sessions":
                expand = Expand(True, expand.segments, expand.participants)
            case "sessions($expand=segments)":
                expand = Expand(True, True, expand.participants)
            case "participants_v2":
                expand = Expand(expand.sessions, expand.segments, True)
            case "" | "organizer_v2":  # expanded without asking
                pass
            case other:
                raise bad_request(f"Parsing OData Select and Expand failed: '{other}' cannot be expanded here.")
    return expand


def read_segments_expand(text: str) -> bool:
    """`$expand` of the sessions call: whether segments are wanted."""
    if text.strip() not in ("", "segments"):
        raise bad_request(f"Parsing OData Select and Expand failed: '{text}' cannot be expanded here.")
    return text.strip() == "segments"


def read_select(text: str | None, properties: frozenset[str], type_name: str) -> frozenset[str] | None:
    """Names in `$select`; None when it is absent."""
    if text is None:
        return None
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    for name in sorted(names - properties - {"*"}):
        message = f"Could not find a property named '{name}' on type 'microsoft.graph.callRecords.{type_name}'."
        raise bad_request(f"Parsing OData Select and Expand failed: {message}")
    return None if "*" in names or not names else names


@dataclass(frozen=True)
class ListFilter:
    """`$filter` of the list: conditions on the start (operator, Unix seconds) and on a person."""

    start: tuple[tuple[str, float], ...] = ()
    people: tuple[str, ...] = ()

    def admits_start(self, start: float) -> bool:
        """Whether a call that starts then is in the window."""
        tests = {"lt": start.__lt__, "le": start.__le__, "gt": start.__gt__, "ge": start.__ge__}
        return all(tests[operator](bound) for operator, bound in self.start)

    def lowest_start(self) -> float:
        """No admitted call starts before this."""
        return max((bound for operator, bound in self.start if operator in ("gt", "ge")), default=0.0)

    def is_past(self, start: float) -> bool:
        """Whether this and every later start is outside."""
        return any(start > bound for operator, bound in self.start if operator in ("lt", "le"))


def read_filter(text: str | None) -> ListFilter:
    """`startDateTime` with lt, le, gt, ge and `participants_v2/any(p:p/id eq '…')`, joined by `and`."""
    if not text:
        return ListFilter()
    start: list[tuple[str, float]] = []
    people: list[str] = []
    for condition in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE):
        bare = condition.strip()
        if date := _DATE_CONDITION.fullmatch(bare):
            start.append((date[1].lower(), _filter_date(date[2])))
        elif (person := _PERSON_CONDITION.fullmatch(bare)) and person[1] == person[2]:
            people.append(person[3].replace("''", "'").lower())
        else:
            raise bad_request(f"Invalid filter clause: '{bare}' is not supported for call records.")
    return ListFilter(tuple(start), tuple(people))


def _filter_date(text: str) -> float:
    try:
        return from_iso(text)
    except (ValueError, OverflowError):
        raise bad_request(f"Invalid filter clause: '{text}' is not a DateTimeOffset.") from None


def _top_level_parts(text: str) -> list[str]:
    """Splits at commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


class SkipTokens:
    """Opaque page marks that hold a position and only work for the collection they were made for."""

    def __init__(self, seed: int) -> None:
        self._key = f"skiptoken/{seed}".encode()

    def make(self, collection: str, position: str) -> str:
        """`collection` names what is paged; `position` is any text."""
        signed = f"{self._sign(collection, position)}{position}"
        return base64.urlsafe_b64encode(signed.encode()).decode().rstrip("=")

    def read(self, collection: str, token: str) -> str:
        """The position; 400 for a token that was not made for this collection."""
        text = _decoded(token)
        if text[:12] != self._sign(collection, text[12:]):
            raise bad_request("The $skiptoken is not valid for this request.")
        return text[12:]

    def peek(self, token: str) -> str:
        """The position that a token names, for whichever collection; empty for one that is no token."""
        return _decoded(token)[12:]

    def _sign(self, collection: str, position: str) -> str:
        text = f"{collection}\n{position}".encode()
        return hashlib.blake2b(text, key=self._key, digest_size=6).hexdigest()


def _decoded(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except ValueError:
        return ""
