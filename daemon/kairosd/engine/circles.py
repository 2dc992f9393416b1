"""Circles: how often a run has made the very same call since something last changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kairosd.core.messages import Message, ToolUse

MAX_REPEATS = 6  # equal calls before the run is ended
FIRST_TOLD = 3  # of them: from here on the model is told, and the call is not made
TOLD = "you have just made this very call; its result will not change. Do something else, or call finish"
NOT_MADE = "not made: "  # how the result of a call begins that another one of its turn has prevented


@dataclass(frozen=True, slots=True)
class Step:
    """A call that was asked for, and whether it succeeded."""

    use: ToolUse
    succeeded: bool


def steps_of(messages: Sequence[Message]) -> tuple[Step, ...]:
    """The calls in `messages` that have a result. Made of the conversation alone, so a restart counts the same."""
    return tuple(
        Step(use, not result.error)
        for asked, answered in zip(messages, messages[1:], strict=False)
        for use, result in zip(asked.uses, answered.results, strict=False)
        if not result.text.startswith(NOT_MADE)
    )


def times_made(steps: Sequence[Step], use: ToolUse, *, changes: Callable[[ToolUse], bool]) -> int:
    """How often `use` has been asked for after `steps` since something changed; itself included.

    `changes` tells of any other call whether it changes something where it succeeds.
    """
    if sum(_same(step.use, use) for step in steps) + 1 < FIRST_TOLD:
        return 1  # nobody is told of so few, and what changes something takes long to find out
    count = 1
    for step in reversed(steps):
        if _same(step.use, use):
            count += 1
        elif step.succeeded and changes(step.use):
            break
    return count


def _same(one: ToolUse, other: ToolUse) -> bool:
    return one.name == other.name and one.arguments == other.arguments
