"""Making a checkout: a clone that borrows the owner's objects, with a commit of the workspace as it is now."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath

from kairosd.core.workspaces import Workspace
from kairosd.engine.git import Layout, SandboxedGit
from kairosd.errors import CheckoutError
from kairosd.frozen import frozen
from kairosd.ports import Mount, Sandbox

SIZE_MAX = 200_000_000  # bytes of the files in it (design §8)
CLONE = Path("/run/kairos/clone")
BORROWED = Path("/run/kairos/objects")
GUARDED = ("config", "hooks", "info", "objects/info")  # what makes git run something, or read from elsewhere
BRANCH = "refs/heads/kairos/run"
SUBMODULE = "160000"
# The owner's own settings that decide how file contents become objects; none of them runs anything.
CONTENT_SETTINGS = re.compile(
    r"core\.(autocrlf|eol|filemode|ignorecase|precomposeunicode|symlinks)\n(true|false|input|lf|crlf|native)"
)

INSPECT = """
git rev-parse --show-object-format
git rev-parse -q --verify 'HEAD^{commit}' || echo
git ls-files -c -o --exclude-standard -z | git check-attr -z --stdin filter | tr '\\0' '\\n' | grep -cxF lfs || true
git ls-files -s -z
printf '\\0'
git ls-files -o --exclude-standard -z
printf '\\0'
git config -z --get-regexp '^core\\.' || true
"""

# The owner's index is copied for what it knows of the files' times: `add` reads only those that changed since. Its own
# time comes along: a file changed in the second of the index and equally long ("racy git") is found by nothing else.
BUILD = """
export GIT_DIR="$CLONE/.git"
for file in "$OWNER/index" "$OWNER"/sharedindex.*; do
  [ ! -f "$file" ] || cp -p "$file" "$GIT_DIR/"
done
for file in shallow info/attributes; do
  [ ! -f "$COMMON/$file" ] || cp "$COMMON/$file" "$GIT_DIR/$file"
done
[ ! -f "$COMMON/info/exclude" ] || cat "$COMMON/info/exclude" >> "$GIT_DIR/info/exclude"
chmod -R u+w "$GIT_DIR"
git --git-dir="$OWNER" for-each-ref --format='%(objectname) %(refname)' |
  grep -vE ' refs/(heads/)?kairos(/|$)' >> "$GIT_DIR/packed-refs" || true
GIT_WORK_TREE="$WORKSPACE" git add -A
tree=$(git write-tree)
if [ -n "$BASE" ] && [ "$tree" = "$(git rev-parse "$BASE^{tree}")" ]; then
  snapshot=$BASE
elif [ -z "$BASE" ] && [ -z "$(git ls-files | head -n 1)" ]; then
  snapshot=
else
  snapshot=$(echo 'The workspace as Kairos found it' | git commit-tree "$tree" ${BASE:+-p "$BASE"})
fi
if [ -n "$snapshot" ]; then
  git update-ref HEAD "$snapshot"
  rm -f "$GIT_DIR/index"
  export GIT_WORK_TREE="$CLONE"
  git read-tree --reset -u "$snapshot"
  # Files as young as the index count as changed ("racy git"): the first `add` would write each of them again.
  find "$CLONE" -path "$GIT_DIR" -prune -o -type f -exec touch -d '1 minute ago' {} +
  git update-index -q --refresh
