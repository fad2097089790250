"""Untyped JSON into the model's structs, where an odd value costs that value and nothing else.

The walk is directed by the same structs that the fast decoder is built from, so the two cannot come to disagree about a
good body. It parses nothing itself: whatever `json.loads` can return goes in, a struct and what was odd come out. Only
where hardly anything can be left but odd values does it raise, NotACallRecord.
"""

import json
import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import inspect

from service.errors import NotACallRecord
from service.record.model import ENUMS, IDENTITY_MEMBERS
from service.record.times import duration_sign, utc

S = TypeVar("S", bound=msgspec.Struct)

Kind: TypeAlias = Literal[
    "wrong_type", "out_of_range", "bad_format", "negative_duration", "unknown_field", "unknown_member"
]

# Characters of an odd value that are shown: enough to recognise it, little enough for a log line and for privacy.
_EXCERPT = 60
# Kept of each body, and of each record; all are counted. A body in which everything is odd must not fill the memory.
MOST_KEPT: Final = 1000
# Values out of contract in one body, each a microsecond or two in which nothing else is done. The largest meeting may
# have 300 in each of 3,000 sessions and is published all the same.
MOST_ODD: Final = 1_000_000
# What a thorough walk alone looks for. It refuses nothing: which walk a body takes must not show.
_LOOKED_FOR: Final = ("unknown_field", "unknown_member")


class OddValue(msgspec.Struct, frozen=True):
    """Something in a body that the schema does not have there.

    `path` leads to it, `field` is the same path without positions: a closed set, fit for a metric label, for it holds
    schema names only (an unknown field counts at its parent, a member of an open type is `*`). `found` is printable
    text.
    """

    path: str
    field: str
    kind: Kind
    found: str


class OddValues(list[OddValue]):
    """What was odd in a body: the first `MOST_KEPT` values, in the order in which they were met."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, Kind]] = Counter()
        """All of them, by field and kind."""


class Place(msgspec.Struct, frozen=True):
    """Where the walk is, in both spellings of `OddValue`."""

    path: str = ""
    field: str = ""

    def member(self, name: str, label: str = "") -> "Place":
        """A property; `label` stands in for its name in `field` when the name came from the input."""
        if not self.path:
            return Place(name, label or name)
        return Place(f"{self.path}.{name}", f"{self.field}.{label or name}")

    def item(self, index: int) -> "Place":
        return Place(f"{self.path}[{index}]", self.field)


class Walk:
    """One walk over one document. `thorough` also looks for unknown fields and unknown enum members."""

    def __init__(self, thorough: bool) -> None:
        self.thorough = thorough
        self.odd = OddValues()
        self._out_of_contract = 0
        self._looked_for = 0

    def note(self, place: Place, kind: Kind, found: object) -> None:
        """Something odd. Raises NotACallRecord at the one that is too many."""
        self.odd.counts[place.field or "$", kind] += 1
        if len(self.odd) < MOST_KEPT:
            self.odd.append(OddValue(place.path or "$", place.field or "$", kind, excerpt(found)))
        if kind in _LOOKED_FOR:
            self._looked_for += 1
            self.thorough = self._looked_for < MOST_ODD
            return
        self._out_of_contract += 1
        if self._out_of_contract > MOST_ODD:
            raise NotACallRecord("too_many", f"the body has more than {MOST_ODD:,} odd values, so it is no call record")


Reader: TypeAlias = Callable[[Walk, object, Place], Any]


def read_struct(cls: type[S], document: dict[str, object], walk: Walk) -> S:
    """The document as a `cls`. Links of further pages are found in any spelling of their names."""
    links = {
        field.encode_name.lower(): field.encode_name for field in _fields(cls) if "@odata.next" in field.encode_name
    }
    found = {links[name.lower()]: link for name, link in document.items() if name.lower() in links and link is not None}
    struct: S = _struct_reader_once(cls)(walk, {**document, **found}, Place())
    return struct


def excerpt(value: object) -> str:
    """A short printable piece of a value, on one line, with control characters escaped."""
    text = value if isinstance(value, str) else _head(value)
    shown = json.dumps(clean(text[:_EXCERPT]), ensure_ascii=False)[1:-1] if isinstance(value, str) else text
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in shown)
    return shown[:_EXCERPT] + "…" if max(len(text), len(shown)) > _EXCERPT else shown


def _head(value: object) -> str:
    """The beginning of a value as JSON; a collection by its size, since what it holds may be large or deep."""
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return json.dumps(value)


def clean(text: str) -> str:
    """The text with each half of a broken surrogate pair replaced, since UTF-8 has no way to write one."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# ---- one reader per kind of value ----------------------------------------------------------------------------------


