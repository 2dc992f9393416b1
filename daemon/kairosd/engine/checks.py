"""Checked completion: the postconditions of a run, evaluated by the daemon. Model prose never sets a status."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from kairosd.core.aims import parted
from kairosd.core.diagnosis import decisive_lines
from kairosd.core.json import Json, JsonObject
from kairosd.core.shell.lines import plan_of_text
from kairosd.errors import KairosError, ToolError
from kairosd.frozen import frozen
from kairosd.ports import Commands, Files, Git

READ_LIMIT = 4_000_000
COMMAND_SECONDS = 300.0
SEEN_MAX = 300  # characters of what a check has seen
NO_PROSE = tuple(f":(exclude,icase)*{end}" for end in (".md", ".rst", ".txt", ".adoc"))
NOTHING = "nothing was changed"
WHY_LINES = 8  # of what a failed command has said, below that


@frozen
class Sight:
    """Where checks look: the files below `root`, git on them, and programs in the sandbox."""

    root: Path
    files: Files
    git: Git
    commands: Commands


async def evaluate(checks: Sequence[JsonObject], sight: Sight) -> tuple[JsonObject, ...]:
    """Each check with `passed` and `seen`. A check that cannot be evaluated has not passed.

    The gate has judged the commands of the checks when they were proposed.
    """
    return tuple([await _evaluate(check, sight) for check in checks])


async def _evaluate(check: JsonObject, sight: Sight) -> JsonObject:
    try:
        passed, seen = await _look(check, sight)
    except KairosError as error:
        passed, seen = False, await asyncio.to_thread(str, error)  # a missing file is looked for by its name
    return {**check, "passed": passed, "seen": seen}


async def _run(line: str, commands: Commands) -> tuple[bool, str]:
    outcome = await commands.run(plan_of_text(line), seconds=COMMAND_SECONDS)
    said = (outcome.stdout + outcome.stderr).decode("utf-8", "replace")
    last = next((each.strip() for each in reversed(said.splitlines()) if each.strip()), "no output")
    ended = f"stopped after {COMMAND_SECONDS:.0f} s" if outcome.timed_out else f"exit {outcome.code}"
    told = f"{line}: {ended}: {last}"[:SEEN_MAX]
    if outcome.code == 0 and not outcome.timed_out:
        return True, told
    why = [each for each in decisive_lines(said, WHY_LINES) if each.strip() != last]
    return False, "\n".join([told, *why])


async def _look(check: JsonObject, sight: Sight) -> tuple[bool, str]:
    path, text = _string(check.get("path")), _string(check.get("text"))
    root, files, git = sight.root, sight.files, sight.git
    match check.get("kind"):
        case "command" | "unbroken":
            return await _run(_string(check.get("command")), sight.commands)
        case "file_exists":
            found = await asyncio.to_thread(files.digest, root, path)
            return found is not None, f"{path} is {'there' if found else 'not there'}"
        case "file_contains":
            content = (await asyncio.to_thread(files.read, root, path, limit=READ_LIMIT)).decode("utf-8", "replace")
            return text in content, f"{path} {'holds' if text in content else 'does not hold'} the text"
        case "git_clean" | "git_changed" as kind:
            status = (await git("status", "--porcelain")).stdout.decode("utf-8", "replace").strip()
            return (not status) == (kind == "git_clean"), status[:200] or "nothing changed"
        case "commit_exists":
            if not text:
                raise ToolError("the check commit_exists needs text")
            outcome = await git("log", "-1", "--format=%s", "--fixed-strings", f"--grep={text}")
            subject = outcome.stdout.decode("utf-8", "replace").strip()
            return bool(subject), subject or "no such commit"
        case "changed" | "added" | "gone" | "within":
            return await _of_goal(check, sight)
        case other:
            raise ToolError(f"there is no check {other}")


async def _of_goal(check: JsonObject, sight: Sight) -> tuple[bool, str]:
    """What the goal's own words ask for; the guide proposes these checks, no model does."""
    path, text, base = (_string(check.get(name)) for name in ("path", "text", "base"))
    match check.get("kind"):
        case "gone":
            left = (await sight.git("grep", "-lwF", "--untracked", "-e", text, "--", ".", *NO_PROSE)).stdout
            files = ", ".join(left.decode("utf-8", "replace").split("\n")[:10]).rstrip(", ")
            return not files, f"`{text}` is still in {files}" if files else f"`{text}` is gone"
        case "changed":
            but = NO_PROSE if check.get("where") else ()
            changed = await _changed(sight, base, path=path, but=but) if base else ""
            wanted = f"{path} has to be changed" if path else "the code has to be changed" if but else NOTHING
            return bool(changed), changed[:SEEN_MAX] or wanted
        case "within":
            return await _within(sight, base, path=path, section=text)
        case _:
            made, where = await _added(sight, base, path=path), (f" in {path}" if path else "")
            return text in made, f"`{text}` was added{where}" if text in made else f"`{text}` has to be added{where}"


def _paths(path: str, but: Sequence[str] = ()) -> tuple[str, ...]:
    return ("--", f":(literal){path}" if path else ".", *but)


async def _changed(sight: Sight, base: str, *, path: str, but: Sequence[str]) -> str:
    """The files that differ from `base`, or are new."""
    known = await sight.git("diff", "--no-ext-diff", "--name-only", base, *_paths(path, but))
    fresh = await sight.git("ls-files", "--others", "--exclude-standard", *_paths(path, but))
    return ", ".join((known.stdout + fresh.stdout).decode("utf-8", "replace").split("\n")).rstrip(", ")


async def _within(sight: Sight, base: str, *, path: str, section: str) -> tuple[bool, str]:
    """Whether a text has changed in one of its sections alone."""
    old = (await sight.git("show", "--no-textconv", f"{base}:{path}")).stdout.decode("utf-8", "replace")
    new = (await asyncio.to_thread(sight.files.read, sight.root, path, limit=READ_LIMIT)).decode("utf-8", "replace")
    (before, around), (after, others) = parted(old, section), parted(new, section)
    if around.split() != others.split():
        return False, f"only the section {section} of {path} shall change"
    changed = before != after
    return changed, f"the section {section} of {path} {'was' if changed else 'has to be'} changed"


async def _added(sight: Sight, base: str, *, path: str) -> str:
    """The lines that are there now and were not in `base`."""
    diff = await sight.git("diff", "--no-ext-diff", "--no-textconv", "--no-color", "-U0", base, *_paths(path))
    lines = diff.stdout.decode("utf-8", "replace").split("\n")
    made = [line[1:] for line in lines if line.startswith("+") and not line.startswith("+++")]
    new = await sight.git("ls-files", "--others", "--exclude-standard", "-z", *_paths(path))
    fresh = new.stdout.decode("utf-8", "replace")
    for name in filter(None, fresh.split("\0")):
        data = await asyncio.to_thread(sight.files.read, sight.root, name, limit=READ_LIMIT)
        made.append(data.decode("utf-8", "replace"))
    return "\n".join(made)


def _string(value: Json) -> str:
    return value if isinstance(value, str) else ""
