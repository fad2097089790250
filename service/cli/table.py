"""Rows under column heads as plain lines, of which nothing is ever cut.

Elsewhere than on a terminal a row is one line, however wide: what reads it is a pipe, a file or a ticket. On a terminal
columns that do not fit go to further lines of the same row, the rightmost first. rich's own tables would shrink columns
instead, and a number or an id that lost letters cannot be given to the next command.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

GAP = "  "
# A cell that is longer moves its own line's rest, not everybody's.
WIDEST = 40


def show_table(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str]) -> None:
    """Prints heads and rows as `table_lines` folds them for this console."""
    for number, line in enumerate(table_lines(heads, rows, right, console.width if console.is_terminal else None)):
        console.print(Text("\n".join(line), style="" if number else "bold"), soft_wrap=True)


def table_lines(
    heads: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[str], width: int | None
) -> Iterator[list[str]]:
    """The lines of the heads, then those of each row. `right`: heads of columns that stand at the right; `width`: of
    the terminal, None where there is none."""
    every = [heads, *rows]
    widths = [min(WIDEST, max(cell_len(row[place]) for row in every)) for place in range(len(heads))]
    groups = _groups(widths, width)
    for row in every:
        cells = [
            " " * (widths[place] - cell_len(cell)) + cell if heads[place] in right else _padded(cell, widths[place])
            for place, cell in enumerate(row)
        ]
        yield [_line(cells, group) for group in groups]


def _groups(widths: Sequence[int], width: int | None) -> list[range]:
    """Which columns stand side by side: as many as fit; further lines are a gap to the right of the first."""
    groups, begin = [], 0
    while begin < len(widths):
        room = len(widths) if width is None else _fitting(widths[begin:], width - (len(GAP) if begin else 0))
        groups.append(range(begin, min(len(widths), begin + room)))
        begin += room
    return groups


def _fitting(widths: Sequence[int], width: int) -> int:
    """How many of these columns fit; one at least, which the terminal then wraps."""
    ends = accumulate(one + len(GAP) for one in widths)
    return max(1, sum(end - len(GAP) <= width for end in ends))


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


def _line(cells: Sequence[str], group: range) -> str:
    indent = GAP if group.start else ""
    return (indent + GAP.join(cells[place] for place in group)).rstrip()
