"""What tools share: the plain paths, plan and probe of a read-only tool, paths made normal, results kept short."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from kairosd.core.json import JsonObject
from kairosd.core.levels import Permission
from kairosd.core.messages import ToolSpec
from kairosd.core.paths import SECRET_PATHS, matches
from kairosd.core.runs import Call
from kairosd.core.shell.plans import Plan
from kairosd.errors import ToolError
from kairosd.ports import RunMemory, ToolContext
from kairosd.tools.arguments import Arguments, read_arguments

ROOT = "."
PATH_LENGTH = 1000  # characters; Linux stops at 4096 bytes
LINE_LENGTH = 400  # characters of one line that are shown
TEXT_LIMIT = 1_000_000  # bytes of a text file that is read, written or searched
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class ReadOnly:
    """What a tool without an effect does by default. A subclass sets `spec` and has `run`."""

    spec: ToolSpec
    permission = Permission.READ
    effect = False
    escalates = False

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        given = self.read(arguments)
        path = normal_path(given.text("path")) if "path" in given.values else ROOT
        return () if path == ROOT else (path,)

    def commands(self, arguments: JsonObject) -> Plan | None:
        return None

    async def plan(self, arguments: JsonObject, context: ToolContext) -> JsonObject:
        self.read(arguments)
        return {}

    async def probe(self, call: Call, context: ToolContext) -> bool | None:
        return False  # nothing can have happened: the call simply runs again (design §2)

    def read(self, arguments: JsonObject) -> Arguments:
        return read_arguments(self.spec, arguments)


def normal_path(path: str) -> str:
    """`path` relative to the workspace with `.` and `..` resolved away; the workspace itself is ".".

    Links are not followed here: `Files` and the sandbox refuse those that lead out. Raises `ToolError`.
    """
    text = path.strip().strip("`'\"")
    if len(text) > PATH_LENGTH or not text.isprintable():
        raise ToolError("that is not a file's path", fix="give a path relative to the workspace, such as src/main.py")
    if text.startswith(("/", "~")):
        name = PurePosixPath(text).name
        hint = f", such as {name}" if name and not name.startswith("~") else ""
        raise ToolError(f"{text} does not start in the workspace", fix=f"give the path relative to it{hint}")
    parts: list[str] = []
    for part in text.split("/"):
        if part == ".." and not parts:
            raise ToolError(f"{text} leads out of the workspace", fix="use a path inside it, without ..")
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or ROOT


def file_path(arguments: Arguments) -> str:
    """The argument `path` made normal, for a tool that changes a file. Raises `ToolError` for the workspace itself."""
    path = normal_path(arguments.text("path"))
    if path == ROOT:
        raise ToolError("`path` names a folder", fix="name a file, such as README.md")
    return path


def is_secret(path: str, globs: tuple[str, ...] = SECRET_PATHS) -> bool:
    """Whether searches leave `path` out: it may hold secrets, and only a call that names it can be asked about."""
    return matches(path, globs)


def visible(text: str) -> str:
    """`text` without control characters, which could steer the owner's terminal; tabs and newlines stay."""
    return CONTROL.sub("", text.replace("\r\n", "\n"))


def clipped(line: str, length: int = LINE_LENGTH) -> str:
    """The line, cut at `length` characters, saying how many are missing."""
    return line if len(line) <= length else f"{line[:length]} …[{len(line) - length} more characters]"


def answer_text(head: str, lines: list[str], *, arguments: Arguments, limit: int, rest: str = "") -> str:
    """A result: a bracketed head with what was put right in the arguments, then as many lines as `limit` allows.

    `rest` says how to see what was cut.
    """
    notes = f" ({'; '.join(arguments.notes)})" if arguments.notes else ""
    out = [f"[{head}]{notes}"]
    used = len(out[0])
    room = max(200, limit - 120)  # the closing line needs some
    for number, line in enumerate(lines):
        shown = clipped(visible(line))
        used += len(shown) + 1
        if used > room:
            more = len(lines) - number
            out.append(f"[{more} more lines{': ' + rest if rest else ' not shown'}]")
            break
        out.append(shown)
    return "\n".join(out)


def memory_of(context: ToolContext) -> RunMemory:
    """The run's memory. Raises `ToolError` where nothing is remembered."""
    if context.memory is None:
        raise ToolError("there is no memory here", fix="go on without it")
    return context.memory
