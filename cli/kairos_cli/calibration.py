"""What each trigger came to, as a small chart: what was useful, what was noise, what was missed."""

from __future__ import annotations

from collections.abc import Sequence

from kairos_cli.render import Row, money
from kairos_cli.terminal import one_line, paint, say, width

COUNTS = ("decisions", "acted", "notified", "useful", "noise", "missed", "unrated")
MARKS = (("useful", "#"), ("noise", "-"), ("missed", "!"), ("unrated", "."))
NARROW, WIDE = 100, 120  # columns where stdout is no terminal; those that a row takes at most
BAR_LEAST, BAR_MOST = 6, 30


def show(rows: Sequence[Row]) -> None:
    """Prints the rows under headings, each with its bar."""
    headings = ["trigger", *COUNTS, "per useful"]
    cells = [[one_line(row.get("trigger")), *(str(_number(row, name)) for name in COUNTS), _price(row)] for row in rows]
    wide = [max(len(line[at]) for line in [headings, *cells]) for at in range(len(headings))]
    rest = min(width() or NARROW, WIDE) - sum(wide) - 2 * len(wide)
    room = max(BAR_LEAST, min(BAR_MOST, rest))
    most = max((sum(_number(row, name) for name, _ in MARKS) for row in rows), default=0)
    say(paint(_line(headings, wide), "bold"))
    for line, row in zip(cells, rows, strict=True):
        say(f"{_line(line, wide)}  {_bar(row, most, room=room)}".rstrip())
    say(f"bars: {', '.join(f'{mark} {name}' for name, mark in MARKS)}")


def _line(cells: Sequence[str], wide: Sequence[int]) -> str:
    first = cells[0].ljust(wide[0])
    return "  ".join([first, *(cell.rjust(columns) for cell, columns in zip(cells[1:], wide[1:], strict=True))])


def _bar(row: Row, most: int, *, room: int) -> str:
    """One mark a thing where they fit; else each kind by its share, rounded up, so that none is hidden."""
    scale = 1.0 if most <= room else (room - len(MARKS)) / most
    return "".join(mark * _scaled(_number(row, name), scale) for name, mark in MARKS)


def _scaled(count: int, scale: float) -> int:
    return max(1, int(count * scale)) if count else 0


def _price(row: Row) -> str:
    if row.get("price_per_useful") is not None:
        return money(row.get("price_per_useful"))
    return "unknown" if _number(row, "useful") else "-"


def _number(row: Row, name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0
