"""The ledger: every call is judged, an effect is written down before it happens, a crash is settled by a probe."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from kairosd.core.ids import mint
from kairosd.core.json import JsonObject, canonical, digest
from kairosd.core.messages import ToolUse
from kairosd.core.notices import Notice, NoticeDraft, Severity
from kairosd.core.policy import Opinion, Ruling
from kairosd.core.runs import Approval, ApprovalState, Call, CallState, ParkedOn, Run, call_hash
from kairosd.engine.gate import Gate
from kairosd.errors import ExecutorError, SandboxError, ToolError
from kairosd.ports import Clock, Stores, Tool, ToolAnswer, ToolContext

CODE_LETTERS = "bcdfghjkmnpqrstvwxz"  # no vowels, so that no code spells a word
RESULT_MAX = 16_000

REFUSED = frozenset({ApprovalState.DENIED, ApprovalState.EXPIRED, ApprovalState.WITHDRAWN})
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


@dataclass(frozen=True, slots=True)
class Settled:
    """What goes back to the model for one call."""

    answer: ToolAnswer
    error: bool


class Ledger:
    """Carries calls from request to outcome."""

    def __init__(
        self,
        stores: Stores,
        gate: Gate,
        *,
        clock: Clock,
        address: Callable[[NoticeDraft], Sequence[Notice]],
        expires: timedelta,
    ) -> None:
        self._runs = stores.runs
        self._approvals = stores.approvals
        self._clock = clock
        self.gate = gate
        self._address = address
        self._expires = expires

    async def request(self, run: Run, turn: int, *, position: int, use: ToolUse, tool: Tool) -> Call:
        """The row of a call, made when it is new."""
        for call in await self._runs.calls(run.id):
            if (call.turn, call.position) == (turn, position):
                return call
        now = self._clock.now()
        call = Call(
            id=mint("c", now), run=run.id, turn=turn, position=position, tool=use.name, arguments=use.arguments,
            hash=call_hash(use.name, use.arguments), state=CallState.REQUESTED, requested_at=now, effect=tool.effect,
            provider_id=use.id,
        )  # fmt: skip
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
            return await self._refuse(call, CallState.FAILED, reason=str(error))

    async def _go(self, run: Run, call: Call, *, tool: Tool, context: ToolContext) -> Settled:
        """The owner's no comes first, then the gate, then the plan; a yes holds for exactly what was planned."""
        approval = await self._approvals.of_call(call.id) if call.state is CallState.PARKED else None
        if approval is not None and approval.state in REFUSED:
            reason = f"the owner did not allow this ({approval.state})"
            return await self._refuse(call, CallState.DENIED, reason=reason)
        follow = partial(context.files.resolve, context.root)
        opinion = await asyncio.to_thread(self.gate.judge, tool, call.arguments, run=run, follow=follow)
        if opinion.ruling is Ruling.DENY:
            told = f"denied: {opinion.rule}"
            return await self._refuse(replace(call, rule=opinion.rule), CallState.DENIED, reason=told)
        if approval is not None and approval.state is ApprovalState.OPEN:
            raise Park(ParkedOn.APPROVAL, None)
        if tool.effect:
            call = replace(call, plan=await tool.plan(call.arguments, context))
        if call.state is CallState.PARKED:
            await self._use(run, call, approval=approval)
        elif opinion.ruling is Ruling.ASK and call.state is CallState.REQUESTED:
            raise self._question(run, call, opinion=opinion)
        return await self._do(call, tool, context=context)

    async def _do(self, call: Call, tool: Tool, *, context: ToolContext) -> Settled:
        if tool.effect:
            call = await self._move(call, CallState.INTENDED)
        try:
            answer = await tool.run(call.arguments, replace(context, call=call.id))
        except (ToolError, SandboxError, ExecutorError) as error:
            return await self._refuse(call, CallState.FAILED, reason=str(error))
        if call.state is not CallState.SUCCEEDED:
            await self._move(replace(call, result=answer.text[:RESULT_MAX]), CallState.SUCCEEDED)
        return Settled(answer, error=False)

    async def _probe(self, call: Call, tool: Tool, *, context: ToolContext) -> Call:
        happened = await tool.probe(call, context)
        if happened is None:
            return call
        if happened:
            told = f"{call.tool}: done (it had happened just before Kairos was interrupted)"
            return await self._move(replace(call, result=told), CallState.SUCCEEDED)
        return await self._move(call, CallState.NOT_DONE)

    async def _use(self, run: Run, call: Call, *, approval: Approval | None) -> None:
        """Spends the owner's yes. Raises `Park` with a new question when it does not fit what would happen now."""
        fits = approval is not None and approval.hash == bound_hash(call)
        if approval is not None and approval.state is ApprovalState.APPROVED:
            state = ApprovalState.USED if fits else ApprovalState.STALE
            await self._approvals.move(approval.id, state, now=self._clock.now())
        # A yes that is spent already stands for this exact call: the crash came before the intent.
        if not fits or approval is None or approval.state is ApprovalState.STALE:
            raise self._question(run, call, opinion=self._ask_again(call))

    @staticmethod
    def _ask_again(call: Call) -> Opinion:
        return Opinion(Ruling.ASK, f"{call.rule or 'a question'}; what it touches has changed since it was asked")

    def _question(self, run: Run, call: Call, *, opinion: Opinion) -> Park:
        now = self._clock.now()
        approval = Approval(
            id=mint("a", now), code="".join(secrets.choice(CODE_LETTERS) for _ in range(5)), state=ApprovalState.OPEN,
            run=run.id, call=call.id, workspace=run.workspace, hash=bound_hash(call), question=describe(call),
            rule=opinion.rule, created=now, expires=now + self._expires,
        )  # fmt: skip
        return Park(ParkedOn.APPROVAL, approval, notices=self._address(question_notice(approval, run)))

    async def _refuse(self, call: Call, state: CallState, *, reason: str) -> Settled:
        if call.state not in ENDED_CALLS:
            await self._move(replace(call, result=reason), state)
        return Settled(ToolAnswer(reason), error=True)

    async def _move(self, call: Call, state: CallState) -> Call:
        return await self._runs.move_call(call, state, now=self._clock.now())


def bound_hash(call: Call) -> str:
    """What an approval is bound to: the exact call, and what it would replace."""
    return digest({"call": call.hash, "plan": call.plan})


def describe(call: Call) -> str:
    """The call as the owner is shown it: decoded, long values cut with their length."""
    return f"{call.tool} {canonical(_shorten(call.arguments))}"


def question_notice(approval: Approval, run: Run) -> NoticeDraft:
    """The notice that asks the owner."""
    return NoticeDraft(
        key=f"approval:{approval.id}",
        title=f"Kairos asks: {approval.question[:80]}",
        body=(
            f"{approval.question}\n\nFor: {run.goal}\nAsked because: {approval.rule}\n"
            f"Answer: kairos approve {approval.code}   or   kairos deny {approval.code}"
        ),
        severity=Severity.HIGH,
        cause=approval.id,
        workspace=approval.workspace,
    )


def _shorten(arguments: Mapping[str, object]) -> JsonObject:
    shown: dict[str, str] = {}
    for name, value in arguments.items():
        text = value if isinstance(value, str) else str(value)
        shown[name] = text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"
    return shown


def _unknown(call: Call) -> str:
    return (
        f"unknown: Kairos was interrupted during {call.tool} and cannot tell whether it happened. "
        "Look before you repeat it."
    )
