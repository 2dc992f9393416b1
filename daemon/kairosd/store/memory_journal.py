"""The journal as a dream reads it: by number, from its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import islice
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
            for line in _later(file, sequence):
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


def _later(file: JournalFile, sequence: int) -> Iterator[Line]:
    """The lines after number `sequence`. Those before are counted and not read, where none of them was ever lost."""
    first = next(_lines(file), None)
    before = 0 if first is None else max(0, sequence - _number(first) + 1)
    last = next(_lines(file, skip=before - 1), None) if before else None
    whole = last is not None and _number(last) == sequence
    return (line for line in _lines(file, skip=before if whole else 0) if _number(line) > sequence)


def _lines(file: JournalFile, *, skip: int = 0) -> Iterator[Line]:
    """Whole lines only: the last one may just be written. The first `skip` ones are passed over unread."""
    try:
        with file.open() as lines:
            for line in islice(lines, skip, None):
                if line.endswith(b"\n"):
                    yield json.loads(line)
    except (OSError, EOFError, ValueError) as error:
        raise StoreError(f"{file.path} cannot be read: {error}", fix="kairos journal verify") from error


def _number(line: Line) -> int:
    number = line.get("seq")
    return number if isinstance(number, int) else 0
