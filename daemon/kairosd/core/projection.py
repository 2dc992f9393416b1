"""What of a conversation a model is shown: how far each stage of compaction has come, and when it goes on.

The conversation itself is never altered. `Cuts` say how many messages from the start each stage covers; they only grow,
and they grow at once by much, so that between two compactions a prompt begins with the same bytes as the one before
(caches hold) and only its end is new. A lighter stage that goes on leaves what is before its old cut as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kairosd.core.compaction import Messages, collapse, microcompact, reactive, snip, summarise, trim
from kairosd.core.messages import Message
from kairosd.core.tokens import estimate, estimate_message
from kairosd.frozen import frozen

# For the usual window of 200,000 tokens: a prompt may have 167,000.
ANSWER_TOKENS = 20_000  # kept free for the answer
MARGIN_TOKENS = 13_000  # kept free for the results of the next step and for what the estimate misses
ANSWER_SHARE, MARGIN_SHARE, LEAST_SHARE = 4, 10, 16  # of the window
KEPT_RESULTS = 5
KEPT_MESSAGES = 4
GENTLE_LIMIT, LOWEST_LIMIT = 1000, 250  # characters of a result that the last stage leaves, before and after dropping


@frozen
class Kinds:
    """Names of tools: those that only look, and those whose results can be had again (a shell command's too)."""

    looks: frozenset[str]
    repeatable: frozenset[str]


@frozen
class Room:
    """Tokens for messages. Over `high` something must go, and then so much that it comes down to `low`."""

    high: int
    low: int

    @classmethod
    def of(cls, window: int, frame: int, *, percent: int = 100) -> Room:
        """The room in a `window` beside a `frame` (system text and tools), all in tokens.

        Of the window 20,000 are kept for the answer and 13,000 as a margin; a window of 8,192 cannot hold these, so the
        answer gets a quarter at most (what a prompt asks for at most) and the margin a tenth. The shares meet the
        figures at 80,000 and 130,000 tokens. `percent` is what 100 estimated tokens were when the provider counted.
        """
        answer = min(ANSWER_TOKENS, window // ANSWER_SHARE)
        margin = min(MARGIN_TOKENS, window // MARGIN_SHARE)
        high = max((window - answer - margin) * 100 // percent - frame, window * 100 // percent // LEAST_SHARE)
        return cls(high, high * 3 // 4)


@frozen
class Cuts:
    """How many messages from the start each stage covers; `reactive` and `summarise` leave of theirs but the goal.

    Results in the first `trimmed` messages have at most `limit` characters.
    """

    snip: int = 0
    microcompact: int = 0
    collapse: int = 0
    summarise: int = 0
    reactive: int = 0
    trimmed: int = 0
    limit: int = 0
    summary: str = ""

    @property
    def furthest(self) -> int:
        """The first message that is shown as it was said."""
        return max(self.snip, self.microcompact, self.collapse, self.summarise, self.reactive, self.trimmed)


def project(messages: Messages, cuts: Cuts, *, kinds: Kinds) -> Messages:
    """What the model is shown of `messages`."""
    if not messages or cuts.furthest == 0:
        return messages
    head: Messages = messages[:1]
    start = max(1, cuts.summarise)
    if cuts.summarise:
        head = summarise(messages[: cuts.summarise], cuts.summary)
    if cuts.reactive > start:
        head, start = reactive((*head, *messages[start : cuts.reactive]), kinds.looks), cuts.reactive
    rest = messages[start:]
    rest = _first(rest, cuts.snip - start, stage=snip)
    rest = _first(rest, cuts.trimmed - start, stage=lambda part: trim(part, cuts.limit))
    rest = _first(rest, cuts.microcompact - start, stage=lambda part: microcompact(part, kinds.repeatable))
    return (*head, *_first(rest, cuts.collapse - start, stage=lambda part: collapse(part, kinds.looks)))


def lightened(messages: Messages, cuts: Cuts, *, kinds: Kinds, room: Room) -> Cuts:
    """`cuts`, moved on by the lightest of the first three stages that brings the conversation down to `room.low`."""
    upto = recent(messages, kinds=kinds, room=room)
    stages: tuple[Callable[[Cuts], Cuts], ...] = (
        lambda had: replace(had, snip=max(had.snip, upto)),
        lambda had: replace(had, microcompact=max(had.microcompact, upto)),
        lambda had: replace(had, collapse=max(had.collapse, upto)),
    )
    for stage in stages:
        cuts = stage(cuts)
        if estimate(project(messages, cuts, kinds=kinds)) <= room.low:
            break
    return cuts


def shrunk(messages: Messages, cuts: Cuts, *, kinds: Kinds, tokens: int) -> Cuts:
    """`cuts` by the last stage, until all has at most `tokens`: results cut short, then only the last step left."""
    step = next((index for index in reversed(range(1, len(messages))) if messages[index].role == "assistant"), 1)
    cut = _trimmed(messages, cuts, kinds=kinds, tokens=tokens, least=GENTLE_LIMIT)
    if estimate(project(messages, cut, kinds=kinds)) <= tokens:
        return cut
    last = replace(cuts, reactive=max(cuts.reactive, step))
    return _trimmed(messages, last, kinds=kinds, tokens=tokens, least=LOWEST_LIMIT)


def _trimmed(messages: Messages, cuts: Cuts, *, kinds: Kinds, tokens: int, least: int) -> Cuts:
    start = max(1, cuts.summarise, cuts.reactive)
    limit = max((len(result.text) for message in messages[start:] for result in message.results), default=0)
    if cuts.trimmed > start:
        limit = min(limit, cuts.limit)
    while estimate(project(messages, cuts, kinds=kinds)) > tokens and limit > least:
        limit = max(least, limit * 3 // 4)
        cuts = replace(cuts, trimmed=len(messages), limit=limit)
    return cuts


def recent(messages: Sequence[Message], *, kinds: Kinds, room: Room) -> int:
    """Where the part begins that stays as it is: always with a step.

    That is the last four messages and the five newest results that could be had again; less where these would fill
    more than half of the room, and the last step in any case.
    """
    start, tokens, results = len(messages), 0, 0
    for index in reversed(range(1, len(messages))):
        tokens += estimate_message(messages[index])
        if messages[index].role != "assistant":
            continue
        if start < len(messages) and tokens > room.high // 2:
            break
        start = index
        results += sum(use.name in kinds.repeatable for use in messages[index].uses)
        if results >= KEPT_RESULTS and len(messages) - index >= KEPT_MESSAGES:
            break
    return start


def _first(part: Messages, count: int, *, stage: Callable[[Messages], Messages]) -> Messages:
    return (*stage(part[:count]), *part[count:]) if count > 0 else part
