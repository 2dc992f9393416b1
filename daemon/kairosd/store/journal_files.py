"""Reading the journal: its files in order, their lines, and whether the chain holds. No daemon is needed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import IO, cast

from kairosd.core.journal import GENESIS, verify_line
from kairosd.core.json import Json
from kairosd.frozen import frozen

PLAIN, PACKED = ".jsonl", ".jsonl.gz"
PROGRESS_LINES = 2000  # lines between two reports of progress


@frozen
class JournalFile:
    """One day of the journal. `name` is relative to the journal folder and without `.gz`."""

    day: date
    path: Path
    name: str

    @property
    def packed(self) -> bool:
        return self.path.name.endswith(".gz")

    def open(self) -> IO[bytes]:
        return gzip.open(self.path, "rb") if self.packed else self.path.open("rb")  # type: ignore[return-value]


@frozen
class FileBreak:
    """The first line that does not verify. `line` counts from 1; `file` is the path as found."""

    file: Path
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}"


@frozen
class Verified:
    """What a walk over the journal saw up to its end or to the first break.

    `repairs` are starts that found the journal other than they had left it; `lost` counts lines that a repair declares
    to be gone.
    """

    files: int
    lines: int
    last: int
    head: str
    repairs: int
    lost: int
    problem: FileBreak | None


def journal_files(folder: Path) -> list[JournalFile]:
    """Every day's file, oldest first. A day that is there plain and packed counts once, plain."""
    found: dict[date, JournalFile] = {}
    for path in sorted(folder.glob("[0-9]*/[0-9]*/*.jsonl*"), key=lambda each: each.name, reverse=True):
        stem, _, rest = path.name.partition(".")
        if f".{rest}" not in (PLAIN, PACKED):
            continue
        try:
            day = date.fromisoformat(stem)
        except ValueError:
            continue  # somebody else's file: days are the only names of ours here
        # In reverse order of names the packed file comes first, so a plain one takes its place.
        found[day] = JournalFile(day, path, f"{path.parent.parent.name}/{path.parent.name}/{stem}{PLAIN}")
    return [found[day] for day in sorted(found)]


def read_lines(folder: Path, first: date | None = None, *, last: date | None = None) -> Iterator[Mapping[str, Json]]:
    """The lines from day `first` to day `last` (both included, None = no limit), oldest first.

    A line without its end, which the daemon is just writing or a crash tore, is left out.
    Raises `ValueError` for a line that is not JSON: `kairosd journal verify` names it.
    """
    for file in journal_files(folder):
        if (first is None or file.day >= first) and (last is None or file.day <= last):
            with file.open() as lines:
                for line in lines:
                    if line.endswith(b"\n"):
                        yield cast("Mapping[str, Json]", json.loads(line))


def verify(folder: Path, progress: Callable[[Path, int], None] | None = None) -> Verified:
    """Checks every line of every file: its form, its hash, its number, and that it follows the line before it.

    `progress` is told the file and the count of lines now and then. Raises `OSError` when a file cannot be read.
    """
    walk = _Walk()
    files = journal_files(folder)
    for file in files:
        problem = walk.through(file, progress)
        if problem is not None:
            return walk.result(len(files), problem)
    return walk.result(len(files), None)


class _Walk:
    def __init__(self) -> None:
        self.previous = GENESIS
        self.sequence = 0
        self.lines = 0
        self.repairs = 0
        self.lost = 0

    def result(self, files: int, problem: FileBreak | None) -> Verified:
        return Verified(files, self.lines, self.sequence, self.previous, self.repairs, self.lost, problem)

    def through(self, file: JournalFile, progress: Callable[[Path, int], None] | None) -> FileBreak | None:
        number = 0
        try:
            with file.open() as lines:
                for number, raw in enumerate(lines, start=1):
                    problem = self._line(raw)
                    if problem is not None:
                        return FileBreak(file.path, number, problem)
                    if progress is not None and self.lines % PROGRESS_LINES == 0:
                        progress(file.path, self.lines)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            return FileBreak(file.path, number + 1, f"cannot be unpacked: {error}")
        return None

    def _line(self, raw: bytes) -> str | None:
        if not raw.endswith(b"\n"):
            return "has no end: it was torn off, and the next start of the daemon repairs it"
        try:
            text = raw[:-1].decode("utf-8")
        except UnicodeDecodeError:
            return "not UTF-8"
        checked = verify_line(text, self.previous, sequence=None)
        if isinstance(checked, str):
            return checked
        found, sequence = checked
        if '"kind":"repair"' in text:
            self.repairs += 1
        if sequence != self.sequence + 1:
            gap = _declared_gap(text)
            if gap != (self.sequence + 1, sequence - 1):
                return f"number {sequence} where {self.sequence + 1} was expected"
            self.lost += sequence - 1 - self.sequence
        self.previous, self.sequence = found, sequence
        self.lines += 1
        return None


def _declared_gap(text: str) -> tuple[object, object] | None:
    """The numbers a repair line declares to be lost: the one thing that may stand in for a missing line."""
    line = json.loads(text)
    lost = line["data"].get("lost") if line.get("kind") == "repair" and isinstance(line.get("data"), dict) else None
    return (lost.get("first"), lost.get("last")) if isinstance(lost, dict) else None
