"""Text files as tools see them: bytes told from text, and the plan and probe of a tool that replaces a whole file."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from enum import IntEnum

from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.runs import Call, CallState
from kairosd.core.secrets import PLACEHOLDER
from kairosd.errors import ToolError
from kairosd.frozen import frozen
from kairosd.ports import ToolContext
from kairosd.tools.arguments import Arguments
from kairosd.tools.base import TEXT_LIMIT, ReadOnly, file_path

BINARY_LOOK = 8000  # bytes that are searched for a NUL, as git does
SHOWN = r"(?:, lines (\d+)-(\d+) of (\d+)?| is (?:empty|a binary file))"  # after the path, in the head of a read


@frozen
class Replacement:
    """A whole new content for a file, and what to tell and show the model. `before` is None where there is no file."""

    path: str
    before: str | None
    content: bytes
    told: str
    shown: tuple[str, ...] = ()


class FileEffect(ReadOnly):
    """What `write` and `edit` share. A subclass says in `replacement` what the file will be."""

    permission = Permission.EDIT
    effect = True

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        return (file_path(self.read(arguments)),)

    async def replacement(self, given: Arguments, context: ToolContext) -> Replacement:
        raise NotImplementedError

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        made = await self.replacement(self.read(arguments), context)
        return {"path": made.path, "before": made.before, "after": _digest(made.content), "bytes": len(made.content)}

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        plan = call.plan or {}
        path, before, after = plan.get("path"), plan.get("before"), plan.get("after")
        if not isinstance(path, str) or not isinstance(after, str):
            return None
        now = await asyncio.to_thread(context.files.digest, context.root, path)
        if now == after:
            return True
        return False if now == before else None


class Knowledge(IntEnum):
    """What a run knows of a file's content: nothing, some of it, all of it, or it made the file."""

    NONE = 0
    PART = 1
    WHOLE = 2
    OWN = 3


def knowledge(calls: Sequence[Call], path: str) -> Knowledge:
    """What the calls that succeeded have told the run of the file at `path`."""
    found, seen = Knowledge.NONE, set[int]()
    for call in calls:
        if call.state is not CallState.SUCCEEDED:
            continue
        if call.tool == "write" and call.plan is not None and call.plan["path"] == path:
            if call.plan["before"] is None:
                return Knowledge.OWN
            found = Knowledge.WHOLE
        elif call.tool == "read" and (head := re.match(re.escape(f"[{path}") + SHOWN, call.result)):
            first, last, whole = (int(each or 0) for each in head.groups())
            seen.update(range(first, last + 1))
            found = max(found, Knowledge.WHOLE if 0 < whole <= len(seen - {0}) else Knowledge.PART)
    return found


def shown_head(path: str, first: int, *, last: int, whole: str) -> str:
    """How `read` says which lines it shows; `knowledge` reads it again."""
    return f"{path}, lines {first}-{last} of {whole}"


async def read_text(context: ToolContext, path: str) -> str:
    """A whole UTF-8 text file of at most 1 MB. Raises `ToolError` for anything else."""
    data = await asyncio.to_thread(context.files.read, context.root, path, limit=TEXT_LIMIT + 1)
    if len(data) > TEXT_LIMIT:
        raise ToolError(f"{path} is over 1 MB", fix="that is too large to edit here; name a smaller file")
    if is_binary(data):
        raise ToolError(f"{path} is not a text file", fix="only text can be edited")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ToolError(f"{path} is not UTF-8 text", fix="only UTF-8 text can be edited") from error


def encoded(text: str, what: str) -> bytes:
    """`text` as bytes of a file. Raises `ToolError` naming the argument `what` when it cannot be one."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ToolError(f"`{what}` holds half a character", fix=f"give `{what}` as valid Unicode") from error
    if PLACEHOLDER.search(text):
        fix = "leave the line as it is: call edit on the lines around it"
        raise ToolError(f"`{what}` holds a placeholder where the file has a secret that you were not shown", fix=fix)
    if len(data) > TEXT_LIMIT:
        raise ToolError(f"`{what}` makes the file larger than 1 MB", fix="write less")
    return data


def is_binary(data: bytes) -> bool:
    """Whether these first bytes of a file are not text, by git's own rule."""
    return b"\0" in data[:BINARY_LOOK]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
