"""Witnesses: what runs and decisions find outside is put on record, where a replay could not know it otherwise.

That is little: standing instructions and policy files, links, what a workspace looked like in words, what a checkout
was made of, and what an effect had planned. The results of tools are in the transcripts already. Nothing here waits
for the record, and a record that cannot be written stops nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar, cast

from kairosd.config.rules import WORKSPACE_FILE
from kairosd.core.budget import Payer, Purse
from kairosd.core.exchanges import marks
from kairosd.core.journal import stamp
from kairosd.core.json import Json, JsonObject, without_floats
from kairosd.core.messages import Prompt, ToolUse, UseBroken
from kairosd.core.runs import Call, Run
from kairosd.core.workspaces import Workspace
from kairosd.engine.asking import Asking, Listener, Reply
from kairosd.engine.checkouts import Checkout, Checkouts
from kairosd.engine.exchanges import Recorder, write_error, write_refusal, write_reply, write_uses
from kairosd.engine.hints import Hints
from kairosd.engine.instructions import NAMES
from kairosd.engine.landing import Landed
from kairosd.engine.purses import NoRoom, Purses
from kairosd.engine.repository import Place, Repository, Survey
from kairosd.errors import CheckoutError, ModelError, SandboxError, ToolError
from kairosd.ports import Clock, Files, Git, Model, Outcome, Tool, ToolAnswer, ToolContext

T = TypeVar("T")

STANDING = frozenset({*NAMES, WORKSPACE_FILE})
PLAIN = ToolAnswer("")
BESIDE = tuple(each.name for each in fields(ToolAnswer) if each.name not in ("text", "finish", "evidence"))


class Witness(Generic[T]):
    """Stands before `real`; what a kind of witness does not listen to goes straight through."""

    def __init__(self, real: T, recorder: Recorder) -> None:
        self._real = real
        self._recorder = recorder

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


class SeenFiles(Witness[Files]):
    """Files: the standing ones, and where links lead."""

    def read(self, root: Path, path: str, *, limit: int) -> bytes:
        if path not in STANDING:
            return self._real.read(root, path, limit=limit)
        try:
            content = self._real.read(root, path, limit=limit)
        except ToolError:
            self._recorder.saw("file", str(root), path, value=None)
            raise
        self._recorder.saw("file", str(root), path, value=content.decode("utf-8", "surrogateescape"))
        return content

    def resolve(self, root: Path, path: str) -> str:
        leads = self._real.resolve(root, path)
        self._recorder.saw("link", str(root), path, value=None if leads == path else leads)
        return leads


class SeenRepository(Witness[Repository]):
    """The workspace `name`, in the words that models are told."""

    def __init__(self, real: Repository, recorder: Recorder, *, name: str) -> None:
        super().__init__(real, recorder)
        self._name = name

    async def survey(self) -> Survey:
        found = await self._real.survey()
        standing: list[Json] = [path for _, path in found.changed if path in STANDING]
        self._recorder.saw("survey", self._name, value={**asdict(replace(found, changed=())), "changed": standing})
        return found

    async def describe(self, survey: Survey, **how: Json) -> str:
        words = await self._real.describe(survey, **how)  # type: ignore[arg-type]
        self._recorder.saw("described", self._name, repr(sorted(how.items())), value=words)
        return words


class SeenCheckouts(Witness[Checkouts]):
    """What a checkout was made of, and why one could not be."""

    async def ensure(self, run: Run, workspace: Workspace) -> Checkout:
        try:
            made = await self._real.ensure(run, workspace)
        except CheckoutError as error:
            self._recorder.saw("checkout", run.id, value={"error": error.message, "fix": error.fix})
            raise
        told: JsonObject = {"path": str(made.path), "base": made.base, "snapshot": made.snapshot}
        self._recorder.saw("checkout", run.id, value=told)
        return made

    def git(self, run: Run, workspace: Workspace, **given: Sequence[Path]) -> Git:
        return cast("Git", SeenGit(self._real.git(run, workspace, **given), self._recorder, run=run.id))


class SeenGit(Witness[Git]):
    """How the checkout of `run` stands: what prompts say of it."""

    def __init__(self, real: Git, recorder: Recorder, *, run: str) -> None:
        super().__init__(real, recorder)
        self._run = run

    async def __call__(self, *arguments: str, **given: bytes | bool) -> Outcome:
        told = arguments[:1] in (("status",), ("log",))
        try:
            outcome = await self._real(*arguments, **given)  # type: ignore[arg-type]
        except (SandboxError, CheckoutError) as error:
            if told:
                self._recorder.saw("git", self._run, *arguments, value={"error": error.message, "fix": error.fix})
            raise
        if told:
            said: JsonObject = {"code": outcome.code, "out": outcome.stdout.decode("latin-1")}
            self._recorder.saw("git", self._run, *arguments, value=said)
        return outcome


class _Lands(Protocol):
    async def land(self, run: Run, workspace: Workspace) -> Landed: ...


class SeenHandover(Witness[_Lands]):
    """What a run's landing came to."""

    async def land(self, run: Run, workspace: Workspace) -> Landed:
        try:
            landed = await self._real.land(run, workspace)
        except CheckoutError as error:
            self._recorder.saw("landed", run.id, value={"error": error.message, "fix": error.fix})
            raise
        patch = str(landed.patch) if landed.patch else None
        told = {**asdict(replace(landed, patch=None)), "patch": patch}
        self._recorder.saw("landed", run.id, value=cast("JsonObject", told))
        return landed


