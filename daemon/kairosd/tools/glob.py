"""glob: finds files by name, newest first."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.core.paths import matches
from kairosd.errors import ToolError
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import schema, string
from kairosd.tools.base import ROOT, ReadOnly, answer_text, normal_path
from kairosd.tools.repository import git_error, git_outcome, is_repository

MOST = 200  # paths in one result
WALK_LIMIT = 50_000
BRACES = re.compile(r"\{([^{}]*)\}")
WILD = re.compile(r"[*?\[{]")
PATTERN_LENGTH = 200


class Glob(ReadOnly):
    """Lists the files whose path matches, without `.git` and what git ignores."""

    spec = ToolSpec(
        "glob",
        "Find files by name, newest first: *.py anywhere, src/**/*.ts below src. Ignored files are left out.",
        schema(pattern=string("name or path pattern")),
    )

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        pattern = _normal(self.read(arguments).text("pattern"))
        fixed = WILD.split(pattern, maxsplit=1)[0].rpartition("/")[0]
        return (fixed,) if fixed else ()

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        pattern = _normal(given.text("pattern"))
        names = await _names(context)
        found, told = _matching(names, pattern)
        newest = await asyncio.to_thread(_newest_first, context.root, found)
        head = f"{len(newest)} files match {told}, newest first" if newest else f"no file matches {told}"
        if len(newest) > MOST:
            head += f"; the first {MOST}"
        return ToolAnswer(answer_text(head, newest[:MOST], arguments=given, limit=context.limit))


def _normal(pattern: str) -> str:
    if len(pattern) > PATTERN_LENGTH:
        raise ToolError("`pattern` is too long", fix="give a shorter one, such as *.py")
    cleaned = normal_path(pattern)
    # Neighbouring ** mean the same as one and would only cost time.
    return re.sub(r"(\*\*/)+", "**/", "**" if cleaned == ROOT else cleaned)


async def _names(context: ToolContext) -> list[str]:
    try:
        outcome = await git_outcome(context, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    except ToolError:
        return await _walked(context)  # no sandbox: the plain walk knows no .gitignore, and needs no program
    if not is_repository(outcome):
        return await _walked(context)
    if outcome.code != 0:
        raise git_error(outcome)
    return [name for name in outcome.stdout.decode("utf-8", "replace").split("\0") if name]


async def _walked(context: ToolContext) -> list[str]:
    return await asyncio.to_thread(lambda: [name for name, _, _ in context.files.walk(context.root, WALK_LIMIT)])


def _matching(names: list[str], pattern: str) -> tuple[list[str], str]:
    """The names that match, and the pattern as it was read: a plain word also means a folder or a part of a name."""
    readings = [pattern]
    if not WILD.search(pattern):
        readings += [f"{pattern}/**", f"**/{pattern}/**", f"*{pattern}*" if "/" not in pattern else f"**/{pattern}"]
    for reading in readings:
        globs = _expanded(reading)
        found = [name for name in dict.fromkeys(names) if matches(name, globs)]
        if found:
            return found, reading
    return [], pattern


def _expanded(pattern: str) -> list[str]:
    """`*.{a,b}` as `*.a` and `*.b`: models write it, fnmatch does not know it."""
    braces = BRACES.search(pattern)
    if braces is None:
        return [pattern]
    head, tail = pattern[: braces.start()], pattern[braces.end() :]
    return [each for choice in braces[1].split(",") for each in _expanded(head + choice + tail)][:64]


def _newest_first(root: Path, names: list[str]) -> list[str]:
    stamped = []
    for name in names:
        try:
            stamped.append((-(root / name).lstat().st_mtime_ns, name))
        except OSError:
            continue  # in the index, but deleted from the folder
    return [name for _, name in sorted(stamped)]


def build() -> Tool:
    return Glob()
