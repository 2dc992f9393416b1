"""The bench of the engine with the real sandbox and real clones under it, for what commands do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.daemon import git
from tests.engine_bench import Setup

from kairosd.engine.checkouts import Checkouts
from kairosd.executor.client import ProcessExecutor
from kairosd.sandbox import bubblewrap
from kairosd.system.files import LocalFiles


@asynccontextmanager
async def confined(folder: Path, *, level: str = "sandboxed", config: str = "") -> AsyncIterator[Setup]:
    """A setup whose workspace has that level."""
    executor = ProcessExecutor()
    made = Setup(folder.resolve(), workspace=f'level = "{level}"', config=config)
    state = made.folder / "home"
    state.mkdir(mode=0o700)
    made.sandbox = bubblewrap.build(executor, folder=state, forbidden=(state,))
    made.checkouts = Checkouts(
        made.sandbox, LocalFiles(), folder=state / "checkouts", patches=state / "patches", clock=made.clock
    )  # type: ignore[assignment]
    yield made
    await executor.close()


def begin(setup: Setup) -> None:
    """Makes the workspace a repository with one commit of all that is there."""
    git(setup.root, "init", "--quiet", "--initial-branch=main")
    git(setup.root, "add", "--all")
    git(setup.root, "commit", "--quiet", "--message", "Begin")
