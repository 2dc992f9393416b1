"""shell: runs plain commands in the sandbox. A line is decoded into a plan, which the gate judges; just that runs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence

from kairosd.core.json import Json, JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.runs import Call
from kairosd.core.shell.lines import plan_of_text
from kairosd.core.shell.plans import Plan
from kairosd.core.tasks import Task
from kairosd.errors import SandboxError, ToolError
from kairosd.ports import Errand, Outcome, Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import Arguments, integer, schema, string
from kairosd.tools.base import ReadOnly, clipped, visible

ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
DECISIVE = re.compile(
    r"\b(?:error|errors|fail|failed|fails|failure|failures|failing|fatal|panic|panicked|exception|traceback|not ok)\b"
    r"|\w(?:Error|Exception)\b|^E  |^FAIL|[✗✖✕×]",
    re.IGNORECASE,
)
USUAL_SECONDS = 120
EVIDENCE_LENGTH = 120  # characters of a command in the line that the owner is shown


class Shell(ReadOnly):
    """Runs a plan and tells its exit code and output. Its permission is the least that any plan needs."""

    spec = ToolSpec(
        "shell",
        "Run a program, such as a test: literal words, joined by | && || ; only. No $(…), no * and no > file.",
        schema(
            command=string("the line, or its words as a JSON list"),
            timeout=integer("seconds", default=USUAL_SECONDS, least=1, most=600),
        ),
    )
    permission = Permission.READER
    effect = True

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        self._given(arguments)
        return ()  # the gate judges those of the plan

    def commands(self, arguments: JsonObject) -> Plan | None:
        return self.read_plan(self._given(arguments))

    def read_plan(self, given: Arguments) -> Plan:
        """What the command comes to. Raises `ShellFormError`."""
        return plan_of_text(given.text("command"))

    def scripts(self, given: Arguments, context: ToolContext) -> tuple[str, ...]:
        """The files whose content a yes to the call is bound to."""
        return context.commands.scripts(self.read_plan(given))

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        given = self._given(arguments)
        scripts = await asyncio.to_thread(self._digests, given, context)
        return {"plan": self.read_plan(given).as_json(), "scripts": scripts}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self._given(arguments)
        plan = self.read_plan(given)
        seconds = given.number("timeout")
        line = plan.text()
        shown = line if len(line) <= EVIDENCE_LENGTH else f"{line[:EVIDENCE_LENGTH]}…"

        def told(outcome: Outcome, most: int) -> str:
            return result_text(outcome, given, seconds=most, limit=context.limit)

        errand = Errand(
            context.call, line, start=lambda most: context.commands.run(plan, seconds=most), told=told,
            seconds=seconds if seconds != USUAL_SECONDS else None,
        )  # fmt: skip
        try:
            outcome = await (context.background.run(errand) if context.background else errand.start(seconds))
        except SandboxError as error:
            raise ToolError(f"programs cannot be run here: {error}", fix="use read, glob and grep instead") from error
        if isinstance(outcome, Task):
            return ToolAnswer(_gone_on(outcome), evidence=f"ran `{shown}`: goes on in the background as {outcome.id}")
        ended = f"stopped after {seconds} s" if outcome.timed_out else f"exit {outcome.code}"
        text = await asyncio.to_thread(told, outcome, seconds)  # megabytes take a third of a second
        failed = outcome.timed_out or outcome.code != 0
        return ToolAnswer(text, evidence=f"ran `{shown}`: {ended}", failed=failed)

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        plan = self.commands(call.arguments)
        return False if plan is not None and context.commands.reads_only(plan) else None

    def _digests(self, given: Arguments, context: ToolContext) -> dict[str, Json]:
        return {path: _digest(context, path) for path in self.scripts(given, context)}

    def _given(self, arguments: JsonObject) -> Arguments:
        words = arguments.get("command", arguments.get("argv"))
        if isinstance(words, Sequence) and not isinstance(words, str):
            rest = {name: value for name, value in arguments.items() if name not in ("command", "argv")}
            arguments = {**rest, "command": json.dumps(words)}
        return self.read(arguments)


def _gone_on(task: Task) -> str:
    return (
        f"goes on in the background as {task.id}; its output will be in {task.output}; you will hear when it ends. "
        "Until then it shares the files with you. Go on with what does not need it, or finish: you are woken then."
    )


def result_text(outcome: Outcome, arguments: Arguments, *, seconds: int, limit: int) -> str:
    """The exit code, then stdout and stderr; what is too long keeps its ends and what looks like a failure."""
    head = f"[exit {outcome.code}]"
    if outcome.timed_out:
        head = f"[stopped after {seconds} s: it had not ended — run less of it, or give `timeout` up to 600]"
    notes = f" ({'; '.join(arguments.notes)})" if arguments.notes else ""
    cut = ["[the output was longer than can be kept: something is missing in its middle]"] if outcome.truncated else []
    stdout, stderr = _text(outcome.stdout), _text(outcome.stderr)
    room = max(400, limit - len(head) - len(notes) - 200)
    for_stderr = min(len(stderr), max(room // 3, room - len(stdout)))
    parts = [head + notes, *cut]
    parts += [shortened(stdout, room - for_stderr)] if stdout else []
    parts += ["[stderr]", shortened(stderr, for_stderr)] if stderr else []
    return "\n".join(parts if stdout or stderr else [*parts, "[no output]"])


def shortened(text: str, room: int) -> str:
    """`text` in about `room` characters: its head, the lines of its middle that look like a failure, and its tail."""
    lines = [clipped(line) for line in text.split("\n")]
    if len(whole := "\n".join(lines)) <= room:
        return whole
    first = _fitting(lines, room // 4)
    last = _fitting(lines[first:][::-1], room // 2)
    middle = lines[first : len(lines) - last]
    told = [line for line in middle if DECISIVE.search(line)]
    told = told[: _fitting(told, room // 5)]
    mark = f"[… {len(middle) - len(told)} lines left out{', those kept look like failures' if told else ''}]"
    return "\n".join([*lines[:first], mark, *told, *(["[…]"] if told else []), *lines[len(lines) - last :]])


def _fitting(lines: Sequence[str], room: int) -> int:
    """How many lines from the first fit into `room` characters."""
    for count, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return count
    return len(lines)


def _text(output: bytes) -> str:
    return visible(ESCAPE_SEQUENCE.sub("", output.decode(errors="replace"))).rstrip("\n")


def _digest(context: ToolContext, path: str) -> str | None:
    """SHA-256 of a script as it would run: the run's own, or one in a folder that its checkout shares."""
    return context.files.digest(context.root, path) or context.files.digest(context.workspace.path, path)


def build() -> Tool:
    return Shell()