def _read_text(walk: Walk, value: object, place: Place) -> str | None:
    if isinstance(value, str):
        cleaned = clean(value)
        if cleaned != value:
            walk.note(place, "bad_format", value)
        return cleaned
    walk.note(place, "wrong_type", value)
    # A number or a boolean says as text what it said; a collection has no place in a field of text.
    return json.dumps(value) if isinstance(value, int | float) else None


def _read_date_time(walk: Walk, value: object, place: Place) -> str | None:
    text = _read_text(walk, value, place)
    if isinstance(value, str) and utc(value) is None:
        walk.note(place, "bad_format", value)
    return text


def _read_duration(walk: Walk, value: object, place: Place) -> str | None:
    if not isinstance(value, str):
        walk.note(place, "wrong_type", value)
        return None
    sign = duration_sign(value)
    if sign == 1:
        return value
    walk.note(place, "negative_duration" if sign else "bad_format", value)
    return None


def _enum_reader(members: frozenset[str]) -> Reader:
    def read(walk: Walk, value: object, place: Place) -> str | None:
        text = _read_text(walk, value, place)
        if walk.thorough and isinstance(value, str) and value.lower() not in members:
            walk.note(place, "unknown_member", value)
        return text

    return read


def _read_bool(walk: Walk, value: object, place: Place) -> bool | None:
    if isinstance(value, bool):
        return value
    walk.note(place, "wrong_type", value)
    return None


def _int_reader(low: int, high: int) -> Reader:
    def read(walk: Walk, value: object, place: Place) -> int | None:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            walk.note(place, "out_of_range" if _is_infinite(value) else "wrong_type", value)
            return None
        if low <= value <= high:
            return value
        walk.note(place, "out_of_range", value)
        return None

    return read


def _number_reader(low: int, high: int) -> Reader:
    """Edm.Single. OData's texts `NaN`, `INF` and `-INF` carry no measurement either, and become None like any text."""

    def read(walk: Walk, value: object, place: Place) -> int | float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            walk.note(place, "wrong_type", value)
            return None
        if isinstance(value, int):
            return value if low <= value <= high else float(value)
        if math.isfinite(value):
            return value
        walk.note(place, "out_of_range", value)
        return None

    return read


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


# ---- readers of what holds other values ----------------------------------------------------------------------------


def _list_reader(read_item: Reader) -> Reader:
    """A collection.

    A single value is taken for a collection of one; items that are nothing are left out, and later ones move up.
    """

    def read(walk: Walk, value: object, place: Place) -> list[Any] | None:
        if not isinstance(value, list):
            walk.note(place, "wrong_type", value)
            item = read_item(walk, value, place)
            return None if item is None else [item]
        items = []
        for index, raw in enumerate(value):
            if raw is None:
                walk.note(place.item(index), "wrong_type", raw)
            elif (item := read_item(walk, raw, place.item(index))) is not None:
                items.append(item)
        return items

    return read


