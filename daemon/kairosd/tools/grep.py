"""grep: finds lines by a regular expression, with git where the workspace is a repository."""

from __future__ import annotations

import asyncio
import re

from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.core.paths import matches
from kairosd.errors import ToolError
from kairosd.frozen import frozen
from kairosd.ports import Outcome, Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import schema, string
from kairosd.tools.base import ROOT, TEXT_LIMIT, ReadOnly, answer_text, clipped, is_secret, normal_path
from kairosd.tools.repository import git_error, git_outcome, is_repository, pathspecs
from kairosd.tools.texts import is_binary

MOST = 200  # lines in one result
SCAN_FILES = 5000
SCAN_BYTES = 50_000_000
PATTERN_LENGTH = 500
# Python's own engine backtracks: a repeated group, or several open-ended repeats, can take for ever.
REPEATS_MOST = 2
REPEAT = re.compile(r"(?<!\\)(?:[*+]|\{\d*,\d*\})")
REPEATED_GROUP = re.compile(r"(?<!\\)\)(?:[*+]|\{)")


@frozen
class Search:
    """What to look for and where. `told` collects how the pattern had to be read."""

    pattern: str
    path: str
    glob: str
    literal: bool = False
    any_case: bool = False

    def told(self) -> str:
        how = [*(["read as plain text"] if self.literal else []), *(["case ignored"] if self.any_case else [])]
        where = ("" if self.path == ROOT else f" in {self.path}") + (f" in {self.glob}" if self.glob else "")
        return f"{self.pattern}{where}{' (' + ', '.join(how) + ')' if how else ''}"


class Grep(ReadOnly):
    """Lists matching lines as `file:line:text`, without binary, ignored and secret files."""

    spec = ToolSpec(
        "grep",
        "Find lines that match a regular expression; answers file:line:text. Ignored files are left out.",
        schema(
            pattern=string("regular expression or plain words"),
            path=string("only this file or folder", default=""),
            glob=string("only such files, as *.py", default=""),
        ),
    )

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        given = self.read(arguments)
        pattern = given.text("pattern")
        if len(pattern) > PATTERN_LENGTH or "\n" in pattern or "\0" in pattern:
            raise ToolError("`pattern` is not one short line", fix="search for a few words of one line")
        search = Search(pattern, normal_path(given.text("path")), given.text("glob").strip())
        search, found = await _searched(context, search)
        lines = [clipped(f"{file}:{number}:{text.strip()}", 300) for file, number, text in found[:MOST]]
        head = f"{len(found)} lines match {search.told()}" if found else f"no line matches {search.told()}"
        if len(found) > MOST:
            head += f"; the first {MOST}"
        rest = "give `path` or `glob` to narrow the search"
        return ToolAnswer(answer_text(head, lines, arguments=given, limit=context.limit, rest=rest))


Found = list[tuple[str, int, str]]


async def _searched(context: ToolContext, search: Search) -> tuple[Search, Found]:
    """Searches as asked; then, where that finds nothing, with the case ignored."""
    found: Found = []
    for tried in (search, Search(search.pattern, search.path, search.glob, any_case=True)):
        read_as, found = await _once(context, tried)
        if found:
            return read_as, found
    return search, found


async def _once(context: ToolContext, search: Search) -> tuple[Search, Found]:
    try:
        outcome = await _git_grep(context, search)
    except ToolError:
        return await _scanned(context, search)  # no sandbox, no git: look with our own eyes
    if not is_repository(outcome):
        return await _scanned(context, search)
    if outcome.code > 1 and not search.literal:
        plain = Search(search.pattern, search.path, search.glob, literal=True, any_case=search.any_case)
        search, outcome = plain, await _git_grep(context, plain)
    if outcome.code > 1:
        raise git_error(outcome)
    return search, _parsed(outcome, search.glob)


async def _git_grep(context: ToolContext, search: Search) -> Outcome:
    # POSIX has no \d, and every model writes it.
    pattern = search.pattern if search.literal else search.pattern.replace(r"\d", "[0-9]")
    options = ("-F" if search.literal else "-E", *(("-i",) if search.any_case else ()))
    where = pathspecs(search.path, context.hidden)
    return await git_outcome(context, "grep", "-n", "-I", "-z", "--untracked", *options, "-e", pattern, *where)


def _parsed(outcome: Outcome, glob: str) -> Found:
    found = []
    for line in outcome.stdout.decode("utf-8", "replace").split("\n"):
        file, number, text = (line.split("\0", 2) + ["", ""])[:3]
        if number.isdigit() and (not glob or matches(file, (glob,))):
            found.append((file, int(number), text))
    return found


async def _scanned(context: ToolContext, search: Search) -> tuple[Search, Found]:
    search, expression = _compiled(search)
    return search, await asyncio.to_thread(_scan, context, search, expression=expression)


def _compiled(search: Search) -> tuple[Search, re.Pattern[str]]:
    flags = re.IGNORECASE if search.any_case else 0
    if not REPEATED_GROUP.search(search.pattern) and len(REPEAT.findall(search.pattern)) <= REPEATS_MOST:
        try:
            return search, re.compile(search.pattern, flags)
        except re.error:
            pass  # not an expression: what was meant is the text itself
    plain = Search(search.pattern, search.path, search.glob, literal=True, any_case=search.any_case)
    return plain, re.compile(re.escape(search.pattern), flags)


def _scan(context: ToolContext, search: Search, *, expression: re.Pattern[str]) -> Found:
    found: Found = []
    seen = 0
    for name, size, _ in context.files.walk(context.root, SCAN_FILES):
        inside = search.path == ROOT or name == search.path or name.startswith(f"{search.path}/")
        wanted = inside and (not search.glob or matches(name, (search.glob,)))
        if not wanted or size > TEXT_LIMIT or (is_secret(name, context.hidden) and name != search.path):
            continue
        seen += size
        if seen > SCAN_BYTES or len(found) > MOST:
            break
        data = context.files.read(context.root, name, limit=TEXT_LIMIT)
        if not is_binary(data):
            for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), start=1):
                if expression.search(line[:1000]):
                    found.append((name, number, line))
    return found


def build() -> Tool:
    return Grep()
