"""Undo: takes back what a run left on this machine, all of it or nothing, and lists what has left the machine.

an unlanded checkout        is dropped
a branch not merged yet     is deleted; one that has commits of somebody else on it is not
a branch merged already     is reverted on a branch of its own, `kairos/undo-…`, which the owner merges
a patch file                is deleted
direct edits                get their old content and mode back, if nobody has changed the files since
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kairosd.core.journal import Note
from kairosd.core.json import JsonObject
from kairosd.core.notices import NoticeState
from kairosd.core.runs import ENDED, Run
from kairosd.core.workspaces import Workspace
from kairosd.engine import direct, landing, snapshots
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.direct import DirectLanding, Piece
from kairosd.engine.handover import LAND
from kairosd.errors import UndoRefusedError, UsageError
from kairosd.ports import Clock, Files, Query, Stores

DIFF_MAX = 50_000  # characters of a diff that says why not
NOTICES_MAX = 10_000
UNDONE, UNDONE_MAX = "undone", 1000  # the state that says when runs were undone
PAST, FUTURE = "d", ""  # of the verbs in the sentences

# Where the branch is, and whether its commits are part of anything but itself. `merged` is the branch to revert on.
LOOK = """
tip=$(git rev-parse -q --verify "refs/heads/$BRANCH^{commit}" || true)
head=$(git symbolic-ref -q --short HEAD || true)
merged=
if git merge-base --is-ancestor "$COMMIT" HEAD 2>/dev/null && [ "$head" != "$BRANCH" ]; then merged=HEAD
else
  merged=$(git for-each-ref --contains "$COMMIT" --format='%(refname)' refs/heads |
    grep -vxF "refs/heads/$BRANCH" | grep -v '^refs/heads/kairos/' | head -n 1 || true)
fi
oldest=$(git log --format=%H --fixed-strings --grep="$RUN" "$COMMIT" 2>/dev/null | tail -n 1)
printf '%s\\n' "$tip" "$head" "$merged" "${oldest:-$COMMIT}"
"""
EXTRA = 'git diff --no-ext-diff --no-textconv "$COMMIT" "refs/heads/$BRANCH"'
DELETE = 'git update-ref -d "refs/heads/$BRANCH" "$COMMIT"'
REVERT = """
if git rev-parse -q --verify "refs/heads/$UNDO" >/dev/null; then exit 0; fi
export GIT_INDEX_FILE=/tmp/index
before=$(git rev-parse -q --verify "$OLDEST^" || git hash-object -t tree /dev/null)
onto=$(git rev-parse "$ONTO^{commit}")
git read-tree "$onto"
git diff --binary --full-index --no-ext-diff --no-textconv "$COMMIT" "$before" > /tmp/patch
if ! git apply --cached --3way --whitespace=nowarn /tmp/patch 2>/tmp/said || [ -n "$(git ls-files -u)" ]; then
  echo conflict
  exit 0
