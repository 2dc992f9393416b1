"""File changes: a burst of them is one event that says "look here".

watchfiles offers one watcher over a fixed list of folders. Given folders to watch recursively it follows symbolic links
and enters every nested `node_modules` (its filters run after the watch), so this module lists the folders itself and
makes one non-recursive watcher over all workspaces: one thread, two wake-ups a second, however many workspaces. The
list is made anew when folders come or go. Losses of the kernel's queue are silent, hence `reconcile` events.
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from kairosd.core.events import Draft, Tier, is_fact_name
from kairosd.core.journal import Note
from kairosd.core.json import Json
from kairosd.core.workspaces import Workspace
from kairosd.errors import ConfigError
from kairosd.frozen import frozen
from kairosd.ports.world import Clock, Deps, Intake, Trigger

STEP = 500  # milliseconds between two looks of the watcher at its own queue, which is also the quiet that ends a burst
DEBOUNCE = 2000  # milliseconds; a burst that does not end is reported this often
LOOK = timedelta(seconds=60)  # how often a workspace's folder is looked for
STALLED = LOOK + timedelta(seconds=90)  # between two looks: the machine slept or the loop stood still
FLOOD = 5000  # paths in one batch from which on the kernel may have dropped some (measured, design §6)
REMAKE_EVERY = 5.0  # seconds; a build that makes folders by the hundred must not cost a walk each
LISTED = 20
WATCH_LIMIT = Path("/proc/sys/fs/inotify/max_user_watches")
HEADROOM = 10  # percent of the user's watches left to other programs

# fmt: off
HEAVY = frozenset({
    ".git", ".hg", ".svn", "node_modules", ".venv", "venv", "__pycache__", "target", "dist", "build", ".tox", ".nox",
    ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".idea", ".cache", ".next", ".gradle", ".terraform",
})
# fmt: on
SCRATCH = re.compile(r".*~|\.#.*|#.*#|4913|\..*\.sw[a-z]|.*___jb_(?:tmp|old)___|\.goutputstream-.*|\.DS_Store")


@frozen
class Ground:
    """What is watched of one workspace: its folders, and the Git folders whose files tell of commits and switches."""

    workspace: Workspace
    folders: frozenset[str]
    git: str
    common: str


@dataclass(slots=True)
class Burst:
    """What one batch means for one workspace."""

    paths: set[str] = field(default_factory=set)
    remake: bool = False


def build(_section: object, deps: Deps) -> Trigger:
    """The one watcher over all workspaces of `deps` that want watching. Raises `ConfigError` for `/` and the home."""
    watched = [workspace for workspace in deps.workspaces if workspace.watch]
    for workspace in watched:
        if workspace.path in (Path("/"), Path.home()):
            raise ConfigError(
                f"workspace {workspace.name!r}: {workspace.path} is too much to watch",
                fix="name a project folder, or set watch = false",
            )
    return Files(deps, watched)


def watch_problem(folders: int, limit: int) -> str | None:
    """The sentence for `status` and `doctor` when `folders` do not fit into the user's `limit` of inotify watches."""
    if folders <= limit * (100 - HEADROOM) // 100:
        return None
    return (
        f"{folders} folders are to be watched and the kernel allows {limit}: some changes are seen only by the tick "
        f"(raise it: sysctl fs.inotify.max_user_watches={folders * 2}, or ignore folders in [[workspaces]])"
    )


def watch_limit() -> int | None:
    """How many folders this user may watch; None where the kernel does not say."""
    return int(WATCH_LIMIT.read_text()) if WATCH_LIMIT.exists() else None


