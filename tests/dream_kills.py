"""A dream that is killed: forks at one state of a home, lets the child dream, and ends it with SIGKILL at one write.

    python -m tests.dream_kills ACTION        ACTION is dream, undo, redo or forget

First the action is done once undisturbed, and each of its writes below the memory folder gets a label. Then it is done
again from the same start for every label, and the child is killed right before that write (for the writing of a
file's content: also when half of it is there). Prints one JSON line a point, and one with the labels.
The product holds no code for this: what writes is wrapped from outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.dreams import entry
from tests.engine_bench import Setup
from tests.fakes import ManualClock, says, use

from kairosd.core.journal import Note
from kairosd.store.memory import MemoryFolder
from kairosd.store.migrate import migrate

OLD = "Deploys run on Hetzner, port 9090."
NEW = "Deploys moved from Hetzner to Fly.io, port 9191."
OTHER = "Mail leaves through smtp.example.org on port 587."
WRITES = ("mkdir", "rename", "replace", "symlink_to", "unlink")


class Bomb:
    """Counts writes below `folder`; SIGKILL before the one numbered `at`, or with `torn` in the middle of it."""

    def __init__(self, folder: Path, at: int | None, *, torn: bool = False) -> None:
        self.folder = folder
        self.at = at
        self.torn = torn
        self.labels: list[str] = []

    def passes(self, what: str, path: Path) -> bool:
        """Whether this is the point of a torn write."""
        if not path.is_relative_to(self.folder):
            return False
        here = len(self.labels) == self.at
        self.labels.append(f"{what} {path.relative_to(self.folder)}")
        if here and not self.torn:
            os.kill(os.getpid(), signal.SIGKILL)
        return here

    @contextlib.contextmanager
    def laid(self) -> Iterator[None]:
        write, fsync = os.write, os.fsync
        kept = {name: getattr(Path, name) for name in WRITES}

        def path_of(descriptor: int) -> Path:
            return Path(f"/proc/self/fd/{descriptor}").readlink()

        def writing(descriptor: int, data: bytes) -> int:
            if self.passes("write", path_of(descriptor)):
                write(descriptor, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return write(descriptor, data)

        def syncing(descriptor: int) -> None:
            self.passes("fsync", path_of(descriptor))
            fsync(descriptor)

        def wrapped(name: str) -> Callable[..., Any]:
            @functools.wraps(kept[name])
            def call(path: Path, *given: Any, **named: Any) -> Any:
                self.passes(name, path)
                return kept[name](path, *given, **named)

            return call

        os.write, os.fsync = writing, syncing  # type: ignore[assignment]
        for name in WRITES:
            setattr(Path, name, wrapped(name))
        try:
            yield
        finally:
            os.write, os.fsync = write, fsync
            for name in WRITES:
                setattr(Path, name, kept[name])


def template(folder: Path) -> Setup:
    """A home with two generations and something new in its journal."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    migrate(home / "kairos.db")
    setup = Setup(folder)

    async def fill() -> None:
        async with setup.running() as bench:
            store = bench.engine.memory.store
            for texts in ((OLD,), (OLD, OTHER)):
                base = store.load()
                made = [
                    entry(f"{n:08x}", f"k.n{n}", text, since=setup.clock.now().date(), seen=setup.clock.now().date())
                    for n, text in enumerate(texts)
                ]
                store.commit(replace(base, entries=tuple(made), manifest={}), base=base)
            data = {"source": "owner", "kind": "told", "text": {"message": NEW}}
            note = Note("event.received", workspace="app", tier="owner", data=data)
            await bench.stores.state.note(note, setup.clock.now())

    asyncio.run(fill())
    return setup


