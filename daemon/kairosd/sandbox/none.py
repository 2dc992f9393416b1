"""Where there is no sandbox (macOS, or the owner took bubblewrap away): nothing is run, and the reason is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kairosd.errors import SandboxError
from kairosd.ports import Executor, Job, Outcome

REASON = "this system has no sandbox that Kairos can use, so commands and git tools are off"


class NoSandbox:
    """Refuses every job; implements the port `Sandbox`."""

    name = "none"

    def __init__(self, reason: str = REASON) -> None:
        self._reason = reason

    async def run(self, *jobs: Job, ended: Callable[[Outcome], None] | None = None) -> Outcome:
        """Raises `SandboxError` with the reason."""
        del ended
        raise SandboxError(self._reason, fix=f"{jobs[0].argv[0]} needs Linux with bubblewrap")

    async def check(self) -> str | None:
        """The reason."""
        return self._reason


def build(executor: Executor, *, folder: Path, forbidden: Sequence[Path] = ()) -> NoSandbox:
    del executor, folder, forbidden  # the signature is every sandbox's
    return NoSandbox()
