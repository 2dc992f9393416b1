"""A dream's one question a group: evidence and memory in, operations out; what is wrong goes back once.

A model that is too small for that is asked sentence by sentence (`engine.dream_filing`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

from kairosd.core.budget import Payer, Purse
from kairosd.core.dream import Operation, operations_schema, read_answer, retired
from kairosd.core.dream_checks import Examined, Frame, examine
from kairosd.core.dream_mending import mended
from kairosd.core.dream_support import stems
from kairosd.core.evidence import Evidence
from kairosd.core.memory import Entry, Generation
from kairosd.core.messages import Form, Message, Prompt, ToolUse
from kairosd.core.tokens import estimate_text
from kairosd.engine.asking import Asking, Cost, Reply
from kairosd.engine.dream_filing import Filer, joined, least_tokens
from kairosd.errors import ModelProtocolError
from kairosd.frozen import frozen
from kairosd.ports import Model
from kairosd.prompts import text_of

FORM = "remember"
WINDOW_SHARE = 4  # of the window: the evidence of one question, and as much again for what is remembered
ROUNDS = 2  # the question, and one more for what was wrong
ANSWER_MOST, ANSWER_LEAST = 4096, 512  # tokens
SHOWN_MOST = 40  # entries
CHARACTERS_MOST = 200_000  # of an answer; no window holds so much of use


@frozen
class Group:
    """The evidence of one workspace and one tier."""

    workspace: str
    evidence: tuple[Evidence, ...]

    @property
    def name(self) -> str:
        return f"{self.workspace}:{self.evidence[0].tier.label}"


@frozen
class Answered:
    """What came of one question: memory with the accepted operations done, what was dropped and why, what it took."""

    examined: Examined
    problems: tuple[str, ...]
    tokens: int
    price: int | None
    calls: int


class Consolidation:
    """Asks the model of role `dream`."""

    def __init__(self, asking: Asking, model: Callable[[], Model]) -> None:
        self._asking = asking
        self._model = model
        self.purses = asking.purses
        self.spent = 0  # tokens of every answer so far

    def room(self) -> int:
        """The tokens of evidence that one question holds."""
        return self._model().context // WINDOW_SHARE

    def least(self, group: Group, generation: Generation) -> int:
        """The tokens that must be left for what is asked about `group`: it, and short answers."""
        model = self._model()
        if model.by_schema:
            return least_tokens(group.evidence)
        return _asked(question(group, generation, window=model.context)) + ANSWER_LEAST

    async def ask(self, group: Group, frame: Frame, *, cause: str, tokens: int) -> Answered:
        """Operations for `group`, checked. What fails is asked for once more, then dropped.

        No call is made that could take it past `tokens`, of which there are `least` or more. Raises `ModelError`,
        `NoRoom`; `ModelProtocolError` for answers that are not of the form asked for, twice.
        """
        model = self._model()
        talk = _Talk(self._asking, model, payer=Payer(cause, Purse.DREAM))
        try:
            if model.by_schema:
                filer = Filer(talk.put, frame, tokens=tokens)
                found, wrong = await filer.file(group.evidence), filer.problems
            else:
                found, wrong = await _proposed(talk, group, frame=frame, tokens=tokens)
        finally:
            self.spent += talk.cost.tokens
        return Answered(found, tuple(wrong), talk.cost.tokens, talk.cost.total, talk.calls)


class _Talk:
    """The questions about one group, and what they took."""

    def __init__(self, asking: Asking, model: Model, *, payer: Payer) -> None:
        self.model = model
        self.cost = Cost()
        self.calls = 0
        self._asking = asking
        self._payer = payer

    async def put(self, prompt: Prompt) -> Reply:
        """Asks once. Raises `ModelError`, `NoRoom`."""
        reply = await self._asking.ask(self.model, prompt, payer=self._payer, role="dream")
        self.cost.add(reply.price, reply.tokens)
        self.calls += 1
        return reply


async def _proposed(talk: _Talk, group: Group, *, frame: Frame, tokens: int) -> tuple[Examined, list[str]]:
    """What became of the operations that a model proposed in one answer, and what of it was wrong in the end."""
    window = talk.model.context
    prompt = question(group, frame.generation, window=window)
    if _asked(prompt) + ANSWER_LEAST > tokens:  # memory has grown since `least` was asked: without it there is room
        prompt = question(group, replace(frame.generation, entries=()), window=window)
    found, wrong, unread = Examined(frame.generation), list[str](), ""
    for _ in range(ROUNDS):
        room = tokens - talk.cost.tokens - _asked(prompt)
        if talk.calls and room < ANSWER_LEAST:
            break  # what was wrong stays dropped
        reply = await talk.put(replace(prompt, max_tokens=max(ANSWER_LEAST, min(prompt.max_tokens, room))))
        try:
            operations, wrong = _read(reply)
        except (ModelProtocolError, ValueError) as error:
            wrong = [str(error)]
            unread = str(error)
        else:
            unread = ""
            now = replace(frame, generation=found.generation, gone=frame.gone + retired(found.accepted))
            judged = examine([mended(one, now) for one in operations], now)
            wrong += _reasons(judged)
            found = joined(found, judged)
        if not wrong:
            break
        prompt = _again(prompt, wrong)
    if not found.accepted and unread:
        raise ModelProtocolError(unread)
    return found, wrong


def question(group: Group, generation: Generation, *, window: int) -> Prompt:
    """What the model is shown: entries that have to do with the evidence, then the evidence, as data between marks."""
    room = window // WINDOW_SHARE
    shown = _relevant(generation.visible(group.workspace), group.evidence, room=room)
    told = [f"{one.source} {one.day} {one.speaker}: {one.text}" for one in group.evidence]
    # What is known of an entry stands before its text, which could otherwise end with marks of its own.
    remembered = [
        f"{one.id} [{one.key}] ({one.kind}, {one.trust.label}, {one.seen}"
        f"{f', stale since {one.stale}' if one.stale else ''}) {one.text}"
        for one in shown
    ]
    text = "\n".join(["Remembered:", *(remembered or ["(nothing)"]), "", "Evidence:", *told])
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    message = Message("user", f"begin {mark}\n{text}\nend {mark}")
    tokens = max(ANSWER_LEAST, min(ANSWER_MOST, window // WINDOW_SHARE))
    form = Form(FORM, "Say what to remember.", operations_schema())
    return Prompt(system=text_of("dream"), messages=(message,), form=form, max_tokens=tokens)


def _asked(prompt: Prompt) -> int:
    """The tokens of a question, as far as they can be known before it is asked."""
    form = estimate_text(json.dumps(prompt.form.schema)) if prompt.form else 0
    return estimate_text(prompt.system) + form + sum(estimate_text(one.text) for one in prompt.messages)


def fitted(evidence: Sequence[Evidence], room: int) -> bool:
    """Whether a question has room for all of it."""
    return sum(estimate_text(one.text) + 24 for one in evidence) <= room


def _relevant(entries: Sequence[Entry], evidence: Sequence[Evidence], *, room: int) -> list[Entry]:
    words = frozenset().union(*(stems(one.text) for one in evidence))
    near = sorted(
        entries, key=lambda one: (-len(words & (stems(one.text) | stems(one.key))), -one.seen.toordinal(), one.id)
    )
    found: list[Entry] = []
    for entry in near[:SHOWN_MOST]:
        room -= estimate_text(entry.text) + 30
        if room < 0:
            break
        found.append(entry)
    return found


def _again(prompt: Prompt, wrong: Sequence[str]) -> Prompt:
    reasons = "\n".join(f"- {one}" for one in wrong)
    text = f"These were refused; the others are done:\n{reasons}\nSend only what you can mend; else an empty list."
    messages = (*prompt.messages, Message("assistant", "(operations)"), Message("user", text[: 8 * prompt.max_tokens]))
    return replace(prompt, messages=messages)


def _reasons(found: Examined) -> list[str]:
    return [
        f"{operation.op} {operation.text or ' '.join(operation.targets)}: {'; '.join(map(str, problems))}"[:400]
        for operation, problems in found.rejected
    ]


def _read(reply: Reply) -> tuple[list[Operation], list[str]]:
    for use in reply.uses:
        if isinstance(use, ToolUse) and use.name == FORM:
            if len(json.dumps(dict(use.arguments), default=str)) > CHARACTERS_MOST:
                raise ModelProtocolError("the answer is longer than any memory needs")
            return read_answer(use.arguments)
    raise ModelProtocolError("prose where operations were asked for")
