"""The ledger: every call is judged, an effect is written down before it happens, a crash is settled by a probe."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from kairosd.core.events import Tier
from kairosd.core.ids import mint
from kairosd.core.levels import Level, Opinion, Permission, Ruling
from kairosd.core.messages import ToolUse
from kairosd.core.notices import Notice, NoticeDraft, Severity
from kairosd.core.questions import bound_hash, describe, effect_of, escaped, exact_hash
from kairosd.core.runs import Approval, ApprovalState, Call, CallState, ParkedOn, Run, call_hash
from kairosd.core.secrets import Scrubber
from kairosd.core.shell.plans import Plan
from kairosd.engine.commands import folders_of
from kairosd.engine.gate import Gate
from kairosd.engine.tooling import Look
from kairosd.errors import ExecutorError, SandboxError, ShellFormError, ToolError, TransitionError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Files, Stores, Tool, ToolAnswer, ToolContext

CODE_LETTERS = "bcdfghjkmnpqrstvwxz"  # no vowels, so that no code spells a word
RESULT_MAX = 16_000

CHANGED = "; what it touches has changed since it was asked"

REFUSED = frozenset({ApprovalState.DENIED, ApprovalState.EXPIRED})
ANSWERED = frozenset({ApprovalState.APPROVED, ApprovalState.USED, ApprovalState.STALE})
ENDED_CALLS = frozenset({CallState.SUCCEEDED, CallState.FAILED, CallState.DENIED})


class Park(Exception):
    """Raised out of a call that needs the owner: no error, the run rests.

    With an `approval` it is a new question, else one that is open already.
    """

    def __init__(self, on: ParkedOn, approval: Approval | None, *, notices: Sequence[Notice] = ()) -> None:
        self.on = on
        self.approval = approval
        self.notices = tuple(notices)
        super().__init__(on)


@frozen
class Settled:
    """What goes back to the model for one call; `look` is its row, where that is not waited for."""

    answer: ToolAnswer
    error: bool
    look: Look | None = None


@frozen
class Matter:
    """What a question is about: shown by `commands` and `effect`, bound by `bound`, for always by `exact`."""

    commands: Plan | None
    effect: str
    bound: str
    exact: str
    guarded: bool


@frozen
class Questions:
    """How the owner is asked: `address` makes the notices of a question, `expires` is how long it stays open."""

    address: Callable[[NoticeDraft], Sequence[Notice]]
    expires: timedelta


class Ledger:
    """Carries calls from request to outcome. No secret that `scrub` knows gets into a result."""

    def __init__(self, stores: Stores, gate: Gate, *, clock: Clock, questions: Questions, scrub: Scrubber) -> None:
        self._runs = stores.runs
        self._approvals = stores.approvals
        self._grants = stores.grants
        self._clock = clock
        self.gate = gate
        self._questions = questions
        self.scrub = scrub

    async def request(self, run: Run, turn: int, *, position: int, use: ToolUse, tool: Tool) -> Call:
        """A new call. That of an effect is on disk; one that only reads is written with its outcome or its question."""
        now = self._clock.now()
        call = Call(
            id=mint("c", now), run=run.id, turn=turn, position=position, tool=use.name, arguments=use.arguments,
            hash=call_hash(use.name, use.arguments), state=CallState.REQUESTED, requested_at=now, effect=tool.effect,
            provider_id=use.id,
        )  # fmt: skip
        if tool.effect:
            await self._runs.call(call, now)
        return call

    async def settle(self, run: Run, call: Call, *, tool: Tool, context: ToolContext) -> Settled:
        """Brings the call to its end, from whatever state a crash or a question left it in. Raises `Park`."""
        if call.state is CallState.INTENDED:
            call = await self._move(call, CallState.UNKNOWN)
        if call.state is CallState.UNKNOWN:
            call = await self._probe(call, tool, context=context)
            if call.state is CallState.UNKNOWN:
                return Settled(ToolAnswer(_unknown(call)), error=True)
        if call.state in ENDED_CALLS and tool.effect:
            return Settled(ToolAnswer(call.result), error=call.state is not CallState.SUCCEEDED)
        if call.state in (CallState.DENIED, CallState.FAILED):
            return Settled(ToolAnswer(call.result), error=True)
        try:
            return await self._go(run, call, tool=tool, context=context)
        except ToolError as error:
            return await self._unfit(call, error)
        except Park:
            if call.state is CallState.REQUESTED and not tool.effect:
                await self._runs.call(call, self._clock.now())
            raise

    async def forestall(self, run: Run, call: Call, *, tool: Tool, root: Path, files: Files) -> Settled | Ruling | None:
        """Ends a new call that cannot come to happen, before a place to do it in is made; else what the gate says.

        None for a call that has a history: only `settle` knows what to do with that.
        """
        if call.state is not CallState.REQUESTED:
            return None
        try:
            opinion = await self.judge(run, call, tool=tool, root=root, files=files)
        except ToolError as error:
            return await self._unfit(call, error)
        return await self._deny(call, opinion) if opinion.ruling is Ruling.DENY else opinion.ruling

    async def fail(self, call: Call, reason: str) -> Settled:
        """Ends a call that could not be made."""
        return await self._refuse(call, CallState.FAILED, reason=reason)

    async def judge(self, run: Run, call: Call, *, tool: Tool, root: Path, files: Files) -> Opinion:
        """What the gate says of the call now. Raises `ToolError` for arguments that cannot be judged."""
        judge = partial(self.gate.judge, run=run, root=root, follow=partial(files.resolve, root))
        if tool.permission is Permission.READ:
            return judge(tool, call.arguments)  # a few paths at most: a thread would take longer than they do
        return await asyncio.to_thread(judge, tool, call.arguments)

    async def _go(self, run: Run, call: Call, *, tool: Tool, context: ToolContext) -> Settled:
        """The owner's no comes first, then the gate, then the plan; a yes holds for exactly what was planned."""
        asked = call.state in (CallState.PARKED, CallState.NOT_DONE)
        approval = await self._approvals.of_call(call.id) if asked else None
        if approval is not None and approval.state in REFUSED:
            reason = f"the owner did not allow this ({approval.state})"
            return await self._refuse(call, CallState.DENIED, reason=reason)
        opinion = await self.judge(run, call, tool=tool, root=context.root, files=context.files)
        if approval is not None and approval.state is ApprovalState.OPEN:
            if opinion.ruling is Ruling.ASK:
                raise Park(ParkedOn.APPROVAL, None)
            await self._approvals.withdraw(approval.id, opinion.rule, now=self._clock.now())
        if opinion.ruling is Ruling.DENY:
            return await self._deny(call, opinion)
        if tool.effect:
            call = replace(call, plan=await tool.plan(call.arguments, context))
        if approval is not None and approval.state in ANSWERED:
            matter = await self._matter(run, call, tool=tool, context=context, guarded=opinion.guarded)
            await self._use(run, call, approval=approval, matter=matter)
        elif opinion.ruling is Ruling.ASK:
            matter = await self._matter(run, call, tool=tool, context=context, guarded=opinion.guarded)
            granted = await self._granted(run, call, matter=matter)
            if granted is None and opinion.fix and not tool.escalates and await self._is_to_be_taught(run, call):
                told = f"refused: {opinion.rule} — {opinion.fix}. {_how_to_ask(run)}"
                return await self._refuse(replace(call, rule=opinion.rule), CallState.DENIED, reason=told)
            if granted is None:
                raise self._question(run, call, matter=matter, rule=opinion.rule)
            call = granted
        return await self._do(call, tool, context=context)

    async def _matter(self, run: Run, call: Call, *, tool: Tool, context: ToolContext, guarded: bool) -> Matter:
        """What a yes would be bound to, as the world is now."""
        commands = tool.commands(call.arguments)
        follow = partial(context.files.resolve, context.root)
        scripts = (call.plan or {}).get("scripts")
        names = {*tool.paths(call.arguments), *(scripts if isinstance(scripts, Mapping) else ())}
        names |= set(folders_of(commands, context.workspace)) if commands else set()
        aims = await asyncio.to_thread(lambda: {name: follow(name) for name in names})
        return Matter(
            commands=commands,
            effect=effect_of(self.gate.classify(tool, call.arguments, run=run)),
            bound=bound_hash(call, str(context.root), aims=aims),
            exact=exact_hash(call, commands, aims=aims),
            guarded=guarded or self.gate.terms.ceiling(run) is Level.OPEN,
        )

    async def _do(self, call: Call, tool: Tool, *, context: ToolContext) -> Settled:
        if tool.effect:
            call = await self._move(call, CallState.INTENDED)
        try:
            answer = self._scrubbed(await tool.run(call.arguments, replace(context, call=call.id)))
        except (ToolError, SandboxError, ExecutorError) as error:
            return await self._refuse(call, CallState.FAILED, reason=await _told(error))
        ended, look, now = replace(call, result=answer.text[:RESULT_MAX]), None, self._clock.now()
        if tool.effect:
            await self._runs.move_call(ended, CallState.SUCCEEDED, now=now, taint=answer.taint)
        elif call.state is not CallState.SUCCEEDED:
            again = partial(self._runs.move_call, ended, CallState.SUCCEEDED, now=now)
            look = Look(self._runs.end_look(ended, now=now), again)
        return Settled(answer, error=False, look=look)

    async def _probe(self, call: Call, tool: Tool, *, context: ToolContext) -> Call:
        happened = await tool.probe(call, context)
        if happened is None:
            return call
        if happened:
            told = f"{call.tool}: done (it had happened just before Kairos was interrupted)"
            return await self._move(replace(call, result=told), CallState.SUCCEEDED)
        return await self._move(call, CallState.NOT_DONE)

    async def _use(self, run: Run, call: Call, *, approval: Approval, matter: Matter) -> None:
        """Spends the owner's yes. Raises `Park` with a new question when it does not fit what would happen now."""
        fits = approval.hash == matter.bound and (approval.guarded or not matter.guarded)
        if approval.state is ApprovalState.APPROVED:
            state = ApprovalState.USED if fits else ApprovalState.STALE
            await self._approvals.move(approval.id, state, now=self._clock.now())
        # A yes that is spent already stands for this exact call: the crash came before the effect.
        if not fits or approval.state is ApprovalState.STALE:
            why = approval.rule.removesuffix(CHANGED) + CHANGED
            raise self._question(run, call, matter=matter, rule=why)

    async def _is_to_be_taught(self, run: Run, call: Call) -> bool:
        """Whether a command that merely lacks permission goes back to the model: at first, and for a taint always.

        An ordinary day asks at most once (design §1), and most models know another way; one that needs just this call
        makes it again. Who works on what somebody else wrote has to say why, by `request_approval`.
        """
        if call.state is not CallState.REQUESTED:
            return False
        calls = await self._runs.calls(run.id)
        again = any(one.turn < call.turn and one.hash == call.hash and one.state is CallState.DENIED for one in calls)
        return not again or is_others_word(run)

    async def _granted(self, run: Run, call: Call, *, matter: Matter) -> Call | None:
        """The call, with the standing grant that allows it as its rule; None where there is none."""
        grant = None if matter.guarded else await self._grants.match(run, call.tool, exact=matter.exact)
        if grant is not None:
            try:
                used = await self._grants.use(grant.id, call.id, now=self._clock.now())
                return replace(call, rule=f"granted by the owner on {used.created:%Y-%m-%d} ({used.id})")
            except TransitionError:
                pass  # revoked in this moment: the owner is asked as if it had never been
        return None

    def _question(self, run: Run, call: Call, *, matter: Matter, rule: str) -> Park:
        now = self._clock.now()
        approval = Approval(
            id=mint("a", now), code="".join(secrets.choice(CODE_LETTERS) for _ in range(5)), state=ApprovalState.OPEN,
            run=run.id, call=call.id, workspace=run.workspace, hash=matter.bound,
            question=describe(call, matter.commands), rule=rule, created=now,
            expires=now + self._questions.expires, effect=matter.effect, guarded=matter.guarded,
            exact="" if matter.guarded else matter.exact,
        )  # fmt: skip
        return Park(ParkedOn.APPROVAL, approval, notices=self._questions.address(question_notice(approval, run)))

    def _scrubbed(self, answer: ToolAnswer) -> ToolAnswer:
        text, evidence = self.scrub(answer.text), self.scrub(answer.evidence)
        if not text.found and not evidence.found:
            return answer
        note = f"\n[{text.found} secrets are not shown]" if text.found else ""
        return replace(answer, text=text.text + note, evidence=evidence.text)

    async def _deny(self, call: Call, opinion: Opinion) -> Settled:
        told = f"denied: {opinion.rule}"
        return await self._refuse(replace(call, rule=opinion.rule), CallState.DENIED, reason=told)

    async def _unfit(self, call: Call, error: ToolError) -> Settled:
        if isinstance(error, ShellFormError):
            call = replace(call, rule=f"form: {error.message}")
            return await self._refuse(call, CallState.DENIED, reason=str(error))
        return await self._refuse(call, CallState.FAILED, reason=await _told(error))

    async def _refuse(self, call: Call, state: CallState, *, reason: str) -> Settled:
        reason = self.scrub(reason).text
        if call.state not in ENDED_CALLS:
            await self._move(replace(call, result=reason), state)
        return Settled(ToolAnswer(reason, failed=state is CallState.FAILED), error=True)

    async def _move(self, call: Call, state: CallState) -> Call:
        return await self._runs.move_call(call, state, now=self._clock.now())


