"""Landing: how a run's commits come back to the owner, as a branch of theirs or as a patch file.

Two steps, each in a sandbox of its own. First, beside the checkout alone, the commits are moved from the snapshot
onto the owner's HEAD and packed into a bundle: git reads what the run may have written, and the owner's repository is
only lent. Then, with the bundle as a plain file and nothing else of the run, git fetches it into the owner's
repository, of which the objects and the refs are writable and the rest (configuration, hooks, HEAD, index) is not.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from kairosd.core.workspaces import Workspace
from kairosd.engine.git import Layout, SandboxedGit
from kairosd.errors import CheckoutError
from kairosd.frozen import frozen
from kairosd.ports import Mount

LAND = Path("/run/kairos/land")
SLUG_MAX = 50
TRIES = 100  # names of the form slug, slug-2, …
KEPT = ("config", "config.worktree", "hooks", "info", "HEAD", "index")

# With uncommitted work below them, the commits are replayed by three-way patches on an index of their own: no work tree
# is touched, no rebase can be left half-way, and the same commits come out the same each time.
MOVE = """
export GIT_INDEX_FILE=/tmp/index
tip=$(git rev-parse -q --verify HEAD || true)
if [ "$tip" = "$SNAPSHOT" ]; then echo nothing; exit 0; fi
against=${SNAPSHOT:-$(git hash-object -t tree /dev/null)}
onto=$BASE
if [ "$SNAPSHOT" = "$BASE" ]; then
  onto=$tip
else
  if [ -n "$BASE" ]; then git read-tree "$BASE"; else git read-tree --empty; fi
  for commit in $(git rev-list --reverse --first-parent "$SNAPSHOT..$tip"); do
    git diff-tree -p --binary --full-index --no-ext-diff --no-textconv "$commit^" "$commit" > /tmp/patch
    [ -s /tmp/patch ] || continue
    if ! git apply --cached --3way --whitespace=nowarn /tmp/patch 2>/tmp/said || [ -n "$(git ls-files -u)" ]; then
      onto=conflict
      break
    fi
    export GIT_AUTHOR_NAME="$(git log -1 --format=%an "$commit")"
    export GIT_AUTHOR_EMAIL="$(git log -1 --format=%ae "$commit")"
    export GIT_AUTHOR_DATE="$(git log -1 --format=%ad --date=raw "$commit")"
    export GIT_COMMITTER_DATE="$(git log -1 --format=%cd --date=raw "$commit")"
    onto=$(git log -1 --format=%B "$commit" | git commit-tree "$(git write-tree)" ${onto:+-p "$onto"})
  done
fi
if [ "$onto" != conflict ]; then
  rm -f .git/refs/kairos/land.lock
  git update-ref refs/kairos/land "$onto"
  git bundle create -q "$LAND/bundle" refs/kairos/land ${BASE:+"^$BASE"}
fi
echo "$onto $tip"
git diff --no-ext-diff --shortstat "$against" "$tip"
git diff --no-ext-diff --name-only --no-renames -z "$against" "$tip"
"""
# Newest first, each commit against the one before it.
PASSED = """
git rev-parse -q --verify HEAD >/dev/null || exit 0
git rev-list --topo-order HEAD ${SNAPSHOT:+"^$SNAPSHOT"} |
  git diff-tree --stdin -r -m --root --no-commit-id --no-ext-diff --no-renames --raw -z --no-abbrev
"""
CONTENTS = """
xargs -0 -r -n 1 sh -c 'git cat-file blob "HEAD:$1" | sha256sum' sh
"""
CHANGES_OF = """
against=${SNAPSHOT:-$(git hash-object -t tree /dev/null)}
sed -z 's/^/:(top,literal)/' > /tmp/paths
xargs -0 -r -a /tmp/paths git diff --no-ext-diff --no-textconv --no-renames --binary --full-index "$against" HEAD --
"""
# One commit in the place of those made, so that none of them holds what is taken out; also where that is no path.
TAKE_OUT = """
sed -z 's/^/:(top,literal)/' > /tmp/paths
tip=$(git rev-parse HEAD)
export GIT_INDEX_FILE=/tmp/index
git read-tree "$tip"
against=${SNAPSHOT:-$(git hash-object -t tree /dev/null)}
[ ! -s /tmp/paths ] || git reset -q "$against" --pathspec-from-file=/tmp/paths --pathspec-file-nul
tree=$(git write-tree)
range=$tip
[ -z "$SNAPSHOT" ] || range="$SNAPSHOT..$tip"
export GIT_AUTHOR_NAME="$(git log -1 --format=%an "$tip")"
export GIT_AUTHOR_EMAIL="$(git log -1 --format=%ae "$tip")"
export GIT_AUTHOR_DATE="$(git log -1 --format=%ad --date=raw "$tip")"
kept=$SNAPSHOT
if [ "$tree" != "$(git rev-parse "$against^{tree}")" ]; then
  kept=$(git log --reverse --format=%B $range | git commit-tree "$tree" ${SNAPSHOT:+-p "$SNAPSHOT"})
fi
unset GIT_INDEX_FILE
rm -f .git/index.lock .git/HEAD.lock .git/refs/heads/kairos/run.lock
if [ -n "$kept" ]; then
  git update-ref HEAD "$kept"
  git reset -q --hard
else
  [ ! -s /tmp/paths ] || git rm -r -q -f --pathspec-from-file=/tmp/paths --pathspec-file-nul
  git update-ref -d HEAD
