"""Deciding: one bounded question to the cheap model, and an answer in a fixed form (design §7).

Where the cheap model is unsure of its answer, or cannot give one, the same question goes once to the model that acts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from kairosd.core.budget import Payer, purse_of
from kairosd.core.decisions import Answer, Verdict, allowed_answers, answer_schema, parse_answer
from kairosd.core.messages import Form, Message, Prompt, ToolUse
from kairosd.core.runs import RunState
from kairosd.engine.asking import Asking, Cost, Reply
from kairosd.engine.deciding_small import sorted_out
from kairosd.engine.digest import Surroundings, compose
from kairosd.engine.purses import NoRoom
from kairosd.errors import EmptyAnswerError, ModelError, ModelProtocolError, ModelUnavailableError
from kairosd.frozen import frozen
from kairosd.ports import Claim, Clock, Model, Query, Stores
from kairosd.prompts import text_of

ANSWER_TOKENS = 512
TRIES = 2  # prose is a protocol error: asked once more, then the batch waits
UNUSABLE_WAKE = 900  # seconds

Hints = Callable[[str | None], Awaitable[str]]  # what is remembered that bears on a workspace


@frozen
class Route:
    """Who decides, and who is asked once more where `cheap` is less than `below` percent sure (0 = nobody is)."""

    cheap: Callable[[], Model]
    strong: Callable[[], Model]
    below: int

    def stronger(self, than: Model) -> Model | None:
        """The other model. None where there is none, or it is the same under another name."""
        if not self.below:
            return None
        strong = self.strong()
        return strong if strong.name != than.name and strong.model != than.model else None

    def doubt(self, answer: Answer | None, model: Model) -> str:
        """Why `model` is not enough; empty when it is."""
        if answer is None:
            return f"{model.name} gave no usable answer"
        return f"{model.name} was {answer.confidence} % sure" if answer.confidence < self.below else ""


@frozen
class _Question:
    prompt: Prompt
    form: str
    allowed: tuple[Verdict, ...]
    payer: Payer
    claim: Claim


class Decider:
    """Asks whether to act on a batch. The same for every workspace."""

    def __init__(self, stores: Stores, clock: Clock, *, asking: Asking, route: Route, hints: Hints) -> None:
        self._stores = stores
        self._clock = clock
        self._asking = asking
        self._route = route
        self._hints = hints

    async def ask(self, claim: Claim, world: str, *, instructions: str) -> tuple[Answer, int | None]:
        """The answer, and what every try for it cost (micro-dollars, None = unknown). Raises `ModelError`, `NoRoom`.

        `world` describes the workspace as it is; `instructions` are the owner's standing ones.
        """
        allowed = allowed_answers(claim.decision.tier, has_workspace=claim.decision.workspace is not None)
        form = Form("decide", "Say whether to act.", answer_schema(allowed))
        message = Message("user", await self._digest(claim, world))
        prompt = Prompt(system=_system(instructions), messages=(message,), form=form, max_tokens=ANSWER_TOKENS)
        payer = Payer(claim.decision.id, purse_of(claim.decision.source))
        question, cost, cheap = _Question(prompt, form.name, allowed, payer, claim), Cost(), self._route.cheap()
        answer, problem = await self._tries(cheap, question, cost=cost)
        doubt = self._route.doubt(answer, cheap)
        if doubt and (strong := self._route.stronger(cheap)):
            answer, doubt = await self._second(strong, question, first=answer, cost=cost, doubt=doubt)
        elif answer is not None:
            doubt = ""
        if answer is None and isinstance(problem, EmptyAnswerError):
            raise problem  # nobody has looked at the batch: it waits
        return replace(answer or _unusable(str(problem), allowed), escalated=doubt), cost.total

    async def _tries(
        self, model: Model, question: _Question, *, cost: Cost
    ) -> tuple[Answer | None, ModelProtocolError | None]:
        problem: ModelProtocolError | None = None
        for _ in range(TRIES):
            try:
                return await self._put(model, question, cost=cost), None
            except ModelProtocolError as error:
                problem = error
        return None, problem

    async def _put(self, model: Model, question: _Question, *, cost: Cost) -> Answer:
        """One answer. Raises `ModelProtocolError` for one in no form that was asked for."""
        if model.by_schema:
            return await self._sorted(model, question, cost=cost)
        try:
            reply = await self._asking.ask(model, question.prompt, payer=question.payer, role="decide")
        except ModelProtocolError:
            cost.add(None)
            raise
        cost.add(reply.price)
        try:
            return replace(_read(reply, question.form, allowed=question.allowed), model=model.name)
        except ValueError as error:
            raise ModelProtocolError(str(error)) from error

    async def _sorted(self, model: Model, question: _Question, *, cost: Cost) -> Answer:
        async def put(prompt: Prompt) -> Reply:
            reply = await self._asking.ask(model, prompt, payer=question.payer, role="decide")
            cost.add(reply.price)
            return reply

        found = await sorted_out(put, question.claim.events, allowed=question.allowed)
        return replace(found, model=model.name)

    async def _second(
        self, strong: Model, question: _Question, *, first: Answer | None, cost: Cost, doubt: str
    ) -> tuple[Answer | None, str]:
        """The stronger model's answer, asked for once. Where it has none, the first one has to do."""
        try:
            return await self._put(strong, question, cost=cost), doubt
        except (ModelError, NoRoom) as error:
            if isinstance(error, ModelUnavailableError) and error.worked:
                cost.add(None)
            return first, f"{doubt}; {strong.name} did not decide either: {error}"[:500]

    async def _digest(self, claim: Claim, world: str) -> str:
        workspace = claim.decision.workspace
        parked = await self._stores.runs.in_state(RunState.PARKED)
        recent = await self._stores.decisions.find(Query(workspace=workspace, limit=4)) if workspace else ()
        return compose(
            claim.events,
            now=self._clock.now(),
            world=world,
            around=Surroundings(
                runs=[run for run in parked if run.workspace == workspace],
                decisions=[one for one in recent if one.id != claim.decision.id and one.source != "owner"],
                quarters=await self._asking.purses.quarters_left(purse_of(claim.decision.source)),
                memory=await self._hints(workspace),
            ),
        )


def _system(instructions: str) -> str:
    base = text_of("decide")
    return f"{base}\n\nThe owner's standing instructions:\n{instructions}" if instructions else base


def _unusable(problem: str, allowed: tuple[Verdict, ...]) -> Answer:
    verdict = Verdict.WAIT if Verdict.WAIT in allowed else Verdict.IGNORE
    reason = f"the model's answer was not usable twice: {problem}"[:500]
    return Answer(verdict, reason, "", 0, UNUSABLE_WAKE)


def _read(reply: Reply, form: str, *, allowed: tuple[Verdict, ...]) -> Answer:
    for use in reply.uses:
        if isinstance(use, ToolUse) and use.name == form:
            return parse_answer(use.arguments, allowed)
    raise ModelProtocolError("prose where a decision was asked for")
