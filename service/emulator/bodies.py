"""JSON bodies of reads: what preferences leave out, and a bounded cache of the finished bytes.

A page of a version never changes, so it is written and compressed once however often it is asked for.
"""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import orjson

from service.emulator.odata import Preferences

GZIP_LEAST_BYTES = 1024
# Members placed after `unknownFutureValue` in their enumeration (graph-contract 6.2, 7.6).
HIDDEN_MEMBERS = {"productFamily": frozenset({"azureCommunicationServices"})}


@dataclass
class Body:
    """A finished body, plain and (made when first wanted) compressed."""

    plain: bytes
    _gzipped: bytes | None = None

    def gzipped(self, level: int) -> bytes:
        """As one gzip member."""
        if self._gzipped is None:
            packer = zlib.compressobj(level, zlib.DEFLATED, 31)  # 31: gzip framing
            self._gzipped = packer.compress(self.plain) + packer.flush()
        return self._gzipped

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.plain) + len(self._gzipped or b"")


class BodyCache:
    """The last bodies, by everything they depend on, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._bodies: OrderedDict[Hashable, Body] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], bytes]) -> Body:
        """The body for `key`, made by `make` when it is not here."""
        body = self._bodies.get(key)
        if body is not None:
            self._bodies.move_to_end(key)
            return body
        body = Body(make())
        self._bodies[key] = body
        # The compressed form comes later; reckoned in at a quarter so that the bound holds roughly.
        self._bytes += len(body.plain) * 5 // 4
        while self._bytes > self._limit_bytes and len(self._bodies) > 1:
            _, oldest = self._bodies.popitem(last=False)
            self._bytes -= len(oldest.plain) * 5 // 4
        return body


def render(value: Any, preferences: Preferences) -> bytes:
    """Compact JSON of `value` as these preferences want it; `value` is not changed."""
    written = orjson.dumps(value)
    if not _needs_work(written, preferences):
        return written
    return orjson.dumps(_prune(value, preferences))


def _needs_work(written: bytes, preferences: Preferences) -> bool:
    """Whether walking the document can change anything: the common case is that it cannot."""
    if preferences.no_metadata or (preferences.omit_nulls and b"null" in written):
        return True
    members = (member for hidden in HIDDEN_MEMBERS.values() for member in hidden)
    return not preferences.unknown_members and any(member.encode() in written for member in members)


def _prune(value: Any, preferences: Preferences) -> Any:
    if isinstance(value, list):
        return [_prune(item, preferences) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, item in value.items():
        if item is None and preferences.omit_nulls:
            continue
        if preferences.no_metadata and "@odata." in name and not name.endswith("@odata.nextLink"):
            continue
        if isinstance(item, dict | list):
            kept[name] = _prune(item, preferences)
        elif not preferences.unknown_members and name in HIDDEN_MEMBERS and item in HIDDEN_MEMBERS[name]:
            kept[name] = "unknownFutureValue"
        else:
            kept[name] = item
    return kept
