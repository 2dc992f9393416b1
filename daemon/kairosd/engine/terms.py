"""Terms: what each workspace's runs work under now: its level, its program folders, its own policy file."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from kairosd.config.rules import WORKSPACE_FILE, read_narrowing
from kairosd.core.levels import Level
from kairosd.core.notices import NoticeDraft
from kairosd.core.policy import Policy
from kairosd.core.runs import Run
from kairosd.core.workspaces import Workspace
from kairosd.errors import ConfigError, ToolError, UsageError
from kairosd.frozen import frozen
from kairosd.ports import Files

FILE_LIMIT, LINES_MAX = 16_000, 500  # bytes; finding the line of a problem takes time that grows with their product
NOTHING = Policy(secret_paths=(), protected_paths=())


@frozen
class Narrowing:
    """What a workspace's own file adds; `mark` tells one content from another, "" = there is no file."""

    policy: Policy
    mark: str = ""


class Terms:
    """What runs of each workspace work under.

    `superuser` says whether the daemon runs as root: then no workspace may be open.
    """

    def __init__(self, policy: Policy, workspaces: Iterable[Workspace] = (), *, superuser: bool = False) -> None:
        self._policy = policy
        self._workspaces = {one.name: one for one in workspaces}
        self._superuser = superuser
        self._open: set[str] = set()
        self._narrowed: dict[str, Narrowing] = {}
        self._changed: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None]) -> None:
        """Has it called whenever runs may have come to be allowed less."""
        self._changed = changed

    def policy(self, workspace: str) -> Policy:
        """The owner's policy, narrowed by what the workspace's own file was found to say."""
        narrowing = self._narrowed.get(workspace)
        return self._policy.narrowed_by(narrowing.policy) if narrowing else self._policy

    def bins(self, workspace: str) -> tuple[str, ...]:
        """The folders inside the workspace whose programs its runs may use."""
        found = self._workspaces.get(workspace)
        return found.bin if found else ()

    def root(self, workspace: str, *, otherwise: Path) -> Path:
        """Where programs see the workspace: at its own path, also while a run works in a checkout of it."""
        found = self._workspaces.get(workspace)
        return found.path if found else otherwise

    def level(self, workspace: str) -> Level:
        """The level that new runs of the workspace get."""
        return Level.OPEN if workspace in self._open else self._workspaces[workspace].level

    def ceiling(self, run: Run) -> Level:
        """The level of `run` as it counts now: its own, or the workspace's where that was lowered since."""
        own = Level(run.level)
        return min(own, self.level(run.workspace)) if run.workspace in self._workspaces else own

    def open(self, workspace: str) -> None:
        """New runs of the workspace get level `open` until `close`. Raises `UsageError` where the daemon is root."""
        if self._superuser:
            raise UsageError(
                "level open is refused: this daemon runs as root", fix="run Kairos as an ordinary user, or use project"
            )
        self._open.add(workspace)

    def close(self) -> tuple[str, ...]:
        """No workspace is open any more; returns those that were."""
        were, self._open = tuple(sorted(self._open)), set()
        self._changed()
        return were

    def shut(self, workspace: str) -> None:
        """The workspace is not open any more."""
        self._open.discard(workspace)
        self._changed()

    async def look(self, files: Files, workspace: Workspace, *, trusted: bool) -> Narrowing:
        """Reads the workspace's own policy file as it is now, for the runs to come."""
        found = await asyncio.to_thread(narrowing_of, files, workspace.path, trusted=trusted)
        self._narrowed[workspace.name] = found
        self._changed()
        return found


def narrowing_of(files: Files, root: Path, *, trusted: bool) -> Narrowing:
    """What the policy file in `root` adds: nothing while the workspace is not trusted.

    A file that cannot be understood makes every command ask: it may have meant to forbid just that one.
    """
    if not trusted:
        return Narrowing(NOTHING)
    try:
        # Only so much of it is read: a file without end must not hold up whoever asks.
        content = _content(files, root)
        if content is None:
            return Narrowing(NOTHING)
        if len(content) > FILE_LIMIT or content.count(b"\n") > LINES_MAX:
            raise ConfigError(f"it has more than {FILE_LIMIT} bytes or {LINES_MAX} lines")
        return Narrowing(read_narrowing(content, Path(WORKSPACE_FILE)), hashlib.sha256(content).hexdigest())
    except (ConfigError, ToolError, ValueError, RecursionError) as error:  # the last two: absurd numbers, absurd depth
        doubt = f"the workspace's own {WORKSPACE_FILE} is broken: {error}"
        mark = hashlib.sha256(doubt.encode()).hexdigest()
        return Narrowing(replace(NOTHING, doubt=doubt), mark)


def _content(files: Files, root: Path) -> bytes | None:
    try:
        return files.read(root, WORKSPACE_FILE, limit=FILE_LIMIT + 1)
    except ToolError:
        if files.digest(root, WORKSPACE_FILE) is None:
            return None
        raise


def broken_notice(workspace: str, found: Narrowing) -> NoticeDraft:
    """What the owner is told of a policy file that cannot be understood; once for each content."""
    return NoticeDraft(
        key=f"policy:{workspace}:{found.mark[:16]}",
        title=f"{workspace}: its {WORKSPACE_FILE} is broken",
        body=f"{found.policy.doubt}\n\nUntil it is mended, every command there asks first.",
        workspace=workspace,
    )
