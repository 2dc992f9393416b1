"""Direct landing: a run's changes are written into the owner's own files, and what they replace is kept.

Only where the workspace says `landing = "direct"` and the level covers it. Everything is looked at before anything is
written: each file must still be what the run started from, and no protected, secret or unusual file is among them;
else the work lands as a branch. What will be replaced is in the ledger and on disk before the first write, so a crash
in the middle is finished, a file that cannot be written lets the others be taken back, and so can `kairos undo`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from kairosd.core.json import Json, JsonObject
from kairosd.core.levels import LEVELS, Level, Permission, Ruling, judge_taint
from kairosd.core.paths import matches
from kairosd.core.policy import Policy
from kairosd.core.runs import Run
from kairosd.core.workspaces import Landing, Workspace
from kairosd.engine.git import SandboxedGit
from kairosd.errors import CheckoutError, NotFoundError, ToolError
from kairosd.frozen import frozen
from kairosd.ports import Blobs, Files

CHANGES = """
git rev-parse -q --verify HEAD >/dev/null || exit 0
git diff --no-ext-diff --no-textconv --no-renames --raw -z --no-abbrev \
  "${SNAPSHOT:-$(git hash-object -t tree /dev/null)}" HEAD
"""
FILES_MAX = 500
FILE_MAX = 20_000_000  # bytes
PLAIN = ("100644", "100755")
ABSENT = "000000"


@frozen
class Piece:
    """One file of a direct landing: SHA-256 and permissions before and after; None = there is no file."""

    path: str
    before: str | None
    after: str | None
    before_mode: int | None
    after_mode: int | None

    def is_written(self, digest: str | None, mode: int | None) -> bool:
        """Whether a file of that content and those permissions is what the landing makes of it."""
        return digest == self.after and (digest is None or mode == self.after_mode)


@frozen
class Change:
    """One file that a run changed, as git tells it: modes such as 100644, and the blobs before and after."""

    path: str
    old_mode: str
    new_mode: str
    old_blob: str
    new_blob: str = ""


@frozen
class Changes:
    """What a run changed in its checkout `tree`; `unchanged` are the paths that are still so in the owner's files."""

    tree: Path
    changes: tuple[Change, ...]
    unchanged: frozenset[str]


def wanted(run: Run, workspace: Workspace, *, level: Level) -> bool:
    """Whether this run's work goes into the owner's own files: the workspace says so, and level and taint cover it.

    `level` is the run's as it counts now.
    """
    covered = Permission.DIRECT in LEVELS[level]
    clean = judge_taint(run.taint, Permission.DIRECT).ruling is Ruling.ALLOW
    return workspace.landing is Landing.DIRECT and covered and clean


class DirectLanding:
    """Writes a run's changes into `root`, the owner's own checkout."""

    def __init__(self, files: Files, blobs: Blobs, *, root: Path) -> None:
        self._files = files
        self._blobs = blobs
        self._root = root

    async def plan(self, found: Changes, policy: Policy) -> tuple[Piece, ...]:
        """What will be written, with every old content kept already.

        Raises `CheckoutError` with the reason it cannot be done, and then nothing was changed.
        """
        if len(found.changes) > FILES_MAX:
            raise CheckoutError(f"{len(found.changes)} files are too many to be written directly")
        for change in found.changes:
            self._refuse(change, found.unchanged, policy=policy)
        return tuple([await asyncio.to_thread(self._piece, change, found.tree) for change in found.changes])

    async def apply(self, pieces: Sequence[Piece], tree: Path) -> None:
        """Writes what `plan` made, the same way each time. Raises `CheckoutError` for a file that changed meanwhile."""
        for piece in pieces:
            await asyncio.to_thread(self._apply, piece, tree)

    async def take_back(self, pieces: Sequence[Piece]) -> tuple[Piece, ...]:
        """Gives the files that `apply` has written what they held before; those pieces where that cannot be done."""
        return tuple([piece for piece in pieces if not await asyncio.to_thread(self._take_back, piece)])

    def restore(self, piece: Piece) -> None:
        """Gives a file what it held before. Blocks. Raises `ToolError`; `NotFoundError` where that is not kept."""
        if piece.before is None:
            return self._files.remove(self._root, piece.path)
        content = self._blobs.get(piece.before)
        return self._files.replace(self._root, piece.path, content=content, mode=piece.before_mode)

    @staticmethod
    def _refuse(change: Change, unchanged: frozenset[str], *, policy: Policy) -> None:
        path = change.path
        if matches(path, policy.protected_paths) or matches(path, policy.secret_paths):
            raise CheckoutError(f"{path} is protected")
        if change.old_mode not in (*PLAIN, ABSENT) or change.new_mode not in (*PLAIN, ABSENT):
            raise CheckoutError(f"{path} is a link or no plain file")
        if path not in unchanged:
            raise CheckoutError(f"{path} has changed since the run began")

    def _piece(self, change: Change, tree: Path) -> Piece:
        try:
            before_mode = self._files.mode(self._root, change.path)
            before = None if before_mode is None else self._keep(change.path)
            if change.new_mode == ABSENT:
                return Piece(change.path, before, None, before_mode, None)
            content = _whole(self._files, tree, path=change.path)
        except ToolError as error:
            raise CheckoutError(str(error)) from error
        mode = (0o644 if before_mode is None else before_mode) & 0o666
        if change.new_mode == PLAIN[1]:
            mode |= mode >> 2 & 0o111  # whoever may read it may run it, as git does
        return Piece(change.path, before, _sha(content), before_mode, mode)

    def _keep(self, path: str) -> str:
        return self._blobs.put(_whole(self._files, self._root, path=path))

    def _is_written(self, piece: Piece) -> bool:
        return piece.is_written(self._files.digest(self._root, piece.path), self._files.mode(self._root, piece.path))

    def _take_back(self, piece: Piece) -> bool:
        try:
            if self._is_written(piece):
                self.restore(piece)
        except (ToolError, NotFoundError):
            return False
        return True

    def _apply(self, piece: Piece, tree: Path) -> None:
        try:
            if self._is_written(piece):
                return None
            if self._files.digest(self._root, piece.path) not in (piece.before, piece.after):
                raise CheckoutError(f"{piece.path} was changed while the run's work was being written")
            if piece.after is None:
                return self._files.remove(self._root, piece.path)
            content = _whole(self._files, tree, path=piece.path)
            if _sha(content) != piece.after:
                raise CheckoutError(f"{piece.path} of the checkout has changed since it was planned")
            self._files.replace(self._root, piece.path, content=content, mode=piece.after_mode)
        except ToolError as error:
            raise CheckoutError(str(error)) from error


