"""forget: takes back what is remembered; its history stays, and the owner's own lines wait for the owner."""

from __future__ import annotations

from kairosd.core.json import JsonObject, digest
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.runs import Call
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import schema, string
from kairosd.tools.base import ReadOnly, answer_text, memory_of


class Forget(ReadOnly):
    """Retires an entry, or proposes it."""

    spec = ToolSpec(
        "forget",
        "Take back one remembered entry that you have seen to be wrong or over.",
        schema(id=string("its id, m:..., as memory_search shows it"), reason=string("what shows that it is over")),
    )
    permission = Permission.REMEMBER
    effect = True

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        self.read(arguments)
        return ()

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        memory_of(context)
        return {"digest": digest([self.read(arguments).text("id")])}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        said = await memory_of(context).retire(given.text("id"), reason=given.text("reason"), call=context.call)
        return ToolAnswer(answer_text(said, [], arguments=given, limit=context.limit))

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        return await memory_of(context).has(call.id)


def build() -> Tool:
    return Forget()
