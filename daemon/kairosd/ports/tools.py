"""Tools: what a run can do, and what a tool may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kairosd.core.events import Event, Tier
from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.memory import Kind
from kairosd.core.messages import ToolSpec
from kairosd.core.notices import NoticeDraft
from kairosd.core.paths import SECRET_PATHS
from kairosd.core.runs import Call, Run
from kairosd.core.shell.plans import Plan
from kairosd.core.tasks import Task
from kairosd.core.triage import Triage
from kairosd.core.workspaces import Workspace
from kairosd.frozen import frozen
from kairosd.ports.processes import Commands, Files, Git, Outcome

if TYPE_CHECKING:  # loaded with the index
    from kairosd.core.search import Answers, Question


@frozen
class Finish:
    """The run's own word that it is through. The daemon evaluates `checks` and sets the state."""

    answer: str
    checks: tuple[JsonObject, ...] = ()


@frozen
class ToolAnswer:
    """What goes back to the model. `finish` ends the run, `sleep_seconds` rests it, `taint` lowers its own.

    `evidence` is one line of facts that the owner is shown below the run's answer, whatever the model makes of them.
    `failed` says that it was tried and ended badly: what the same turn asked for after a failed command is not done.
    """

    text: str
    finish: Finish | None = None
    sleep_seconds: int = 0
    taint: Tier | None = None
    evidence: str = ""
    failed: bool = False


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


@frozen
class Errand:
    """A command that may take long. `start` runs it for at most so many seconds; `told` is what a run hears of its
    end, given how many seconds it had.

    `command` is the line as the owner is shown it; `seconds` is what the run allows it, None = what is usual.
    """

    call: str
    command: str
    start: Callable[[float], Awaitable[Outcome]]
    told: Callable[[Outcome, int], str]
    seconds: int | None = None


class Background(Protocol):
    """Carries on with commands of a run that nobody waits for."""

    async def run(self, errand: Errand) -> Outcome | Task:
        """How the command ended; the task it has become when it takes longer than a run is held up for.

        Raises `SandboxError`, `ExecutorError`.
        """


@frozen
class Wish:
    """What a run wants to remember. `key` empty = made from the text; `check` is a claim that can be looked up."""

    text: str
    key: str = ""
    kind: Kind = Kind.PROJECT
    check: str = ""
    everywhere: bool = False


class RunMemory(Protocol):
    """Memory as one run may use it: what its workspace sees, and what everybody does."""

    async def keep(self, wish: Wish, *, call: str) -> str:
        """Remembers, and says what became of it. Raises `ToolError` naming every rule that the wish breaks."""

    async def retire(self, identifier: str, *, reason: str, call: str) -> str:
        """Takes an entry back, or proposes it to the owner, and says which. Raises `ToolError`."""

    async def look_up(self, question: Question, *, when: str = "") -> Answers:
        """What is found in the run's workspace, on the days that `when` names; the run's own turns are left out.

        Raises `ToolError`.
        """

    async def has(self, call: str) -> bool:
        """Whether what `call` asked for has been done or proposed."""


@frozen
class ToolContext:
    """What a tool may use. `root` is the workspace, or the run's checkout once it has one.

    `author` is (name, email) of the owner; `limit` how many characters a result may have; `hidden` are globs of files
    that a search leaves out, since only a call that names one can be asked about. Without `background` somebody waits
    for the run, and no command outlasts its call. Without `memory` nothing is remembered here.
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
    background: Background | None = None
    memory: RunMemory | None = None


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