fi
git -c core.logAllRefUpdates=false update-ref "refs/heads/$UNDO" "$(git commit-tree "$(git write-tree)" -p "$onto")" ''
"""


@dataclass
class _Found:
    """What is there to take back, found before anything is."""

    branch: str = ""
    onto: str = ""
    oldest: str = ""
    patch: Path | None = None
    pieces: list[Piece] = field(default_factory=list)
    checkout: bool = False


class Undo:
    """Takes back what runs did."""

    def __init__(
        self, stores: Stores, clock: Clock, *, checkouts: Checkouts, files: Files, workspaces: Mapping[str, Workspace]
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._checkouts = checkouts
        self._files = files
        self._workspaces = workspaces

    async def undo(self, run: str, *, dry_run: bool) -> JsonObject:
        """`{run, undone: [...], left_the_machine: [...], dry_run}`, a sentence each.

        Raises `UndoRefusedError`, with a diff where somebody has worked on it since; then nothing was changed.
        """
        found = await self._stores.runs.get(run)
        workspace = self._workspaces.get(found.workspace)
        if found.state not in ENDED:
            raise UsageError(f"{found.id} has not ended", fix=f"kairos stop {found.id}, then undo it")
        if workspace is None:
            fix = f"kairos workspace add PATH, with the name {found.workspace}"
            raise UndoRefusedError(f"its workspace {found.workspace} is not watched any more", fix=fix)
        plan = await self._look(found, workspace)
        did = _sentences(plan, FUTURE) if dry_run else await self._carry_out(found, workspace, plan=plan)
        left = await self._left(found)
        if not dry_run:
            await self._write_down(found, did)
        return {"run": found.id, "undone": list(did), "left_the_machine": list(left), "dry_run": dry_run}

    async def undone(self) -> Mapping[str, str]:
        """When runs were undone, by their ids; the oldest of a thousand are forgotten."""
        known = await self._stores.state.get(UNDONE)
        return {run: str(at) for run, at in known.items()} if isinstance(known, Mapping) else {}

    async def _write_down(self, run: Run, did: Sequence[str]) -> None:
        now = self._clock.now()
        known = {**await self.undone(), run.id: now.isoformat()}
        kept = dict(sorted(known.items(), key=lambda each: each[1])[-UNDONE_MAX:])
        note = Note("run.undone", run.id, workspace=run.workspace, data={"undone": list(did)})
        await self._stores.state.put(UNDONE, kept, note=note, now=now)

    async def _look(self, run: Run, workspace: Workspace) -> _Found:
        found = _Found()
        if run.branch and run.commit:
            await self._look_at_branch(run, workspace, found=found)
        found.patch = await asyncio.to_thread(_there, run.patch)
        for call in await self._stores.runs.calls(run.id):
            if call.tool == LAND:
                found.pieces += direct.from_plan(call.plan) or ()
        found.pieces = [piece for piece in found.pieces if await self._is_ours(piece, workspace)]
        found.checkout = await asyncio.to_thread(self._checkouts.exists, run)
        return found

    async def _look_at_branch(self, run: Run, workspace: Workspace, *, found: _Found) -> None:
        owner, _ = await self._checkouts.owner(workspace)
        names = {"BRANCH": str(run.branch), "COMMIT": str(run.commit), "RUN": run.id}
        tip, head, merged, oldest = (await owner.script(LOOK, names)).decode(errors="replace").split("\n")[:4]
        if merged:
            found.onto, found.oldest = merged, oldest
        elif tip and tip != run.commit:
            diff = (await owner.script(EXTRA, names)).decode(errors="replace")
            raise UndoRefusedError(
                f"{run.branch} has commits that are not the run's:\n{_cut(diff)}", fix=f"git branch -D {run.branch}"
            )
        elif tip and head == run.branch:
            raise UndoRefusedError(f"{run.branch} is checked out", fix="git switch to another branch first")
        elif tip:
            found.branch = str(run.branch)

    async def _is_ours(self, piece: Piece, workspace: Workspace) -> bool:
        """Whether the file is still as the run left it; False where it is as it was before. Raises otherwise."""

        def look() -> tuple[str | None, int | None]:
            root = workspace.path
            return self._files.digest(root, piece.path), self._files.mode(root, piece.path)

        now, mode = await asyncio.to_thread(look)
        if piece.is_written(now, mode):
            return True
        if now == piece.before:
            return False
        diff = await asyncio.to_thread(self._difference, piece, workspace.path)
        raise UndoRefusedError(
            f"{piece.path} has changed since the run; from before the run until now:\n{_cut(diff)}",
            fix="take back by hand what you want to",
        )

    def _difference(self, piece: Piece, root: Path) -> str:
        """From what the file was before the run to what it is now."""
        before = self._stores.blobs.get(piece.before) if piece.before else b""
        now = b"" if self._files.digest(root, piece.path) is None else self._files.read(root, piece.path, limit=10**6)
        return unified(before, now, path=piece.path)

    async def _carry_out(self, run: Run, workspace: Workspace, *, plan: _Found) -> Sequence[str]:
        written = DirectLanding(self._files, self._stores.blobs, root=workspace.path)
        for kept in {piece.before for piece in plan.pieces if piece.before}:
            await asyncio.to_thread(self._stores.blobs.get, kept)  # that it is there, before anything is changed
        did = _sentences(plan, PAST)
        if plan.onto:
            did[0] = await self._revert(run, workspace, plan=plan)
        if plan.branch:
            owner, layout = await self._checkouts.owner(workspace)
            names = {"BRANCH": plan.branch, "COMMIT": str(run.commit)}
            await landing.writing(owner, layout, deleting=True).script(DELETE, names)
        for piece in plan.pieces:
            await asyncio.to_thread(written.restore, piece)
        if plan.patch is not None:
            plan.patch.unlink(missing_ok=True)
        if plan.checkout:
            await self._checkouts.discard(run)
        return did

    async def _revert(self, run: Run, workspace: Workspace, *, plan: _Found) -> str:
        owner, layout = await self._checkouts.owner(workspace)
        name = f"kairos/undo-{landing.slugged(str(run.branch).removeprefix('kairos/'))}-{run.id[-6:]}"
        said = f'Undo "{run.goal.splitlines()[0][:60]}"\n\nTakes back what the run {run.id} of Kairos did.\n'
        committer = snapshots.committer(self._clock.now())
        authored = {**committer, **{key.replace("COMMITTER", "AUTHOR"): value for key, value in committer.items()}}
        names = {"COMMIT": str(run.commit), "OLDEST": plan.oldest, "ONTO": plan.onto, "UNDO": name}
        git = landing.writing(owner, layout)
        output = (await git.script(REVERT, {**names, **authored}, stdin=said.encode())).decode().strip()
        if output == "conflict":
            raise UndoRefusedError(
                "what was built on it since cannot be told apart from it", fix=f"git revert {run.commit}, by hand"
            )
        return f"made the branch {name}, which takes it back: git merge {name}"

    async def _left(self, run: Run) -> Sequence[str]:
        """What is no longer only here: notices that were delivered, and what models were shown."""
        calls = await self._stores.model_calls.of(run.id)
        models = sorted({str(call["model"]) for call in calls})
        told = [f"{len(calls)} prompts to {', '.join(models)}"] if calls else []
        # A notice that asks names its question as the cause.
        causes = {run.id, *(one.id for one in await self._stores.approvals.of_run(run.id))}
        query = Query(state=NoticeState.DELIVERED.value, since=run.created, limit=NOTICES_MAX)
        notices = await self._stores.notices.find(query)
        mine = [notice for notice in notices if notice.cause in causes and notice.channel != "log"]
        return [*told, *(f"notice {one.id} to {one.channel} ({one.receipt or 'no receipt'})" for one in mine)]


def unified(before: bytes, after: bytes, *, path: str) -> str:
    """A unified diff of two contents, as text."""
    old, new = (content.decode("utf-8", "replace").splitlines(keepends=True) for content in (before, after))
    difflib = importlib.import_module("difflib")  # half a megabyte that hardly any daemon's life needs
    return "".join(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}"))


def _there(patch: str | None) -> Path | None:
    return Path(patch) if patch and Path(patch).is_file() else None


def _sentences(found: _Found, tense: str) -> list[str]:
    did = []
    if found.onto:
        did.append("make a branch that takes back what the merged one brought")  # in the past it has a name
    if found.branch:
        did.append(f"delete{tense} the branch {found.branch}")
    did += [f"{'remove' if piece.before is None else 'restore'}{tense} {piece.path}" for piece in found.pieces]
    if found.patch is not None:
        did.append(f"delete{tense} {found.patch}")
    if found.checkout:
        did.append("dropped the private checkout" if tense else "drop the private checkout")
    return did


def _cut(diff: str) -> str:
    return diff if len(diff) <= DIFF_MAX else diff[:DIFF_MAX] + "\n(the diff goes on)\n"
