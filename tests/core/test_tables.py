"""Tables of commands: whole lines for a pipe, further lines on a narrow terminal, and never a cut cell."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from service.cli.table import show_table, table_lines

HEADS = ("number", "tenant", "call", "reason", "state")
RIGHT = frozenset({"number"})
ROWS = (
    ("7", "contoso", "a1f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33", "unavailable", "open"),
    ("12345678", "fabrikam", "b2f3c7d2-0b64-4a0e-9d0f-6b5c1f0e7a33", "not_a_call_record", "set aside again"),
)


def printed(width: int, *, terminal: bool) -> list[str]:
    """What a console shows; plain text."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None)
    show_table(console, HEADS, ROWS, RIGHT)
    return out.getvalue().splitlines()


def test_a_pipe_gets_whole_lines_however_narrow_it_claims_to_be() -> None:
    """One line for a row; what is to be counted stands at the right."""
    lines = printed(20, terminal=False)

    assert [line.split() for line in lines[:2]] == [[*HEADS], [*ROWS[0]]]
    assert len(lines) == 3
    assert lines[1].startswith("       7  contoso ")
    assert lines[2].endswith("not_a_call_record  set aside again")


def test_a_narrow_terminal_gets_the_last_columns_on_a_further_line() -> None:
    """Number and id stand in front, whole; nothing is lost, the heads are folded in the same way."""
    lines = printed(80, terminal=True)

    assert all(len(line) <= 80 for line in lines)
    assert [line.split() for line in lines[:4]] == [
        ["number", "tenant", "call", "reason"],
        ["state"],
        [*ROWS[0][:4]],
        ["open"],
    ]
    assert lines[-1] == "  set aside again"


@given(
    rows=st.lists(st.tuples(*[st.text("abc\u5b57", max_size=60)] * 5), max_size=5),
    width=st.none() | st.integers(min_value=1, max_value=300),
)
def test_no_cell_is_ever_cut(rows: list[tuple[str, ...]], width: int | None) -> None:
    """Whatever the width: every cell stands whole, in the order of its row."""
    shown = list(table_lines(HEADS, rows, RIGHT, width))

    assert len(shown) == len(rows) + 1
    for row, lines in zip(rows, shown[1:], strict=True):
        assert "".join(lines).replace(" ", "") == "".join(row)