def act(setup: Setup, action: str) -> None:
    """One dream, undo, redo or forgetting, as the daemon does it."""

    async def dream() -> None:
        async with setup.running() as bench:
            (line,) = [
                one for one in bench.engine.memory.dreamer._dream._d.journal.after(0, limit=1000)
                if one["kind"] == "event.received"
            ]  # fmt: skip
            supersede = {
                "op": "supersede", "targets": ["00000000"], "sources": [f"j{line['seq']}"], "key": "", "text": NEW,
                "kind": "project", "check": "", "everywhere": False, "reason": "",
            }  # fmt: skip
            setup.actor.add(says("", use("remember", operations=[supersede])))
            await bench.engine.memory.desk.now()

    store = MemoryFolder(memory_of(setup), setup.clock)
    match action:
        case "dream":
            asyncio.run(dream())
        case "undo":
            store.undo(1)
        case "redo":
            store.redo(1)
        case "forget":
            store.forget("00000000", setup.clock.now())


def memory_of(setup: Setup) -> Path:
    return setup.folder / "home/data/memory"


def tree(setup: Setup) -> dict[str, str]:
    """What a reader of the current generation sees, byte for byte."""
    root = (memory_of(setup) / "current").resolve()
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def forked(work: Callable[[], object]) -> int:
    """Runs `work` in a child; how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def copied(setup: Setup, folder: Path) -> Setup:
    """The same home at a path of its own, as long as the first."""
    shutil.copytree(setup.folder, folder, symlinks=True, dirs_exist_ok=True)
    return Setup(folder, clock=ManualClock(setup.clock.now()))


def seen(setup: Setup) -> dict[str, Any]:
    """What is current, and whether it is whole."""
    store = MemoryFolder(memory_of(setup), setup.clock)
    found = store.load()
    return {
        "number": found.number, "cursor": found.cursor, "texts": sorted(one.text for one in found.entries),
        "edited": sorted(found.edited), "past": [past.entry.text if past.entry else None for past in found.history],
        "tree": tree(setup),
    }  # fmt: skip


def say(found: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


def main(action: str) -> None:
    with tempfile.TemporaryDirectory(prefix="kairos-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place:
        root = Path(place)
        (root / "start").mkdir()
        start = template(root / "start")
        if action == "redo":
            act(start, "undo")
        before = seen(start)
        dry = copied(start, root / "dry")
        bomb = Bomb(memory_of(dry), None)
        with bomb.laid():
            act(dry, action)
        after = seen(dry)
        say({"labels": bomb.labels, "before": before, "after": after})
        points = [(number, False) for number in range(len(bomb.labels))]
        points += [(number, True) for number, label in enumerate(bomb.labels) if label.startswith("write ")]
        for number, torn in points:
            say(_point(start, root / f"p{number}{torn:d}", action, at=(number, torn)))


def _point(start: Setup, folder: Path, action: str, *, at: tuple[int, bool]) -> dict[str, Any]:
    setup = copied(start, folder)
    bomb = Bomb(memory_of(setup), at[0], torn=at[1])

    def work() -> None:
        with bomb.laid():
            act(setup, action)

    code = forked(work)
    found = seen(setup)
    # What comes next finds the lock free, takes away what was half done, and can do all that the killed one meant to.
    again = forked(lambda: act(copied_clock(setup), action if found["number"] == seen(start)["number"] else "nothing"))
    done = seen(setup)
    store = MemoryFolder(memory_of(setup), setup.clock)
    steps = [("undo", "redo")] if action != "redo" else []
    back = [(store.undo(1).number, tree(setup), store.redo(1).number, tree(setup)) for _ in steps]
    left = [path.name for path in memory_of(setup).rglob(".staged-*")]
    shutil.rmtree(folder)
    return {"at": at[0], "torn": at[1], "code": code, "found": found, "again": again, "done": done, "back": back,
            "left": left}  # fmt: skip


def copied_clock(setup: Setup) -> Setup:
    """A daemon started anew over the same home."""
    return Setup(setup.folder, clock=ManualClock(setup.clock.now()))


if __name__ == "__main__":
    main(sys.argv[1])
