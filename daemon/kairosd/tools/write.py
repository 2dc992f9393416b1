"""write: one whole file, new or replaced."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.errors import ToolError
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import Arguments, boolean, schema, string
from kairosd.tools.base import TEXT_LIMIT, answer_text, file_path, is_secret
from kairosd.tools.soundness import breaks, unknown_names
from kairosd.tools.texts import FileEffect, Knowledge, Replacement, encoded, knowledge

SHOWN_CONTENT = 200  # characters of a content that a refusal repeats in the call it proposes


class Write(FileEffect):
    """Writes a whole file, making its folders.

    What a file holds is lost only knowingly: the run has read all of it and keeps at least half of its lines, or it
    has looked at it and says `replace`. A small model asked for one more line writes that line as the whole file.
    """

    spec = ToolSpec(
        "write",
        "Make a new file. A file that is there already is changed with edit, also to add a line.",
        schema(
            path=string("file"),
            content=string("the whole content"),
            replace=boolean("true: the old content of the file shall go"),
            may_be_empty=("content",),
        ),
    )

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        made = await self.replacement(given, context)
        await asyncio.to_thread(context.files.replace, context.root, made.path, content=made.content)
        return ToolAnswer(answer_text(made.told, [], arguments=given, limit=context.limit))

    async def replacement(self, given: Arguments, context: ToolContext) -> Replacement:
        path = file_path(given)
        content = encoded(given.text("content"), "content")
        before, note = await asyncio.to_thread(context.files.digest, context.root, path), ""
        if before is not None:
            note = await _keep(path, given, context=context)
        lines = given.text("content").count("\n") + (not given.text("content").endswith("\n") and bool(content))
        told = f"{'wrote new file' if before is None else 'replaced'} {path}: {lines} lines, {len(content)} bytes{note}"
        return Replacement(path, before, content, told)


async def _keep(path: str, given: Arguments, *, context: ToolContext) -> str:
    """What is to be noted of writing over the file; raises `ToolError` when it would be lost unawares, or broken."""
    data = await asyncio.to_thread(context.files.read, context.root, path, limit=TEXT_LIMIT)
    known = knowledge(await context.services.calls(), path)
    new, old = given.text("content"), data.decode("utf-8", "replace")
    if not data.strip() or known is Knowledge.OWN or (given.flag("replace") and known is not Knowledge.NONE):
        return ""
    piece = json.dumps(new, ensure_ascii=False) if len(new) <= SHOWN_CONTENT else "..."
    add = f'call edit(path="{path}", old="", new={piece}) to add this at its end; to change a part of it '
    if known is Knowledge.NONE:
        raise ToolError(f"{path} is there already and would be lost", fix=f"{add}read it first, then call edit")
    rest = "only if all the old text shall go, write with replace=true"
    fix = f"{add}call edit with that part as old; {rest}"
    if known is Knowledge.PART:
        raise ToolError(f"{path} is there already and you have not read all of it", fix=fix)
    lost, whole = _lost(old, new)
    if lost * 2 <= whole:
        return await _sound(path, old, new=new)
    if new.strip() and not _lost(new, old)[0]:
        raise ToolError(f"{path} holds this text already", fix=f"call finish if the goal is reached; {rest}")
    raise ToolError(f"{lost} of the {whole} lines in {path} would be lost", fix=fix)


async def _sound(path: str, old: str, *, new: str) -> str:
    if is_secret(path):
        return ""
    if why := await asyncio.to_thread(breaks, path, old, after=new):
        raise ToolError(f"{path} would be broken by that, {why}", fix="give a `content` that is whole")
    unknown = await asyncio.to_thread(unknown_names, path, old, after=new)
    return f"; but nothing in it is called {', '.join(unknown)} now" if unknown else ""


def _lost(old: str, new: str) -> tuple[int, int]:
    """How many lines of `old` are not in `new`, and how many there are; blank lines and indentation do not count."""
    before, after = (Counter(line.strip() for line in text.splitlines() if line.strip()) for text in (old, new))
    return (before - after).total(), before.total()


def build() -> Tool:
    return Write()
