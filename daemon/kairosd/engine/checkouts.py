"""Checkouts: a run's private clone of a workspace, made from the workspace as it is now, and how its work comes back.

The clone borrows the owner's objects and starts from a *snapshot* commit that holds the uncommitted work too; the
snapshot is what the run's work is compared with, and it never lands. The owner's repository is only read while this is
made: its index is copied, not refreshed, and new objects go to the clone. On disk, one folder a run:

    <run>/meta.json    base, snapshot, and where it came from; written last, outside of what the run can write
    <run>/tree/        the work tree with its `.git`; in the sandbox it is mounted at the workspace's own path
    <run>/land/        the bundle on its way to the owner's repository
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kairosd.core.runs import Run
from kairosd.core.workspaces import Landing, Workspace
from kairosd.engine import direct, landing, snapshots
from kairosd.engine.git import Layout, SandboxedGit, checked, find_layout
from kairosd.engine.landing import Landed
from kairosd.errors import CheckoutError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Files, Git, Mount, Sandbox

__all__ = ["Checkout", "Checkouts", "Landed"]

CALL_TRAILER = "Kairos-Call"
DIFF_MAX = 200_000  # characters
IDENTIFIER = re.compile(r"[A-Za-z0-9_]{1,64}")

# A repository inside of the tree would be recorded as a link to a commit that nobody has; one without a commit makes
# `add` fail. So they are left out, and a link that a commit of the run's own made is taken back.
NESTED = "git ls-files -o --exclude-standard -z | sed -z -n 's,/$,,p'"
ADD = f"""
add_all() {{
  {NESTED} > /tmp/nested
  {{ printf ':/\\0'; sed -z 's/^/:(top,exclude,literal)/' /tmp/nested; }} > /tmp/wanted
  git add "$@" --pathspec-from-file=/tmp/wanted --pathspec-file-nul
}}
"""
# A kill in the middle leaves git's locks; whoever held them died with its sandbox, and a checkout has one run.
COMMIT = (
    ADD
    + """
rm -f .git/index.lock .git/HEAD.lock .git/refs/heads/kairos/run.lock
range=HEAD; [ -z "$SNAPSHOT" ] || range="$SNAPSHOT..HEAD"
if [ -n "$CALL" ] && git rev-parse -q --verify HEAD >/dev/null; then
  found=$(git log -1 --format=%H --fixed-strings --grep="Kairos-Call: $CALL" $range)
  if [ -n "$found" ]; then echo "$found"; exit 0; fi
fi
[ -n "$MAY_COMMIT" ] || exit 0
add_all -A
git ls-files -s -z | sed -z -n 's/^160000 [^\t]*\t//p' | git update-index -z --force-remove --stdin
if git rev-parse -q --verify HEAD >/dev/null; then
  ! git diff --cached --quiet --no-ext-diff HEAD || exit 0
else
  [ -n "$(git ls-files | head -n 1)" ] || exit 0
fi
git commit -q --no-verify --no-gpg-sign --cleanup=whitespace -F -
git rev-parse HEAD
"""
)
DIFF = (
    ADD
    + """
