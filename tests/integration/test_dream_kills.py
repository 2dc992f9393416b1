"""`kill -9` at every write point of a dream, an undo, a redo and a forgetting: readers see one whole generation (I12).

The points are the file system's own: each making, writing, syncing, renaming and removing below the memory folder.
`tests/dream_kills.py` lists them and kills a real process at each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.dream_kills import NEW, OLD, OTHER
from tests.dreams import entry
from tests.fakes import ManualClock

from kairosd.core.memory import Generation
from kairosd.errors import StaleMemoryError
from kairosd.store.memory import MemoryFolder

ROOT = Path(__file__).resolve().parents[2]
KILLED = -9


def killed(action: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.dream_kills", action],
        check=True, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    head, *points = map(json.loads, done.stdout.splitlines())
    return head, points


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """The same generation, apart from its number."""
    names = ("cursor", "texts", "edited", "past")
    return all(one[name] == other[name] for name in names)


def test_a_dream_killed_at_any_write_leaves_the_old_or_the_new_generation() -> None:
    head, points = killed("dream")
    labels, before, after = head["labels"], head["before"], head["after"]
    assert before["texts"] == [OLD, OTHER]
    assert after["texts"] == [NEW, OTHER]
    assert after["past"] == [OLD]
    assert len(points) > len(labels) > 15
    assert {label.split()[0] for label in labels} >= {"mkdir", "write", "fsync", "rename", "symlink_to", "replace"}
    for point in points:
        where = f"{labels[point['at']]}{' (torn)' if point['torn'] else ''}"
        assert point["code"] == KILLED, where
        # Tree and cursor are one: never a new tree with the old cursor, and never half a tree.
        assert point["found"]["tree"] in (before["tree"], after["tree"]), where
        assert same(point["found"], before) or same(point["found"], after), where
        assert point["again"] == 0, f"{where}: the next one finds its lock free"
        # The killed one has left lines in the journal, so the next one's cursor may stand further on.
        assert (point["done"]["texts"], point["done"]["past"]) == (after["texts"], after["past"]), where
        assert point["left"] == [], where
        (undone, old, redone, new) = point["back"][0]
        assert (undone, redone) == (before["number"], point["done"]["number"]), where
        assert (old, new) == (before["tree"], point["done"]["tree"]), f"{where}: undo and redo, byte for byte"


@pytest.mark.parametrize("action", ["undo", "redo"])
def test_a_step_killed_at_any_write_has_happened_or_has_not(action: str) -> None:
    head, points = killed(action)
    assert head["before"]["number"] != head["after"]["number"]
    assert head["labels"][-2:] == ["replace .staged-current", "fsync ."]
    for point in points:
        where = head["labels"][point["at"]]
        assert point["code"] == KILLED, where
        assert point["found"] in (head["before"], head["after"]), where
        assert point["done"] == head["after"], where


def test_a_forgetting_killed_at_any_write_is_finished_by_the_next_writer() -> None:
    head, points = killed("forget")
    assert head["before"]["texts"] == [OLD, OTHER]
    assert head["after"]["texts"] == [OTHER]
    begun = head["labels"].index("replace .staged-forget.json")
    for point in points:
        where = head["labels"][point["at"]]
        assert point["code"] == KILLED, where
        # What is to be forgotten may be gone from the files before the manifest says so: a reader sees a line less.
        assert point["found"]["texts"] in (head["before"]["texts"], head["after"]["texts"]), where
        if point["at"] > begun:
            assert point["done"]["texts"] == [OTHER], where
            assert point["done"]["past"] == [None], where


def test_readers_beside_a_writer_see_whole_generations_only(tmp_path: Path) -> None:
    clock = ManualClock()
    store = MemoryFolder(tmp_path / "memory", clock)
    seen: list[Generation] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(store.load())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(1, 40):
            base = store.load()
            entries = tuple(entry(f"{n:08x}", f"k{n}.x", f"Round {number}, part {n}.") for n in range(12))
            store.commit(replace(base, entries=entries, cursor=number, manifest={}), base=base)
    finally:
        stop.set()
        reader.join()
    assert len({one.number for one in seen}) > 5
    for one in seen:
        assert one.edited == frozenset()
        assert {text.text.split(",")[0] for text in one.entries} <= {f"Round {one.cursor}"}
        assert len(one.entries) == (12 if one.cursor else 0)


def test_files_that_are_gone_or_empty_lose_no_entry(tmp_path: Path) -> None:
    """A folder swept by a careless program, or an editor that died while it saved, is damage and no wish."""
    store = MemoryFolder(tmp_path / "memory", ManualClock())
    entries = tuple(entry(f"{n:08x}", f"k{n}.x", f"Number {n} of some.") for n in range(5))
    base = store.load()
    made = store.commit(replace(base, entries=entries), base=base)
    current = tmp_path / "memory/current"
    (current / "MEMORY.md").unlink()
    (current / "topics/ws-app.k1.md").unlink()
    (current / "topics/ws-app.k2.md").write_text("")
    found = store.load()
    assert (set(found.entries), found.edited, found.history) == (set(entries), frozenset(), ())
    again = store.commit(replace(found, manifest={}), base=found)
    assert (current / "topics/ws-app.k2.md").read_text().count("Number 2") == 1
    assert set(again.entries) == set(made.entries)


def test_two_writers_from_the_same_base_do_not_undo_each_other(tmp_path: Path) -> None:
    store = MemoryFolder(tmp_path / "memory", ManualClock())
    base = store.load()
    first = store.commit(replace(base, entries=(entry("aaaa0001", "a.a", "First."),)), base=base)
    with pytest.raises(StaleMemoryError):
        store.commit(replace(base, entries=(entry("aaaa0002", "a.b", "Second."),)), base=base)
    assert store.load() == first
    topic = tmp_path / "memory/current/topics/ws-app.a.md"
    topic.write_text(topic.read_text().replace("First.", "Mine."))
    with pytest.raises(StaleMemoryError):
        store.commit(replace(first, cursor=9), base=first)
    assert [one.text for one in store.load().entries] == ["Mine."]
