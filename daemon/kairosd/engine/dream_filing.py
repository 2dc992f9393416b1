"""A dream's questions to a small model: one a sentence, answered with one word (`core.filing`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from kairosd.core.dream import Op, Operation
from kairosd.core.dream_checks import Examined, Frame, examine
from kairosd.core.duplicates import fitted, needs_nothing
from kairosd.core.evidence import Evidence
from kairosd.core.filing import (
    Label,
    Relation,
    Statement,
    addition,
    is_retold,
    outdated_by,
    statements,
    succession,
)
from kairosd.core.messages import Prompt
from kairosd.core.tokens import estimate_prompt
from kairosd.engine.asking import Reply
from kairosd.engine.choosing import again, chosen, question
from kairosd.errors import ModelProtocolError

ROUNDS = 2  # the question, and one more where the answer was none of the words


def least_tokens(evidence: Sequence[Evidence]) -> int:
    """The tokens that one question about each sentence takes."""
    return sum(_needed(question("dream_small", one.text)) for one in statements(evidence))


class Filer:
    """Files the evidence of one question's frame. `put` asks the model; `tokens` is what all its answers may take."""

    def __init__(self, put: Callable[[Prompt], Awaitable[Reply]], frame: Frame, *, tokens: int) -> None:
        self._put = put
        self._frame = frame
        self._left = tokens
        self._kept = 0  # of these, for the sentences that are still to come
        self._found = Examined(frame.generation)
        self._read = False
        self.problems: list[str] = []

    async def file(self, evidence: Sequence[Evidence]) -> Examined:
        """What became of the evidence. Raises what `put` does, and `ModelProtocolError` where no answer was a word."""
        told = statements(evidence)
        self._kept = least_tokens(evidence)
        made = [one for statement in told if (one := await self._addition(statement))]
        if told and not self._read:
            raise ModelProtocolError(self.problems[0])
        later: list[Operation] = []  # what was refused makes nothing outdated
        for one in reversed(made):
            if not await self._is_outdated(one, later=later) and await self._take(one):
                later.append(one)
        return self._found

    async def _addition(self, statement: Statement) -> Operation | None:
        asked = question("dream_small", statement.text)
        self._kept -= _needed(asked)
        label = await self._choice(asked, tuple(Label))
        return addition(statement, Label(label)) if label else None

    async def _is_outdated(self, operation: Operation, *, later: Sequence[Operation]) -> bool:
        """Whether something that was told after it holds instead, so that it is not remembered at all."""
        if (news := outdated_by(operation, later)) is None:
            return False
        return is_retold(operation.text, news.text) or await self._is_same(operation.text, news.text)

    async def _take(self, operation: Operation) -> bool:
        """Does what `operation` is to memory as the dream found it; False = the checks refuse it."""
        frame = replace(self._frame, generation=self._found.generation)
        old = [one for one in frame.generation.entries if self._frame.generation.get(one.id)]
        before = replace(frame, generation=replace(frame.generation, entries=tuple(old)))
        operation = fitted(operation, before.generation, workspace=frame.workspace, told=frame.evidence)
        known = frame.targets(operation)
        if operation.op is Op.RESTAMP and needs_nothing(operation, known[0], told=frame.evidence):
            return True
        if operation.op is Op.ADD and (possible := succession(operation, before)):
            entry, successor = possible
            operation = successor if await self._is_same(entry.text, operation.text) else operation
        judged = examine([operation], frame)
        self._found = joined(self._found, judged)
        return not judged.rejected

    async def _is_same(self, old: str, new: str) -> bool:
        asked = question("dream_pair", f"Old: {old}\nNew: {new}")
        return await self._choice(asked, tuple(Relation)) == Relation.SAME

    async def _choice(self, prompt: Prompt, words: Collection[str]) -> str:
        """The word that the model chose; empty = none, twice, or there is no room to ask."""
        asked = prompt.messages[-1].text
        for _ in range(ROUNDS):
            if _needed(prompt) + self._kept > self._left:
                self.problems.append(f"the token cap left no room to ask about: {asked}")
                return ""
            reply = await self._put(prompt)
            self._left -= reply.tokens
            if word := chosen(reply.text, words):
                self._read = True
                return word
            prompt = again(prompt, reply.text, words=words)
        self.problems.append(f"none of {', '.join(words)}, twice: {asked}")
        return ""


def joined(first: Examined, second: Examined) -> Examined:
    """What became of the operations of both; `second` was judged on what `first` left."""
    return replace(
        second, accepted=(*first.accepted, *second.accepted), held=(*first.held, *second.held),
        rejected=(*first.rejected, *second.rejected),
    )  # fmt: skip


def _needed(prompt: Prompt) -> int:
    return estimate_prompt(prompt) + prompt.max_tokens
