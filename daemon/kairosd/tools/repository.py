"""What the git tools share: references checked, git's failures told with a fix, secret files left out of diffs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kairosd.core.json import JsonObject
from kairosd.core.paths import SECRET_PATHS
from kairosd.errors import SandboxError, ToolError
from kairosd.ports import Outcome, ToolContext
from kairosd.tools.base import is_secret

REF = re.compile(r"(?!-)[A-Za-z0-9._/^~@{}-]{1,200}")
# Neither the repository's configuration nor its attributes may start a program or change the form we read.
DIFF = ("--no-color", "--no-ext-diff", "--no-textconv", "--relative", "--find-renames")


async def git_text(context: ToolContext, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
    """The output of a git command that reads. Raises `ToolError` with git's own words and a fix."""
    outcome = await git_outcome(context, *arguments)
    if outcome.code not in accept:
        raise git_error(outcome)
    return outcome.stdout.decode("utf-8", "replace")


async def git_outcome(context: ToolContext, *arguments: str, stdin: bytes = b"", writable: bool = False) -> Outcome:
    """Runs git on the folder of the run. Raises `ToolError` where no sandbox holds or time ran out."""
    try:
        outcome = await context.git(*arguments, stdin=stdin, writable=writable)
    except SandboxError as error:
        raise ToolError(f"git cannot be run here: {error}", fix="use read, glob and grep instead") from error
    if outcome.timed_out:
        raise ToolError("git took too long and was stopped", fix="ask for less: give a path, or a smaller count")
    return outcome


def git_error(outcome: Outcome) -> ToolError:
    """What git said, as an error with the fix that fits."""
    said = outcome.stderr.decode("utf-8", "replace").strip()
    if not is_repository(outcome):
        return ToolError("this workspace is not a git repository", fix="use read, glob and grep instead")
    if "does not have any commits yet" in said:
        return ToolError("this repository has no commits yet", fix="use git_status to see its files")
    if "unknown revision" in said or "bad revision" in said or "bad object" in said:
        return ToolError("there is no such commit or branch", fix="take a sha from git_log, or leave `ref` out")
    first = next((line for line in said.splitlines() if line.strip()), f"git ended with {outcome.code}")
    return ToolError(f"git: {first[:300]}", fix="check the arguments, or try git_status first")


def is_repository(outcome: Outcome) -> bool:
    """False when git stopped because the folder belongs to no repository."""
    return outcome.code == 0 or b"not a git repository" not in outcome.stderr.lower()


def valid_ref(ref: str, *, ranges: bool) -> str:
    """`ref`, if it can be nothing but a commit, a branch or (with `ranges`) a range. Raises `ToolError`."""
    text = ref.strip()
    if REF.fullmatch(text) is None:
        raise ToolError(
            f"`ref` is not a commit: {text[:60]!r}", fix="give a sha, a branch or HEAD~1; paths go in `path`"
        )
    if ".." in text and not ranges:
        raise ToolError("`ref` is a range here", fix=f"give one commit, or call git_diff(ref='{text}')")
    return text


def pathspecs(path: str, secret: tuple[str, ...] = SECRET_PATHS) -> tuple[str, ...]:
    """The end of a git command that looks at `path` only ("." = everything that holds no secrets).

    A path that was named has passed the gate; a search over everything has not been asked about secret files.
    """
    if path != "." and is_secret(path, secret):
        return ("--", f":(literal){path}")
    hidden = (glob if "/" in glob else f"**/{glob}" for glob in secret)
    return ("--", "." if path == "." else f":(literal){path}", *(f":(exclude,glob,icase){glob}" for glob in hidden))


async def changed_files(context: ToolContext) -> tuple[tuple[str, str], ...]:
    """(status, path) of every file that differs from HEAD, untracked ones included, as `git status` letters."""
    text = await git_text(context, "status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all")
    return tuple((entry[:2], entry[3:]) for entry in text.split("\0") if len(entry) > 3)


def commit_evidence(sha: str, subject: str, *, files: Sequence[str]) -> str:
    """The line that tells the owner which commit an answer rests on; at most 20 files are named."""
    shown = ", ".join(files[:20]) + (f" and {len(files) - 20} more" if len(files) > 20 else "")
    return f'commit {sha.strip()} "{subject.strip()}" changed {shown or "no file"}'


def files_plan(files: tuple[tuple[str, str], ...], most: int = 100) -> list[JsonObject]:
    """The changed files as a plan records them; at most `most`."""
    return [{"status": status.strip(), "path": path} for status, path in files[:most]]
