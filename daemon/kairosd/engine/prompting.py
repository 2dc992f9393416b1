"""Prompting: builds the prompts of one run: a prefix that does not change, and how things stand behind what is said."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kairosd.core import toolsets
from kairosd.core.aims import Aim
from kairosd.core.messages import Prompt
from kairosd.core.paths import SECRET_PATHS, matches
from kairosd.core.runs import Run
from kairosd.engine.conversation import Conversation
from kairosd.engine.instructions import is_trusted, read_instructions
from kairosd.engine.prefixes import Prefix, Section
from kairosd.engine.repository import Place, one_line
from kairosd.engine.tooling import Tooling
from kairosd.errors import CheckoutError, ExecutorError, SandboxError
from kairosd.ports import Git, Model, Outcome
from kairosd.prompts import text_of

ANSWER_MOST, ANSWER_SHARE = 4096, 4  # tokens of an answer, and the share of a small window
LOOK_AGAIN_SECONDS = 60.0  # after which the workspace is looked at though the run has changed nothing
FILES_SHOWN, COMMITS_SHOWN = 20, 5
SMALL_WINDOW = 16_384  # tokens; memory takes a small share of it
MEMORY_MOST, MEMORY_SMALL = 8000, 1200  # characters
ROLE = "act"


class Prompting:
    """Builds the prompts of one run in `place`."""

    def __init__(self, tooling: Tooling, place: Place) -> None:
        self._t = tooling
        self._place = place
        self._ready: Prefix | None = None
        self._looked: float | None = None
        self._found = ""
        self._memory: str | None = None

    def tool_set(self, run: Run) -> str:
        """The tools that `run` begins with."""
        ceiling, small = self._t.ledger.gate.terms.ceiling(run), self._t.model(run).by_schema
        return toolsets.choose(ceiling, question=Aim(run.goal).is_question, small=small)

    async def prompt(self, talk: Conversation, run: Run, *, model: Model) -> Prompt:
        """All but the messages. Instructions come back from disk every turn, so no compaction can lose them."""
        if self._memory is None:  # once: what the run itself remembers must not change how its prompts begin
            most = MEMORY_SMALL if model.context <= SMALL_WINDOW else MEMORY_MOST
            self._memory = await self._t.remembering.hints(self._place.workspace.name, limit=most)
        prefix = self._ready or await self._prefix(talk.tool_set or self.tool_set(run))
        self._ready = None
        await self._t.prefixes.look(prefix, run, role=ROLE)
        answer = min(ANSWER_MOST, model.context // ANSWER_SHARE)
        return Prompt(system=prefix.system, messages=(), tools=prefix.tools, max_tokens=answer)

    async def prepare(self, talk: Conversation) -> None:
        """Reads what the next prompt begins with, while the last turn is still written down."""
        self._ready = await self._prefix(talk.tool_set) if talk.tool_set else None

    async def digest(self, talk: Conversation, run: Run, *, stirred: bool, more: str = "") -> None:
        """Shows how the workspace stands, and `more`, where that is not what the run was last shown and still sees."""
        now = self._t.clock.monotonic()
        if stirred or self._looked is None or now - self._looked >= LOOK_AGAIN_SECONDS:
            self._looked, self._found = now, await self._look(run)
        found = f"{self._found}\n\n{more}".strip() if more else self._found
        if found and found != talk.digest:
            await talk.show(found)

    async def _prefix(self, tool_set: str) -> Prefix:
        """The sections in a fixed order, what changes most rarely first."""
        workspace = self._place.workspace
        world = await self._t.stores.worlds.get(workspace.name)
        pinned = world.trusted_hashes if world else ""
        told = ""
        if is_trusted(workspace, pinned):
            standing = await read_instructions(self._t.files, workspace, pinned=pinned, uncommitted=())
            told = f"The owner's standing instructions:\n{standing.text}" if standing.text else ""
        tools = tuple(
            tool.spec
            for name, tool in sorted(self._t.tools.items())
            if toolsets.admits(tool_set, name, permission=tool.permission)
        )
        role = Section("role", text_of(_role(tool_set)))
        memory = Section("memory", self._memory or "")
        return Prefix(tool_set, tools, (role, Section("instructions", told), memory))

    async def _look(self, run: Run) -> str:
        if run.base is None:
            survey = await self._place.repository.survey()
            described = await self._place.repository.describe(survey)
            return f"The workspace, where every path starts:\n{described}"
        try:
            git = self._t.checkouts.git(run, self._place.workspace)
            return await _own_changes(git, run.base)
        except (CheckoutError, SandboxError, ExecutorError):
            return ""  # what cannot be looked at is not shown; the calls that need it say why


def _role(tool_set: str) -> str:
    return f"{ROLE}_small" if tool_set in (toolsets.SMALL, toolsets.LOOK) else ROLE


async def _own_changes(git: Git, base: str) -> str:
    """What a run has done in its checkout since `base`, "" for one that began without a commit."""
    span = (f"{base}..HEAD",) if base else ()
    status, log = await asyncio.gather(
        git("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"),
        git("log", "--no-show-signature", "-n", str(COMMITS_SHOWN), "--format=%h %s", *span),
    )
    if status.code != 0:
        return ""
    commits = [one_line(line) for line in _text(log).splitlines()] if log.code == 0 else []
    files = [(entry[:2].strip(), entry[3:]) for entry in _text(status).split("\0") if len(entry) > 3]
    shown = [f"{letters} {one_line(path)}" for letters, path in files if not matches(path, SECRET_PATHS)]
    return "Your private copy of the workspace, as it is now:\n" + "\n".join(
        [f"{len(commits)} commits of yours{':' if commits else ''}", *commits, *_listed(shown)]
    )


def _listed(files: Sequence[str]) -> list[str]:
    more = [f"… and {len(files) - FILES_SHOWN} more"] if len(files) > FILES_SHOWN else []
    return [f"{len(files)} files not committed{':' if files else ''}", *files[:FILES_SHOWN], *more]


def _text(outcome: Outcome) -> str:
    return outcome.stdout.decode("utf-8", "replace")
