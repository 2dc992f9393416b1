"""A bench for tools: a real folder, the real git with the settings it has in the sandbox."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from kairosd.core.events import Event, EventState, Tier
from kairosd.core.json import Json
from kairosd.core.levels import Level
from kairosd.core.notices import NoticeDraft
from kairosd.core.runs import Call, CallState, Run, RunState, call_hash
from kairosd.core.search import Answers, Found, Layer, Passage, Question
from kairosd.core.shell.plans import Plan
from kairosd.core.triage import Triage
from kairosd.core.workspaces import Workspace
from kairosd.engine.commands import reads_only, scripts_of
from kairosd.engine.git import ENVIRONMENT
from kairosd.errors import SandboxError, ToolError
from kairosd.ports import Outcome, Tool, ToolContext, Wish
from kairosd.system.files import LocalFiles

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass
class RealGit:
    """git as a subprocess, outside of the sandbox. `broken` stands for a host without a sandbox."""

    folder: Path
    broken: bool = False
    written: list[tuple[str, ...]] = field(default_factory=list)

    async def __call__(self, *arguments: str, stdin: bytes = b"", writable: bool = False) -> Outcome:
        if self.broken:
            raise SandboxError(fix="install bubblewrap")
        if writable:
            self.written.append(arguments)
        done = await asyncio.to_thread(
            subprocess.run, ["git", *arguments], cwd=self.folder, input=stdin, capture_output=True, env=ENVIRONMENT
        )
        return Outcome(done.returncode, done.stdout, done.stderr)


@dataclass
class RealCommands:
    """Plans as bash runs them, outside of the sandbox. `broken` stands for a host without a sandbox."""

    folder: Path
    broken: bool = False
    seconds: list[float] = field(default_factory=list)

    async def run(self, plan: Plan, *, seconds: float) -> Outcome:
        if self.broken:
            raise SandboxError(fix="install bubblewrap")
        self.seconds.append(seconds)
        words = ["bash", "-c", plan.text()]
        try:
            done = await asyncio.to_thread(
                subprocess.run, words, cwd=self.folder, capture_output=True, env=ENVIRONMENT, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            return Outcome(137, error.stdout or b"", error.stderr or b"", timed_out=True)
        return Outcome(done.returncode, done.stdout, done.stderr)

    def reads_only(self, plan: Plan) -> bool:
        return reads_only(plan, Workspace("w", self.folder))

    def scripts(self, plan: Plan) -> tuple[str, ...]:
        return scripts_of(plan, Workspace("w", self.folder))


@dataclass
class Services:
    """What the daemon would do for a tool: remembers notices by key and knows some events."""

    notices: dict[str, NoticeDraft] = field(default_factory=dict)
    events: dict[str, Event] = field(default_factory=dict)
    ledger: list[Call] = field(default_factory=list)

    async def read_event(self, event: str) -> Event:
        if event not in self.events:
            raise ToolError("there is no such event", fix="use an id from the goal")
        return self.events[event]

    async def triage(self, event: Event) -> Triage | None:
        return Triage("bug", "code", "low", "answer", "no")

    async def notify(self, draft: NoticeDraft) -> None:
        self.notices.setdefault(draft.key, draft)

    async def calls(self) -> list[Call]:
        return self.ledger


@dataclass
class Bench:
    """A folder with everything a tool may use."""

    root: Path
    git: RealGit
    commands: RealCommands
    services: Services
    context: ToolContext

    def put(self, path: str, content: str | bytes) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def run_git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *arguments],
            cwd=self.root, capture_output=True, check=True, text=True, env=ENVIRONMENT,
        ).stdout  # fmt: skip

    def commit(self, message: str) -> None:
        self.run_git("add", "--all")
        self.run_git("commit", "--quiet", "--message", message)

    def call(self, tool: str, arguments: dict[str, object], *, plan: object = None) -> Call:
        return Call(
            id=self.context.call, run=self.context.run.id, turn=1, position=0, tool=tool, arguments=arguments,
            hash=call_hash(tool, arguments), state=CallState.UNKNOWN, requested_at=NOW, effect=True, plan=plan,
        )  # fmt: skip

    async def do(self, tool: Tool, **arguments: Json) -> str:
        """Runs a call as the engine does, so that the run's ledger knows of it; the answer's text."""
        plan = await tool.plan(arguments, self.context) if tool.effect else None
        text = (await tool.run(arguments, self.context)).text
        call = self.call(tool.spec.name, dict(arguments), plan=plan)
        self.services.ledger.append(replace(call, state=CallState.SUCCEEDED, result=text))
        return text


def bench(root: Path, *, repository: bool = True) -> Bench:
    """A bench on `root`, which becomes a git repository on branch `main` unless told otherwise."""
    run = Run(
        id="r_01aaaaaaaaaaaaaaaaaaaaaaaa", state=RunState.RUNNING, goal="g", workspace="w", trigger="owner",
        decision=None, level=Level.SUGGEST, taint=Tier.OWNER, created=NOW,
    )  # fmt: skip
    git, commands, services = RealGit(root), RealCommands(root), Services()
    context = ToolContext(
        run=run, call="c_01bbbbbbbbbbbbbbbbbbbbbbbb", workspace=Workspace("w", root), root=root, files=LocalFiles(),
        git=git, commands=commands, services=services, author=("Ada Löw", "ada@example.org"),
        memory=Notebook(),
    )  # fmt: skip
    made = Bench(root, git, commands, services, context)
    if repository:
        made.run_git("init", "--quiet", "--initial-branch=main")
    return made


class Notebook:
    """`RunMemory` that keeps lists."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    async def keep(self, wish: Wish, *, call: str) -> str:
        self.kept[call] = wish.text
        return "remembered"

    async def retire(self, identifier: str, *, reason: str, call: str) -> str:
        self.kept[call] = identifier
        return "taken back"

    async def look_up(self, question: Question, *, when: str = "") -> Answers:
        passage = Passage(Layer.MEMORY, "m:1234", f"about {question.text}", NOW, tier=Tier.LOCAL)
        return Answers([Found(passage, 1.0)])

    async def has(self, call: str) -> bool:
        return call in self.kept


def event(text: dict[str, str], tier: Tier = Tier.PUBLIC) -> Event:
    """An issue comment with that text."""
    return Event(
        id="e_01cccccccccccccccccccccccc", source="github", kind="issue_comment", key="k", tier=tier, workspace="w",
        facts={"repo": "ada/engine", "number": 7}, text=text, delivery=None, received_at=NOW, state=EventState.CLAIMED,
        tries=0, decision=None,
    )  # fmt: skip
