"""Compaction: five stages that make a conversation shorter, lightest first (design §8).

`snip` keeps the first line of a result, `microcompact` a placeholder, `collapse` one line for a row of calls that only
looked, `summarise` a text that a model wrote, `reactive` hardly more than the last step. Each is a pure function of the
part that it is given. Of each holds: a call and its result stay or go together; results keep their order; the first
message, which is the goal, keeps its text word for word; doing it again changes nothing; it never adds tokens, as
`tokens.estimate` counts them. Which stage is applied to how much is decided in `core/projection.py`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace

from kairosd.core.messages import Message, ToolResult, ToolUse
from kairosd.core.tokens import estimate, estimate_text

Messages = tuple[Message, ...]

FIRST_LINE = 200  # characters of a result's first line that `snip` keeps
SNIP_OVER = 400  # a result of as many characters or fewer is not worth the mark
LINE_LENGTH = 400  # characters of the line that `collapse` leaves
CALL_LENGTH = 60  # characters of one call in such a line
DROPPED_LENGTH = 800  # characters of the list of calls that `reactive` leaves
WORDS_LENGTH = 2000  # characters of what was said in between, newest last, that outlive their messages
SUMMARY_HEAD = "What you did before this, in your own summary (its details are no longer shown):"
SAID_HEAD = "What the owner said meanwhile:"


def snip(old: Sequence[Message]) -> Messages:
    """Every long result hollowed: its first line stays, with a mark of how much is gone. Old digests go."""
    hollow = (_with_results(message, [_snipped(result) for result in message.results]) for message in old)
    return tuple(replace(message, digest="") if message.digest else message for message in hollow)


def microcompact(old: Sequence[Message], repeatable: Collection[str]) -> Messages:
    """Results of the `repeatable` tools replaced by placeholders: the model can make the call again."""
    made: list[Message] = []
    for index, message in enumerate(old):
        names = {use.id: use.name for use in old[index - 1].uses} if index and message.results else {}
        held = [_held(result, names.get(result.id, ""), repeatable=repeatable) for result in message.results]
        made.append(_with_results(message, held))
    return tuple(made)


def collapse(old: Sequence[Message], looks: Collection[str]) -> Messages:
    """Each row of finished steps that called nothing but `looks` becomes its last call with one line as the result.

    What the model said in these steps stays: what it found is in it.
    """
    made: list[Message] = []
    row: list[Message] = []
    index = 0
    while index < len(old):
        step = old[index : index + 2]
        if _only_looks(step, looks):
            row += step
            index += 2
        else:
            made += [*_one_step(row), old[index]]
            row = []
            index += 1
    return (*made, *_one_step(row))


def summarise(old: Sequence[Message], summary: str) -> Messages:
    """The goal, followed by what the owner said meanwhile, word for word, and `summary` in place of everything else."""
    block = f"\n\n{SUMMARY_HEAD}\n{summary}"
    if not old or old[0].text.endswith(block):
        return tuple(old)
    return _lighter((replace(old[0], text=f"{old[0].text}{_said(old)}{block}", digest=""),), old)


def reactive(old: Sequence[Message], looks: Collection[str]) -> Messages:
    """The goal, followed by a list of the calls that did more than look; no model is needed for it."""
    uses = [use for message in old[1:] for use in message.uses]
    did = "; ".join(_brief(use) for use in uses if use.name not in looks)
    if not uses:
        return tuple(old)
    note = f"[{len(uses)} earlier calls left out for want of room; look again at what you need]"
    done = f"\nOf them, other than looking: {_tail(did, DROPPED_LENGTH)}" if did else ""
    return _lighter((replace(old[0], text=f"{old[0].text}{_said(old)}\n\n{note}{done}", digest=""),), old)


def trim(recent: Sequence[Message], limit: int) -> Messages:
    """Every result cut to `limit` characters (at least 100), its beginning and its end kept; part of `reactive`."""
    return tuple(_with_results(message, [_trimmed(each, limit) for each in message.results]) for message in recent)


def _with_results(message: Message, results: Sequence[ToolResult]) -> Message:
    return replace(message, results=tuple(results)) if message.results else message


def _snipped(result: ToolResult) -> ToolResult:
    text = result.text
    if len(text) <= SNIP_OVER:
        return result
    end = text.find("\n", 0, FIRST_LINE)
    first = text[: end if end >= 0 else FIRST_LINE]
    gone = f"\n[{len(text) - len(first)} characters left out]"
    return _smaller(replace(result, text=first + gone), result)


def _held(result: ToolResult, name: str, *, repeatable: Collection[str]) -> ToolResult:
    if name not in repeatable:
        return result
    return _smaller(replace(result, text=f"[the result of {name} was left out; call it again if you need it]"), result)


def _trimmed(result: ToolResult, limit: int) -> ToolResult:
    text, limit = result.text, max(100, limit)
    if len(text) <= limit:
        return result
    mark = f"\n[{len(text) - limit} characters and more left out]\n"
    kept = limit - len(mark)
    start = kept - kept // 3
    return _smaller(replace(result, text=text[:start] + mark + text[len(text) - kept // 3 :]), result)


def _only_looks(step: Sequence[Message], looks: Collection[str]) -> bool:
    if len(step) < 2 or not step[0].uses or step[1].role != "user" or step[1].text:
        return False
    answered = [result.id for result in step[1].results]
    return answered == [use.id for use in step[0].uses] and all(use.name in looks for use in step[0].uses)


def _one_step(row: Sequence[Message]) -> Sequence[Message]:
    uses = [use for message in row for use in message.uses]
    if len(uses) < 2:
        return row
    last = uses[-1]
    line = _tail("; ".join(_brief(use) for use in uses), LINE_LENGTH)
    told = f"[{len(uses)} calls that looked, their results left out; call again what you need: {line}]"
    words = "\n".join(message.text for message in row if message.text)
    step = (
        Message("assistant", _tail(words, WORDS_LENGTH), uses=(last,)),
        Message("user", results=(ToolResult(last.id, told),)),
    )
    return _lighter(step, row)


def _brief(use: ToolUse) -> str:
    first = next((value for value in use.arguments.values() if isinstance(value, str) and value), None)
    words = f"{use.name} {json.dumps(first, ensure_ascii=False)}" if first is not None else use.name
    return words if len(words) <= CALL_LENGTH else words[: CALL_LENGTH - 1] + "…"


def _said(old: Sequence[Message]) -> str:
    said = "\n".join(message.text for message in old[1:] if message.role == "user" and message.text)
    return f"\n\n{SAID_HEAD}\n{_tail(said, WORDS_LENGTH)}" if said else ""


def _tail(text: str, length: int) -> str:
    return text if len(text) <= length else "…" + text[1 - length :]


def _lighter(made: Messages, before: Sequence[Message]) -> Messages:
    return made if estimate(made) <= estimate(before) else tuple(before)


def _smaller(made: ToolResult, before: ToolResult) -> ToolResult:
    return made if estimate_text(made.text) < estimate_text(before.text) else before
