"""Standard output that says in one sentence when it cannot be written: a full disk, a device that is gone.

An `OSError` out of a `print` would be taken by whoever expects one of a socket or of a folder of its own, and blamed on
that; so it leaves the stream as a `UserError`. A reader who has seen enough (`head`) is `ReaderGone`, which click and
rich, unlike a `BrokenPipeError`, do not make an exit code 1 of.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from service.errors import UserError


class OutputLost(UserError):
    """Nothing can be printed any more."""

    def __init__(self, why: OSError) -> None:
        super().__init__(f"Standard output cannot be written: {why.strerror or why}.", exit_code=1)


class ReaderGone(Exception):
    """Whoever read standard output has seen enough."""


@contextmanager
def guarded_stdout() -> Iterator[None]:
    """While the block lasts, writing to `sys.stdout` raises `OutputLost` or `ReaderGone`, never `OSError`.

    A block that ends has its output flushed, so that what is still in a buffer is not lost without a word. One that
    ends with an error has it flushed as far as that can be done.
    """
    plain = sys.stdout
    if not isinstance(plain, io.TextIOWrapper) or plain is not sys.__stdout__:
        yield  # closed from the start, or somebody else's who looks after it
        return
    raw = _Guarded(plain.fileno(), "wb", closefd=False)
    unbuffered = isinstance(plain.buffer, io.RawIOBase)  # `python -u`
    guarded = io.TextIOWrapper(
        cast("BinaryIO", raw) if unbuffered else io.BufferedWriter(raw),
        encoding=plain.encoding,
        errors=plain.errors,
        line_buffering=plain.line_buffering,
        write_through=plain.write_through,
    )
    sys.stdout = guarded
    try:
        yield
        guarded.flush()
    finally:
        sys.stdout = plain
        try:
            guarded.close()
        except (OutputLost, ReaderGone):
            discard_output()
            guarded.close()


def discard_output() -> None:
    """What is still to be printed goes nowhere, what Python flushes at its exit too."""
    if sys.__stdout__ is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())


class _Guarded(io.FileIO):
    def write(self, data: Any, /) -> int:
        """As of any file. Raises `OutputLost` and `ReaderGone`."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise ReaderGone from None
        except OSError as error:
            raise OutputLost(error) from None