def _map_reader(read_value: Reader, names: frozenset[str]) -> Reader:
    """An open type: any name, one kind of value. Annotations are dropped unless they are text in an identity set."""

    def read(walk: Walk, value: object, place: Place) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            walk.note(place, "wrong_type", value)
            return None
        members = {}
        for name, raw in value.items():
            here = place.member(name) if name in names else place.member(excerpt(name), "*")
            members[clean(name)] = None if raw is None else read_value(walk, raw, here)
        return members

    return read


_IDENTITY_SET_NAMES = frozenset((*IDENTITY_MEMBERS, "endpointType", "@odata.type"))


def _identity_member_reader(read_identity: Reader) -> Reader:
    """What stands in an identity set: an identity, or the text of `endpointType` and of annotations."""

    def read(walk: Walk, value: object, place: Place) -> Any:
        name = place.field.rpartition(".")[2]
        if isinstance(value, str):
            if walk.thorough and name == "endpointType" and value.lower() not in ENUMS["endpointType"]:
                walk.note(place, "unknown_member", value)
            return clean(value)
        if walk.thorough and name == "*":
            walk.note(Place(place.path, place.field.removesuffix(".*")), "unknown_field", value)
        return read_identity(walk, value, place)

    return read


def _struct_reader(cls: type[msgspec.Struct]) -> Reader:
    fields = {field.encode_name: (field.name, reader_of(field.type)) for field in _fields(cls)}

    def read(walk: Walk, value: object, place: Place) -> msgspec.Struct | None:
        if not isinstance(value, dict):
            walk.note(place, "wrong_type", value)
            return None
        values = {}
        for name, raw in value.items():
            known = fields.get(name)
            if known is None:
                if walk.thorough and "@" not in name:
                    walk.note(Place(place.member(excerpt(name)).path, place.field), "unknown_field", raw)
            elif raw is not None:
                values[known[0]] = known[1](walk, raw, place.member(name))
        return cls(**values)

    return read


@cache
def _fields(cls: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    struct = inspect.type_info(cls)
    assert isinstance(struct, inspect.StructType)  # noqa: S101  cls is a Struct; the check is for the type checker
    return struct.fields


# ---- from a type to its reader -------------------------------------------------------------------------------------


def reader_of(kind: inspect.Type) -> Reader:
    """The reader for a type of the model, as `msgspec.inspect` describes it."""
    if isinstance(kind, inspect.Metadata):
        return _marked_reader(kind)
    if isinstance(kind, inspect.UnionType):
        return _union_reader([member for member in kind.types if not isinstance(member, inspect.NoneType)])
    if isinstance(kind, inspect.StructType):
        return _struct_reader_once(kind.cls)
    if isinstance(kind, inspect.ListType):
        return _list_reader(reader_of(kind.item_type))
    if isinstance(kind, inspect.DictType):
        holds_identities = any(
            isinstance(member, inspect.StructType) for member in getattr(kind.value_type, "types", ())
        )
        return _map_reader(reader_of(kind.value_type), _IDENTITY_SET_NAMES if holds_identities else frozenset())
    if isinstance(kind, inspect.BoolType):
        return _read_bool
    if isinstance(kind, inspect.IntType) and kind.ge is not None and kind.le is not None:
        return _int_reader(kind.ge, kind.le)
    if isinstance(kind, inspect.StrType):
        return _read_text
    raise TypeError(f"no reader for {kind}")


_struct_reader_once = cache(_struct_reader)


def _marked_reader(kind: inspect.Metadata) -> Reader:
    extra = kind.extra or {}
    if "enum" in extra:
        return _enum_reader(ENUMS[extra["enum"]])
    return {"date-time": _read_date_time, "duration": _read_duration}[extra["format"]]


def _union_reader(members: list[inspect.Type]) -> Reader:
    if len(members) == 1:
        return reader_of(members[0])
    for member in members:
        if isinstance(member, inspect.IntType) and member.ge is not None and member.le is not None:
            return _number_reader(member.ge, member.le)
        if isinstance(member, inspect.StructType):
            return _identity_member_reader(reader_of(member))
    raise TypeError(f"no reader for a choice of {members}")
