"""Plans: what a shell line comes to when only plain commands are left of it (design §9)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from enum import StrEnum

from kairosd.core.json import Json, JsonObject
from kairosd.frozen import frozen


class Operator(StrEnum):
    """How a pipeline follows the one before it; bash's own meaning, `&&` and `||` of equal rank from the left."""

    FIRST = ""
    AND = "&&"
    OR = "||"
    THEN = ";"


_JOINTS = {Operator.FIRST: "", Operator.AND: " && ", Operator.OR: " || ", Operator.THEN: "; "}


class Stream(StrEnum):
    """Where an output of a command goes."""

    OWN = "own"
    NULL = "null"  # >/dev/null
    STDOUT = "stdout"  # of stderr: 2>&1, the command's own stdout as it was before any redirect
    STDERR = "stderr"  # of stdout: >&2, likewise


@frozen
class Command:
    """One program and its exact arguments. `stdin` is the file of `< FILE`, "" = the pipe before it, or nothing."""

    argv: tuple[str, ...]
    stdin: str = ""
    stdout: Stream = Stream.OWN
    stderr: Stream = Stream.OWN


@frozen
class Pipeline:
    """Commands of which each reads what the one before it wrote. `cwd` is relative to the workspace, "." = its root."""

    commands: tuple[Command, ...]
    operator: Operator = Operator.FIRST
    cwd: str = "."


@frozen
class Plan:
    """What will be run, and nothing else.

    `cd DIR` is a pipeline of its own; the ones it reaches carry their `cwd`, so a `cd` that fails has to end the plan.
    A `cwd` that is absolute or begins with ".." is as the line gave it: only who knows the root can judge it.
    """

    pipelines: tuple[Pipeline, ...]

    @property
    def commands(self) -> Iterator[tuple[Command, str]]:
        """Every command with the folder it runs in."""
        return ((command, pipeline.cwd) for pipeline in self.pipelines for command in pipeline.commands)

    def text(self) -> str:
        """The plan as a line that a person can read: decoded, quoted anew, control characters as escapes."""
        pieces: list[str] = []
        for pipeline in self.pipelines:
            pieces.append(_JOINTS[pipeline.operator])
            pieces.append(" | ".join(_shown(command) for command in pipeline.commands))
        return "".join(pieces)

    def as_json(self) -> JsonObject:
        """The plan as approvals are bound to it and `kairos explain` prints it."""
        return {"pipelines": [_pipeline_json(pipeline) for pipeline in self.pipelines]}


def quoted(word: str) -> str:
    """One word as a shell would have to be given it; what cannot be printed is shown as an escape."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(_escaped(char) for char in word) + "'"


def _escaped(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def _shown(command: Command) -> str:
    words = [quoted(word) for word in command.argv]
    words += [f"< {quoted(command.stdin)}"] if command.stdin else []
    stdout = {Stream.OWN: "", Stream.NULL: ">/dev/null", Stream.STDERR: ">&2", Stream.STDOUT: ""}[command.stdout]
    stderr = {Stream.OWN: "", Stream.NULL: "2>/dev/null", Stream.STDOUT: "2>&1", Stream.STDERR: ""}[command.stderr]
    # A shell follows them from the left: 2>&1 means the stdout that `>` has not yet sent elsewhere.
    order = (stderr, stdout) if command.stderr is Stream.STDOUT else (stdout, stderr)
    return " ".join([*words, *filter(None, order)])


def _pipeline_json(pipeline: Pipeline) -> Json:
    return {
        "operator": pipeline.operator.value,
        "cwd": pipeline.cwd,
        "commands": [
            {
                "argv": list(command.argv),
                "stdin": command.stdin,
                "stdout": command.stdout.value,
                "stderr": command.stderr.value,
            }
            for command in pipeline.commands
        ],
    }