fi
sync -f "$CLONE"  # after a power cut, files of no length would look like the run's own work
echo "$snapshot"
"""


@frozen
class _Inspection:
    format: str
    head: str
    lfs: bool
    tracked: tuple[tuple[str, str], ...]  # (mode, path)
    untracked: tuple[str, ...]
    settings: tuple[tuple[str, str], ...]


class Snapshot:
    """One clone in the making."""

    def __init__(self, sandbox: Sandbox, layout: Layout, *, workspace: Workspace, now: datetime) -> None:
        self._sandbox = sandbox
        self._layout = layout
        self._workspace = workspace
        self._now = now

    async def make(self, tree: Path) -> tuple[str, str]:
        """Makes the clone in `tree`, which does not exist yet; (base, snapshot). Raises `CheckoutError`."""
        found = await self._inspect()
        await asyncio.to_thread(self._refuse, found)
        await asyncio.to_thread(self._prepare, tree, found)
        mounts = [*self._layout.mounts(), Mount(tree, CLONE, writable=True)]
        mounts += [Mount(path, borrowed_at(number)) for number, path in enumerate(self._layout.objects)]
        hidden = tuple(borrowed_at(number) / "info/alternates" for number in range(len(self._layout.objects)))
        author = {name.replace("COMMITTER", "AUTHOR"): value for name, value in committer(self._now).items()}
        git = SandboxedGit(self._sandbox, CLONE, (), tuple(mounts), hidden, {**author, **committer(self._now)})
        places = {"OWNER": self._layout.gitdir, "COMMON": self._layout.common, "WORKSPACE": self._layout.worktree}
        variables = {name: str(path) for name, path in {**places, "CLONE": CLONE}.items()}
        output = await git.script(BUILD, {**variables, "BASE": found.head})
        return found.head, output.decode().strip()

    async def _inspect(self) -> _Inspection:
        git = SandboxedGit(self._sandbox, self._layout.worktree, (), self._layout.mounts())
        output = (await git.script(INSPECT, {})).decode(errors="surrogateescape")
        kind, head, lfs, lists = output.split("\n", 3)
        tracked, untracked, settings = _split(lists)
        stages = (entry.split("\t", 1) for entry in tracked)
        pairs = (found.groups() for entry in settings if (found := CONTENT_SETTINGS.fullmatch(entry)))
        return _Inspection(
            format=kind,
            head=head,
            lfs=lfs != "0",
            tracked=tuple((stage.split(" ")[0], path) for stage, path in stages),
            untracked=tuple(untracked),
            settings=tuple((str(name), str(value)) for name, value in pairs),
        )

    def _refuse(self, found: _Inspection) -> None:
        if found.lfs:
            raise CheckoutError("the repository uses Git LFS, which a private checkout cannot fetch")
        if modules := [path for mode, path in found.tracked if mode == SUBMODULE]:
            raise CheckoutError(f"the repository has submodules ({modules[0]}), which a private checkout leaves out")
        shared = shared_folders(self._workspace)
        size = 0
        for path in {path for _, path in found.tracked} | set(found.untracked):
            if not any(PurePosixPath(path).is_relative_to(folder) for folder in shared):
                size += _size(self._layout.worktree / path)
        if size > SIZE_MAX:
            limit = f"more than {SIZE_MAX // 1_000_000}"
            raise CheckoutError(
                f"the workspace holds {size // 1_000_000} MB that git does not ignore, {limit}",
                fix="add what is built or downloaded to .gitignore",
            )

    def _prepare(self, tree: Path, found: _Inspection) -> None:
        """Writes the bare bones of a repository by hand: `git init` would ask templates and the owner's settings."""
        git = tree / ".git"
        for name in ("refs/heads", "objects/pack", "objects/info", "hooks", "info"):
            (git / name).mkdir(parents=True, mode=0o700)
        tree.parent.chmod(0o700)
        version = f"1\n[extensions]\n\tobjectFormat = {found.format}\n" if found.format != "sha1" else "0\n"
        settings = "".join(f"\t{name} = {value}\n" for name, value in found.settings)
        (git / "config").write_text(f"[core]\n\tbare = false\n{settings}\trepositoryFormatVersion = {version}")
        (git / "HEAD").write_text(f"ref: {BRANCH}\n")
        (git / "info" / "attributes").touch()
        shared = shared_folders(self._workspace)
        # A repository inside the workspace would be added as a submodule without a source.
        nested = [path.rstrip("/") for path in found.untracked if path.endswith("/")]
        excluded = [f"/{_escape(name)}/" for name in (*shared, *nested)]
        (git / "info" / "exclude").write_text("\n".join([*excluded, ".kairos-*.tmp", ""]), errors="surrogateescape")
        borrowed = "".join(f"{borrowed_at(number)}\n" for number in range(len(self._layout.objects)))
        (git / "objects" / "info" / "alternates").write_text(borrowed)
        for name in shared:
            (tree / name).mkdir(parents=True, exist_ok=True)  # where it is mounted


def borrowed_at(number: int) -> Path:
    """Where the owner's object folder of that number is mounted, in every sandbox that sees the clone."""
    return BORROWED / str(number)


def borrowing(mounts: Sequence[Mount]) -> tuple[Path, ...]:
    """What a sandbox with those mounts must not read: where the owner's object folders borrow from themselves."""
    return tuple(mount.target / "info/alternates" for mount in mounts if mount.target.is_relative_to(BORROWED))


def shared_folders(workspace: Workspace) -> tuple[str, ...]:
    """The folders of `share` that are there, normal and inside the workspace; a link could lead anywhere."""
    names = []
    for name in workspace.share:
        path = PurePosixPath(name)
        inside = not path.is_absolute() and ".." not in path.parts and path.parts[:1] not in ((), (".git",))
        if inside and (workspace.path / path).resolve() == workspace.path / path and (workspace.path / path).is_dir():
            names.append(str(path))
    return tuple(names)


def committer(now: datetime) -> Mapping[str, str]:
    """Who commits in a checkout, and when; for git's environment."""
    return {
        "GIT_COMMITTER_NAME": "Kairos",
        "GIT_COMMITTER_EMAIL": "kairos@localhost",
        "GIT_COMMITTER_DATE": f"@{int(now.timestamp())} +0000",
    }


def _split(lists: str) -> list[list[str]]:
    """Three lists of entries that end with a zero byte; an empty entry ends a list."""
    found: list[list[str]] = [[]]
    for entry in lists.split("\0"):
        if entry or len(found) == 3:
            found[-1].append(entry)
        else:
            found.append([])
    return found


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0  # deleted in the work tree: nothing of it is taken


def _escape(name: str) -> str:
    return re.sub(r"([\\*?\[\]#! ])", r"\\\1", name)
