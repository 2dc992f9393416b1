"""Generations on disk: copies that editors hold open, and how far back an undo goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.dreams import entry
from tests.fakes import ManualClock

from kairosd import wire
from kairosd.config.sections import RetentionSection
from kairosd.core.events import Tier
from kairosd.core.memory import Entry, Generation, Past, format_line, parse_words
from kairosd.core.memory_index import number_of
from kairosd.errors import NotFoundError
from kairosd.ports.memory import Proposal
from kairosd.store.memory import KEPT, MemoryFolder
from kairosd.store.memory_archive import HISTORY_MOST
from kairosd.store.retention import carry_out, plan_sweep

HOST, DAY, NEWS = (
    entry("aaaa0001", "deploy.host", "Deploys run on Hetzner, port 9090.", trust=Tier.LOCAL),
    entry("aaaa0002", "deploy.day", "Deploys are on Mondays.", trust=Tier.LOCAL),
    entry("aaaa0003", "deploy.end", "Deploys end at noon.", trust=Tier.LOCAL),
)
FILES = ("MEMORY.md", "topics/ws-app.deploy.md")


@pytest.fixture
def store(tmp_path: Path) -> MemoryFolder:
    return MemoryFolder(tmp_path / "memory", ManualClock())


def commit(
    store: MemoryFolder, *entries: Entry, history: tuple[Past, ...] = (), phase: str = "consolidate"
) -> Generation:
    base = store.load()
    made = replace(base, entries=entries, history=(*base.history, *history), manifest={"phase": phase})
    return store.commit(made, base=base)


def texts(store: MemoryFolder) -> list[str]:
    return sorted(one.text for one in store.load().entries)


def file_of(store: MemoryFolder, name: str) -> Path:
    return store._current / name


@pytest.mark.parametrize("name", FILES)
def test_an_old_copy_takes_out_nothing_that_came_after_it(store: MemoryFolder, name: str) -> None:
    """I20: also where no line of it names what is no more."""
    first = commit(store, HOST, DAY)
    opened = file_of(store, name).read_text()
    assert number_of(opened) == first.number
    commit(store, HOST, DAY, NEWS)
    file_of(store, name).write_text(opened + "- The owner has added this line.\n")
    assert texts(store) == sorted([HOST.text, DAY.text, NEWS.text, "The owner has added this line."])
    # It is a base like any other for what comes next, and a third save of the same copy says nothing new.
    now = store.load()
    commit(store, *now.entries)
    file_of(store, name).write_text(opened + "- The owner has added this line.\n")
    assert len(texts(store)) == 4
    assert store.load().history == ()


@pytest.mark.parametrize("name", FILES)
def test_what_the_hand_takes_out_of_an_old_copy_is_gone_and_in_history(store: MemoryFolder, name: str) -> None:
    commit(store, HOST, DAY)
    opened = file_of(store, name).read_text()
    seen = replace(DAY, seen=DAY.seen + timedelta(days=3))
    commit(store, HOST, seen, NEWS)
    cut = "".join(line for line in opened.splitlines(keepends=True) if DAY.id not in line)
    file_of(store, name).write_text(cut)
    assert texts(store) == sorted([HOST.text, NEWS.text])
    (past,) = store.load().history
    assert (past.entry, past.reason) == (seen, "removed by hand")


@pytest.mark.parametrize("name", FILES)
def test_a_line_changed_in_an_old_copy_keeps_what_was_learned_of_it_since(store: MemoryFolder, name: str) -> None:
    commit(store, HOST, DAY)
    opened = file_of(store, name).read_text()
    commit(store, replace(HOST, check="path=deploy/hetzner.tf", sources=("j1", "j9")), DAY, NEWS)
    file_of(store, name).write_text(opened.replace("port 9090", "port 9191"))
    mine = store.load().get(HOST.id)
    assert mine is not None
    assert (mine.text, mine.trust, mine.check) == (
        "Deploys run on Hetzner, port 9191.",
        Tier.OWNER,
        "path=deploy/hetzner.tf",
    )
    assert mine.sources == ("j1", "j9", "hand")
    assert len(texts(store)) == 3


@pytest.mark.parametrize("name", FILES)
def test_an_old_copy_brings_nothing_back_that_took_another_ones_place(store: MemoryFolder, name: str) -> None:
    commit(store, HOST, DAY)
    opened = file_of(store, name).read_text()
    moved = replace(HOST, id="bbbb0001", text="Deploys run on Fly.io, port 9191.")
    commit(store, DAY, moved, history=(Past(HOST.id, HOST, HOST.seen, "supersede", moved.id),))
    file_of(store, name).write_text(opened)
    assert texts(store) == sorted([DAY.text, moved.text])
    file_of(store, name).write_text(opened.replace("port 9090", "port 4711"))
    assert texts(store) == sorted([DAY.text, moved.text, "Deploys run on Hetzner, port 4711."])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "age",
    [
        lambda text: text.replace("generation:000001", "generation:000999"),
        lambda text: text.replace("generation:000001", "generation:999999999999"),
    ],
)
def test_a_copy_of_an_unknown_age_takes_nothing_out(store: MemoryFolder, name: str, age: Callable[[str], str]) -> None:
    commit(store, HOST, DAY)
    opened = age(file_of(store, name).read_text())
    commit(store, HOST, DAY, NEWS)
    file_of(store, name).write_text("".join(line for line in opened.splitlines(keepends=True) if DAY.id not in line))
    assert texts(store) == sorted([HOST.text, DAY.text, NEWS.text])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("heading", ["", "# What I know\n"])
def test_without_its_heading_a_file_is_known_by_its_lines(store: MemoryFolder, name: str, heading: str) -> None:
    """I2, I20: what the hand took out is gone, and what has come since stays."""
    commit(store, HOST, DAY)
    lines = [heading, *file_of(store, name).read_text().splitlines(keepends=True)[1:]]
    cut = "".join(line for line in lines if DAY.id not in line)
    file_of(store, name).write_text(cut)
    assert texts(store) == [HOST.text]
    (past,) = store.load().history
    assert (past.entry, past.reason) == (DAY, "removed by hand")
    file_of(store, name).write_text("".join(lines))
    assert texts(store) == sorted([HOST.text, DAY.text]), "put back before a dream has seen it"
    later = replace(HOST, seen=HOST.seen + timedelta(days=3), check="port=9090")
    commit(store, later, DAY, NEWS)
    file_of(store, name).write_text(cut + "- A line of mine.\n")
    assert texts(store) == sorted([HOST.text, NEWS.text, "A line of mine."]), "a copy of the first"
    assert store.load().get(HOST.id) == later, "nobody has touched it"
    commit(store, *store.load().entries)
    assert texts(store) == sorted([HOST.text, NEWS.text, "A line of mine."])
    assert store.at(2).entries == store.load().entries, "what a generation was changed to is read the same ever after"


@pytest.mark.parametrize("name", FILES)
def test_a_copy_of_what_was_undone_takes_nothing_out_without_its_heading(store: MemoryFolder, name: str) -> None:
    commit(store, HOST, DAY, NEWS)
    commit(store, HOST, DAY, history=(Past(NEWS.id, NEWS, NEWS.seen, "retire", ""),))
    copy = "".join(file_of(store, name).read_text().splitlines(keepends=True)[1:])
    store.undo(1)
    file_of(store, name).write_text(copy)
    assert texts(store) == sorted([HOST.text, DAY.text, NEWS.text])


@pytest.mark.parametrize("name", FILES)
def test_a_line_changed_in_a_file_without_its_heading_is_the_owners(store: MemoryFolder, name: str) -> None:
    commit(store, HOST, DAY)
    lines = file_of(store, name).read_text().splitlines(keepends=True)[1:]
    commit(store, replace(HOST, seen=HOST.seen + timedelta(days=3)), DAY, NEWS)
    file_of(store, name).write_text("".join(lines).replace("port 9090", "port 4711"))
    assert texts(store) == sorted(["Deploys run on Hetzner, port 4711.", DAY.text, NEWS.text])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [(), ("MEMORY",), (HOST.id,), (HOST.id, "x<!-- m:dddd9999 -->")])
def test_a_few_lines_without_a_heading_take_nothing_out(store: MemoryFolder, name: str, kept: tuple[str, ...]) -> None:
    """A note that was saved in the place of a file, or a piece of one, or of something that nobody knows."""
    rest = [cursor_entry(number) for number in range(3)]
    entries = (HOST, *(replace(one, key=f"deploy.n{one.id}") for one in rest))
    commit(store, *entries)
    lines = file_of(store, name).read_text().splitlines()[1:]
    piece = [line for line in lines if any(one in line for one in kept)] + [f"- {one}" for one in kept if "<" in one]
    file_of(store, name).write_text("\n".join([*piece, "- A line of mine."]))
    assert set(one.text for one in entries) < set(texts(store))
    assert "A line of mine." in texts(store)


def test_what_may_have_come_after_the_copy_stays(store: MemoryFolder) -> None:
    """The copy may be the first one's, where nothing was taken out of, as well as the second one's."""
    commit(store, HOST)
    opened = file_of(store, FILES[1]).read_text().splitlines(keepends=True)[1:]
    commit(store, HOST, DAY)
    file_of(store, FILES[1]).write_text("".join(opened))
    assert texts(store) == sorted([HOST.text, DAY.text])
    for number in range(KEPT + 20):  # of which some are kept no more
        commit(store, HOST, replace(DAY, seen=DAY.seen + timedelta(days=number)), phase="run")
    store.undo(1)
    base = store.load()
    commit(store, *base.entries, NEWS, phase="run")
    lines = file_of(store, FILES[1]).read_text().splitlines(keepends=True)[1:]
    file_of(store, FILES[1]).write_text("".join(line for line in lines if NEWS.id not in line))
    assert NEWS.text in texts(store), "the same lines stood in the one before"
    file_of(store, FILES[1]).write_text("".join(line for line in lines if HOST.id not in line))
    assert texts(store) == sorted([DAY.text, NEWS.text])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("above", ["- My new fact here.\n", "\n", "\ufeff", "My words\n\n\n"])
def test_what_stands_above_the_heading_makes_an_old_copy_no_younger(store: MemoryFolder, name: str, above: str) -> None:
    """I2, I10, I20."""
    commit(store, HOST, DAY)
    opened = file_of(store, name).read_text()
    later = replace(HOST, seen=HOST.seen + timedelta(days=5))
    commit(store, later, DAY, NEWS)
    file_of(store, name).write_text(above + opened, encoding="utf-8")
    now = store.load()
    mine = [parse_words(above)[0]] if above.strip().strip("\ufeff") else []
    assert [one.text for one in now.entries if one.by_owner] == mine
    assert texts(store) == sorted([HOST.text, DAY.text, NEWS.text, *mine])
    assert (now.get(HOST.id), now.history) == (later, ())


@pytest.mark.parametrize("backwards", [False, True])
def test_what_is_forgotten_does_not_come_back_with_an_editors_old_copy(
    store: MemoryFolder, monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    """I10, I22: in whatever order the disk lists the generations."""
    commit(store, HOST, DAY)
    opened = file_of(store, FILES[0]).read_text()
    commit(store, HOST, DAY, NEWS)
    file_of(store, FILES[0]).write_text(opened + "- A line of mine.\n")
    monkeypatch.setattr(store, "_numbers", lambda listed=store._numbers: sorted(listed(), reverse=backwards))
    store.forget(HOST.id, store._clock.now())
    assert texts(store) == sorted([DAY.text, NEWS.text, "A line of mine."])
    assert not any("Hetzner" in path.read_text() for path in store._folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_crash_while_forgetting_brings_nothing_back_either(
    store: MemoryFolder, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    commit(store, HOST, DAY)
    opened = file_of(store, FILES[0]).read_text()
    commit(store, HOST, DAY, NEWS)
    file_of(store, FILES[0]).write_text(opened + "- A line of mine.\n")
    rewrite, done = store._rewrite, list[Generation]()
    monkeypatch.setattr(store, "_numbers", lambda listed=store._numbers: sorted(listed()))

    def crash(generation: Generation, texts: set[str]) -> None:
        if len(done) == left:
            raise KeyboardInterrupt
        done.append(generation)
        rewrite(generation, texts)

    with monkeypatch.context() as patched:
        patched.setattr(store, "_rewrite", crash)
        with pytest.raises(KeyboardInterrupt):
            store.forget(HOST.id, store._clock.now())
    store.undo(1)
    store.redo(1)
    assert texts(store) == sorted([DAY.text, NEWS.text, "A line of mine."])
    assert not any("Hetzner" in path.read_text() for path in store._folder.rglob("*") if path.is_file())


def test_what_runs_remember_pushes_no_dream_out_of_undo(store: MemoryFolder) -> None:
    dreams = [commit(store, HOST, cursor_entry(n)).number for n in range(3)]
    for n in range(KEPT + 15):
        commit(store, HOST, cursor_entry(100 + n), phase="run")
    kept = {one.number for one in store.past()}
    assert set(dreams) <= kept
    assert len(kept) <= 2 * KEPT + 1
    back = [store.undo(1).number for _ in range(KEPT)]
    assert back[-1] == dreams[-1], "what is kept no more is passed over"
    assert store.undo(2).number == dreams[0]
    assert store.redo(2).number == dreams[-1]
    last = store.redo(KEPT)
    assert (last.number, [one.text for one in last.entries][-1:]) == (max(kept), [HOST.text])


def test_dreams_are_kept_for_as_many_as_there_were_before(store: MemoryFolder) -> None:
    for n in range(KEPT + 10):
        commit(store, cursor_entry(n))
        commit(store, cursor_entry(500 + n), phase="run")
    phases = [one.manifest.get("phase") for one in store.past()]
    assert phases.count("consolidate") == KEPT
    assert phases.count("run") == KEPT
    found = store.undo(2 * KEPT - 1)
    assert format_line(found.entries[0]) == format_line(cursor_entry(10))


def cursor_entry(number: int) -> Entry:
    return entry(f"{number:08x}", f"n{number}.x", f"Number {number} of all.")


def test_an_old_line_whose_history_is_long_gone_is_no_word_of_the_owners(store: MemoryFolder) -> None:
    commit(store, HOST)
    opened = file_of(store, FILES[1]).read_text().replace("generation:000001", "generation:000777")
    store.undo(1)
    commit(store, DAY)
    file_of(store, FILES[1]).write_text(opened + "- A line of mine.\n")
    assert texts(store) == sorted([DAY.text, "A line of mine."])


def test_history_is_bounded_and_nothing_of_it_is_lost(store: MemoryFolder) -> None:
    """I2, I21: the oldest of it lies in the archive once, and what is forgotten is forgotten there too."""
    lengths = []
    for first in range(0, 1500, 50):
        past = tuple(old_value(first + n) for n in range(50))
        lengths.append(len(commit(store, HOST, history=past).history))
    assert max(lengths) <= 2 * HISTORY_MOST
    archive = store.archive()
    assert [one.id for one in (*archive, *store.load().history)] == [f"{n:08x}" for n in range(1500)]
    before = store.load()
    assert store.undo(20) == store.at(before.number - 20)
    assert store.redo(20) == before
    first_of_all = archive[0]
    assert first_of_all.entry is not None
    store.forget(first_of_all.id, store._clock.now())
    assert store.archive() == archive[1:]
    assert first_of_all.entry.text not in (store._folder / "archive.jsonl").read_text()
    assert store.load().history[0] == Past(first_of_all.id, None, store._clock.now().date(), "forgotten")
    with pytest.raises(NotFoundError):
        store.forget("ffffffff", store._clock.now())


def test_an_undo_goes_back_in_the_archive_too(store: MemoryFolder) -> None:
    """I13: also where other generations follow on what was undone, and where something is forgotten."""

    def ids(generation: Generation) -> list[str]:
        return [one.id for one in (*store.archive(generation), *generation.history) if one.entry is not None]

    first = commit(store, HOST)
    for begin in (0, 100, 200):
        commit(store, HOST, history=tuple(old_value(begin + n) for n in range(100)))
    every = [f"{n:08x}" for n in range(300)]
    last = store.load()
    assert ids(last) == every
    assert ids(store.undo(3)) == []
    commit(store, HOST, history=tuple(old_value(1000 + n) for n in range(150)))
    other = commit(store, HOST, history=tuple(old_value(n) for n in range(100)))
    mine = [f"{n:08x}" for n in (*range(1000, 1150), *range(100))]
    assert ids(other) == mine, "what both have is in the archive once, and in each one's own order"
    store.forget(every[7], store._clock.now())
    assert ids(store.at(last.number)) == [one for one in every if one != every[7]]
    assert ids(store.load()) == [one for one in mine if one != every[7]]
    assert ids(store.at(first.number)) == []
    lines = (store._folder / "archive.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines))


def test_a_crash_between_archive_and_generation_loses_nothing(
    store: MemoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(store, HOST, history=tuple(old_value(n) for n in range(2 * HISTORY_MOST)))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store, "_write", crash)
        with pytest.raises(KeyboardInterrupt):
            commit(store, HOST, history=(old_value(9000),))
    assert len(store.archive()) == HISTORY_MOST + 1, "written first"
    assert len(store.load().history) == 2 * HISTORY_MOST
    made = commit(store, HOST, history=(old_value(9001),))
    assert len(made.history) == HISTORY_MOST
    assert len(store.archive()) == HISTORY_MOST + 1


def test_settled_proposals_are_kept_for_a_while_and_open_ones_for_ever(tmp_path: Path) -> None:
    place = wire.Home(
        tmp_path / "c", tmp_path / "state", data=tmp_path / "data", run=tmp_path / "run", is_default=False
    )
    clock = ManualClock()
    store = MemoryFolder(place.memory, clock)
    for name in ("p1open", "p2done", "p3fresh"):
        store.propose(Proposal(name, "because", clock.now(), 0, ()))
    store.settle("p2", "rejected")
    store.settle("p3", "accepted")
    (place.memory / "proposals/p4broken.json").write_text("{")
    days = RetentionSection().transcripts_days
    then = clock.now() - timedelta(days=days, seconds=1)
    for path in (place.memory / "proposals").iterdir():
        moment = then if "fresh" not in path.name else then + timedelta(seconds=2)
        os.utime(path, (moment.timestamp(), moment.timestamp()))
    sweeps = plan_sweep(place, RetentionSection(), now=clock.now())
    assert [sweep.path.name for sweep in sweeps] == ["p2done.json"]
    for sweep in sweeps:
        carry_out(sweep)
    (place.memory / "proposals/p4broken.json").unlink()
    assert [one.id for one in store.proposals()] == ["p1open"]


def old_value(number: int) -> Past:
    one = entry(f"{number:08x}", f"h{number}.x", f"What held before number {number}.")
    return Past(one.id, one, one.seen, "supersede", HOST.id)