def question_notice(approval: Approval, run: Run) -> NoticeDraft:
    """The notice that asks the owner."""
    price = "unknown" if run.price is None else f"${run.price / 1_000_000:.4f}"
    effect = f"What it does: {approval.effect}\n" if approval.effect else ""
    return NoticeDraft(
        key=f"approval:{approval.id}",
        title=f"Kairos asks: {approval.question.splitlines()[0][:80]}",
        body=(
            f"{approval.question}\n\n{effect}For: {escaped(run.goal)}\nAsked because: {escaped(approval.rule)}\n"
            f"The run has cost so far: {price}\n"
            f"Answer: kairos approve {approval.code}   or   kairos deny {approval.code}"
        ),
        severity=Severity.HIGH,
        cause=approval.id,
        workspace=approval.workspace,
    )


def is_others_word(run: Run) -> bool:
    """Whether the run works on what somebody else wrote."""
    return run.taint < Tier.LOCAL


def _how_to_ask(run: Run) -> str:
    if is_others_word(run):
        return "Finish without it, and say what you could not check; request_approval asks the owner."
    return "If the goal cannot be reached without it, make the same call again: the owner is then asked."


async def _told(error: Exception) -> str:
    """The error in words, in a thread: for a file that is not there the workspace is searched for names like it."""
    return await asyncio.to_thread(str, error)


def _unknown(call: Call) -> str:
    return (
        f"unknown: Kairos was interrupted during {call.tool} and cannot tell whether it happened. "
        "Look before you repeat it."
    )
