"""Bytes as Graph sends them into a CallRecord, and what was odd about them.

A body that is as the schema says takes one typed pass. Anything else takes a second, lenient one (`lenient.py`), in
which only the odd value is lost. Only a body that is no call record at all is refused, with `NotACallRecord`; nothing
else is ever raised. What a body takes in memory and time is bounded by its size.
"""

import json
import re
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, Generic, NoReturn, TypeVar

import msgspec
from msgspec import inspect

from service.errors import NotACallRecord
from service.record.lenient import OddValue, OddValues, Place, Walk, read_struct
from service.record.model import (
    CallRecord,
    Media,
    MediaStream,
    ParticipantsPage,
    Segment,
    Session,
    SessionsPage,
    TraceRouteHop,
)
from service.record.times import are_date_times, are_durations

__all__ = ["OddValue", "OddValues", "decode_participants_page", "decode_record", "decode_sessions_page", "parse_body"]

Body = TypeVar("Body", CallRecord, SessionsPage, ParticipantsPage)

# Objects and lists in one body, and one more for each so many bytes of it. Each takes up to 400 bytes of memory, though
# it be written `{}`. Graph's own have one in 100 bytes or more, a participant who is nothing but ids one in 50.
_MOST_HOLDERS: Final = 100_000
_BYTES_OF_A_HOLDER: Final = 64

# Annotations that may stand beside the properties of a body.
_ANNOTATIONS: Final = (
    *(
        "@odata.context",
        "@odata.type",
        "@odata.id",
        "@odata.etag",
        "@odata.editLink",
        "@odata.count",
        "@microsoft.graph.tips",
    ),
    *(f"{name}@odata.context" for name in ("organizer_v2", "participants_v2", "sessions")),
    *(f"{name}@odata.count" for name in ("participants_v2", "sessions")),
)


def decode_record(body: bytes, *, thorough: bool = False) -> tuple[CallRecord, OddValues]:
    """The record in a body, and what was odd.

    `thorough` always takes the slower way, and reports unknown fields and unknown enum members too.
    Raises NotACallRecord, and nothing else, for any bytes.
    """
    _refuse_a_crowd(body)
    record = None if thorough else _RECORD.decode(body)
    if record is not None and record.id and _is_version(record.version) and _record_is_good(record):
        return record, OddValues()
    return _leniently(CallRecord, body, thorough, _accept_record)


def decode_sessions_page(body: bytes, *, thorough: bool = False) -> tuple[SessionsPage, OddValues]:
    """A page of sessions, as `decode_record` does it. Paths begin with `value`."""
    _refuse_a_crowd(body)
    page = None if thorough else _SESSIONS.decode(body)
    if page is not None and page.value is not None and _sessions_are_good(page.value):
        return page, OddValues()
    return _leniently(SessionsPage, body, thorough, _accept_page)


def decode_participants_page(body: bytes, *, thorough: bool = False) -> tuple[ParticipantsPage, OddValues]:
    """A page of participants_v2, as `decode_record` does it. Paths begin with `value`."""
    _refuse_a_crowd(body)
    page = None if thorough else _PARTICIPANTS.decode(body)
    if page is not None and page.value is not None:
        return page, OddValues()
    return _leniently(ParticipantsPage, body, thorough, _accept_page)


def _refuse_a_crowd(body: bytes) -> None:
    """Before anything is made of the body. Brackets in texts count as well, which no real text has so many of."""
    if body.count(b"{") + body.count(b"[") > _MOST_HOLDERS + len(body) // _BYTES_OF_A_HOLDER:
        raise NotACallRecord("too_many", "the body has too many objects and lists for its size to be a call record")


# ---- the typed pass ------------------------------------------------------------------------------------------------


# What msgspec raises for a body that is not JSON, not as typed, not UTF-8, or nested too deeply.
_NOT_AS_TYPED: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