export GIT_INDEX_FILE=/tmp/index
cp .git/index "$GIT_INDEX_FILE" 2>/dev/null || true
add_all -A -N
git diff --no-ext-diff --no-textconv "${SNAPSHOT:-$(git hash-object -t tree /dev/null)}"
"""
)


@frozen
class Checkout:
    """A run's clone. `path` is its folder on the host; `base` the owner's HEAD, `snapshot` the commit it started from.

    Both are "" for a repository without a commit (and, for the snapshot, without a file).
    """

    path: Path
    base: str
    snapshot: str


class Checkouts:
    """Makes, commits, lands and removes checkouts.

    `folder` and `patches` are Kairos's own; a job mounts single checkouts out of `folder`, never the folder itself.
    """

    def __init__(self, sandbox: Sandbox, files: Files, *, folder: Path, patches: Path, clock: Clock) -> None:
        self._sandbox = sandbox
        self._files = files
        self._folder = folder
        self._patches = patches
        self._clock = clock

    async def ensure(self, run: Run, workspace: Workspace) -> Checkout:
        """The run's checkout, made now unless it is there. Raises `CheckoutError` with the reason it cannot be made."""
        place = self._place(run.id)
        if _meta(place) is None:
            layout = await self._layout(workspace)
            half = place.with_name(place.name + ".tmp")
            await asyncio.to_thread(_remove, half)
            await asyncio.to_thread(_remove, place)
            snapshot = snapshots.Snapshot(self._sandbox, layout, workspace=workspace, now=self._clock.now())
            base, made = await snapshot.make(half / "tree")
            meta = {"base": base, "snapshot": made, "workspace": str(workspace.path)}
            await asyncio.to_thread(_complete, half, place=place, meta=meta)
        return self._read(run)

    def mounts(self, run: Run, workspace: Workspace, *, files: bool, history: bool) -> tuple[Mount, ...]:
        """How a sandbox sees the checkout, at the workspace's own path; whether `files` and `history` are writable.

        History is `.git`, of which what runs code or leads elsewhere is read-only even then. Blocks.
        """
        tree = self._place(run.id) / "tree"
        return _mounts(tree, workspace, borrowed=self._borrowed(workspace), writable=(files, history))

    def git(self, run: Run, workspace: Workspace, *, masked: Sequence[Path] = ()) -> Git:
        """git on the checkout, mounted at the workspace's own path; what runs code or leads elsewhere is read-only."""
        return self._git(run, workspace, masked=tuple(masked))

    async def commit(  # the owner's name, and what the run says of itself
        self, run: Run, workspace: Workspace, *, message: str, author: tuple[str, str], trailers: Mapping[str, str]
    ) -> str | None:
        """Commits everything; the commit's id, or None when there is nothing to commit.

        With the trailer `Kairos-Call`, a commit that has it already is returned instead: twice is once.
        """
        lines = [f"{name}: {' '.join(value.split())}" for name, value in trailers.items()]
        text = message.strip() + "\n\n" + "\n".join(lines) + "\n"
        name, email = author
        moment = snapshots.committer(self._clock.now())["GIT_COMMITTER_DATE"]
        variables = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_AUTHOR_DATE": moment, "MAY_COMMIT": "yes"}
        return await self._commit(run, workspace, call=trailers.get(CALL_TRAILER, ""), text=text, variables=variables)

    async def find_commit(self, run: Run, workspace: Workspace, *, call: str) -> str | None:
        """The commit that the tool call made, if it did: what a probe asks after a crash."""
        if _meta(self._place(run.id)) is None:
            return None
        return await self._commit(run, workspace, call=call, text="", variables={"MAY_COMMIT": ""})

    async def nested(self, run: Run, workspace: Workspace) -> tuple[str, ...]:
        """The repositories that the run made inside of its checkout; no commit holds them. Raises `CheckoutError`."""
        output = (await self._git(run, workspace).script(NESTED, {})).decode(errors="surrogateescape")
        return tuple(output.split("\0")[:-1])

    async def land(self, run: Run, workspace: Workspace, *, slug: str) -> Landed:
        """Brings the run's commits to the owner: as a branch `kairos/<slug>`, else as a patch file that says why.

        Committing what is left over is the caller's. Landing twice gives one branch. Raises `CheckoutError`.
        """
        checkout = self._read(run)
        where = landing.Place(self._place(run.id), self._patches / f"{run.id}.patch", workspace)
        work = self._git(run, workspace)
        branch = workspace.landing is not Landing.PATCH
        layout = await self._layout(workspace)
        lander = landing.Lander(work, layout, place=where, base=checkout.base, snapshot=checkout.snapshot)
        return await lander.land(slug, as_branch=branch)

    async def changes(self, run: Run, workspace: Workspace) -> direct.Changes:
        """What the run's commits changed, and which of it is still so in the workspace. Raises `CheckoutError`."""
        checkout = self._read(run)
        changed = await direct.changes_of(self._git(run, workspace), checkout.snapshot)
        owner = self._owner(await self._layout(workspace))
        unchanged = await direct.unchanged_of(owner, self._files, changes=changed)
        return direct.Changes(checkout.path, changed, unchanged)

    async def landed(self, run: Run, workspace: Workspace, *, slug: str, commit: str) -> bool:
        """Whether a branch of ours holds `commit`, or the run's patch is written: what a probe asks after a crash."""
        if (self._patches / f"{run.id}.patch").is_file():
            return True
        layout = await self._layout(workspace)
        names = await landing.branches(self._owner(layout), slug=slug)
        return commit in names.values()

    async def diff(self, run: Run, workspace: Workspace) -> str:
        """What the run changed so far, committed or not, as one diff of at most 200,000 characters."""
        checkout = self._read(run)
        git = self._git(run, workspace)
        output = await git.script(DIFF, {"SNAPSHOT": checkout.snapshot})
        text = output.decode(errors="replace")
        return text if len(text) <= DIFF_MAX else text[:DIFF_MAX] + "\n(the diff goes on)\n"

    async def changed(self, run: Run, workspace: Workspace) -> tuple[direct.Change, ...]:
        """What the run's commits changed. Raises `CheckoutError`."""
        return await direct.changes_of(self._git(run, workspace), self._read(run).snapshot)

    async def passed(self, run: Run, workspace: Workspace) -> tuple[direct.Change, ...]:
        """What each of the run's commits changed, the newest first. Raises `CheckoutError`."""
        given = {"SNAPSHOT": self._read(run).snapshot}
        return direct.read_raw(await self._git(run, workspace).script(landing.PASSED, given))

    async def digests(self, run: Run, workspace: Workspace, *, paths: Sequence[str]) -> Mapping[str, str]:
        """SHA-256 (hex) of those files as they are committed; the tree may hold something else by now."""
        names = "".join(f"{path}\0" for path in paths).encode(errors="surrogateescape")
        output = await self._git(run, workspace).script(landing.CONTENTS, {}, stdin=names)
        lines = output.decode().splitlines()
        return {path: line.split()[0] for path, line in zip(paths, lines, strict=True)}

    async def diff_of(self, run: Run, workspace: Workspace, *, paths: Sequence[str]) -> str:
        """What the run's commits made of those paths, whole."""
        given, names = {"SNAPSHOT": self._read(run).snapshot}, "".join(f"{path}\0" for path in paths)
        git = self._git(run, workspace)
        output = await git.script(landing.CHANGES_OF, given, stdin=names.encode(errors="surrogateescape"))
        return output.decode(errors="replace")

    async def take_out(self, run: Run, workspace: Workspace, *, paths: Sequence[str]) -> None:
        """Gives those paths back what they were when the run began, in its files and in its commits, now one."""
        given, names = {"SNAPSHOT": self._read(run).snapshot}, "".join(f"{path}\0" for path in paths)
        await self._git(run, workspace).script(landing.TAKE_OUT, given, stdin=names.encode(errors="surrogateescape"))

    async def keep_base(self, run: Run, workspace: Workspace) -> None:
        """Names the base in the owner's repository while the run is parked, lest a gc prune what it borrows."""
        base = self._read(run).base
        if base:
            layout = await self._layout(workspace)
            await landing.writing(self._owner(layout), layout).script(
                'git update-ref "refs/kairos/base/$RUN" "$BASE"', {"RUN": run.id, "BASE": base}
            )

    async def drop_base(self, run: Run, workspace: Workspace) -> None:
        """Takes that name away again; nothing happens where there is none."""
        layout = await self._layout(workspace)
        await landing.writing(self._owner(layout), layout, deleting=True).script(
            'git update-ref -d "refs/kairos/base/$RUN"', {"RUN": run.id}
        )

    async def kept_bases(self, workspace: Workspace) -> tuple[str, ...]:
        """The ids of the runs whose base is named in the owner's repository; of other homes of Kairos too."""
        layout = await asyncio.to_thread(find_layout, self._files, workspace.path)
        # Looked for every day in every workspace, and seldom there: the files tell without starting a program.
        if layout is None or not await asyncio.to_thread(_may_name_bases, layout.common):
            return ()
        listed = await self._owner(layout)("for-each-ref", "--format=%(refname:strip=3)", "refs/kairos/base/")
        return tuple(checked(listed).decode(errors="replace").split())

    def exists(self, run: Run) -> bool:
        """Whether the run's checkout is there."""
        return _meta(self._place(run.id)) is not None

    async def owner(self, workspace: Workspace) -> tuple[SandboxedGit, Layout]:
        """git on the owner's own repository, reading only, and where its parts lie. Raises `CheckoutError`."""
        layout = await self._layout(workspace)
        return self._owner(layout), layout

    async def discard(self, run: Run) -> None:
        """Removes the checkout, whole or half-made."""
        place = self._place(run.id)
        for folder in (place, place.with_name(place.name + ".tmp")):
            await asyncio.to_thread(_remove, folder)

    async def prune(self, older_than: datetime, *, keep: Collection[str] = ()) -> tuple[str, ...]:
        """Removes the checkouts made before `older_than`, except of the runs in `keep`; the runs' ids."""
        gone: list[str] = []
        for folder in sorted(self._folder.iterdir()) if self._folder.is_dir() else ():
            made = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
            if folder.name.removesuffix(".tmp") not in keep and made < older_than:
                await asyncio.to_thread(_remove, folder)
                gone.append(folder.name.removesuffix(".tmp"))
        return tuple(gone)

    def _place(self, run: str) -> Path:
        if not IDENTIFIER.fullmatch(run):
            raise CheckoutError(f"{run!r} is not the id of a run")
        return self._folder / run

    def _read(self, run: Run) -> Checkout:
        place = self._place(run.id)
        meta = _meta(place)
        if meta is None:
            raise CheckoutError(f"the checkout of {run.id} is gone")
        return Checkout(place / "tree", meta["base"], meta["snapshot"])

    async def _layout(self, workspace: Workspace) -> Layout:
        layout = await asyncio.to_thread(find_layout, self._files, workspace.path)
        if layout is None and not await asyncio.to_thread(workspace.path.is_dir):
            raise CheckoutError(f"{workspace.path} is not there", fix="put it back, or mount its disk")
        if layout is None:
            raise CheckoutError(
                f"edits need a git checkout, and {workspace.path} is not the root of one",
                fix=f"run git init in {workspace.path}, or let the workspace be the repository's own folder",
            )
        return layout

    def _owner(self, layout: Layout) -> SandboxedGit:
        return SandboxedGit(self._sandbox, layout.worktree, layout.mounts(), layout.mounts())

    def _git(self, run: Run, workspace: Workspace, *, masked: tuple[Path, ...] = ()) -> SandboxedGit:
        reading, writing = (self.mounts(run, workspace, files=each, history=each) for each in (False, True))
        hidden = (*masked, *snapshots.borrowing(reading))
        committer = snapshots.committer(self._clock.now())
        return SandboxedGit(self._sandbox, workspace.path, reading, writing, hidden, committer)

    def _borrowed(self, workspace: Workspace) -> tuple[Path, ...]:
        layout = find_layout(self._files, workspace.path)
        return layout.objects if layout is not None else ()

    async def _commit(
        self, run: Run, workspace: Workspace, *, call: str, text: str, variables: Mapping[str, str]
    ) -> str | None:
        git = self._git(run, workspace)
        given = {**variables, "CALL": call, "SNAPSHOT": self._read(run).snapshot}
        return (await git.script(COMMIT, given, stdin=text.encode(errors="surrogateescape"))).decode().strip() or None


