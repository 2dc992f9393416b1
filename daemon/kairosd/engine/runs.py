"""Runs: one execution of a decided goal. The loop is `Worker.drive`; everything it needs to go on is on disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kairosd.core.events import Event
from kairosd.core.levels import Level, Opinion, Ruling, may_ask
from kairosd.core.messages import Prompt, ToolSpec, ToolUse
from kairosd.core.notices import NoticeDraft
from kairosd.core.runs import Call, CallState, ParkedOn, Run, RunState
from kairosd.core.triage import Triage
from kairosd.engine.asking import Asking, Reply
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.checks import Sight
from kairosd.engine.circles import FIRST_TOLD, MAX_REPEATS, TOLD, times_made
from kairosd.engine.commands import Ground, PlanRunner, changes, needs_checkout, signature, workspace_mounts
from kairosd.engine.compactor import Compactor
from kairosd.engine.conversation import Conversation, OpenUse
from kairosd.engine.ending import Ending
from kairosd.engine.instructions import is_trusted, read_instructions
from kairosd.engine.ledger import Ledger, Park, Settled
from kairosd.engine.limits import Limits, Meter
from kairosd.engine.patience import GaveUpError, Patience
from kairosd.engine.purses import NoRoom, payer_of
from kairosd.engine.quarantine import Quarantine
from kairosd.engine.repository import Place
from kairosd.engine.signals import Feed
from kairosd.engine.terms import broken_notice
from kairosd.errors import (
    CheckoutError,
    ExecutorError,
    ModelError,
    ModelRefusedError,
    SandboxError,
    ToolError,
    UsageError,
)
from kairosd.ports import Clock, Files, Finish, Model, Mount, Sandbox, Stores, Tool, ToolContext, Update
from kairosd.prompts import text_of

log = logging.getLogger("kairosd.runs")

MAX_TURNS = 40  # a run that has not ended by then goes round in circles
EVIDENCE_SHOWN = 5  # lines below an answer
REFUSALS_MAX = 8  # calls that the gate refuses in a row, without one that succeeds between them


@dataclass(frozen=True, slots=True)
class Tooling:
    """What every run works with."""

    stores: Stores
    clock: Clock
    asking: Asking
    model: Callable[[], Model]
    files: Files
    sandbox: Sandbox
    tools: Mapping[str, Tool]
    ledger: Ledger
    checkouts: Checkouts
    ending: Ending
    quarantine: Quarantine
    limits: Limits
    feed: Feed
    tell: Callable[[NoticeDraft], Awaitable[None]]
    author: Callable[[], Awaitable[tuple[str, str]]]


class Worker:
    """Carries one run from `running` to an end or to a question."""

    def __init__(self, tooling: Tooling, place: Place, *, run: Run) -> None:
        self._t = tooling
        self._place = place
        self.run = run
        self._payer = payer_of(run, ())
        self._meter = Meter(tooling.limits, tooling.clock, run=run)
        self._patience = Patience(tooling.asking, tooling.clock, publish=self._publish)
        self._compactor = Compactor(tooling.tools, ask=self._patiently, paid=self._pay)

    async def drive(self) -> None:
        """The loop: answer what is open, else ask the model, until somebody says it is through."""
        talk = await Conversation.load(self._t.stores.transcripts, self.run.id)
        await self.read_terms()
        self._payer = payer_of(self.run, await self._t.stores.approvals.of_run(self.run.id))
        try:
            if not talk.messages:
                await talk.say(await self._opening())
            while talk.finish is None:
                self.run, enough = self._meter.read(self.run, MAX_TURNS)
                if talk.open_uses:
                    await self._answer(talk, talk.open_uses[0])
                elif enough:
                    return await self._t.ending.give_up(self.run, RunState.OVER_BUDGET, reason=enough)
                else:
                    await self._turn(talk)
            finish = with_evidence(talk.finish, talk.evidence)
            await self._t.ending.conclude(self.run, self._place, finish=finish, sight=await self._sight())
        except Park as park:
            await self._park(park)
        except NoRoom as refused:
            await self._park(self._t.ending.short(self.run, self._t.asking.purses.wish(self.run, refused.breach)))
        except (GaveUpError, ModelRefusedError) as reason:
            await self._t.ending.give_up(self.run, RunState.FAILED, reason=str(reason))
        except (CheckoutError, SandboxError, ExecutorError) as error:
            await self._park(self._t.ending.stuck(self.run, str(error)))

    async def _turn(self, talk: Conversation) -> None:
        model = self._t.model()
        reply = await self._compactor.turn(talk, await self._prompt(model), model=model)
        self._pay(reply)
        self.run = replace(self.run, turns=self.run.turns + 1)
        await talk.add_turn(reply, model.model)
        await self._t.stores.runs.update(self.run)

    async def _answer(self, talk: Conversation, item: OpenUse) -> None:
        use = item.use
        tool = self._t.tools.get(use.name)
        if not isinstance(use, ToolUse):
            told = f"{use.name}: {use.problem}; send the arguments as one JSON object"
            return await talk.add_result(use.id, told, error=True)
        if warning := self._repeats(talk, use):
            return await talk.add_result(use.id, warning, error=True)
        if tool is None:
            told = f"there is no tool {use.name}; there are: {', '.join(self._t.tools)}"
            return await talk.add_result(use.id, told, error=True)
        self._publish("call", f"{use.name}", data={"tool": use.name, "arguments": dict(use.arguments)})
        call = await self._t.ledger.request(self.run, talk.turn, position=item.position, use=use, tool=tool)
        settled = await self._settle(call, tool)
        if not settled.error:
            self._meter.progress(self.run)
        if settled.answer.taint is not None and settled.answer.taint < self.run.taint:
            self.run = replace(self.run, taint=settled.answer.taint)
            await self._t.stores.runs.update(self.run)
        self._publish("result", settled.answer.text[:2000], data={"tool": use.name, "error": settled.error})
        if settled.answer.sleep_seconds:
            await self._t.clock.sleep(settled.answer.sleep_seconds)
        if settled.answer.finish:
            await talk.add_finish(settled.answer.finish)
        await talk.add_result(use.id, settled.answer.text, error=settled.error, evidence=settled.answer.evidence)
        if settled.error and (refused := refused_in_a_row(await self.calls())) >= REFUSALS_MAX:
            told = settled.answer.text.splitlines()[0]
            raise GaveUpError(f"{refused} calls in a row were refused, the last one {use.name}: {told}")
        return None

    async def _settle(self, call: Call, tool: Tool) -> Settled:
        """Brings a call to its end, in this run's checkout from the first call on that may need one."""
        workspace, ledger = self._place.workspace, self._t.ledger
        if self.run.base is None and await asyncio.to_thread(
            needs_checkout, tool, call.arguments, level=Level(self.run.level), workspace=workspace
        ):
            # Judged before anything is made for it: what is denied must not fail for want of a checkout.
            known = await ledger.forestall(self.run, call, tool=tool, root=workspace.path, files=self._t.files)
            if isinstance(known, Settled):
                return known
            try:
                checkout = await self._t.checkouts.ensure(self.run, workspace)
            except CheckoutError as error:
                if known is not Ruling.ASK:
                    raise
                return await ledger.fail(call, f"not run: there can be no checkout to run it in: {error.message}")
            self.run = replace(self.run, base=checkout.snapshot)
            await self._t.stores.runs.update(self.run)
        return await ledger.settle(self.run, call, tool=tool, context=await self._context(call))

    async def _sight(self) -> Sight:
        """What this run sees: the workspace as it is, or its checkout."""
        run, place = self.run, self._place
        if run.base is not None:
            checkout = await self._t.checkouts.ensure(run, place.workspace)
            root, git = checkout.path, self._t.checkouts.git(run, place.workspace)
        else:
            root, git = place.workspace.path, place.repository.git()
        commands = self._commands(root, await self._t.author(), secrets=self._secrets)
        return Sight(root, self._t.files, git, commands)

    @property
    def _secrets(self) -> tuple[str, ...]:
        return self._t.ledger.gate.terms.policy(self.run.workspace).secret_paths

    async def _context(self, call: Call) -> ToolContext:
        sight = await self._sight()
        return ToolContext(
            run=self.run, call=call.id, workspace=self._place.workspace, root=sight.root, files=sight.files,
            git=sight.git, commands=sight.commands, services=self, author=await self._t.author(),
            limit=_result_limit(self._t.model()), hidden=self._secrets,
        )  # fmt: skip

    def _commands(self, root: Path, author: tuple[str, str], *, secrets: tuple[str, ...]) -> PlanRunner:
        run, workspace = self.run, self._place.workspace

        def mounts(files: bool, history: bool) -> tuple[Mount, ...]:
            if run.base is None:
                return workspace_mounts(self._t.files, workspace)
            return self._t.checkouts.mounts(run, workspace, files=files, history=history)

        ground = Ground(workspace, root, mounts, secrets, signature(author, self._t.clock.now()))
        return PlanRunner(self._t.sandbox, self._t.files, ground=ground)

    def _pay(self, reply: Reply) -> None:
        price = None if reply.price is None or self.run.price is None else self.run.price + reply.price
        self.run = replace(self.run, tokens=self.run.tokens + reply.tokens, price=price)

    async def _prompt(self, model: Model) -> Prompt:
        """All but the messages: instructions come back from disk every turn, so no compaction can lose them."""
        return Prompt(
            system=await self._system(),
            messages=(),
            tools=tool_set(self._t.tools, Level(self.run.level)),
            max_tokens=min(4096, model.context // 4),
        )

    async def _system(self) -> str:
        workspace = self._place.workspace
        world = await self._t.stores.worlds.get(workspace.name)
        pinned = world.trusted_hashes if world else ""
        standing = await read_instructions(self._t.files, workspace, pinned=pinned, uncommitted=())
        base = text_of("act")
        return f"{base}\n\nThe owner's standing instructions:\n{standing.text}" if standing.text else base

    async def read_terms(self) -> None:
        """The workspace's own policy file, as it is now; the owner is told once of one that is broken."""
        workspace = self._place.workspace
        world = await self._t.stores.worlds.get(workspace.name)
        trusted = is_trusted(workspace, world.trusted_hashes if world else "")
        found = await self._t.ledger.gate.terms.look(self._t.files, workspace, trusted=trusted)
        if found.policy.doubt:
            await self._t.tell(broken_notice(workspace.name, found))

    async def review(self, call: Call) -> Opinion | None:
        """What the gate says now of a call that waits for the owner; None where that cannot be told."""
        tool = self._t.tools.get(call.tool)
        if tool is None:
            return None
        await self.read_terms()
        try:
            # Judged where the files are now: what is only in a checkout is judged again when the run goes on.
            root = self._place.workspace.path
            return await self._t.ledger.judge(self.run, call, tool=tool, root=root, files=self._t.files)
        except ToolError:
            return None

    async def _opening(self) -> str:
        survey = await self._place.repository.survey()
        described = await self._place.repository.describe(survey)
        return f"Goal: {self.run.goal}\n\nThe workspace, where every path starts:\n{described}"

    async def _patiently(self, model: Model, prompt: Prompt, *, role: str) -> Reply:
        return await self._patience.ask(model, prompt, payer=self._payer, role=role)

    def _repeats(self, talk: Conversation, use: ToolUse) -> str | None:
        """What to tell a model that asks for the same thing again and again. Raises `GaveUpError` when it is enough."""
        count = times_made(talk.shown_whole, use, changes=self._changes)
        if count >= MAX_REPEATS:
            raise GaveUpError(f"the model asked for the same call {MAX_REPEATS} times: {use.name}")
        return TOLD if count >= FIRST_TOLD else None

    def _changes(self, use: ToolUse) -> bool:
        tool = self._t.tools.get(use.name)
        return tool is not None and changes(tool, use.arguments, workspace=self._place.workspace)

    async def _park(self, park: Park) -> None:
        if self.run.base and park.on is not ParkedOn.OWNER:
            try:
                await self._t.checkouts.keep_base(self.run, self._place.workspace)
            except (CheckoutError, SandboxError, ExecutorError) as error:
                # Without it the owner's gc may prune the base before the run goes on: it then asks to begin again.
                log.warning("the base of %s is not kept: %s", self.run.id, error)
        await self._t.stores.runs.park(
            self.run, park.on, approval=park.approval, notices=park.notices, now=self._t.clock.now()
        )
        code = park.approval.code if park.approval else None
        question = park.approval.question if park.approval else ""
        self._publish("parked", question, data={"state": "parked", "code": code, "answer": question})

    def _publish(self, kind: str, text: str, *, data: Mapping[str, object]) -> None:
        self._t.feed.publish(self.run.id, Update(kind, text, data))  # type: ignore[arg-type]

    # What tools may ask of the daemon (ToolServices).

    async def read_event(self, event: str) -> Event:
        try:
            found = await self._t.stores.events.get(event)
        except UsageError as error:
            raise ToolError(str(error)) from error
        if found.workspace != self.run.workspace:
            raise ToolError(f"{event} belongs to another workspace")
        return found

    async def triage(self, event: Event) -> Triage | None:
        try:
            triage, price = await self._t.quarantine.file(event, payer=self._payer)
        except (ModelError, NoRoom) as error:
            raise ToolError(f"the text cannot be filed now: {error}", fix="go on without it") from error
        total = None if price is None or self.run.price is None else self.run.price + price
        self.run = replace(self.run, price=total)
        return triage

    async def notify(self, draft: NoticeDraft) -> None:
        await self._t.tell(replace(draft, cause=self.run.id, workspace=self.run.workspace))

    async def calls(self) -> Sequence[Call]:
        return await self._t.stores.runs.calls(self.run.id)


def with_evidence(finish: Finish, evidence: Sequence[str]) -> Finish:
    """The answer with what it rests on: the facts are code's own, so a small model's summary can be checked."""
    if not evidence:
        return finish
    seen = "\n".join(f"- {line}" for line in evidence[-EVIDENCE_SHOWN:])
    return replace(finish, answer=f"{finish.answer}\n\nLooked at:\n{seen}")


def refused_in_a_row(calls: Sequence[Call]) -> int:
    """How many calls were refused since the last one that succeeded; one that failed counts neither way."""
    refused = 0
    for call in reversed(calls):
        if call.state is CallState.SUCCEEDED:
            break
        refused += call.state is CallState.DENIED
    return refused


def tool_set(tools: Mapping[str, Tool], level: Level) -> tuple[ToolSpec, ...]:
    """The tools of a level, in stable order: what is done at once or asked about, not what is refused anyway."""
    return tuple(tool.spec for _, tool in sorted(tools.items()) if may_ask(level, tool.permission))


def _result_limit(model: Model) -> int:
    """Characters of one tool result: an eighth of the window at four characters a token, so that several fit."""
    return max(1500, min(16_000, model.context // 2))
