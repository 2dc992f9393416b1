"""finish: the run's own word that it is through, with what the daemon shall check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kairosd.core.json import Json, JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.shell.lines import plan_of_text
from kairosd.core.shell.plans import Operator, Plan
from kairosd.errors import ToolError
from kairosd.ports import Finish, Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import schema, string
from kairosd.tools.base import ReadOnly, answer_text, is_secret, normal_path

# What each kind of check needs beside its name; docs and the evaluation in engine/ follow this table.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "command": ("command",),
    "file_exists": ("path",),
    "file_contains": ("path", "text"),
    "commit_exists": ("text",),
    "git_clean": (),
    "git_changed": (),
}
FIX = "use {kind: file_contains, path, text} or leave `checks` out"
CHECKS_MOST = 10
SECRET, WITHOUT = "that file may hold secrets and is not checked", "leave that check out"
CHECK: JsonObject = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": list(NEEDS)},
        "command": {"type": "string"},
        "path": {"type": "string"},
        "text": {"type": "string"},
    },
    "required": ["kind"],
    "additionalProperties": False,
}


class FinishRun(ReadOnly):
    """Ends the run. The daemon evaluates the checks and sets the state; the answer is what the owner reads."""

    spec = ToolSpec(
        "finish",
        "Call this when you are through. answer: plain words for the owner. checks: what the daemon shall verify, "
        "such as a command that must exit 0.",
        schema(
            answer=string("what was found or done, in full sentences"),
            checks={"type": "array", "description": "may stay empty", "items": CHECK, "default": []},
        ),
    )
    permission = Permission.CONTROL

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        # A check answers yes or no, so its paths need no question; those that may hold secrets are refused outright.
        self._finish(arguments)
        return ()

    def commands(self, arguments: JsonObject) -> Plan | None:
        """The commands of the checks, one after the other: the gate judges them as it would the tool `shell`."""
        lines = [str(check["command"]) for check in self._finish(arguments).checks if check["kind"] == "command"]
        pipelines = [pipeline for line in lines for pipeline in plan_of_text(line).pipelines]
        if not pipelines:
            return None
        return Plan(tuple(replace(one, operator=one.operator or Operator.THEN) for one in pipelines))

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        self._finish(arguments)
        return {}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        finish = self._finish(arguments)
        if any(is_secret(str(check.get("path", "")), context.hidden) for check in finish.checks):
            raise ToolError(SECRET, fix=WITHOUT)
        count = f"with {len(finish.checks)} checks" if finish.checks else "without checks"
        text = answer_text(f"finished {count}", [], arguments=self.read(arguments), limit=context.limit)
        return ToolAnswer(text, finish=finish)

    def _finish(self, arguments: JsonObject) -> Finish:
        given = self.read(arguments)
        checks = tuple(_check(each) for each in given.items("checks"))
        if len(checks) > CHECKS_MOST:
            raise ToolError(f"{len(checks)} checks are too many", fix=f"give at most {CHECKS_MOST}")
        return Finish(given.text("answer").strip(), checks)


def _check(value: Json) -> JsonObject:
    item = {"kind": value} if isinstance(value, str) else value
    if not isinstance(item, Mapping):
        raise ToolError("a check is not an object", fix=FIX)
    kind = item.get("kind", item.get("type"))
    if not isinstance(kind, str) or kind not in NEEDS:
        raise ToolError(f"there is no check {kind!r}", fix=f"kinds are {', '.join(NEEDS)}; or leave `checks` out")
    checked: dict[str, Json] = {"kind": kind}
    for name in NEEDS[kind]:
        text = item.get(name)
        if not isinstance(text, str) or not text:
            raise ToolError(f"the check {kind} needs `{name}`", fix=FIX)
        checked[name] = normal_path(text) if name == "path" else text
    if is_secret(str(checked.get("path", ""))):
        raise ToolError(SECRET, fix=WITHOUT)
    return checked


def build() -> Tool:
    return FinishRun()
