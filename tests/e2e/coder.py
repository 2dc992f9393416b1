"""A scripted model that writes shell lines as coding models do, and does what a refusal says instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.e2e.brain import finish, first_words, results, use
from tests.servers import Reply, Request

REWRITE = re.compile(r"\brun: (.+)\Z", re.DOTALL)
FIRST = re.compile(r"run `([^`]+)` first")
REWRITES_MOST = 4  # of one line, before the model does it otherwise

Act = str | Reply  # a line for the tool `shell`, or any call
Answer = Callable[[Sequence[str]], Reply]


@dataclass(frozen=True)
class Step:
    """One thing to do, and what to do where it is refused without a line to run instead."""

    do: Act
    otherwise: tuple[Act, ...] = ()


@dataclass
class Flow:
    """One piece of the day's work: the goal's words, its steps, and the end; with what became of it."""

    name: str
    goal: str
    steps: Sequence[Step | Act]
    answer: Answer
    tried: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # with the answers
    rewritten: int = 0
    queue: list[Act] = field(default_factory=list)
    at: int = -1
    again: int = 0

    def turn(self, request: Request) -> Reply:
        """The next call. Every answer that is no outcome of a program counts as a refusal of its line."""
        seen = results(request)
        if self.at >= 0 and self.tried and self._asked_shell:
            self._learn(seen[-1])
        if not self.queue:
            self.at, self.again = self.at + 1, 0
            if self.at == len(self.steps):
                return self.answer(seen)
            self.queue = [self._step.do]
        return self._call(self.queue.pop(0))

    @property
    def _step(self) -> Step:
        step = self.steps[self.at]
        return step if isinstance(step, Step) else Step(step)

    _asked_shell: bool = False

    def _call(self, act: Act) -> Reply:
        self._asked_shell = isinstance(act, str)
        if isinstance(act, Reply):
            return act
        self.tried.append(act)
        return use("shell", command=act)

    def _learn(self, answer: str) -> None:
        line = self.tried[-1]
        if answer.startswith(("[exit", "[stopped")):
            self._fill_in(answer)
            return
        self.refused.append(f"{line} -> {answer}")
        rewrite, first = REWRITE.search(answer), FIRST.search(answer)
        self.again += 1
        if self.again <= REWRITES_MOST and rewrite:
            self._take([rewrite[1]])
        elif self.again <= REWRITES_MOST and first and f"$({first[1]})" in line:
            self._take([first[1], line])
        elif self.again == 1 or line not in self._step.otherwise:
            self._take([act for act in self._step.otherwise if act not in self.queue])

    def _take(self, instead: Sequence[Act]) -> None:
        self.rewritten += bool(instead)
        self.queue = [*instead, *self.queue]

    def _fill_in(self, answer: str) -> None:
        """What a command printed, in place of the `$(...)` it stood in."""
        waiting = self.queue[0] if self.queue else ""
        inner = f"$({self.tried[-1]})"
        if isinstance(waiting, str) and inner in waiting:
            self.queue[0] = waiting.replace(inner, " ".join(answer.split("\n")[1:]))


class Coder:
    """Knows the flows of a day by the words of their goals."""

    def __init__(self, flows: Sequence[Flow]) -> None:
        self.flows = flows

    def act(self, request: Request) -> Reply:
        goal = first_words(request).partition("\n")[0]
        found = [flow for flow in self.flows if flow.goal in goal]
        return found[0].turn(request) if found else finish("this goal is not in the script")


def table(rows: Sequence[Sequence[object]]) -> str:
    """Rows as text in columns; the first one is the head."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)
