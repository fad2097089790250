"""Call records as Graph sends them, for property tests: JSON-like values made from the model, so none is forgotten.

`call_records()` are good bodies. `odd_json` is anything that JSON can say, to put where it does not belong.
"""

from typing import Any

from hypothesis import strategies as st
from msgspec import inspect

from service.record.model import CallRecord, Identity

guids = st.uuids().map(str)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
durations = st.builds(
    lambda days, seconds, fraction: f"P{days}DT{seconds}{fraction}S" if days else f"PT{seconds}{fraction}S",
    st.integers(0, 2),
    st.integers(0, 5000),
    st.sampled_from(["", ".0", ".036", ".6389308", ".123456789"]),
)
date_times = st.builds(
    lambda moment, fraction, offset: moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + fraction + offset,
    st.datetimes(),
    st.sampled_from(["", ".5", ".2169889", ".123456789"]),
    st.sampled_from(["Z", "Z", "Z", "+00:00", "+03:00", "-11:30"]),
)
enum_members = st.sampled_from(
    ["unknown", "unknownFutureValue", "audio", "callerToCallee", "calleeToCaller", "h264s", "neverSeen", ""]
)
labels = st.sampled_from(["main-audio", "main-video", "applicationsharing-video", "data", "MAIN-AUDIO", "", "other"])

odd_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.sampled_from(["Single", "NaN", "-PT3S", "P1Y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def call_records(max_items: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    """Good call records; collections hold at most `max_items`."""
    return _struct(inspect.type_info(CallRecord), max_items).map(_with_version)


def _with_version(record: dict[str, Any]) -> dict[str, Any]:
    return {
        **record,
        "id": record.get("id") or "e523d2ed-2966-4b6b-925b-754a88034cc5",
        "version": abs(record.get("version") or 1),
    }


def _struct(kind: Any, max_items: int) -> st.SearchStrategy[dict[str, Any]]:
    fields = {field.encode_name: _field(field, max_items) for field in kind.fields}
    return st.fixed_dictionaries({}, optional=fields)


def _field(field: Any, max_items: int) -> st.SearchStrategy[Any]:
    if field.encode_name == "label":
        return labels
    if field.encode_name == "@odata.type":
        return st.sampled_from(["#microsoft.graph.callRecords.participantEndpoint", "x.serviceUserAgent", ""])
    if field.encode_name == "id":
        return guids
    return _value(field.type, max_items)


def _value(kind: Any, max_items: int) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.UnionType():
            members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
            return st.none() | st.one_of([_value(member, max_items) for member in members])
        case inspect.Metadata():
            form = (kind.extra or {}).get("format")
            return {"duration": durations, "date-time": date_times}.get(str(form), enum_members)
        case inspect.ListType():
            return st.lists(_value(kind.item_type, max_items).filter(lambda item: item is not None), max_size=max_items)
        case inspect.DictType():
            return _dictionary(kind.value_type, max_items)
        case inspect.StructType():
            return _struct(kind, max_items)
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(0, 2**31 - 1)
        case inspect.FloatType():
            return st.floats(0, 1000, allow_nan=False).map(lambda number: round(number, 3))
        case _:
            return texts


def _dictionary(value: Any, max_items: int) -> st.SearchStrategy[Any]:
    if any(isinstance(member, inspect.BoolType) for member in value.types):
        return st.dictionaries(texts, st.booleans(), max_size=max_items)
    identity = st.none() | _struct(inspect.type_info(Identity), max_items)
    names = ("user", "phone", "guest", "application", "acsUser", "neverSeen")
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, identity) | {"endpointType": enum_members})
