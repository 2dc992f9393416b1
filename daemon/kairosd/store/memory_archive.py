"""The archive: the oldest history, moved out of the generations so that none has to carry it.

Each generation is a whole copy, and history only grows: kept within them it would be read with every prompt and written
with every dream. It is in the archive before a generation leaves it out, so a crash leaves some of it in both places,
never in none. After an undo it may tell of what is active again: what a generation says of an entry goes before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kairosd.core.json import canonical
from kairosd.core.memory import Past
from kairosd.core.memory_index import read_history
from kairosd.errors import StoreError
from kairosd.store.memory_files import replace_file

HISTORY_MOST = 50  # of a generation's history; with more than twice as much it is cut down to that


class Archive:
    """One file. Whoever writes holds memory's lock."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "archive.jsonl"

    def read(self) -> tuple[Past, ...]:
        """All of it, oldest first."""
        try:
            return read_history(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"memory: {self._path} is damaged", fix="take its last line out") from error

    def add(self, gone: Iterable[Past]) -> None:
        """Adds what is not there yet."""
        known = self.read()
        if fresh := without(tuple(gone), known):
            self._write((*known, *fresh))

    def forget(self, name: str) -> None:
        """Takes an entry out; its tombstone is in every generation."""
        known = self.read()
        left = [one for one in known if one.id != name]
        if len(left) < len(known):
            self._write(left)

    def _write(self, past: Iterable[Past]) -> None:
        replace_file(self._path, "".join(f"{canonical(one.record())}\n" for one in past))


def spared(history: Sequence[Past]) -> tuple[Past, ...]:
    """The oldest of `history` that go to the archive; empty while it is short. Tombstones stay: dreams need them."""
    told = [one for one in history if one.entry is not None]
    return tuple(told[:-HISTORY_MOST]) if len(told) > 2 * HISTORY_MOST else ()


def without(history: Sequence[Past], gone: Iterable[Past]) -> tuple[Past, ...]:
    """`history` but for those."""
    left_out = frozenset(gone)
    return tuple(one for one in history if one not in left_out)
