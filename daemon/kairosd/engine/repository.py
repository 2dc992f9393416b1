"""A workspace as git and the disk show it: what the fingerprint is made of, and what the deciding model is told."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
import pwd
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kairosd.core.json import digest
from kairosd.core.paths import SECRET_PATHS, matches
from kairosd.core.workspaces import Workspace
from kairosd.engine.git import Layout, SandboxedGit, find_layout
from kairosd.errors import CheckoutError, ExecutorError, SandboxError, ToolError
from kairosd.frozen import frozen
from kairosd.ports import Files, Git, Mount, Sandbox

HASHED_FILES = 5000  # changed files whose content is looked at; beyond, and for large ones, size and time must do
HASHED_BYTES = 8_000_000
WALKED_FILES = 50_000
SECRETS_WALKED = 20_000
DESCRIPTION_MAX = 1500  # characters: a part of the 1,500 tokens that a decision may read (design §7)
SUBJECT_MAX = 100
NAME = re.compile(r"[A-Za-z0-9._/-]{1,100}")  # what counts as a fact (design §2)
REMOTE = re.compile(r"^(?:[a-z+]+://(?:[^/@]+@)?[^/]+/|(?:[^/@:]+@)?[^/@:]+:)/?([^/]+/[^/]+?)(?:\.git)?/?$")

# Our own refs are no news: they would wake us for what we did ourselves.
SURVEY = """
git for-each-ref --format='%(refname) %(objectname)' | grep -vE '^refs/(heads/)?kairos/' | sha256sum | cut -d' ' -f1
git status --porcelain=v2 --branch -z --untracked-files=all --no-renames
"""
# The owner's own configuration counts here, and only here: its files are mounted where git looks of itself.
CONFIG = """
unset GIT_CONFIG_GLOBAL
git config --null --get-regexp "$PATTERN" || true
"""
DESCRIBE = """
git log --no-show-signature -n "$COUNT" --format='%h %s' $RANGE 2>/dev/null || true
printf '\\0'
git diff --no-ext-diff --no-textconv --numstat --no-renames -z HEAD 2>/dev/null || true
"""


@frozen
class Survey:
    """The state of a workspace at one moment. `changed` holds (status, path); `head` is "" before the first commit."""

    git: bool
    head: str = ""
    branch: str = ""
    refs: str = ""
    changed: tuple[tuple[str, str], ...] = ()
    content: str = ""
    files: str = ""
    missing: bool = False

    def fingerprint(self, extra: Sequence[str] = ()) -> str:
        """Hash of everything here and of `extra`; equal means that nothing a decision depends on has changed."""
        parts = (self.git, self.head, self.branch, self.refs, self.content, self.files, self.missing)
        return digest({"parts": parts, "changed": self.changed, "extra": tuple(extra)})


@dataclass
class _Content:
    """Sums up changed files by what is in them."""

    files: Files
    root: Path
    count: int = 0
    hashed: hashlib._Hash = field(default_factory=hashlib.sha256)

    def add(self, entry: str, path: str) -> None:
        self.hashed.update(f"{entry}\0{self._of(path)}\0".encode(errors="surrogateescape"))

    def _of(self, path: str) -> str:
        try:
            found = (self.root / path).lstat()
        except OSError:
            return "-"
        if stat.S_ISLNK(found.st_mode):
            return f"link {(self.root / path).readlink()}"
        self.count += 1
        if self.count <= HASHED_FILES and found.st_size <= HASHED_BYTES:
            with contextlib.suppress(ToolError):  # unreadable: its size and time must do
                return self.files.digest(self.root, path) or "-"
        return f"{found.st_size} {found.st_mtime_ns}"


class Repository:
    """Looks at one workspace, and never writes to it."""

    def __init__(self, sandbox: Sandbox, files: Files, *, workspace: Workspace) -> None:
        self._sandbox = sandbox
        self._files = files
        self._workspace = workspace
        self._root = workspace.path

    def git(self, *, masked: Sequence[Path] = ()) -> Git:
        """git on the workspace, read-only also for calls that ask to write; `masked` paths (absolute) show as empty."""
        return self._git(find_layout(self._files, self._root), masked=tuple(masked))

    async def survey(self) -> Survey:
        """Looks at HEAD, refs, and every changed or untracked file's content; never raises for what it finds.

        A folder that is no git checkout, or that git cannot read here, is judged by names, sizes and times.
        """
        if not self._root.is_dir():
            return Survey(git=False, missing=True)
        layout = await asyncio.to_thread(find_layout, self._files, self._root)
        if layout is not None:
            # Without a sandbox, or where git cannot read it, the files themselves still tell whether something changed.
            with contextlib.suppress(SandboxError, CheckoutError):
                output = (await self._look(layout)).decode(errors="surrogateescape")
                return await asyncio.to_thread(self._parse, output)
        return Survey(git=False, files=await asyncio.to_thread(self._walk))

    async def describe(self, survey: Survey, *, since: str = "", limit: int = DESCRIPTION_MAX) -> str:
        """What the workspace looks like, for the deciding model: branch, commits, changed files; no secret's name.

        `since` is the `head` of an earlier survey: then the commits after it are listed, else the last three. At most
        `limit` characters.
        """
        if survey.missing:
            return "The folder is missing."
        if not survey.git:
            return "The folder is not a git checkout (or git cannot run here); some of its files may have changed."
        shown = await self._details(survey, since)
        lines = [f"branch {_fact(survey.branch)} at {survey.head[:10] or 'no commit yet'}"]
        lines += [one_line(line) for line in shown[0]]
        changed = [entry for entry in survey.changed if not matches(entry[1], SECRET_PATHS)]
        lines.append(f"{len(changed)} changed files" + (":" if changed else ""))
        for index, (status, path) in enumerate(changed):
            line = f"{status} {one_line(path)}{shown[1].get(path, '')}"
            if sum(map(len, lines)) + len(lines) + len(line) > limit - 30:
                lines.append(f"… and {len(changed) - index} more")
                break
            lines.append(line)
        return "\n".join(lines)[:limit]

    async def identity(self, home: Path | None = None) -> tuple[str, str]:
        """Name and email that the owner's git would use here; what is not configured is made from user and host."""
        folder = home or Path.home()
        places = {folder / ".gitconfig": ".gitconfig", folder / ".config/git/config": ".config/git/config"}
        mounts = tuple(Mount(path, Path("/run/home") / name) for path, name in places.items() if path.is_file())
        user = pwd.getpwuid(os.getuid())
        found = await self._config("^user\\.(name|email)$", mounts)
        name = found.get("user.name") or user.pw_gecos.split(",")[0] or user.pw_name
        return name, found.get("user.email") or f"{user.pw_name}@{platform.node() or 'localhost'}"

    async def origin(self) -> str | None:
        """`owner/name` of the remote `origin`; None where there is none, or it is not on a forge."""
        url = (await self._config("^remote\\.origin\\.url$", ())).get("remote.origin.url", "")
        found = REMOTE.match(url)
        return found.group(1) if found and NAME.fullmatch(found.group(1)) else None

    def secret_files(self, globs: Sequence[str] = SECRET_PATHS) -> tuple[Path, ...]:
        """The workspace's files that may hold secrets, to be masked; absolute. Blocks."""
        found = self._files.walk(self._root, SECRETS_WALKED)
        return tuple(self._root / path for path, _, _ in found if matches(path, globs))

    async def _look(self, layout: Layout) -> bytes:
        git = self._git(layout)
        try:
            return await git.script(SURVEY, {})
        except ExecutorError:
            return await git.script(SURVEY, {})  # it is started anew; seen as "no git", the world would seem changed

    def _git(self, layout: Layout | None, *, masked: tuple[Path, ...] = ()) -> SandboxedGit:
        mounts = layout.mounts() if layout is not None else (Mount(self._root, self._root),)
        return SandboxedGit(self._sandbox, self._root, mounts, mounts, masked)

    async def _config(self, pattern: str, mounts: tuple[Mount, ...]) -> dict[str, str]:
        layout = await asyncio.to_thread(find_layout, self._files, self._root)
        seen = (*(layout.mounts() if layout is not None else (Mount(self._root, self._root),)), *mounts)
        git = SandboxedGit(self._sandbox, self._root, seen, seen, environment={"HOME": "/run/home"})
        try:
            output = await git.script(CONFIG, {"PATTERN": pattern})
        except (SandboxError, ExecutorError, CheckoutError):
            return {}  # the callers have an answer for "not configured", and need none for "cannot be read"
        pairs = (entry.split("\n", 1) for entry in output.decode(errors="replace").split("\0") if "\n" in entry)
        return {name: value.strip() for name, value in pairs}

    async def _details(self, survey: Survey, since: str) -> tuple[list[str], dict[str, str]]:
        """Subject lines of commits, and the size of each file's change."""
        layout = await asyncio.to_thread(find_layout, self._files, self._root)
        span = {"COUNT": "10", "RANGE": f"{since}..HEAD"} if re.fullmatch("[0-9a-f]{40,64}", since) else {"COUNT": "3"}
        try:
            output = await self._git(layout).script(DESCRIBE, {"RANGE": "HEAD", **span})
        except (SandboxError, ExecutorError, CheckoutError):
            return [], {}  # a shorter description is still true
        commits, _, stats = output.decode(errors="surrogateescape").partition("\0")
        sizes = (entry.split("\t", 2) for entry in stats.split("\0") if entry.count("\t") >= 2)
        return commits.splitlines(), {path: f" +{added} -{removed}" for added, removed, path in sizes}

    def _parse(self, output: str) -> Survey:
        refs, _, status = output.partition("\n")
        head = branch = ""
        changed: list[tuple[str, str]] = []
        content = _Content(self._files, self._root)
        for entry in status.split("\0"):
            kind, _, rest = entry.partition(" ")
            if kind == "#":
                name, _, value = rest.partition(" ")
                head = value if name == "branch.oid" and value != "(initial)" else head
                branch = value if name == "branch.head" else branch
            elif kind in {"1", "u", "?"}:
                fields = rest.split(" ", {"1": 7, "u": 9, "?": 0}[kind])
                if not matches(fields[-1], self._workspace.ignore):
                    changed.append(("??" if kind == "?" else fields[0], fields[-1]))
                    content.add(entry, fields[-1])
        return Survey(True, head, branch, refs, tuple(changed), content.hashed.hexdigest())

    def _walk(self) -> str:
        hashed = hashlib.sha256()
        for path, size, modified in self._files.walk(self._root, WALKED_FILES):
            if not matches(path, self._workspace.ignore):
                hashed.update(f"{path}\0{size} {modified}\0".encode(errors="surrogateescape"))
        return hashed.hexdigest()


@frozen
class Place:
    """A workspace and the repository in it."""

    workspace: Workspace
    repository: Repository


def _fact(name: str) -> str:
    return name if NAME.fullmatch(name) else "(a branch with an unusual name)"


def one_line(text: str) -> str:
    """One line without control characters, so that a name cannot pretend to be a line of ours."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return shown if len(shown) <= SUBJECT_MAX else shown[: SUBJECT_MAX - 1] + "…"
