"""What outlives the emulator's process: a file to which everything is appended that Graph would not forget.

Call records in all their versions, those that are still to come, subscriptions, and which announcements are settled.
What a process never wrote nobody has seen: a frame is handed to the system before anybody is answered. A frame that
was cut short by a kill is cut off at the next start. Tokens and counted requests are not kept; an unknown token is a
401, after which a client asks for a new one.

A frame: length of its head and of its body (4 bytes each, big endian), the head as JSON, the body as it is.
"""

import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from service.errors import UserError

MARK = b"callstream emulator state 1\n"
_LENGTHS = struct.Struct(">II")

Head = dict[str, Any]


class State(Protocol):
    """Where facts go, in the order in which they happen."""

    def append(self, kind: str, head: Head, body: bytes = b"") -> None:
        """`head` is JSON; `body` a packed document, or nothing."""


class NoState:
    """Everything ends with the process."""

    def append(self, kind: str, head: Head, body: bytes = b"") -> None:
        """Forgets it."""


class StateFile:
    """A file that belongs to one emulator at a time."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the file; `UserError` when it is another emulator's, no such file, or not to be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as exc:
            raise UserError(f"The state file {path} cannot be opened: {exc.strerror}.", exit_code=1) from None
        try:
            self._claim(path)
        except BaseException:
            self._file.close()
            raise

    def _claim(self, path: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"The state file {path} is in use by another emulator.", exit_code=1) from None
        self._file.seek(0)
        begin = self._file.read(len(MARK)) or b""
        if not MARK.startswith(begin):
            raise UserError(f"{path} holds something else than an emulator's state: name another file.", exit_code=1)
        if begin != MARK:
            self._file.truncate(0)
            self._write(MARK)

    def append(self, kind: str, head: Head, body: bytes = b"") -> None:
        """One frame. Raises OSError when the disk takes no more."""
        self._write(frame(kind, head, body))

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._file.fileno(), rest) :]

    def frames(self) -> Iterator[tuple[Head, bytes]]:
        """Every whole frame from the beginning; what is left of a cut one is removed."""
        end = len(MARK)
        # A second, buffered, reader of the same file: heads are small, and there are many.
        with os.fdopen(os.dup(self._file.fileno()), "rb") as reader:
            for behind, head, body in read_frames(reader, end):
                yield head, body
                end = behind
        self._file.truncate(end)

    def close(self) -> None:
        """Gives the file up."""
        self._file.close()


def frame(kind: str, head: Head, body: bytes = b"") -> bytes:
    """The bytes of one frame."""
    told = orjson.dumps({"kind": kind, **head})
    return _LENGTHS.pack(len(told), len(body)) + told + body


def read_frames(file: BinaryIO, offset: int) -> Iterator[tuple[int, Head, bytes]]:
    """Whole frames from `offset` on, each with the offset behind it; stops before one that is not there as a whole."""
    file.seek(offset)
    while len(lengths := file.read(_LENGTHS.size)) == _LENGTHS.size:
        head_length, body_length = _LENGTHS.unpack(lengths)
        content = file.read(head_length + body_length)
        if len(content) < head_length + body_length:
            return
        offset += _LENGTHS.size + len(content)
        yield offset, orjson.loads(content[:head_length]), content[head_length:]
