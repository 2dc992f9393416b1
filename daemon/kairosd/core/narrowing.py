"""Narrowing: of a run's tools, those calls that make sense at this very step, for a model that is held to a schema.

A constrained answer cannot name a file that is not there, quote a line that no file has, read again what is in view, or
say that it is through before anything was done. The tools in the prompt stay as they are; only the schema narrows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kairosd.core.aims import Aim, is_test
from kairosd.core.json import Json, JsonObject
from kairosd.core.messages import ToolSpec, ToolUse
from kairosd.core.secrets import PLACEHOLDER
from kairosd.frozen import frozen

LINES_MOST = 200  # choices of a line; a longer file takes any text, which the tool compares
PATHS_MOST = 200
RUNNING = re.compile(r"\b(?:run|runs|running|test|tests|pass|passes|fail|fails|output|prints?)\b", re.IGNORECASE)
LOOKING = frozenset({"grep", "glob"})


@frozen
class View:
    """What a run has before it: the files it knows with their text as it may be shown now, and those not seen whole.

    `tried` are calls that failed, or changed nothing, since something last changed. `places` are (path, line) of what
    is still to be done where that is known; `written` is what was put somewhere last, where more is missing elsewhere;
    `may_finish` whether it may say that it is through. `tests_itself` tells that the tests are run after each change.
    """

    known: Mapping[str, str]
    unseen: Sequence[str] = ()
    tried: Sequence[ToolUse] = ()
    places: Sequence[tuple[str, str]] = ()
    written: str = ""
    may_finish: bool = True
    tests_itself: bool = False


def narrowed(tools: Sequence[ToolSpec], aim: Aim, *, view: View) -> tuple[ToolSpec, ...]:
    """The calls that may be made now; `edit` comes once for each file. All of `tools` where nothing would be left."""
    if aim.last_commit_answers or aim.note:  # it has been shown: what a search finds, or does not, only leads astray
        tools = [tool for tool in tools if tool.name == "finish"] or tools
    found = [spec for tool in tools for spec in _one(tool, aim, view=view)]
    return tuple(found) or tuple(tools)


def _one(tool: ToolSpec, aim: Aim, *, view: View) -> Iterator[ToolSpec]:
    if tool.name == "shell" and aim.is_question and not RUNNING.search(aim.goal):
        return
    if tool.name == "edit":
        yield from _edits(tool, aim, view=view)
    elif tool.name == "finish":
        if view.may_finish:
            yield _with(tool, keep=("answer",))
    elif tool.name == "read":
        if view.unseen:
            paths: JsonObject = {"enum": list(view.unseen)}
            yield _with(tool, path=paths) if len(view.unseen) <= PATHS_MOST else tool
    elif tool.name == "write":
        if aim.is_change and not view.places and _makes_files(aim):
            yield _with(tool, keep=("path", "content"))
    elif not _is_idle(tool.name, view):
        yield tool


def _is_idle(name: str, view: View) -> bool:
    """Whether a call of that tool would bring nothing: all is in view, or it was just made in vain."""
    if any(use.name == name for use in view.tried[-1:]):
        return True
    if name in LOOKING:
        return not view.unseen or bool(view.places)
    return name == "shell" and (view.tests_itself or bool(view.places))


def _makes_files(aim: Aim) -> bool:
    return any(
        word in aim.goal.lower() for word in ("create", "new file", "write", "add a file", "add a test", "split")
    )


def _edits(tool: ToolSpec, aim: Aim, *, view: View) -> Iterator[ToolSpec]:
    """One for each file that may be changed: its path, and as `old` one of its lines, or nothing to append."""
    if not aim.is_change:
        if not aim.is_question:
            yield tool
        return
    named = [path for path in aim.named(tuple(view.known)) if aim.wants_tests or not is_test(path)]
    for path, text in view.known.items():
        if is_test(path) and not aim.wants_tests and not view.places:
            continue  # a failing test is not mended by changing what it asks for
        if named and path not in named and not aim.in_code and not view.places:
            continue  # where the goal says which files, it is those
        vain = _in_vain(path, view.tried)
        places = [line for place, line in view.places if place == path]
        vain |= {
            line for line in view.written.split("\n") if line
        }  # who has just written a line, and more is missing, has to go elsewhere
        lines = [line for line in dict.fromkeys(places if view.places else [*choices(text), ""]) if line not in vain]
        if len(lines) > LINES_MOST:
            yield _with(tool, keep=("path", "old", "new"), path={"const": path})
        elif lines:
            yield _with(tool, keep=("path", "old", "new"), path={"const": path}, old={"enum": lines})


def _in_vain(path: str, tried: Sequence[ToolUse]) -> set[str]:
    """The values of `old` that an edit of `path` shall not take again: it changed nothing, or failed more than once."""
    edits = [use.arguments for use in tried if use.name == "edit" and use.arguments.get("path") == path]
    counts = Counter(str(each.get("old")) for each in edits)
    same = {str(each.get("old")) for each in edits if each.get("old") == each.get("new")}
    return same | {old for old, count in counts.items() if count > 1 or not old}


def choices(text: str) -> list[str]:
    """The lines of `text` by which an edit can name its place; one that occurs twice comes with the line before it."""
    lines, found = text.split("\n"), list[str]()
    for number, line in enumerate(lines):
        piece = line
        if not line.strip():
            continue
        if text.count(piece) > 1 and number:
            piece = f"{lines[number - 1]}\n{line}"
        if text.count(piece) == 1 and not PLACEHOLDER.search(piece):
            found.append(piece)
    return found


def _with(tool: ToolSpec, *, keep: Sequence[str] = (), **rules: JsonObject) -> ToolSpec:
    """`tool` with other rules for some parameters; only those in `keep`, in its order, all of them required."""
    properties = tool.schema["properties"]
    assert isinstance(properties, Mapping)
    names = [name for name in keep or properties if name in properties]
    changed: dict[str, Json] = {name: rules.get(name, properties[name]) for name in names}
    required = names if keep else tool.schema.get("required", [])
    return replace(tool, schema={**tool.schema, "properties": changed, "required": list(required)})  # type: ignore[arg-type]
