"""The file that is being fetched: its bytes so far, and what must be known to go on with it after a restart."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from kairosd.core.json import Json, JsonObject
from kairosd.frozen import frozen


class SourceError(Exception):
    """A source did not give everything. `final`: asking it again cannot help."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@frozen
class Progress:
    """Bytes on disk of `total` (None = not known yet)."""

    done: int
    total: int | None


class Partial:
    """`TARGET.part` with its notes in `TARGET.part.json`; nobody else may read either."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = Path(f"{target}.part")
        self._notes = Path(f"{target}.part.json")

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def open_at(self, offset: int) -> BinaryIO:
        """The file, cut at `offset`, ready to be appended to."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        file = os.fdopen(descriptor, "r+b")
        file.truncate(offset)
        file.seek(offset)
        return file

    def notes(self, source: str) -> JsonObject:
        """What `source` noted; empty when the bytes came from another one."""
        try:
            found = json.loads(self._notes.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) and found.get("source") == source else {}

    def note(self, source: str, **notes: Json) -> None:
        """Keeps what `source` needs to go on."""
        fresh = Path(f"{self._notes}.new")
        fresh.write_text(json.dumps({"source": source, **notes}), encoding="utf-8")
        fresh.replace(self._notes)

    def remove(self) -> None:
        """Gives up what has arrived."""
        self.path.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def install(self) -> None:
        """Gives the checked file its name, durably."""
        with self.path.open("rb") as file:
            os.fchmod(file.fileno(), 0o600)
            os.fsync(file.fileno())
        self.path.replace(self.target)
        self._notes.unlink(missing_ok=True)
        folder = os.open(self.target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
