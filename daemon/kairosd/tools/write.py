"""write: one whole file, new or replaced."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections import Counter

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.core.rewriting import words_lost
from kairosd.errors import ToolError
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import Arguments, boolean, schema, string
from kairosd.tools.base import TEXT_LIMIT, answer_text, file_path, is_secret
from kairosd.tools.soundness import breaks, elision, unknown_names
from kairosd.tools.texts import FileEffect, Knowledge, Replacement, encoded, is_binary, knowledge

WORDS_MOST = 1 / 3  # of a file's words that may go where most of its lines do
SHOWN_CONTENT = 200  # characters of a content that a refusal repeats in the call it proposes


class Write(FileEffect):
    """Writes a whole file, making its folders.

    What a file holds is lost only knowingly: the run has read all of it and keeps at least half of its lines or two
    thirds of its words, or it has looked at it and says `replace`. A small model asked for one more line writes that
    line as the whole file.
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
        path, text = file_path(given), given.text("content")
        content = encoded(text, "content")
        before = await asyncio.to_thread(context.files.digest, context.root, path)
        if before is not None:
            old = await asyncio.to_thread(context.files.read, context.root, path, limit=TEXT_LIMIT)
            await _keep(path, given, old=old, context=context)
            content = content if given.flag("replace") else _alike(content, old)
            if content == old:
                raise ToolError(f"{path} holds exactly this already", fix="give the content with the change in it")
        lines = text.count("\n") + (not text.endswith("\n") and bool(content))
        told = f"{'wrote new file' if before is None else 'replaced'} {path}: {lines} lines, {len(content)} bytes"
        return Replacement(path, before, content, told)


def _alike(content: bytes, old: bytes) -> bytes:
    """`content` with the mark at the begin, the ends of lines and the end of the file that `old` has."""
    if b"\r\n" in old and old.count(b"\n") == old.count(b"\r\n"):
        content = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    end = b"\r\n" if old.endswith(b"\r\n") else b"\n"
    if not content or not old:
        return content
    content = content.removesuffix(end) + (end if old.endswith(end) else b"")
    mark = codecs.BOM_UTF8
    return mark + content if old.startswith(mark) and not content.startswith(mark) else content


async def _keep(path: str, given: Arguments, *, old: bytes, context: ToolContext) -> None:
    """Raises `ToolError` when what the file holds would be lost unawares, or broken."""
    known = knowledge(await context.services.calls(), path)
    new, before = given.text("content"), old.decode("utf-8", "replace").removeprefix("\ufeff")
    if "\ufffd" in before and not is_binary(old) and not given.flag("replace"):
        raise ToolError(f"{path} is not UTF-8 text", fix="only UTF-8 text can be rewritten")
    if not old.strip() or known is Knowledge.OWN or (given.flag("replace") and known is not Knowledge.NONE):
        return
    piece = json.dumps(new, ensure_ascii=False) if len(new) <= SHOWN_CONTENT else "..."
    add = f'call edit(path="{path}", old="", new={piece}) to add this at its end; to change a part of it '
    if known is Knowledge.NONE:
        raise ToolError(f"{path} is there already and would be lost", fix=f"{add}read it first, then call edit")
    rest = "only if all the old text shall go, write with replace=true"
    fix = f"{add}call edit with that part as old; {rest}"
    if known is Knowledge.PART:
        raise ToolError(f"{path} is there already and you have not read all of it", fix=fix)
    lost, whole = _lost(before, new)
    if lost * 2 <= whole or (new.strip() and words_lost(before, new) <= WORDS_MOST):
        await _sound(path, before, new=new)
        return
    if new.strip() and not _lost(new, before)[0]:
        raise ToolError(f"{path} holds this text already", fix=f"call finish if the goal is reached; {rest}")
    raise ToolError(f"{lost} of the {whole} lines in {path} would be lost", fix=fix)


async def _sound(path: str, old: str, *, new: str) -> None:
    """Raises `ToolError` for a content that leaves something out, breaks the file, or uses what only it had."""
    if line := elision(old, after=new):
        raise ToolError(f"{path} would lose what `{line}` stands for", fix="give a `content` that is whole")
    if is_secret(path):
        return
    if why := await asyncio.to_thread(breaks, path, old, after=new):
        raise ToolError(f"{path} would be broken by that, {why}", fix="give a `content` that is whole")
    if unknown := await asyncio.to_thread(unknown_names, path, old, after=new):
        names = ", ".join(unknown)
        fix = f"keep or import what is used; if {names} comes from elsewhere, write with replace=true"
        raise ToolError(f"{path} would be broken by that, nothing in it would be called {names}", fix=fix)


def _lost(old: str, new: str) -> tuple[int, int]:
    """How many lines of `old` are not in `new`, and how many there are; blank lines and indentation do not count."""
    before, after = (Counter(line.strip() for line in text.splitlines() if line.strip()) for text in (old, new))
    return (before - after).total(), before.total()


def build() -> Tool:
    return Write()
