"""`kairos cost`: what model calls took, as a small bar chart; what has no known price is shown in tokens."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from kairos_cli import calibration, moments
from kairos_cli.client import Client
from kairos_cli.listing import count, since
from kairos_cli.render import Row, money, print_json, short
from kairos_cli.terminal import one_line, paint, say, width
from kairosd.wire import EXIT_OK, Home

BY = ("day", "trigger", "workspace", "run", "model")
DAYS = 30  # shown without `--since`
NARROW, WIDE = 80, 100  # columns where stdout is no terminal; those that a row takes at most
BAR_LEAST, BAR_MOST = 8, 40
NAME_MOST = 40
NAMELESS = {"run": "(no run)", "workspace": "(none)"}


def add(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.description = "What model calls took. Cached tokens are those that a provider read from its own cache."
    views = parser.add_mutually_exclusive_group()
    views.add_argument("--by", choices=BY, default="day", help="what it is summed up by (default day)")
    views.add_argument("--calibration", action="store_true", help="what each trigger came to, by your ratings")
    parser.add_argument(
        "--since", metavar="WHEN", type=since, help=f"2h, 3d, today, yesterday or an ISO time (default {DAYS}d)"
    )
    parser.add_argument("--limit", metavar="N", type=count, default=100, help="at most N rows (default 100)")
    parser.add_argument("--json", action="store_true", help="a JSON array: days newest first, else dearest first")


def run(arguments: argparse.Namespace, place: Home) -> int:
    """Prints what was spent."""
    start = arguments.since or moments.now() - timedelta(days=DAYS)
    if arguments.calibration:
        return _calibrate(Client(place), start, as_json=arguments.json)
    query = {"by": arguments.by, "since": start.isoformat(), "limit": arguments.limit}
    found = Client(place).get("costs", query=query)
    if arguments.json:
        print_json(found)
    elif found:
        _chart(arguments.by, found)
    else:
        say(f"No model was asked since {moments.local(start.isoformat(), moments.now())}.")
    return EXIT_OK


def _calibrate(client: Client, start: datetime, *, as_json: bool) -> int:
    found = client.get("calibration", query={"since": start.isoformat()})
    if as_json:
        print_json(found)
    elif found:
        calibration.show(found)
    else:
        say(f"Nothing was decided since {moments.local(start.isoformat(), moments.now())}.")
    return EXIT_OK


def _chart(by: str, rows: Sequence[Row]) -> None:
    # Where no price is known at all, the bars compare tokens.
    measured: Callable[[Row], int] = _price if any(_price(row) for row in rows) else _tokens
    names = [_name(by, row) for row in rows]
    cells = [[_money(row), f"{_number(row, 'calls'):,}", f"{_tokens(row):,}", _cached(row)] for row in rows]
    headings = ["price", "calls", "tokens", "cached"]
    wide = [max(len(line[at]) for line in [headings, *cells]) for at in range(len(headings))]
    first = max(len(name) for name in [by, *names])
    rest = min(width() or NARROW, WIDE) - first - sum(wide) - 2 * len(headings) - 2
    bar = max(BAR_LEAST, min(BAR_MOST, rest))
    most = max((measured(row) for row in rows), default=0)
    say(paint(_line(by.ljust(first), headings, wide=wide), "bold"))
    for name, line, row in zip(names, cells, rows, strict=True):
        say(f"{_line(name.ljust(first), line, wide=wide)}  {_bar(measured(row), most, room=bar)}".rstrip())
    say(_sum(rows))


def _line(name: str, cells: Sequence[str], *, wide: Sequence[int]) -> str:
    return "  ".join([name, *(cell.rjust(columns) for cell, columns in zip(cells, wide, strict=True))])


def _bar(value: int, most: int, *, room: int) -> str:
    """Rounded up, so that whatever cost something is seen."""
    return "#" * (-(-value * room // most)) if most else ""


def _sum(rows: Sequence[Row]) -> str:
    unpriced, tokens = (sum(_number(row, f"unpriced_{name}") for row in rows) for name in ("calls", "tokens"))
    total = f"together {money(sum(map(_price, rows)))}, {sum(map(_tokens, rows)):,} tokens"
    calls = "call" if unpriced == 1 else "calls"
    return f"{total}; price unknown of {unpriced:,} {calls}, {tokens:,} tokens" if unpriced else total


def _name(by: str, row: Row) -> str:
    key, label = one_line(row.get(by)), one_line(row.get("label"))
    text = f"{short(key)} {label}".strip() if by == "run" else key
    text = text or NAMELESS.get(by, "unknown")
    return text if len(text) <= NAME_MOST else f"{text[: NAME_MOST - 1]}…"


def _money(row: Row) -> str:
    """A sum that is not whole is marked: what has no known price comes on top of it."""
    if row.get("price") is None:
        return "price unknown"
    return f"{money(row.get('price'))}{' + unknown' if _number(row, 'unpriced_calls') else ''}"


def _cached(row: Row) -> str:
    return f"{_number(row, 'cache_read'):,}"


def _price(row: Row) -> int:
    return _number(row, "price")


def _tokens(row: Row) -> int:
    """What the provider counted, and what was reserved where it counted nothing."""
    return _number(row, "tokens") or _number(row, "unpriced_tokens")


def _number(row: Row, name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0