class Files:
    """Watches until cancelled. `problem` is what `status` should say; `watching` whether changes are seen by now."""

    name = "files"

    def __init__(self, deps: Deps, workspaces: Sequence[Workspace]) -> None:
        self._clock: Clock = deps.clock
        self._intake: Intake = deps.intake
        self._note = deps.note
        self._workspaces = workspaces
        self._missing: set[str] = set()
        self._grounds: list[Ground] = []
        self._roots: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()
        self._count = 0
        self._made_at = -REMAKE_EVERY
        self._begun = False
        self.problem = ""
        self.watching = False

    async def run(self) -> None:
        if not self._workspaces:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._look())

    async def _watch(self) -> None:
        """Makes a watcher, reads it until the folders changed, and makes the next one before letting go of it."""
        reader = await self._make()
        self.watching = True
        try:
            if self._begun:
                await self._report(None)  # it failed, on a full disk for one: what it saw then may never have arrived
            self._begun = True
            while True:
                bursts = await asyncio.to_thread(_read, reader, self._grounds, stop=self._stop)
                if bursts is None or any(burst.remake for burst in bursts.values()):
                    await self._clock.sleep(max(0.0, self._made_at + REMAKE_EVERY - self._clock.monotonic()))
                    old, reader, known = reader, await self._make(), self._grounds
                    bursts = _merge(bursts, _drain(old, known))
                    old.close()
                # Only now: whatever happens after the event was submitted is in the new watcher's sight.
                await self._report(bursts)
        finally:
            self.watching = False
            self._stop.set()  # ends the thread within one step

    async def _make(self) -> RustNotify:
        self._stop = threading.Event()  # a new one: the thread of a cancelled `run` may still have to see the old
        self._made_at = self._clock.monotonic()
        self._roots = {found.name: mark for found in self._workspaces if (mark := _mark(found.path)) is not None}
        present = [workspace for workspace in self._workspaces if workspace.name in self._roots]
        self._tell_missing({workspace.name for workspace in self._workspaces} - set(self._roots))
        self._grounds = await asyncio.to_thread(lambda: [survey(workspace) for workspace in present])
        folders = sorted({folder for ground in self._grounds for folder in ground.folders}, key=lambda f: f.count("/"))
        limit = watch_limit() or len(folders) * 2
        problem = watch_problem(len(folders), limit) or ""
        if problem and not self.problem:
            self._note(Note("watch.limit", data={"problem": problem}))
        self.problem = problem
        # Shallow folders first. The last argument makes it pass over what vanished since the walk.
        kept = folders[: limit * (100 - HEADROOM) // 100]
        return await asyncio.to_thread(RustNotify, kept, False, False, 300, False, True)

    async def _look(self) -> None:
        """Sees what no watcher tells: a root that went or came back, and a machine that slept."""
        seen = self._clock.now()
        while True:
            await self._clock.sleep(LOOK.total_seconds())
            now = self._clock.now()
            stalled, seen = now - seen > STALLED, now
            marks = {workspace.name: _mark(workspace.path) for workspace in self._workspaces}
            if {name: mark for name, mark in marks.items() if mark} != self._roots:
                self._stop.set()  # the reader returns empty-handed, and everything is made anew
            elif stalled:
                await self._report(None)

    async def _report(self, bursts: dict[str, Burst] | None) -> None:
        """Submits an event for each workspace with changes; None means that any of them may have some."""
        now = self._clock.now()
        if bursts is None:
            bursts = {ground.workspace.name: Burst() for ground in self._grounds}
        for name, burst in bursts.items():
            self._count += 1
            await self._intake.submit(draft(name, sorted(burst.paths), key=f"{name}:{now.isoformat()}:{self._count}"))

    def _tell_missing(self, missing: set[str]) -> None:
        for name in sorted(missing ^ self._missing):
            self._note(Note("watch.lost" if name in missing else "watch.back", workspace=name))
        self._missing = missing


def draft(workspace: str, paths: Sequence[str], *, key: str) -> Draft:
    """The event of one burst: how much changed, and the first names. No paths, or a flood: look at everything."""
    if not paths or len(paths) >= FLOOD:
        return Draft("files", "reconcile", key, Tier.LOCAL, workspace, {"count": len(paths)})
    plain = [path for path in paths if is_fact_name(path)][:LISTED]
    odd = [path for path in paths if not is_fact_name(path)][: LISTED - len(plain)]
    facts: dict[str, Json] = {"count": len(paths), "paths": plain}
    if more := len(paths) - len(plain) - len(odd):
        facts["more"] = more
    text = {"paths": "\n".join(path.replace("\n", "\\n") for path in odd)} if odd else {}
    return Draft("files", "changed", key, Tier.LOCAL, workspace, facts, text)


def survey(workspace: Workspace) -> Ground:
    """Lists the folders of `workspace` worth a watch. Symbolic links are not followed. Blocks: call it in a thread."""
    root = str(workspace.path)
    skip = Ignored(workspace.ignore)
    folders: set[str] = set()
    for folder, names, _ in os.walk(root):
        folders.add(folder)
        inside = os.path.relpath(folder, root)
        prefix = "" if inside == "." else inside + "/"
        names[:] = [name for name in names if not skip(prefix + name) and not Path(folder, name).is_symlink()]
    git, common = git_folders(workspace.path)
    if git:
        folders |= {git, common}
        heads = f"{common}/refs/heads"
        for folder, names, _ in os.walk(heads):
            folders.add(folder)
            if folder == heads and "kairos" in names:
                names.remove("kairos")  # our own branches are no news
    return Ground(workspace, frozenset(folder for folder in folders if _encodable(folder)), git, common)


def git_folders(root: Path) -> tuple[str, str]:
    """The folders that hold HEAD and the branches: they differ in a linked worktree. Empty when it is no checkout."""
    place = root / ".git"
    try:
        if place.is_file():
            place = (root / place.read_text().removeprefix("gitdir:").strip()).resolve()
        if not (place / "HEAD").is_file():
            return "", ""
        link = place / "commondir"
        common = (place / link.read_text().strip()).resolve() if link.is_file() else place
    except (OSError, ValueError):
        return "", ""
    return str(place), str(common)


class Ignored:
    """Whether a path (relative, `/`) wakes nobody: heavy folders, editors' scratch files, the workspace's globs.

    A glob without a slash matches any one component; one with a slash matches from the root, and all that lies below.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        self._parts: list[re.Pattern[str]] = []
        self._paths: list[re.Pattern[str]] = []
        for glob in globs:
            meant = glob.rstrip("/").removeprefix("**/")
            known = self._paths if "/" in meant else self._parts
            known.append(re.compile(fnmatch.translate(meant.removeprefix("/").removesuffix("/**"))))

    def __call__(self, path: str) -> bool:
        parts = path.split("/")
        if any(part in HEAVY for part in parts) or SCRATCH.fullmatch(parts[-1]):
            return True
        if any(glob.match(part) for glob in self._parts for part in parts):
            return True
        heads = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)] if self._paths else []
        return any(glob.match(head) for glob in self._paths for head in heads)


def _read(reader: RustNotify, grounds: Sequence[Ground], *, stop: threading.Event) -> dict[str, Burst] | None:
    """Blocks until something of interest happened. None: the watcher broke or was stopped, so anything may have."""
    while True:
        try:
            changes = reader.watch(DEBOUNCE, STEP, 0, stop)
        except WatchfilesRustInternalError:
            return None  # such as a name that is no UTF-8: the reader would repeat this error for ever
        if isinstance(changes, str):
            return None
        if bursts := _sort(changes, grounds):
            return bursts


def _drain(reader: RustNotify, grounds: Sequence[Ground]) -> dict[str, Burst] | None:
    """What a watcher that is about to be closed still holds; None as above."""
    try:
        changes = reader.watch(0, 0, 1, None)
    except WatchfilesRustInternalError:
        return None
    return {} if isinstance(changes, str) else _sort(changes, grounds)


def _merge(first: dict[str, Burst] | None, second: dict[str, Burst] | None) -> dict[str, Burst] | None:
    if first is None or second is None:
        return None
    names = {*first, *second}
    return {name: Burst(first.get(name, Burst()).paths | second.get(name, Burst()).paths) for name in names}


def _sort(changes: set[tuple[int, str]], grounds: Sequence[Ground]) -> dict[str, Burst]:
    skips = [Ignored(ground.workspace.ignore) for ground in grounds]
    bursts: dict[str, Burst] = {}
    for change in changes:
        for ground, skip in zip(grounds, skips, strict=True):
            _sort_in(bursts, change, ground=ground, skip=skip)
    return bursts


def _sort_in(bursts: dict[str, Burst], change: tuple[int, str], *, ground: Ground, skip: Ignored) -> None:
    kind, path = change
    name = _git_name(ground, path) if ground.git else None
    if name is None:
        root = str(ground.workspace.path)
        name = path[len(root) + 1 :] if path.startswith(root + "/") else ""
        if not name or skip(name):
            return
    if name:
        burst = bursts.setdefault(ground.workspace.name, Burst())
        burst.paths.add(name)
        burst.remake |= path in ground.folders if kind == 3 else _is_folder(path) and path not in ground.folders


def _git_name(ground: Ground, path: str) -> str | None:
    """The name to report for a file of Git's; empty when it is of no interest, None when it is none of Git's.

    The index is left out: every `git status` of an editor rewrites it.
    """
    if path == f"{ground.git}/HEAD":
        return ".git/HEAD"
    heads = f"{ground.common}/refs/heads/"
    if path.startswith(heads):
        branch = path[len(heads) :]
        ours = branch == "kairos" or branch.startswith("kairos/")
        return "" if ours or branch.endswith(".lock") else f".git/refs/heads/{branch}"
    if path == f"{ground.common}/packed-refs":
        return ".git/packed-refs"
    return "" if path.startswith((f"{ground.git}/", f"{ground.common}/")) else None


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if path.is_dir() else None


def _is_folder(path: str) -> bool:
    return Path(path).is_dir() and not Path(path).is_symlink()


def _encodable(folder: str) -> bool:
    try:
        folder.encode()
    except UnicodeEncodeError:
        return False  # a name that is no UTF-8 cannot be handed to the watcher; the tick sees below it
    return True
