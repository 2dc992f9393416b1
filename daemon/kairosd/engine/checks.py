"""Checked completion: the postconditions of a run, evaluated by the daemon. Model prose never sets a status."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kairosd.core.json import Json, JsonObject
from kairosd.core.shell.lines import plan_of_text
from kairosd.errors import KairosError, ToolError
from kairosd.ports import Commands, Files, Git

READ_LIMIT = 4_000_000
COMMAND_SECONDS = 300.0
SEEN_MAX = 300  # characters of what a check has seen


@dataclass(frozen=True, slots=True)
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
    said = (outcome.stdout + outcome.stderr).decode("utf-8", "replace").split("\n")
    last = next((each.strip() for each in reversed(said) if each.strip()), "no output")
    ended = f"stopped after {COMMAND_SECONDS:.0f} s" if outcome.timed_out else f"exit {outcome.code}"
    return outcome.code == 0 and not outcome.timed_out, f"{line}: {ended}: {last}"[:SEEN_MAX]


async def _look(check: JsonObject, sight: Sight) -> tuple[bool, str]:
    path, text = _string(check.get("path")), _string(check.get("text"))
    root, files, git = sight.root, sight.files, sight.git
    match check.get("kind"):
        case "command":
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
        case other:
            raise ToolError(f"there is no check {other}")


def _string(value: Json) -> str:
    return value if isinstance(value, str) else ""
