"""Deciding: one bounded question to the cheap model, and an answer in a fixed form (design §7)."""

from __future__ import annotations

from collections.abc import Callable

from kairosd.core.budget import Payer, purse_of
from kairosd.core.decisions import Answer, Verdict, allowed_answers, answer_schema, parse_answer
from kairosd.core.messages import Form, Message, Prompt, ToolUse
from kairosd.core.runs import RunState
from kairosd.engine.asking import Asking, Cost, Reply
from kairosd.engine.digest import compose
from kairosd.errors import ModelProtocolError
from kairosd.ports import Claim, Clock, Model, Query, Stores
from kairosd.prompts import text_of

ANSWER_TOKENS = 512
TRIES = 2  # prose is a protocol error: asked once more, then the batch waits
UNUSABLE_WAKE = 900  # seconds


class Decider:
    """Asks whether to act on a batch. The same for every workspace."""

    def __init__(self, stores: Stores, clock: Clock, *, asking: Asking, model: Callable[[], Model]) -> None:
        self._stores = stores
        self._clock = clock
        self._asking = asking
        self._model = model

    async def ask(self, claim: Claim, world: str, *, instructions: str) -> tuple[Answer, int | None]:
        """The answer, and what every try for it cost (micro-dollars, None = unknown). Raises `ModelError`, `NoRoom`.

        `world` describes the workspace as it is; `instructions` are the owner's standing ones.
        """
        allowed = allowed_answers(claim.decision.tier, has_workspace=claim.decision.workspace is not None)
        form = Form("decide", "Say whether to act.", answer_schema(allowed))
        message = Message("user", await self._digest(claim, world))
        prompt = Prompt(system=_system(instructions), messages=(message,), form=form, max_tokens=ANSWER_TOKENS)
        model, payer = self._model(), Payer(claim.decision.id, purse_of(claim.decision.source))
        problem, cost = "", Cost()
        for _ in range(TRIES):
            try:
                reply = await self._asking.ask(model, prompt, payer=payer, role="decide")
            except ModelProtocolError as error:
                cost.add(None)
                problem = str(error)
                continue
            cost.add(reply.price)
            try:
                return _read(reply, form.name, allowed=allowed), cost.total
            except (ModelProtocolError, ValueError) as error:
                problem = str(error)
        verdict = Verdict.WAIT if Verdict.WAIT in allowed else Verdict.IGNORE
        reason = f"the model's answer was not usable twice: {problem}"[:500]
        return Answer(verdict, reason, "", 0, UNUSABLE_WAKE), cost.total

    async def _digest(self, claim: Claim, world: str) -> str:
        workspace = claim.decision.workspace
        parked = await self._stores.runs.in_state(RunState.PARKED)
        recent = await self._stores.decisions.find(Query(workspace=workspace, limit=4)) if workspace else ()
        return compose(
            claim.events,
            now=self._clock.now(),
            world=world,
            runs=[run for run in parked if run.workspace == workspace],
            decisions=[made for made in recent if made.id != claim.decision.id and made.source != "owner"],
        )


def _system(instructions: str) -> str:
    base = text_of("decide")
    return f"{base}\n\nThe owner's standing instructions:\n{instructions}" if instructions else base


def _read(reply: Reply, form: str, *, allowed: tuple[Verdict, ...]) -> Answer:
    for use in reply.uses:
        if isinstance(use, ToolUse) and use.name == form:
            return parse_answer(use.arguments, allowed)
    raise ModelProtocolError("prose where a decision was asked for")
