"""Tools: what a run can do, and what a tool may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kairosd.core.events import Event, Tier
from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.notices import NoticeDraft
from kairosd.core.paths import SECRET_PATHS
from kairosd.core.runs import Call, Run
from kairosd.core.shell.plans import Plan
from kairosd.core.triage import Triage
from kairosd.core.workspaces import Workspace
from kairosd.ports.processes import Commands, Files, Git


@dataclass(frozen=True, slots=True)
class Finish:
    """The run's own word that it is through. The daemon evaluates `checks` and sets the state."""

    answer: str
    checks: tuple[JsonObject, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What goes back to the model. `finish` ends the run, `sleep_seconds` rests it, `taint` lowers its own.

    `evidence` is one line of facts that the owner is shown below the run's answer, whatever the model makes of them.
    """

    text: str
    finish: Finish | None = None
    sleep_seconds: int = 0
    taint: Tier | None = None
    evidence: str = ""


class ToolServices(Protocol):
    """What tools may ask of the daemon itself."""

    async def read_event(self, event: str) -> Event:
        """The event with that id, if its workspace is the run's. Raises `ToolError` otherwise."""

    async def triage(self, event: Event) -> Triage | None:
        """What a stranger's text is about, by a model without tools; None when it could not be told.

        Raises `ToolError` while the model is away.
        """

    async def notify(self, draft: NoticeDraft) -> None:
        """Queues a notice; the same key is queued once."""

    async def calls(self) -> Sequence[Call]:
        """The run's calls so far with their results, in order, from the ledger: also those before a restart."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may use. `root` is the workspace, or the run's checkout once it has one.

    `author` is (name, email) of the owner; `limit` how many characters a result may have; `hidden` are globs of files
    that a search leaves out, since only a call that names one can be asked about.
    """

    run: Run
    call: str
    workspace: Workspace
    root: Path
    files: Files
    git: Git
    commands: Commands
    services: ToolServices
    author: tuple[str, str]
    limit: int = 16_000
    hidden: tuple[str, ...] = SECRET_PATHS


class Tool(Protocol):
    """One thing a run can do. Found by its file: `tools/<name>.py` has `build()`."""

    spec: ToolSpec
    permission: Permission
    effect: bool  # changes something outside the daemon's own state: intent before, outcome after, never in parallel
    escalates: bool  # what it lacks permission for is asked of the owner at once, not first given back to the model

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        """The paths this call touches, as the gate judges them: normal, relative to the workspace, `..` resolved away.

        Raises `ToolError` for a path outside the workspace.
        """

    def commands(self, arguments: JsonObject) -> Plan | None:
        """The shell plan this call would run, for the gate to judge; None for a tool that runs no programs.

        Raises `ShellFormError` for a line that is not plain.
        """

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        """What the effect will replace and leave behind: hashes, not contents; bound by approvals, probed later.

        Runs before the intent is committed and changes nothing. Raises `ToolError` when the call cannot work.
        """

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        """Does it. Raises `ToolError` with what to do instead; that goes back to the model."""

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        """After a crash: did the effect of `call` happen? True, False, or None when it cannot be told."""
