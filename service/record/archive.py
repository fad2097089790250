"""A call record as it is archived: one JSON document with all its pages in place, after the privacy policy, gzip.

Properties that nobody knows travel too, unless the policy says otherwise. `decode_record` of what `unpacked` gives is
the record that was published, so far as the policy left it whole. No I/O.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from service.record.decode import parse_body
from service.record.hiding import HiddenDocument

# Twice as fast as the usual 9 for a twentieth more bytes.
_LEVEL: Final = 6


@dataclass
class Collection:
    """The pages of a collection, beyond what the record's first answer held of it."""

    pages: list[bytes] = field(default_factory=list)
    is_whole: bool = False
    """Whether they are all of it, so that what the first answer held does not count."""


@dataclass
class Pages:
    """Graph's answers for one version of a record, as they came."""

    record: bytes = b""
    sessions: Collection = field(default_factory=Collection)
    participants: Collection = field(default_factory=Collection)

    def restart(self, collection: str) -> None:
        """`sessions` or `participants` is walked from its start: what was read of it is forgotten."""
        setattr(self, collection, Collection(is_whole=True))

    def add(self, collection: str, body: bytes) -> None:
        """The next page of `sessions` or `participants`."""
        getattr(self, collection).pages.append(body)


def packed(pages: Pages, hidden: HiddenDocument) -> bytes:
    """The value of the archive. The same bytes for the same pages and policy; some 60 ms for 10 MB of pages."""
    document = dict(parse_body(pages.record))
    for name, collection in (("sessions", pages.sessions), ("participants_v2", pages.participants)):
        items = [] if collection.is_whole else _as_list(document.get(name))
        for body in collection.pages:
            items += _as_list(parse_body(body).get("value"))
        if items or collection.pages or name in document:
            document[name] = items
    return gzip.compress(_encoded(hidden.record(document)), _LEVEL, mtime=0)


def unpacked(value: bytes) -> bytes:
    """The JSON document. Raises OSError, EOFError or zlib.error when it is not what `packed` gave."""
    return gzip.decompress(value)


def parts_of(value: bytes, part_bytes: int) -> Iterator[bytes]:
    """The value in pieces that fit into a Kafka record; at least one."""
    for start in range(0, max(1, len(value)), part_bytes):
        yield value[start : start + part_bytes]


def _as_list(value: Any) -> list[Any]:
    """As the decoder takes it: a single item for a collection of one, nothing for an empty one."""
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


def _encoded(document: Any) -> bytes:
    try:
        return msgspec.json.encode(document)
    except (ValueError, OverflowError, UnicodeError):
        # Half a surrogate pair, or a number beyond 64 bits: the standard library escapes the one and writes the other.
        return json.dumps(document, separators=(",", ":")).encode()
