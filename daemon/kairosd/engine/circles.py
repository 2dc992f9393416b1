"""Circles: how often a run has made the very same call since something last changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from kairosd.core.messages import Message, ToolUse
from kairosd.core.runs import call_hash
from kairosd.frozen import frozen

MAX_REPEATS = 6  # equal calls before the run is ended
FIRST_TOLD = 3  # of them: from here on the model is told, and the call is not made
TOLD = "you have just made this very call; its result will not change. Do something else, or call finish"
NOT_MADE = "not made: "  # how the result of a call begins that another one of its turn has prevented


@frozen
class Step:
    """A call that was asked for, and whether it succeeded."""

    use: ToolUse
    succeeded: bool


class Steps:
    """The calls of a conversation that have a result. Made of it alone, so a restart counts the same."""

    def __init__(self) -> None:
        self.made: list[Step] = []
        self.times: Counter[str] = Counter()  # by the hash of the call
        self._asked: tuple[ToolUse, ...] = ()

    def take(self, message: Message) -> None:
        """Adds the next message."""
        found = [
            Step(use, not result.error)
            for use, result in zip(self._asked, message.results, strict=False)
            if not result.text.startswith(NOT_MADE)
        ]
        self.made += found
        self.times.update(call_hash(step.use.name, step.use.arguments) for step in found)
        self._asked = message.uses


@frozen
class Earlier:
    """The calls before one: those of past turns, and those of its own."""

    past: Steps
    own: tuple[Step, ...]


def times_made(earlier: Earlier, use: ToolUse, *, changes: Callable[[ToolUse], bool]) -> int:
    """How often `use` has been asked for since something changed; itself included.

    `changes` tells of any other call whether it changes something where it succeeds.
    """
    before = earlier.past.times[call_hash(use.name, use.arguments)]
    if before + sum(_same(step.use, use) for step in earlier.own) + 1 < FIRST_TOLD:
        return 1  # nobody is told of so few, and what changes something takes long to find out
    count = 1
    for step in (*reversed(earlier.own), *reversed(earlier.past.made)):
        if _same(step.use, use):
            count += 1
        elif step.succeeded and changes(step.use):
            break
    return count


def _same(one: ToolUse, other: ToolUse) -> bool:
    return one.name == other.name and one.arguments == other.arguments