async def changes_of(work: SandboxedGit, snapshot: str) -> tuple[Change, ...]:
    """What the commits of a checkout changed since its snapshot. Raises `CheckoutError`."""
    return read_raw(await work.script(CHANGES, {"SNAPSHOT": snapshot}))


def read_raw(output: bytes) -> tuple[Change, ...]:
    """What git tells with `--raw -z --no-abbrev`."""
    entries = output.decode(errors="surrogateescape").split("\0")[:-1]
    found = []
    for told, path in zip(entries[::2], entries[1::2], strict=True):
        old_mode, new_mode, old_blob, new_blob, _ = told.removeprefix(":").split(" ")
        found.append(Change(path, old_mode, new_mode, old_blob, new_blob))
    return tuple(found)


async def unchanged_of(owner: SandboxedGit, files: Files, *, changes: Sequence[Change]) -> frozenset[str]:
    """The paths whose file in the owner's checkout is still what the run started from."""
    there, absent = [], set()
    for change in changes:
        found = await asyncio.to_thread(_is_there, files, owner.folder, path=change.path)
        if found and "\n" not in change.path:
            there.append(change)
        elif found is False and change.old_mode == ABSENT:
            absent.add(change.path)
    if not there:
        return frozenset(absent)
    listed = "\n".join(change.path for change in there).encode(errors="surrogateescape")
    blobs = (await owner.script("git hash-object --stdin-paths", {}, stdin=listed)).decode().split()
    same = {change.path for change, blob in zip(there, blobs, strict=True) if blob == change.old_blob}
    return frozenset(absent | same)


def _is_there(files: Files, root: Path, *, path: str) -> bool | None:
    """Whether a plain file is there; None for anything else, and where a link is on the way."""
    try:
        if files.resolve(root, path) != path:
            return None
        if files.mode(root, path) is not None:
            return True
    except ToolError:
        return None
    return None if os.path.lexists(root / path) else False


def to_plan(pieces: Sequence[Piece]) -> JsonObject:
    """The pieces as the ledger keeps them."""
    return {"direct": [cast("dict[str, Json]", asdict(piece)) for piece in pieces]}


def from_plan(plan: JsonObject | None) -> tuple[Piece, ...] | None:
    """The pieces of a plan that `to_plan` made; None for any other plan."""
    listed = (plan or {}).get("direct")
    if not isinstance(listed, (list, tuple)):
        return None
    return tuple(Piece(**one) for one in listed)


def _whole(files: Files, root: Path, *, path: str) -> bytes:
    content = files.read(root, path, limit=FILE_MAX + 1)
    if len(content) > FILE_MAX:
        raise ToolError(f"{path} is larger than {FILE_MAX // 1_000_000} MB")
    return content


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
