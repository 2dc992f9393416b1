"""sleep: rests the run, to look again later."""

from __future__ import annotations

from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import integer, schema, string
from kairosd.tools.base import ReadOnly, answer_text


class Sleep(ReadOnly):
    """Asks for a pause; the run goes on after it."""

    spec = ToolSpec(
        "sleep",
        "Rest this run for some seconds, then go on. Only when waiting for something named in reason.",
        schema(seconds=integer("how long", least=1, most=3600), reason=string("what is waited for")),
    )
    permission = Permission.CONTROL

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        self.read(arguments)
        return ()

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        seconds = given.number("seconds")
        text = answer_text(f"rested for {seconds} seconds", [], arguments=given, limit=context.limit)
        return ToolAnswer(text, sleep_seconds=seconds)


def build() -> Tool:
    return Sleep()