class _TypedPass(Generic[Body]):
    """The fast way for one kind of body.

    A link to a further page must not be missed because of its spelling (Graph's documentation has both `nextLink` and
    `nextlink`): a record would be published without its tail. So the top level is read by a struct that knows every
    name that may stand there. Where one does not, the links are looked for without case; that costs a second reading,
    and no other body pays for it.
    """

    def __init__(self, cls: type[Body]) -> None:
        self._cls: type[Body] = cls
        # Defined with extra fields rather than in the model, where an annotation has no business.
        strict = msgspec.defstruct(
            f"Known{cls.__name__}",
            [(f"annotation_{number}", msgspec.Raw, _annotation(name)) for number, name in enumerate(_ANNOTATIONS)],
            bases=(cls,),
            forbid_unknown_fields=True,
            frozen=True,
        )
        fields = msgspec.structs.fields(cls)
        self._strict: Any = msgspec.json.Decoder(strict)
        self._open: msgspec.json.Decoder[Body] = msgspec.json.Decoder(cls)
        self._values: Any = attrgetter(*(field.name for field in fields))
        self._links = {field.encode_name.lower(): field.name for field in fields if "@" in field.encode_name}

    def decode(self, body: bytes) -> Body | None:
        """The struct; None where something in the body has another type than the schema says."""
        try:
            strict = self._strict.decode(body)
        except _NOT_AS_TYPED:
            return self._decode_open(body)
        struct: Body = self._cls(*self._values(strict))
        return struct

    def _decode_open(self, body: bytes) -> Body | None:
        try:
            return self._with_links(self._open.decode(body), body)
        except _NOT_AS_TYPED:
            return None

    def _with_links(self, struct: Body, body: bytes) -> Body:
        found = {}
        for name, raw in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items():
            if name.lower() in self._links and (link := msgspec.json.decode(raw, type=str | None)) is not None:
                found[self._links[name.lower()]] = link
        return msgspec.structs.replace(struct, **found)


def _annotation(name: str) -> Any:
    return msgspec.field(default=msgspec.Raw(), name=name)


_RECORD: Final = _TypedPass(CallRecord)
_SESSIONS: Final = _TypedPass(SessionsPage)
_PARTICIPANTS: Final = _TypedPass(ParticipantsPage)


def _texts_of(cls: type[msgspec.Struct], form: str) -> Callable[[Any], tuple[str | None, ...]]:
    """A function that takes from a struct all its fields of that `format`; always a tuple."""
    struct = inspect.type_info(cls)
    names = [
        field.name
        for field in getattr(struct, "fields", ())
        for kind in getattr(field.type, "types", ())
        if isinstance(kind, inspect.Metadata) and (kind.extra or {}).get("format") == form
    ]
    # attrgetter gives a tuple for two names or more only; a name taken twice changes nothing.
    return attrgetter(*names, names[0])


_RECORD_TIMES = _texts_of(CallRecord, "date-time")
_SESSION_TIMES = _texts_of(Session, "date-time")
_SEGMENT_TIMES = _texts_of(Segment, "date-time")
_STREAM_TIMES = _texts_of(MediaStream, "date-time")
_STREAM_DURATIONS = _texts_of(MediaStream, "duration")
_HOP_DURATIONS = _texts_of(TraceRouteHop, "duration")


def _record_is_good(record: CallRecord) -> bool:
    return _Texts(_RECORD_TIMES(record)).are_good(record.sessions or ())


def _sessions_are_good(sessions: Iterable[Session]) -> bool:
    return _Texts().are_good(sessions)


class _Texts:
    """The date-times and durations of a body, to be checked all at once: what `str` in the model cannot say.

    Gathered by `set.update` over `map`, without a line of Python for each text.
    """

    def __init__(self, date_times: Iterable[str | None] = ()) -> None:
        self._date_times: set[Any] = set(date_times)
        self._durations: set[Any] = set()

    def are_good(self, sessions: Iterable[Session]) -> bool:
        """Whether each text is well formed, those of the sessions included."""
        for session in sessions:
            self._date_times.update(_SESSION_TIMES(session))
            for segment in session.segments or ():
                self._date_times.update(_SEGMENT_TIMES(segment))
                for media in segment.media or ():
                    self._gather(media)
        self._date_times.discard(None)
        self._durations.discard(None)
        return are_date_times(self._date_times) and are_durations(self._durations)

    def _gather(self, media: Media) -> None:
        if media.streams:
            self._date_times.update(*map(_STREAM_TIMES, media.streams))
            self._durations.update(*map(_STREAM_DURATIONS, media.streams))
        for network in (media.caller_network, media.callee_network):
            if network is not None and network.trace_route_hops:
                self._durations.update(*map(_HOP_DURATIONS, network.trace_route_hops))


# ---- the lenient pass ----------------------------------------------------------------------------------------------


def _leniently(
    cls: type[Body], body: bytes, thorough: bool, accept: Callable[[dict[str, Any], Walk], dict[str, Any]]
) -> tuple[Body, OddValues]:
    walk = Walk(thorough)
    try:
        document = _parse(body, walk)
        if isinstance(document, list):
            raise NotACallRecord("list", "the body is a JSON list, not a call record")
        if not isinstance(document, dict):
            raise NotACallRecord("not_an_object", f"the body is {_SCALARS[type(document)]}, not a call record")
        _refuse_an_error(document)
        return read_struct(cls, accept(document, walk), walk), walk.odd
    except RecursionError:
        raise NotACallRecord("too_deep", "the body is nested too deeply to be a call record") from None


