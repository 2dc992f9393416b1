"""Circles: how often a run has made the very same call since something last changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from kairosd.core.messages import Message, ToolUse

MAX_REPEATS = 6  # equal calls before the run is ended
FIRST_TOLD = 3  # of them: from here on the model is told, and the call is not made
TOLD = "you have just made this very call; its result will not change. Do something else, or call finish"


def times_made(messages: Sequence[Message], use: ToolUse, *, changes: Callable[[ToolUse], bool]) -> int:
    """How often `use`, the first call that has no result yet, was asked for since something changed; itself included.

    `changes` tells of any other call whether it changes something where it succeeds. Made of the conversation alone,
    so a restart counts the same.
    """
    mark, count = _mark(use), 0
    for asked, answered in zip(messages, (*messages[1:], Message("user")), strict=True):
        for number, each in enumerate(asked.uses):
            result = answered.results[number] if number < len(answered.results) else None
            if _mark(each) == mark:
                count += 1
            elif result is not None and not result.error and changes(each):
                count = 0
            if result is None:
                return count
    return count


def _mark(use: ToolUse) -> str:
    return f"{use.name} {json.dumps(dict(use.arguments), sort_keys=True, default=str)}"
