"""Checked completion: the postconditions of a run, evaluated by the daemon. Model prose never sets a status."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from kairosd.core.json import Json, JsonObject
from kairosd.errors import KairosError, ToolError
from kairosd.ports import Files, Git

READ_LIMIT = 4_000_000


async def evaluate(checks: Sequence[JsonObject], root: Path, *, files: Files, git: Git) -> tuple[JsonObject, ...]:
    """Each check with `passed` and `seen`. A check that cannot be evaluated has not passed."""
    return tuple([await _evaluate(check, root, files=files, git=git) for check in checks])


async def _evaluate(check: JsonObject, root: Path, *, files: Files, git: Git) -> JsonObject:
    try:
        passed, seen = await _look(check, root, files=files, git=git)
    except KairosError as error:
        passed, seen = False, str(error)
    return {**check, "passed": passed, "seen": seen}


async def _look(check: JsonObject, root: Path, *, files: Files, git: Git) -> tuple[bool, str]:
    path, text = _string(check.get("path")), _string(check.get("text"))
    match check.get("kind"):
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