class SeenAsking(Witness[Asking]):
    """Every question to a model, and what came of it."""

    def __init__(self, real: Asking, recorder: Recorder, *, clock: Clock) -> None:
        super().__init__(real, recorder)
        self._clock = clock
        self.purses = cast("Purses", SeenPurses(real.purses, recorder))

    async def ask(
        self, model: Model, prompt: Prompt, *, payer: Payer, role: str, listener: Listener | None = None
    ) -> Reply:
        asked, name, heard = stamp(self._clock.now()), model.name, _Heard(listener)

        def put(outcome: Callable[[], JsonObject]) -> None:
            about: JsonObject = {
                "kind": "asked", "t": stamp(self._clock.now()), "asked": asked, "cause": payer.cause, "role": role,
                "model": name,
            }  # fmt: skip
            self._recorder.put(lambda: {**about, "prompt": marks(prompt), **outcome()})

        try:
            reply = await self._real.ask(model, prompt, payer=payer, role=role, listener=heard)
        except ModelError as error:
            fault = {**write_error(error), "heard": write_uses("".join(heard.words), heard.uses)}
            put(lambda: fault)
            raise
        except NoRoom as refused:
            put(partial(write_refusal, refused))
            raise
        put(lambda: {"reply": write_reply(reply)})
        return reply


class _Heard:
    """Passes on an answer while it comes, and keeps it: one that breaks off may have asked for something already."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self.words: list[str] = []
        self.uses: list[ToolUse | UseBroken] = []

    def text(self, words: str) -> None:
        self.words.append(words)
        if self._listener is not None:
            self._listener.text(words)

    def use(self, use: ToolUse | UseBroken) -> None:
        self.uses.append(use)
        if self._listener is not None:
            self._listener.use(use)


class SeenPurses(Witness[Purses]):
    """How full a purse was when a model was told of it."""

    async def quarters_left(self, purse: Purse) -> int:
        left = await self._real.quarters_left(purse)
        self._recorder.saw("purse", purse.value, value=left)
        return left


class SeenMemory(Witness[Hints]):
    """What prompts were told of memory."""

    async def hints(self, workspace: str | None, *, limit: int) -> str:
        told = await self._real.hints(workspace, limit=limit)
        self._recorder.saw("hints", workspace or "", str(limit), value=told)
        return told


class SeenTool(Witness[Tool]):
    """What a call had planned, what its answer says beside its text, and what its probe could tell after a crash."""

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        plan = await self._real.plan(arguments, context)
        self._recorder.saw("plan", context.call, value=without_floats(plan))
        return plan

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        answer = await self._real.run(arguments, context)
        beside = {name: value for name in BESIDE if (value := getattr(answer, name)) != getattr(PLAIN, name)}
        if beside:
            self._recorder.saw("answer", context.call, value=beside)
        return answer

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        happened = await self._real.probe(call, context)
        self._recorder.saw("probe", call.id, value=happened)
        return happened


def seen_place(place: Place, recorder: Recorder) -> Place:
    """The workspace with its repository behind a witness."""
    repository = SeenRepository(place.repository, recorder, name=place.workspace.name)
    return replace(place, repository=cast("Repository", repository))
