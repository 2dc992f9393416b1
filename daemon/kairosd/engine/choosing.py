"""Choosing: a question to a small model that is answered with a word or a few. Its examples come as a conversation.

In the system text the same examples made such a model answer all alike; as turns it follows them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from functools import cache

from kairosd.core.messages import Message, Prompt
from kairosd.prompts import text_of

ANSWER_TOKENS = 8
SHOWN_MOST = 40  # characters of an answer that was none of the words


def question(name: str, text: str, *, tokens: int = ANSWER_TOKENS) -> Prompt:
    """The prompt `name` about `text`, with room for an answer of so many `tokens`."""
    system, examples = _asking(name)
    return Prompt(system=system, messages=(*examples, Message("user", text)), max_tokens=tokens)


def again(prompt: Prompt, answer: str, *, words: Collection[str]) -> Prompt:
    """`prompt` once more, after an answer that was none of `words`."""
    said = Message("assistant", answer.strip()[:SHOWN_MOST] or "(nothing)")
    wanted = Message("user", f"Answer with one of these words: {', '.join(words)}")
    return replace(prompt, messages=(*prompt.messages, said, wanted), vary=prompt.vary + 1)


def chosen(answer: str, words: Collection[str]) -> str:
    """The first word of an answer, which must be one of `words`; empty = it is none of them."""
    first = re.match(r"\W*([a-z]+)", answer.lower())
    return first[1] if first and first[1] in words else ""


@cache
def _asking(name: str) -> tuple[str, tuple[Message, ...]]:
    """The prompt `name`: what it asks, and its examples; the last line of each is the answer."""
    system, _, examples = text_of(name).strip().partition("\n\nExamples:\n\n")
    shown: list[Message] = []
    for example in examples.split("\n\n"):
        asked, _, answer = example.rpartition("\n")
        shown += [Message("user", asked), Message("assistant", answer)]
    return system, tuple(shown)
