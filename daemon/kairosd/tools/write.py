"""write: one whole file, new or replaced."""

from __future__ import annotations

import asyncio

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import Arguments, schema, string
from kairosd.tools.base import answer_text, file_path
from kairosd.tools.texts import FileEffect, Replacement, encoded


class Write(FileEffect):
    """Writes a whole file, making its folders."""

    spec = ToolSpec(
        "write",
        "Write a whole file, new or replaced. To change a part of a file use edit.",
        schema(path=string("file"), content=string("the whole new content"), may_be_empty=("content",)),
    )

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        made = await self.replacement(given, context)
        await asyncio.to_thread(context.files.replace, context.root, made.path, content=made.content)
        return ToolAnswer(answer_text(made.told, [], arguments=given, limit=context.limit))

    async def replacement(self, given: Arguments, context: ToolContext) -> Replacement:
        path = file_path(given)
        content = encoded(given.text("content"), "content")
        before = await asyncio.to_thread(context.files.digest, context.root, path)
        lines = given.text("content").count("\n") + (not given.text("content").endswith("\n") and bool(content))
        told = f"{'wrote new file' if before is None else 'replaced'} {path}: {lines} lines, {len(content)} bytes"
        return Replacement(path, before, content, told)


def build() -> Tool:
    return Write()
