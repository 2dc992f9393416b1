"""Claims of memory, looked up where they can be: what is gone is marked as stale with its date, never deleted.

Nothing is run or written: files are looked at below the workspace, and git is asked in the sandbox.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import date
from pathlib import Path

from kairosd.core.memory import EVERYWHERE, Entry, Generation
from kairosd.core.workspaces import Workspace
from kairosd.engine.executables import NotRunnableError, Scene, real_folders
from kairosd.engine.repository import Place
from kairosd.errors import ExecutorError, SandboxError, ToolError
from kairosd.ports import Files, Git, Mount

MANIFESTS = (
    "pyproject.toml", "requirements.txt", "requirements-dev.txt", "setup.cfg", "setup.py", "package.json", "go.mod",
    "Cargo.toml", "Gemfile", "composer.json", "pom.xml", "build.gradle", "build.gradle.kts", "mix.exs",
)  # fmt: skip
MANIFEST_BYTES = 2_000_000


class Claims:
    """Looks claims up in the workspaces they were made about."""

    def __init__(self, files: Files, places: Mapping[str, Place]) -> None:
        self._files = files
        self._places = places
        self._probes: Mapping[str, Callable[[Place, str], Awaitable[bool | None]]] = {
            "path": self._path, "package": self._package, "command": self._command, "commit": self._commit,
            "branch": self._branch, "port": self._port,
        }  # fmt: skip

    async def verify(self, generation: Generation, *, today: date) -> dict[str, date | None]:
        """What has changed: ids of entries found to be wrong since `today` or, with None, to be right again.

        What nobody can look up now (no sandbox, no folder, no git) stays as it was.
        """
        found: dict[str, date | None] = {}
        for entry in generation.entries:
            holds = await self.holds(entry)
            if holds is not None and holds == (entry.stale is not None):
                found[entry.id] = None if holds else today
        return found

    async def holds(self, entry: Entry) -> bool | None:
        """Whether the claim of `entry` is true; None = there is none, or nobody can say."""
        kind, _, value = entry.check.partition("=")
        place = self._places.get(entry.scope)
        if not value or entry.scope == EVERYWHERE or place is None or not place.workspace.path.is_dir():
            return None
        try:
            return await self._probes[kind](place, value)
        except (ToolError, SandboxError, ExecutorError, OSError):
            return None

    async def _path(self, place: Place, value: str) -> bool | None:
        if await asyncio.to_thread(self._files.mode, place.workspace.path, value.rstrip("/")) is not None:
            return True
        return await asyncio.to_thread(_is_folder, place.workspace.path, value)

    async def _package(self, place: Place, value: str) -> bool | None:
        name = re.compile(rf"(?<![\w.-]){re.escape(value)}(?![\w-])", re.IGNORECASE)
        known = [text for one in MANIFESTS if (text := await self._manifest(place, one)) is not None]
        return any(name.search(text) for text in known) if known else None

    async def _manifest(self, place: Place, name: str) -> str | None:
        root = place.workspace.path
        if await asyncio.to_thread(self._files.mode, root, name) is None:
            return None
        content = await asyncio.to_thread(self._files.read, root, name, limit=MANIFEST_BYTES)
        return content.decode("utf-8", "replace")

    async def _command(self, place: Place, value: str) -> bool | None:
        return await asyncio.to_thread(_is_program, place.workspace, value)

    async def _commit(self, place: Place, value: str) -> bool | None:
        return await _git(place, "cat-file", "-e", f"{value}^{{commit}}")

    async def _branch(self, place: Place, value: str) -> bool | None:
        local = await _git(place, "show-ref", "--verify", "--quiet", f"refs/heads/{value}")
        if local:
            return local
        remotes = await place.repository.git()("for-each-ref", "--format=%(refname:strip=3)", "refs/remotes")
        return value in remotes.stdout.decode("utf-8", "replace").split() if local is not None else None

    async def _port(self, place: Place, value: str) -> bool | None:
        """A port is where a tracked file still names its number."""
        return await _git(place, "grep", "--quiet", "--word-regexp", "--fixed-strings", "-e", value)


async def _git(place: Place, *arguments: str) -> bool | None:
    """Whether git says yes; None where there is no repository to ask."""
    git: Git = place.repository.git()
    if (await git("rev-parse", "--git-dir")).code != 0:
        return None
    return (await git(*arguments)).code == 0


def _is_folder(root: Path, value: str) -> bool:
    found = (root / value).resolve()
    return found.is_relative_to(root.resolve()) and found.is_dir()


def _is_program(workspace: Workspace, value: str) -> bool:
    root = workspace.path
    scene = Scene(root, (Mount(root, root),), tuple(real_folders(root, workspace.bin)))
    try:
        scene.find(value, root, with_bins=True)
    except NotRunnableError:
        return False
    return True
