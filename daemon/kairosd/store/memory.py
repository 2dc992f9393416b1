"""Memory on disk: generations, of which one is current (design §10).

A new generation is written whole beside the others, made durable, and then becomes current by the rename of one link.
So a reader sees the old one or the new one, whatever ends the process. Its manifest says what was written; what differs
from it, the owner's hand has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kairosd.core.journal import stamp
from kairosd.core.json import JsonObject, canonical
from kairosd.core.memory import DREAMT, Entry, Generation, Past, format_line, parse_line, parse_words
from kairosd.core.memory_index import HISTORY, files_of, read_history
from kairosd.errors import NotFoundError, StaleMemoryError, StoreError, UsageError
from kairosd.ports.memory import Proposal
from kairosd.ports.world import Clock
from kairosd.store.memory_archive import Archive, spared, without
from kairosd.store.memory_edits import Written, read_edits
from kairosd.store.memory_files import (
    disk,
    locked,
    point,
    read_each,
    read_tree,
    remove_staged,
    remove_tree,
    replace_file,
    write_tree,
)
from kairosd.store.memory_proposals import ProposalFolder

if TYPE_CHECKING:
    from kairosd.store.memory_purge import Purge

MANIFEST = "manifest.json"
KEPT = 60  # dreams: two months of one a day can be undone; and as many other generations, which push out no dream
READ_TRIES = 5  # a generation may be taken away between the link and the look


class MemoryFolder:
    """Implements `ports.MemoryStore` on `folder`, which only the owner may read."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._current = folder / "current"
        self._generations = folder / "gen"
        self._archive = Archive(folder)
        self._proposals = ProposalFolder(folder / "proposals")

    def load(self) -> Generation:
        with disk("read the current generation"):
            for _ in range(READ_TRIES):
                with contextlib.suppress(FileNotFoundError):
                    number = self._number()
                    return Generation() if number is None else self._read(number)
        raise StoreError("memory: the current generation is not there", fix="kairos dream undo")

    def commit(self, generation: Generation, *, base: Generation, files: Mapping[str, str] | None = None) -> Generation:
        with disk("write a generation"), locked(self._folder):
            self._tidy()
            number = self._number()
            if number is None:
                number = self._found()
            elif self._read(number).digest != base.digest:
                raise StaleMemoryError
            made = max(self._numbers()) + 1
            gone = spared(generation.history)
            archived = self._archive.add(gone, self._manifest(number))
            generation = replace(generation, history=without(generation.history, gone))
            manifest = {
                **generation.manifest, "number": made, "parent": number, "cursor": generation.cursor,
                "before": self._before(number), "archive": archived,
            }  # fmt: skip
            self._write(replace(generation, number=made, manifest=manifest), files or {})
            point(self._current, f"gen/{made:06d}")
            if base.digest and self._read(number).digest != base.digest:
                # Saved in the moment between the look and the rename: the hand wins, and the dream does it again.
                point(self._current, f"gen/{number:06d}")
                remove_tree(self._path(made))
                raise StaleMemoryError
            self._prune(made)
            return self._read(made)

    def undo(self, steps: int) -> Generation:
        return self._step(steps, self._parent, what="go back to", fix="kairos dream show lists what there is")

    def redo(self, steps: int) -> Generation:
        return self._step(steps, self._child, what="go forward to", fix="only what was undone can be done again")

    def past(self) -> Sequence[Generation]:
        found = []
        with disk("list the generations"):
            for number in sorted(self._numbers(), reverse=True):
                manifest = self._manifest(number)
                found.append(Generation(number, int(manifest["cursor"]), manifest=manifest))
        return found

    def at(self, number: int) -> Generation:
        with disk("read a generation"):
            if number not in self._numbers():
                raise NotFoundError(
                    f"there is no generation {number}", fix="kairos dream show lists those that are kept"
                )
            return self._read(number)

    def forget(self, identifier: str, moment: datetime, *, sources: Sequence[str] = ()) -> int:
        with disk("forget an entry"), locked(self._folder):
            self._tidy()
            known = (one.id for one in self._archive.read())
            if identifier not in known and not any(identifier in self._read(one).ids for one in self._numbers()):
                raise NotFoundError(f"there is no entry {identifier!r}", fix="kairos memory show")
            day = moment.astimezone().date()
            # Written down first: what a crash interrupts is then finished, and nothing of it is ever found again.
            order: JsonObject = {"id": identifier, "day": day.isoformat(), "sources": list(sources)}
            replace_file(self._folder / "forget.json", canonical(order))
            return self._forget()

    def pins(self) -> tuple[str, ...]:
        try:
            content = (self._folder / "pins.md").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ()
        return tuple(text for line in content.splitlines() if (text := parse_words(line)[0]))

    def archive(self, generation: Generation | None = None) -> tuple[Past, ...]:
        with disk("read the archive"):
            return self._archive.read() if generation is None else self._archive.of(generation.manifest)

    def propose(self, proposal: Proposal) -> None:
        with disk("keep a proposal"), locked(self._folder):
            self._proposals.keep(proposal)

    def proposals(self) -> Sequence[Proposal]:
        with disk("read the proposals"):
            return self._proposals.waiting()

    def settle(self, identifier: str, verdict: str) -> Proposal:
        with disk("settle a proposal"), locked(self._folder):
            return self._proposals.settle(identifier, verdict)

    def _number(self) -> int | None:
        """The current generation's number; None before the first."""
        try:
            return int(self._current.readlink().name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise StoreError("memory: `current` is no link to a generation", fix="point it at gen/NUMBER") from None

    def _numbers(self) -> list[int]:
        if not self._generations.is_dir():
            return []
        return [int(path.name) for path in self._generations.iterdir() if re.fullmatch(r"\d{6,}", path.name)]

    def _path(self, number: int) -> Path:
        return self._generations / f"{number:06d}"

    def _manifest(self, number: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._path(number) / MANIFEST).read_text(encoding="utf-8"))
        except ValueError as error:
            raise _damaged("manifest", number) from error
        return found

    def _read(self, number: int) -> Generation:
        files = read_tree(self._path(number))
        digest = hashlib.sha256(canonical(files).encode("utf-8", "surrogatepass")).hexdigest()
        manifest = self._manifest(number)
        base = _entries(manifest)
        try:
            history = read_history(files.get(HISTORY, ""))
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged("history", number) from error
        found = Generation(number, int(manifest["cursor"]), tuple(base.values()), history, digest, manifest=manifest)
        known = {*manifest["files"], *(name for name in files if name.endswith(".md"))} - {MANIFEST}
        changed = frozenset(name for name in known if _sha(files, name) != manifest["files"].get(name))
        if not changed:
            return found
        numbers, today = self._numbers(), self._clock.now().astimezone().date()
        older = [self._path(one) for one in _beside(number, numbers, current=self._number())]
        copies = partial(read_each, older)
        written = Written(number, base, history, self._entries_of, copies, lost=min(numbers) > 1)
        edits = read_edits(files, written, changed=changed, today=today)
        return replace(
            found, entries=tuple(edits.entries.values()), history=(*history, *edits.removed),
            edited=frozenset(edits.edited),
        )  # fmt: skip

    def _entries_of(self, number: int) -> Mapping[str, Entry] | None:
        """The entries that a generation was written with; None where it is not kept."""
        return _entries(self._manifest(number)) if number in self._numbers() else None

    def _write(self, generation: Generation, files: Mapping[str, str]) -> None:
        every = {**files_of(generation.entries, generation.history, number=generation.number), **files}
        manifest = {
            **generation.manifest, "format": 1, "made": stamp(self._clock.now()),
            "files": {name: hashlib.sha256(content.encode()).hexdigest() for name, content in every.items()},
            "lines": {entry.id: format_line(entry) for entry in generation.entries},
        }  # fmt: skip
        write_tree(self._path(generation.number), {**every, MANIFEST: canonical(manifest) + "\n"})

    def _found(self) -> int:
        """Generation 0 is written before the first other one, so that there is something to go back to."""
        if 0 not in self._numbers():
            self._write(Generation(manifest={"number": 0, "parent": None, "cursor": 0, "archive": []}), {})
        point(self._current, "gen/000000")
        return 0

    def _step(self, steps: int, way: Any, *, what: str, fix: str) -> Generation:
        with disk(what), locked(self._folder):
            self._tidy()
            number = self._number()
            for _ in range(steps):
                number = None if number is None else way(number)
            if number is None or steps < 1:
                raise UsageError(f"there is no generation to {what}", fix=fix)
            point(self._current, f"gen/{number:06d}")
            return self._read(number)

    def _before(self, number: int) -> list[list[Any]]:
        """`number` and those generations before it that are kept, with their phases, the newest first."""
        manifest, kept = self._manifest(number), self._numbers()
        return [[number, manifest.get("phase")], *(one for one in manifest.get("before", []) if one[0] in kept)]

    def _parent(self, number: int) -> int | None:
        """The nearest generation before that one that is kept."""
        manifest, kept = self._manifest(number), self._numbers()
        before = [manifest["parent"], *(one for one, _ in manifest.get("before", []))]
        return next((one for one in before if one in kept), None)

    def _child(self, number: int) -> int | None:
        return max((one for one in self._numbers() if self._parent(one) == number), default=None)

    def _prune(self, current: int) -> None:
        dreamt = {number for number, phase in self._before(current) if phase in DREAMT}
        newest = sorted(self._numbers(), reverse=True)
        for kind in (dreamt, set(newest) - dreamt):
            for number in [one for one in newest if one in kind][KEPT:]:
                if number != current:
                    remove_tree(self._path(number))

    def _tidy(self) -> None:
        """Takes away what a crash left half done, and finishes what it left half forgotten."""
        self._generations.mkdir(mode=0o700, exist_ok=True)
        for folder in (self._folder, self._generations, self._folder / "proposals"):
            remove_staged(folder)
        if (self._folder / "forget.json").exists():
            self._forget()

    def _forget(self) -> int:
        wanted = json.loads((self._folder / "forget.json").read_text())
        name, day = str(wanted["id"]), date.fromisoformat(wanted["day"])
        tombstone = Past(name, None, day, "forgotten", sources=tuple(wanted.get("sources", ())))
        # All are read before the first is written: an editor's copy in one is compared with what another was.
        generations = [self._read(number) for number in sorted(self._numbers(), reverse=True)]
        archived = Generation(history=self._archive.read())
        texts = {text for one in (archived, *generations) for text in _texts(one, name)}
        purge: Purge = importlib.import_module("kairosd.store.memory_purge").Purge(texts)
        # The proposals first: once no generation holds the words, nobody could say what to look for.
        self._proposals.forget(purge)
        # Every generation has the tombstone, so that what is forgotten is not learned again after an undo.
        count = 0
        for one in generations:
            count += name in one.ids
            self._rewrite(_without(one, tombstone), purge)
        self._archive.forget(name)
        (self._folder / "forget.json").unlink()
        return count

    def _rewrite(self, generation: Generation, purge: Purge) -> None:
        """Puts a generation's files in order again, the manifest last: until then readers see a line less, no more."""
        files = files_of(generation.entries, generation.history, number=generation.number)
        folder = self._path(generation.number)
        known = read_tree(folder)
        for name in known:
            if name != MANIFEST and name not in files:
                (folder / name).unlink()
        for name in [name for name in files if known.get(name) != files[name]]:
            (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(folder / name, files[name])
        manifest = {
            **purge.of(generation.manifest),
            "files": {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()},
            "lines": {entry.id: format_line(entry) for entry in generation.entries},
        }
        replace_file(folder / MANIFEST, canonical(manifest) + "\n")


def _damaged(what: str, number: int) -> StoreError:
    return StoreError(f"memory: the {what} of generation {number} is damaged", fix="kairos dream undo")


def _beside(number: int, numbers: Sequence[int], *, current: int | None) -> list[int]:
    """The generations before one; of the present one also what an undo has left: a copy of that may be open still."""
    return [one for one in numbers if one < number or (one > number == current)]


def _entries(manifest: Mapping[str, Any]) -> dict[str, Entry]:
    return {name: parse_line(line) for name, line in manifest["lines"].items()}


def _sha(files: Mapping[str, str], name: str) -> str | None:
    return hashlib.sha256(files[name].encode("utf-8", "surrogatepass")).hexdigest() if name in files else None


def _texts(generation: Generation, name: str) -> set[str]:
    entries: list[Entry] = [one for one in generation.entries if one.id == name]
    entries += [past.entry for past in generation.history if past.id == name and past.entry]
    return {entry.text for entry in entries}


def _without(generation: Generation, tombstone: Past) -> Generation:
    """The tombstone comes first: every generation's history still begins with the one's before it."""
    name = tombstone.id
    history = tuple(past for past in generation.history if past.id != name)
    return replace(
        generation, entries=tuple(one for one in generation.entries if one.id != name),
        history=(tombstone, *history),
    )  # fmt: skip