def _mounts(
    tree: Path, workspace: Workspace, *, borrowed: Sequence[Path], writable: tuple[bool, bool]
) -> tuple[Mount, ...]:
    root, (files, history) = workspace.path, writable
    # What is mounted can be neither renamed nor replaced. So `.git` and `objects` are mounts of their own: a link in
    # their place would lead the next sandbox, which is told to mount what is in them, anywhere on the host.
    mounts = [Mount(tree, root, files)]
    mounts += [Mount(tree / name, root / name, history) for name in (".git", ".git/objects")]
    for name in snapshots.GUARDED:
        mounts.append(Mount(tree / ".git" / name, root / ".git" / name))
    mounts += [Mount(folder, snapshots.borrowed_at(number)) for number, folder in enumerate(borrowed)]
    for name in snapshots.shared_folders(workspace):
        if (tree / name).is_dir() and not (tree / name).is_symlink():
            mounts.append(Mount(root / name, root / name))
    return tuple(mounts)


def _may_name_bases(common: Path) -> bool:
    """Whether a repository may have `refs/kairos/base/…`; refs in a format that is not plain files always may."""
    if (common / "reftable").exists() or any((common / "refs/kairos/base").glob("*")):
        return True
    packed = common / "packed-refs"
    return packed.is_file() and b" refs/kairos/base/" in packed.read_bytes()


def _meta(place: Path) -> dict[str, str] | None:
    try:
        meta: dict[str, str] = json.loads((place / "meta.json").read_text())
    except (OSError, ValueError):
        return None  # not made yet, or torn by a power cut: made anew
    return meta


def _complete(half: Path, *, place: Path, meta: Mapping[str, str]) -> None:
    """Gives a checkout its name once it is whole and on disk; nothing else has that name."""
    with (half / "meta.json").open("w") as file:
        file.write(json.dumps(meta))
        file.flush()
        os.fsync(file.fileno())
    half.rename(place)
    folder = os.open(place.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _remove(folder: Path) -> None:
    if not folder.is_dir():
        return
    try:
        shutil.rmtree(folder)
    except PermissionError:  # a program took a folder's own permissions away
        for path in (folder, *(each for each in folder.rglob("*") if each.is_dir() and not each.is_symlink())):
            path.chmod(0o700)
        shutil.rmtree(folder)
