"""Diffs: what a run changed, from its checkout or, once it has landed, from the owner's repository."""

from __future__ import annotations

from kairosd.core.runs import Run
from kairosd.core.workspaces import Workspace
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.repository import Repository
from kairosd.errors import CheckoutError, ExecutorError, SandboxError


async def diff_of(run: Run, checkouts: Checkouts, *, workspace: Workspace | None, repository: Repository | None) -> str:
    """The diff; empty where there is none any more, a word in brackets where it cannot be had."""
    if workspace is None or repository is None or run.base is None:
        return ""
    try:
        if run.commit and run.branch:
            return await _landed(run, run.commit, repository=repository)
        return "" if run.patch else await checkouts.diff(run, workspace)
    except (CheckoutError, SandboxError, ExecutorError) as error:
        return f"(no diff: {error})"


async def _landed(run: Run, commit: str, *, repository: Repository) -> str:
    """The checkout is gone: the run's commits are found in the owner's repository by their trailer."""
    git = repository.git()
    found = await git("log", "--format=%H", "--fixed-strings", f"--grep={run.id}", commit)
    oldest = found.stdout.decode().split()[-1:] or [commit]
    outcome = await git("diff", f"{oldest[0]}^", commit)
    if outcome.code != 0:  # a first commit has no parent
        outcome = await git("show", "--format=", commit)
    return outcome.stdout.decode("utf-8", "replace")