# Sentences go to dead letters and logs, so they hold nothing of the body's text: it may be anybody's name.
_SCALARS: Final[dict[type, str]] = {
    str: "a JSON text",
    int: "a JSON number",
    float: "a JSON number",
    bool: "true or false",
    type(None): "null",
}


def parse_body(body: bytes) -> Any:
    """The JSON document in a body, whatever it is; NotACallRecord if there is none."""
    try:
        return msgspec.json.decode(body)
    except _NOT_AS_TYPED:
        return _parse(body, Walk(thorough=False))


def _parse(body: bytes, walk: Walk) -> Any:
    """The JSON document, taken as generously as the standard library can; NotACallRecord if it is none."""
    text = body.decode("utf-8", "replace").removeprefix("\ufeff")
    if "\ufffd" in text and "\ufffd".encode() not in body:
        walk.note(Place(), "bad_format", "bytes that are not UTF-8")
    if not text.strip():
        raise NotACallRecord("empty", "the body is empty")
    if text.lstrip().startswith("<"):
        raise NotACallRecord("html", "the body is HTML or XML, not JSON: the answer of a gateway, perhaps")
    try:
        # strict=False: control characters in text. A number too long for an int is read as a float, at worst infinite.
        return json.loads(
            text, strict=False, parse_int=lambda digits: int(digits) if len(digits) < 40 else float(digits)
        )
    except json.JSONDecodeError as error:
        if _is_cut(text, error):
            raise NotACallRecord("cut_json", f"the body ends early, after {len(body)} bytes") from None
        raise NotACallRecord("not_json", f"the body is not JSON (character {error.pos})") from None


# What is left at the parser's position when a text ends inside a literal, a number or an escape.
_CUT_TAIL = re.compile(r"(?:t|tr|tru|f|fa|fal|fals|n|nu|nul|N|Na|-?I[nfity]{0,6}|-|\.|[eE][+-]?|\\?u[0-9a-fA-F]{0,4})?")


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the parser stumbled over the end of a document that began well, rather than over something in it."""
    if text.lstrip()[0] not in "{[":
        return False
    return error.msg.startswith("Unterminated string") or _CUT_TAIL.fullmatch(text[error.pos :].strip()) is not None


def _refuse_an_error(document: dict[str, Any]) -> None:
    error = document.get("error")
    if error is None or "id" in document or "value" in document:
        return
    code = error.get("code") if isinstance(error, dict) else error
    code = code if isinstance(code, str) and _CODE.fullmatch(code) else ""
    raise NotACallRecord("odata_error", f"the body is an error of Graph ({code or 'without a code'})", code)


_CODE = re.compile(r"[A-Za-z0-9_.]{1,60}")  # anything else under that name is somebody's text


def _accept_page(document: dict[str, Any], _walk: Walk) -> dict[str, Any]:
    if "value" not in document:
        raise NotACallRecord(
            "not_an_object", f"the body has no `value`, so it is no page of a collection{_looks(document)}"
        )
    return document


def _accept_record(document: dict[str, Any], walk: Walk) -> dict[str, Any]:
    """The document, if it has an `id` and a usable `version`.

    A whole number of 64 bits that is not negative, or the digits of one in text.
    """
    identifier, version = document.get("id"), document.get("version")
    if not identifier or isinstance(identifier, dict | list | float | bool):
        _refuse("no_id", document)
    if isinstance(version, str) and re.fullmatch(r"[0-9]{1,18}", version):
        walk.note(Place("version", "version"), "wrong_type", version)
        return {**document, "version": int(version)}
    if isinstance(version, bool) or not isinstance(version, int | float) or not _is_version(version):
        _refuse("no_version", document)
    if version != int(version):
        _refuse("no_version", document)
    return document


def _is_version(number: float | None) -> bool:
    return number is not None and 0 <= number < 2**63


def _refuse(kind: str, document: dict[str, Any]) -> NoReturn:
    wanted = kind.removeprefix("no_")
    raise NotACallRecord(kind, f"the body has no usable `{wanted}`, so it is no call record{_looks(document)}")


def _looks(document: dict[str, Any]) -> str:
    """What the document seems to be instead, as the end of a sentence."""
    if isinstance(document.get("value"), list):
        return "; it looks like a page of a collection (it has `value`)"
    for name, key in (("a session", "segments"), ("a segment", "media"), ("a media line", "streams")):
        if key in document:
            return f"; it looks like {name} (it has `{key}`)"
    if "version" in document or "sessions" in document:
        return ""
    if "caller" in document and "callee" in document:
        return "; it looks like a session or a segment (it has `caller` and `callee`)"
    if "streamDirection" in document or "streamId" in document:
        return "; it looks like a media stream (it has `streamDirection`)"
    return ""
