"""edit: replaces an exact piece of a text file, or appends to it."""

from __future__ import annotations

import asyncio
import hashlib

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.core.runs import CallState
from kairosd.errors import ToolError
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import Arguments, boolean, schema, string
from kairosd.tools.base import answer_text, file_path, is_secret
from kairosd.tools.matching import Match, appended, changed_lines, nearest, places, repaired
from kairosd.tools.soundness import breaks, redefined, repeated, unknown_names
from kairosd.tools.texts import FileEffect, Replacement, encoded, read_text

WHOLE = "the whole of "
SHOWN_LINES = 12  # of what an edit has made


class Edit(FileEffect):
    """Replaces `old` by `new` where `old` is found once, or everywhere with `all`; an empty `old` appends."""

    spec = ToolSpec(
        "edit",
        "Change a file or add to it: the exact text old becomes new; with old empty, new is added at the end.",
        schema(
            path=string("file"),
            old=string("exact text now in the file, without line numbers; empty: append"),
            new=string("text that takes its place"),
            all=boolean("replace every occurrence"),
            may_be_empty=("old", "new"),
        ),
    )

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        made = await self.replacement(given, context)
        await asyncio.to_thread(context.files.replace, context.root, made.path, content=made.content)
        return ToolAnswer(answer_text(made.told, list(made.shown), arguments=given, limit=context.limit))

    async def replacement(self, given: Arguments, context: ToolContext) -> Replacement:
        path, old, new = file_path(given), given.text("old"), given.text("new")
        if not old:
            await _may_append(context, path, new=new)
        text = await read_text(context, path)
        before = hashlib.sha256(text.encode("utf-8")).hexdigest()
        try:
            match = _changed(path, text, old=old, new=new, everywhere=given.flag("all"))
        except _NoMatchError as error:
            # A plan is made before the owner has answered: what may be secret is not shown by way of an error.
            near = [] if is_secret(path, context.hidden) else nearest(text, old)
            shown = "".join(f"\n{number}| {line}" for number, line in near) or " none that can be shown"
            raise ToolError(f"`old` is not in {path}", fix=f"copy it exactly; the nearest lines are:{shown}") from error
        if match.text == text:
            raise ToolError(f"{path} would stay as it is: old and new are the same", fix="give a different `new`")
        secret = is_secret(path, context.hidden)
        if not secret and (again := await asyncio.to_thread(repeated, path, text, old=old, new=new)):
            match = Match(again[1], f"{WHOLE}{again[0]} replaced, which `new` is all of")
        elif not secret and (why := await asyncio.to_thread(breaks, path, text, after=match.text)):
            whole = await asyncio.to_thread(redefined, path, text, new=new)
            if whole is None or whole[1] == text:
                fix = "nothing was changed: give a `new` that leaves the file whole, with all that belongs together"
                raise ToolError(f"{path} would be broken by that, {why}", fix=fix)
            match = Match(whole[1], f"{WHOLE}{whole[0]} replaced, which `new` is all of")
        # A model that sees what came of it knows that it is through, or that it is not what was asked for.
        after = [] if secret else changed_lines(text, match.text)[:SHOWN_LINES]
        unknown = () if secret else await asyncio.to_thread(unknown_names, path, text, after=match.text)
        note = f"; but nothing here is called {', '.join(unknown)} now" if unknown else ""
        return Replacement(path, before, encoded(match.text, "new"), f"edited {path}: {match.told}{note}", tuple(after))


async def _may_append(context: ToolContext, path: str, *, new: str) -> None:
    """Raises `ToolError` where there is no file, or where the run has put this text at its end already.

    What else happened to the file since, but more appends of the run, makes it another file, which may take it again.
    """
    now = await asyncio.to_thread(context.files.digest, context.root, path)
    if now is None:
        raise ToolError(f"there is no file {path}", fix="make it with write(path, content)")
    for call in reversed(await context.services.calls()):
        plan = call.plan or {}
        if plan.get("path") != path or call.state is not CallState.SUCCEEDED:
            continue
        if plan.get("after") != now or call.tool != "edit" or call.arguments.get("old"):
            return
        if call.arguments.get("new") == new:
            fix = "call finish if the goal is reached; to add it twice, add both at once"
            raise ToolError(f"this run has added that at the end of {path} already", fix=fix)
        now = str(plan.get("before"))


class _NoMatchError(Exception):
    """`old` is nowhere in the file, not even with other white space."""


def _changed(path: str, text: str, *, old: str, new: str, everywhere: bool) -> Match:
    if not old:
        if not new:
            raise ToolError("`old` and `new` are both empty", fix="give the text to add as `new`")
        return appended(text, new)
    count = text.count(old)
    if count == 1 or (count > 1 and everywhere):
        lines = ", ".join(str(each) for each in places(text, old))
        return Match(text.replace(old, new), f"{count} replaced, at line {lines}")
    if count > 1:
        lines = ", ".join(str(each) for each in places(text, old))
        fix = "give more of the text around it in `old`, or all=true"
        raise ToolError(f"`old` is in {path} {count} times, at lines {lines}", fix=fix)
    match = repaired(text, old, new=new)
    if match is None:
        raise _NoMatchError
    return match


def build() -> Tool:
    return Edit()
