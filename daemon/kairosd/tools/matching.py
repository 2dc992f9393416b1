"""How the text of an edit is found in a file: exactly, or by the one reading that was obviously meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

from kairosd.frozen import frozen

NUMBERED = re.compile(r"^[ \t]*\d+\| ?", re.MULTILINE)
LINE = re.compile(r"[^\n]*\n|[^\n]+")
NEAR = 3  # nearest lines that an error shows
NEAR_CUTOFF = 0.3  # difflib's ratio below which a line is no help
LINES_COMPARED = 20_000
PLACES = 10  # line numbers that a message lists


@frozen
class Match:
    """The file as it will be, and how that came about."""

    text: str
    told: str


def appended(text: str, new: str) -> Match:
    """`new` as whole lines at the end of `text`, in the file's own kind of newline."""
    newline = "\r\n" if "\r\n" in text else "\n"
    plain = new.replace("\r\n", "\n")
    start = text
    if text and not text.endswith("\n"):
        start, plain = text + newline, plain.removeprefix("\n")
    added = (plain if plain.endswith("\n") else plain + "\n").replace("\n", newline)
    return Match(start + added, f"`old` was empty, so `new` was added at the end, from line {start.count(newline) + 1}")


def changed_lines(before: str, after: str) -> list[str]:
    """The lines of `after` that `before` does not have there, numbered as `read` does, with the line on either side."""
    old, new = before.splitlines(), after.splitlines()
    least = min(len(old), len(new))
    head = next((at for at in range(least) if old[at] != new[at]), least)
    tail = next((at for at in range(least - head) if old[-1 - at] != new[-1 - at]), least - head)
    first, last = max(0, head - 1), min(len(new), len(new) - tail + 1)
    return [f"{number}| {line}" for number, line in enumerate(new[first:last], start=first + 1)]


def places(text: str, old: str) -> list[int]:
    """The lines (from 1) on which `old` begins, at most ten."""
    found: list[int] = []
    at = text.find(old)
    while at >= 0 and len(found) < PLACES:
        found.append(text.count("\n", 0, at) + 1)
        at = text.find(old, at + max(1, len(old)))
    return found


def repaired(text: str, old: str, *, new: str) -> Match | None:
    """The change that was meant although `old` is not in `text` exactly; None unless there is exactly one."""
    for meant, put, told in _readings(text, old, new=new):
        if meant and text.count(meant) == 1:
            return Match(text.replace(meant, put), f"1 replaced, at line {places(text, meant)[0]} ({told})")
    return _by_lines(text, old, new=new)


def nearest(text: str, old: str) -> list[tuple[int, str]]:
    """The lines of `text` most like the first line of `old` that says something, with their numbers, in order."""
    wanted = next((line.strip() for line in NUMBERED.sub("", old).splitlines() if line.strip()), old.strip())
    lines = text.splitlines()[:LINES_COMPARED]
    scores = [
        (difflib.SequenceMatcher(None, wanted[:200], line.strip()[:200], autojunk=False), number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    # The upper bound is cheap and throws most lines out before the exact ratio is asked for.
    ranked = sorted(
        ((matcher.ratio(), number, line) for matcher, number, line in scores if matcher.quick_ratio() >= NEAR_CUTOFF),
        reverse=True,
    )
    best = [(number, line[:200]) for ratio, number, line in ranked if ratio >= NEAR_CUTOFF][:NEAR]
    return sorted(best) or [(number, line[:200]) for number, line in enumerate(lines[:NEAR], start=1)]


def _readings(text: str, old: str, *, new: str) -> Iterator[tuple[str, str, str]]:
    if NUMBERED.match(old):
        yield NUMBERED.sub("", old), NUMBERED.sub("", new), "line numbers taken out of `old`"
    if "\r\n" in text:
        yield _windows(old), _windows(new), "newlines made CRLF as in the file"
    if "\\n" in old and "\n" not in old:
        yield old.replace("\\n", "\n"), new.replace("\\n", "\n"), "\\n read as a newline"


def _windows(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")


def _by_lines(text: str, old: str, *, new: str) -> Match | None:
    """Whole lines compared without the white space at their ends; `new` takes over the file's indentation."""
    wanted = NUMBERED.sub("", old).strip("\n").split("\n")
    lines = LINE.findall(text)
    stripped = [line.strip() for line in lines]
    core = [line.strip() for line in wanted]
    if not any(core):
        return None
    size = len(core)
    starts = [at for at in range(len(lines) - size + 1) if stripped[at : at + size] == core]
    if len(starts) != 1:
        return None
    at = starts[0]
    shift = _shift(wanted, lines[at : at + size])
    if shift is None:
        return None
    newline = "\r\n" if lines[at].endswith("\r\n") else "\n"
    fresh = new.replace("\r\n", "\n").strip("\n")
    put = [_indented(line, shift) for line in NUMBERED.sub("", fresh).split("\n")] if fresh else []
    ending = newline if lines[at + size - 1].endswith("\n") else ""
    block = newline.join(put) + (ending if put else "")
    whole = "".join(lines[:at]) + block + "".join(lines[at + size :])
    return Match(whole, f"1 replaced, at line {at + 1} (white space of `old` did not match; the file's was kept)")


def _shift(wanted: list[str], found: list[str]) -> tuple[str, str] | None:
    """(taken off, put on) that turns the indentation of `wanted` into the file's; None when lines disagree."""
    shifts = set()
    for mine, theirs in zip(wanted, found, strict=True):
        if mine.strip():
            own, real = _indent(mine), _indent(theirs)
            if real.endswith(own):
                shifts.add(("", real[: len(real) - len(own)]))
            elif own.endswith(real):
                shifts.add((own[: len(own) - len(real)], ""))
            else:
                return None
    return shifts.pop() if len(shifts) == 1 else None


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _indented(line: str, shift: tuple[str, str]) -> str:
    off, on = shift
    return on + line.removeprefix(off) if line.strip() else line
