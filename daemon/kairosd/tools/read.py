"""read: the numbered lines of a file, or what is in a folder."""

from __future__ import annotations

import asyncio
from collections import Counter

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.errors import ToolError
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.system.files import MissingError
from kairosd.tools.arguments import Arguments, integer, schema, string
from kairosd.tools.base import ROOT, ReadOnly, answer_text, normal_path
from kairosd.tools.texts import is_binary, shown_head

READ_LIMIT = 4_000_000  # bytes looked at
WALK_LIMIT = 20_000  # files looked at to list a folder
LINES_MOST = 1000


class Read(ReadOnly):
    """Shows a text file with line numbers; names a binary file with its size; lists a folder."""

    spec = ToolSpec(
        "read",
        "Read a text file with line numbers, or list a folder (path '.' is the whole workspace).",
        schema(
            path=string("file or folder, relative to the workspace"),
            from_line=integer("first line", default=1, least=1, most=10_000_000),
            lines=integer("how many lines", default=200, least=1, most=LINES_MOST),
        ),
    )

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        path = normal_path(given.text("path"))
        if path == ROOT:
            return _folder(path, await _entries(context, path), given=given, limit=context.limit)
        try:
            data = await asyncio.to_thread(context.files.read, context.root, path, limit=READ_LIMIT)
        except MissingError as error:
            # Files knows regular files only; a folder is told by what lies below it.
            entries = await _entries(context, path)
            if not entries:
                # Names like it are looked for now, in up to 5000 files: not on the event loop.
                near: str | None = await asyncio.to_thread(getattr, error, "fix")
                fix = near or 'a new file is made with write(path, content); read(".") shows what there is'
                raise ToolError(error.message, fix=fix) from error
            return _folder(path, entries, given=given, limit=context.limit)
        return ToolAnswer(_file(path, data, given=given, limit=context.limit))


def _folder(path: str, entries: Counter[str], *, given: Arguments, limit: int) -> ToolAnswer:
    more = f", of the first {WALK_LIMIT} files" if entries.total() >= WALK_LIMIT else ""
    lines = [f"{name} ({count} files)" if name.endswith("/") else name for name, count in sorted(entries.items())]
    rest = "call glob(pattern) with a pattern"
    head = f"folder {path}, {len(lines)} entries{more}"
    return ToolAnswer(answer_text(head, lines, arguments=given, limit=limit, rest=rest))


def _file(path: str, data: bytes, *, given: Arguments, limit: int) -> str:
    cut = len(data) >= READ_LIMIT
    size = f"{'over ' if cut else ''}{len(data)} bytes"
    if is_binary(data):
        return answer_text(f"{path} is a binary file, {size}, not shown", [], arguments=given, limit=limit)
    lines = data.decode("utf-8", "replace").split("\n")
    if lines[-1] == "":
        lines.pop()
    first, count = given.number("from_line"), given.number("lines")
    if not lines:
        return answer_text(f"{path} is empty", [], arguments=given, limit=limit)
    if first > len(lines):
        raise ToolError(f"{path} has only {len(lines)} lines", fix="there is nothing more to read in it")
    asked = enumerate(lines[first - 1 : first - 1 + count], start=first)
    chosen = _fitting([f"{number}| {line}" for number, line in asked], limit)
    last = first + len(chosen) - 1
    more = len(lines) - last
    tail = f", {more} more: read with from_line={last + 1}" if more else ""
    whole = f"{'more than ' if cut else ''}{len(lines)}"
    head = shown_head(path, first, last=last, whole=whole)
    return answer_text(head + tail, chosen, arguments=given, limit=limit + 1000)


def _fitting(lines: list[str], limit: int) -> list[str]:
    """As many lines as a result holds, at least one, so that the head can say where to go on."""
    used = 0
    for number, line in enumerate(lines):
        used += min(len(line), 440) + 1
        if used > limit - 300:
            return lines[: max(1, number)]
    return lines


async def _entries(context: ToolContext, path: str) -> Counter[str]:
    prefix = "" if path == ROOT else f"{path}/"

    def look() -> Counter[str]:
        found: Counter[str] = Counter()
        for name, _, _ in context.files.walk(context.root, WALK_LIMIT):
            if name.startswith(prefix):
                entry, slash, _ = name[len(prefix) :].partition("/")
                found[entry + slash] += 1
        return found

    return await asyncio.to_thread(look)


def build() -> Tool:
    return Read()