fi
"""
PATCH = """
if [ -n "$SNAPSHOT" ]; then set -- "$SNAPSHOT..HEAD"; else set -- --root HEAD; fi
git format-patch --stdout --binary --no-ext-diff --no-textconv --no-signature "$@"
"""
FETCH = """
git -c core.logAllRefUpdates=false -c fetch.writeCommitGraph=false fetch --quiet --no-tags --no-write-fetch-head \
  --no-auto-gc --no-recurse-submodules "$LAND/bundle" "refs/kairos/land:refs/heads/kairos/$NAME"
"""


@frozen
class Landed:
    """Where a run's work is: in `branch` or in the file `patch`; in neither when nothing had changed.

    With `direct` it is in the owner's own files. `commit` is the last commit as it landed, `files` what it changed,
    `summary` git's one line of counts, `how` the line that merges it, `note` why it did not land as was wanted.
    """

    branch: str | None = None
    patch: str | None = None
    commit: str | None = None
    files: tuple[str, ...] = ()
    summary: str = ""
    how: str = ""
    note: str = ""
    direct: bool = False


@frozen
class Place:
    """Where a run's things lie on the host."""

    checkout: Path
    patch: Path
    workspace: Workspace


@frozen
class Lander:
    """One landing. `work` is git on the checkout, `layout` the owner's repository."""

    work: SandboxedGit
    layout: Layout
    place: Place
    base: str
    snapshot: str

    async def land(self, slug: str, *, as_branch: bool) -> Landed:
        """Lands the commits made since the snapshot. Raises `CheckoutError`."""
        bundles = self.place.checkout / "land"
        bundles.mkdir(mode=0o700, exist_ok=True)
        work = replace(self.work, writing=(*self.work.writing, Mount(bundles, LAND, writable=True)))
        variables = {"BASE": self.base, "SNAPSHOT": self.snapshot, "LAND": str(LAND)}
        first, _, rest = (await work.script(MOVE, variables)).decode(errors="surrogateescape").partition("\n")
        if first == "nothing":
            return Landed()
        commit, tip = first.split(" ")
        summary, _, names = rest.partition("\n")
        landed = Landed(commit=commit, files=tuple(filter(None, names.split("\0"))), summary=summary.strip())
        if not as_branch:
            return await self._patch(replace(landed, commit=tip), "")
        if commit == "conflict":
            note = "it builds on changes that are not committed yet, so it cannot be a branch"
            return await self._patch(replace(landed, commit=tip), note)
        try:
            return await self._branch(landed, commit, slug=slug)
        except CheckoutError as error:
            return await self._patch(replace(landed, commit=tip), f"the branch could not be made: {error.message}")

    async def _branch(self, landed: Landed, commit: str, *, slug: str) -> Landed:
        owner = SandboxedGit(self.work.sandbox, self.layout.worktree, self.layout.mounts(), self.layout.mounts())
        taken = await branches(owner, slug=slug)
        name = next((name for name, tip in taken.items() if tip == commit), None)
        if name is None:
            name = next(each for each in _names(slug) if each not in taken)
            git = writing(owner, self.layout, Mount(self.place.checkout / "land", LAND))
            await git.script(FETCH, {"LAND": str(LAND), "NAME": name})
        branch = f"kairos/{name}"
        return replace(landed, branch=branch, how=f"git merge {branch}")

    async def _patch(self, landed: Landed, note: str) -> Landed:
        text = await self.work.script(PATCH, {"SNAPSHOT": self.snapshot})
        await asyncio.to_thread(_write_private, self.place.patch, text)
        how = f"git apply {self.place.patch}"
        return replace(landed, patch=str(self.place.patch), how=how, note=note)


async def branches(owner: SandboxedGit, *, slug: str) -> Mapping[str, str]:
    """The owner's branches `kairos/<slug>` and `kairos/<slug>-N`, named without `kairos/`, and their tips."""
    listing = "git for-each-ref --format='%(objectname) %(refname:strip=3)' refs/heads/kairos/"
    output = (await owner.script(listing, {})).decode(errors="surrogateescape")
    ours = re.compile(re.escape(slugged(slug)) + r"(-\d+)?")
    pairs = (line.split(" ", 1) for line in output.splitlines())
    return {name: tip for tip, name in pairs if ours.fullmatch(name)}


def writing(owner: SandboxedGit, layout: Layout, *more: Mount, deleting: bool = False) -> SandboxedGit:
    """git that may write the owner's objects and refs; the one job with that right holds nothing of a run but a file.

    `deleting` a ref needs the folder around them too (packed-refs is replaced whole): then what guards it is read-only.
    """
    common = layout.common
    if deleting:
        mounts = [Mount(common, common, writable=True)]
        mounts += [Mount(common / name, common / name) for name in KEPT if (common / name).exists()]
        if layout.gitdir != common and layout.gitdir.is_relative_to(common):
            mounts.append(Mount(layout.gitdir, layout.gitdir))
    else:
        places = [common / name for name in ("objects", "refs", "reftable")]
        mounts = [Mount(place, place, writable=True) for place in places if place.is_dir()]
    return replace(owner, writing=(*layout.mounts(), *mounts, *more))


def slugged(text: str) -> str:
    """A branch name's last part made of any text: lower-case letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:SLUG_MAX].strip("-") or "work"


def _names(slug: str) -> list[str]:
    return [slugged(slug), *(f"{slugged(slug)}-{number}" for number in range(2, TRIES))]


def _write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    half = path.with_name(path.name + ".tmp")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    half.rename(path)
