"""The journal's files, read without the daemon: one a day, plain or packed."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

from kairos_cli.client import Failure

Line = Mapping[str, object]
POLL_SECONDS = 0.5


class Daybook:
    """The days of one journal folder (design §5: `YYYY/MM/YYYY-MM-DD.jsonl`, old ones `.jsonl.gz`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def days(self) -> list[date]:
        """The days that have a file, oldest first."""
        found: set[date] = set()
        for path in self._folder.glob("[0-9]*/[0-9]*/*.jsonl*"):
            try:
                found.add(date.fromisoformat(path.name[:10]))
            except ValueError:  # not a day's file, whoever put it there
                continue
        return sorted(found)

    def lines(self, day: date) -> list[Line]:
        """The whole lines of a day; empty where there are none. Raises `Failure` when the file cannot be read."""
        return [_parsed(raw) for raw in self._read(day, 0).splitlines()]

    def follow(self, day: date) -> Iterator[Line]:
        """The lines of `day` and then those still to come, over the change of days; ends only when interrupted."""
        offset = 0
        while True:
            later = next((one for one in self.days() if one > day), None)
            # Looked for before reading: a later day means that nothing more comes into this one.
            piece = self._read(day, offset)
            offset += len(piece)
            yield from (_parsed(raw) for raw in piece.splitlines())
            if later is not None:
                day, offset = later, 0
            elif not piece:
                time.sleep(POLL_SECONDS)

    def _read(self, day: date, offset: int) -> bytes:
        """What a day has from `offset` on, up to its last whole line: the end may be half written."""
        plain = self._folder / f"{day:%Y/%m/%Y-%m-%d}.jsonl"
        packed = plain.with_name(f"{plain.name}.gz")
        try:
            if plain.exists():
                with plain.open("rb") as file:
                    file.seek(offset)
                    content = file.read()
            elif packed.exists():
                with gzip.open(packed, "rb") as unpacked:
                    content = unpacked.read()[offset:]
            else:
                return b""
        except (OSError, EOFError) as error:
            raise Failure(f"the journal of {day} cannot be read: {error}", fix="kairos journal verify") from error
        return content[: content.rfind(b"\n") + 1]


def _parsed(raw: bytes) -> Line:
    try:
        line = json.loads(raw)
    except ValueError:
        line = None
    if isinstance(line, dict):
        return line
    return {
        "kind": "unreadable",
        "data": {"line": raw.decode("utf-8", "replace")[:200]},
    }
