"""remember: keeps one line for later runs, in the words of what this run has seen."""

from __future__ import annotations

from kairosd.core.json import JsonObject, digest
from kairosd.core.levels import Permission
from kairosd.core.memory import Kind, is_check, is_key
from kairosd.core.messages import ToolSpec
from kairosd.core.runs import Call
from kairosd.errors import ToolError
from kairosd.ports import Tool, ToolAnswer, ToolContext, Wish
from kairosd.tools.arguments import Arguments, schema, string
from kairosd.tools.base import ReadOnly, answer_text, memory_of


class Remember(ReadOnly):
    """Keeps an entry, once a call; what is known already is confirmed instead."""

    spec = ToolSpec(
        "remember",
        "Remember one lasting fact for later runs, in the words of what you have seen here.",
        schema(
            text=string("one sentence, dates as YYYY-MM-DD"),
            key=string("what it is about, such as deploy.port", default=""),
            kind=string("what sort of thing it is", default=Kind.PROJECT.value, choices=tuple(map(str, Kind))),
            check=string("how to look it up: path=, branch=, commit=, package=, port=", default=""),
        ),
    )
    permission = Permission.REMEMBER
    effect = True

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        self.read(arguments)
        return ()

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        memory_of(context)
        wish = _wish(self.read(arguments))
        return {"digest": digest([wish.text, wish.key])}

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        said = await memory_of(context).keep(_wish(given), call=context.call)
        return ToolAnswer(answer_text(said, [], arguments=given, limit=context.limit))

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        return await memory_of(context).has(call.id)


def _wish(given: Arguments) -> Wish:
    key, check = given.text("key").strip(), given.text("check").strip()
    if key and not is_key(key):
        raise ToolError(f"{key!r} is no key", fix="lower-case words joined by dots, such as deploy.port")
    if check and not is_check(check):
        raise ToolError(f"{check!r} is no check", fix="KIND=VALUE, such as path=deploy/hetzner.tf")
    if not given.text("text").strip():
        raise ToolError("there is nothing to remember", fix="give `text` one sentence")
    kind = Kind(given.text("kind"))
    return Wish(given.text("text"), key, kind, check, everywhere=kind is Kind.USER)


def build() -> Tool:
    return Remember()
