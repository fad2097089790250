"""Which of the inputs that a run has found are worth committing: the smallest that reach something new.

libFuzzer's own merge starts its program anew, by a name that a script of Python does not have. Branches are seen by
tracing, slowly, and without atheris.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.fuzz.tally import Tally
from tests.fuzz.targets import Target

Branch = tuple[CodeType, int, int]


def worth_keeping(target: Target, known: Iterable[Path], found: Iterable[Path], most_bytes: int) -> list[Path]:
    """Of `found`, smallest first, those that reach a branch that neither `known` nor a smaller one does."""
    reached: set[Branch] = set()
    for file in known:
        reached |= branches(target, file.read_bytes())
    kept, room = [], most_bytes
    for file in sorted(found, key=lambda file: (file.stat().st_size, file.name)):
        new = branches(target, file.read_bytes()) - reached
        if new and file.stat().st_size <= room:
            kept.append(file)
            reached |= new
            room -= file.stat().st_size
    return kept


def branches(target: Target, data: bytes) -> set[Branch]:
    """Every step from line to line that the input takes in the program."""
    found: set[Branch] = set()

    def enter(frame: FrameType, _: str, __: Any) -> Any:
        code, last = frame.f_code, frame.f_lineno
        if "/service/" not in code.co_filename:
            return None

        def step(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal last
            if event == "line":
                found.add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return step

        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        target.run(data, Tally())
    finally:
        sys.settrace(before)
    return found
