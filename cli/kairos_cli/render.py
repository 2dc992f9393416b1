"""Rows, prices and whole things as people read them. Everything that came from outside is cleaned here."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from kairos_cli.moments import local
from kairos_cli.terminal import clean, one_line, paint, say, width

Row = Mapping[str, object]
Cell = Callable[[Row], object]

SHORT_ID = 14  # the kind, ten characters of time and two of chance: unique in all but a burst of one millisecond
STYLES = {
    "ready": "green", "done": "green", "delivered": "green", "approved": "green", "used": "green", "act": "green",
    "done_unchecked": "green", "running": "cyan", "queued": "cyan", "pending": "cyan", "claimed": "cyan",
    "starting": "cyan", "parked": "yellow", "open": "yellow", "paused": "yellow", "degraded": "yellow",
    "notify": "yellow", "deferred": "yellow", "interrupted": "yellow", "missing": "red", "dead": "red",
    "failed": "red", "cancelled": "red", "over_budget": "red", "unusable": "red", "stopping": "yellow",
    "ended": "green", "stopped": "yellow", "lost": "red",
}  # fmt: skip


def money(micro: object) -> str:
    """Micro-dollars as people read them: `free`, `unknown`, `$0.0123`."""
    if isinstance(micro, bool) or not isinstance(micro, int):
        return "unknown"
    if micro == 0:
        return "free"
    digits = 2 if micro >= 10_000_000 else 4 if micro >= 100 else 6
    return f"${micro / 1_000_000:.{digits}f}"


def size(count: object) -> str:
    """Bytes as people read them."""
    amount = float(count) if isinstance(count, int) else 0.0
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def short(identifier: object) -> str:
    """The start of an id: enough to name it."""
    return one_line(identifier)[:SHORT_ID]


def state(word: object) -> str:
    """A state in its colour."""
    text = one_line(word)
    return paint(text, STYLES.get(text, ""))


def task_words(row: Row) -> str:
    """A command in the background: how it stands, and where its output is or will be."""
    code = f" exit {one_line(row.get('code'))}" if row.get("code") is not None else ""
    took = f" after {one_line(row.get('seconds'))} s" if row.get("ended") else ""
    head = f"{state(row.get('state'))}{code}{took} {short(row.get('id'))}"
    return f"{head} {one_line(row.get('command'))[:60]}  → {one_line(row.get('output'))}"


def print_json(value: object) -> None:
    """Prints JSON. As ASCII, so that no character in it can act on a terminal."""
    say(json.dumps(value, ensure_ascii=True, indent=2))


def table(columns: Sequence[tuple[str, Cell]], rows: Sequence[Row]) -> None:
    """Prints rows under headings; on a terminal the last column is cut to fit, elsewhere nothing is."""
    cells = [[one_line(cell(row)) for _, cell in columns] for row in rows]
    headings = [heading for heading, _ in columns]
    wide = [max(_columns(line[i]) for line in [headings, *cells]) for i in range(len(columns) - 1)]
    room = width()
    rest = None if room is None else max(10, room - sum(wide) - 2 * len(wide))
    say(paint(_aligned(headings, wide, rest=rest), "bold"))
    for line in cells:
        say(_aligned(line, wide, rest=rest, styles=True))


def fields(row: Row, at: datetime, *, skip: Sequence[str] = ()) -> None:
    """Prints one thing whole: a line a field, longer texts and objects below their name."""
    shown = [(name, value) for name, value in row.items() if name not in skip and not _is_empty(value)]
    longest = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        text = _whole(name, value, at=at)
        if "\n" in text:
            say(f"{paint(one_line(name), 'bold')}:")
            say("\n".join(f"  {line}" for line in text.splitlines()))
        else:
            say(f"{paint(one_line(name).ljust(longest), 'bold')}  {paint(text, STYLES.get(text, ''))}")


def diff(text: str) -> None:
    """Prints a diff, coloured where colours are wanted."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in clean(text).splitlines():
        head = line.startswith(("+++", "---", "diff ", "index "))
        say(paint(line, "bold" if head else styles.get(line[:1], "")))


def _whole(name: str, value: object, *, at: datetime) -> str:
    if name == "price":
        return money(value)
    if isinstance(value, str):
        return clean(local(value, at) or value) if _is_moment(value) else clean(value).strip()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return one_line(", ".join(value))
    if isinstance(value, (Mapping, list)):
        return clean(json.dumps(value, ensure_ascii=False, indent=2))
    return one_line(value)


def _is_moment(text: str) -> bool:
    return 19 <= len(text) <= 35 and text[4:5] == "-" and text[10:11] == "T" and text[:4].isdigit()


def _is_empty(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, (list, Mapping)) and not value)


def _aligned(line: Sequence[str], wide: Sequence[int], *, rest: int | None, styles: bool = False) -> str:
    padded = []
    for text, columns in zip(line, wide, strict=False):
        styled = paint(text, STYLES.get(text, "")) if styles else text
        padded.append(styled + " " * (columns - _columns(text)))
    return "  ".join([*padded, _cut(line[-1], rest)]).rstrip()


def _cut(text: str, room: int | None) -> str:
    if room is None or _columns(text) <= room:
        return text
    kept = text
    while _columns(kept) > room - 1:
        kept = kept[:-1]
    return f"{kept}…"


def _columns(text: str) -> int:
    """How many columns of a terminal `text` takes: East Asian wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )
