"""The archive: the oldest history, moved out of the generations so that none has to carry it.

Each generation is a whole copy, and history only grows: kept within them it would be read with every prompt and written
with every dream. It is in the archive before a generation leaves it out, so a crash leaves some of it in both places,
never in none. A generation's manifest names its lines of the archive, so an undo goes back in the archive too; no line
ever moves, and one that is forgotten leaves an empty one behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
        """All of it, oldest first, but what was forgotten."""
        return tuple(one for one in self._lines() if one.entry is not None)

    def of(self, manifest: Mapping[str, Any]) -> tuple[Past, ...]:
        """What belongs to the generation of that manifest."""
        lines, spans = self._lines(), manifest.get("archive")
        if spans is None:  # from before manifests told
            spans = [[0, len(lines)]]
        return tuple(one for begin, end in spans for one in lines[begin:end] if one.entry is not None)

    def add(self, gone: Sequence[Past], manifest: Mapping[str, Any]) -> list[list[int]]:
        """Adds what is not there yet; the lines of what belongs to the generation of `manifest` and of `gone`."""
        if not gone and "archive" in manifest:
            return list(manifest["archive"])
        known = self._lines()
        if fresh := without(gone, known):
            self._write((*known, *fresh))
        places = {one: number for number, one in enumerate((*known, *fresh))}
        spans = [list(span) for span in manifest.get("archive", [[0, len(known)]])]
        for place in (places[one] for one in gone):
            if spans and spans[-1][1] == place:
                spans[-1][1] += 1
            else:
                spans.append([place, place + 1])
        return spans

    def forget(self, name: str) -> None:
        """Takes an entry out; its tombstone is in every generation."""
        known = self._lines()
        left = [replace(one, entry=None, reason="forgotten") if one.id == name else one for one in known]
        if left != list(known):
            self._write(left)

    def _lines(self) -> tuple[Past, ...]:
        try:
            return read_history(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"memory: {self._path} is damaged", fix="take its last line out") from error

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
