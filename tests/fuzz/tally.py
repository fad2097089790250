"""What a target counts, kept in a file: libFuzzer ends its process without running any clean-up of Python's."""

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path

_NUMBER = struct.Struct("<Q")
NAMES: Sequence[str] = ("runs", "items", "admitted", "forged", "forged_admitted", "records", "events", "links")


class Tally:
    """Counters by name; in memory alone without a file."""

    def __init__(self, file: Path | None = None) -> None:
        size = len(NAMES) * _NUMBER.size
        if file is None:
            self._store: mmap.mmap | bytearray = bytearray(size)
            return
        file.write_bytes(bytes(size))
        with file.open("r+b") as opened:
            self._store = mmap.mmap(opened.fileno(), size)

    def add(self, name: str, count: int = 1) -> None:
        """Counts; KeyError for a name that is not in `NAMES`."""
        place = _PLACES[name]
        _NUMBER.pack_into(self._store, place, _NUMBER.unpack_from(self._store, place)[0] + count)


_PLACES = {name: number * _NUMBER.size for number, name in enumerate(NAMES)}


def read(file: Path) -> dict[str, int]:
    """The counters of a run that has ended, those that are not 0."""
    stored = file.read_bytes()
    found = {name: _NUMBER.unpack_from(stored, place)[0] for name, place in _PLACES.items()}
    return {name: count for name, count in found.items() if count}
