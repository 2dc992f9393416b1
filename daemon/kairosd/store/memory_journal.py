"""The journal as a dream reads it: by number, from its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from kairosd.core.json import Json
from kairosd.errors import StoreError
from kairosd.store.journal_files import JournalFile, journal_files

Line = Mapping[str, Json]


class JournalReader:
    """Implements `ports.JournalLines` on the journal's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def after(self, sequence: int, *, limit: int) -> Sequence[Line]:
        found: list[Line] = []
        for file in self._from(sequence + 1):
            for line in _lines(file):
                if _number(line) > sequence:
                    found.append(line)
                    if len(found) == limit:
                        return found
        return found

    def lines(self, sequences: Sequence[int]) -> Sequence[Line]:
        wanted = set(sequences)
        found: list[Line] = []
        for file in self._from(min(wanted, default=0)) if wanted else []:
            found += [line for line in _lines(file) if _number(line) in wanted]
            if len(found) == len(wanted):
                break
        return found

    def of_day(self, day: date) -> Sequence[Line]:
        return [line for file in journal_files(self._folder) if file.day == day for line in _lines(file)]

    def _from(self, sequence: int) -> list[JournalFile]:
        """The files that hold the line of that number and later ones, oldest first."""
        files = journal_files(self._folder)
        begin = len(files)
        while begin > 0:
            begin -= 1
            first = next(_lines(files[begin]), None)
            if first is not None and _number(first) <= sequence:
                break
        return files[begin:]


def _lines(file: JournalFile) -> Iterator[Line]:
    """Whole lines only: the last one may just be written."""
    try:
        with file.open() as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield json.loads(line)
    except (OSError, EOFError, ValueError) as error:
        raise StoreError(f"{file.path} cannot be read: {error}", fix="kairos journal verify") from error


def _number(line: Line) -> int:
    number = line.get("seq")
    return number if isinstance(number, int) else 0
