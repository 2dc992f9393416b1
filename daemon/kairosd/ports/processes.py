"""Programs and files: the executor, the sandbox, git, and reading and writing below a root."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Protocol

from kairosd.core.hosts import Connection, Reach
from kairosd.core.shell.plans import Plan, Stream
from kairosd.frozen import frozen

DOOR = 13  # the descriptor at which a launch with a `reach` finds its end of the way out


@frozen
class Mount:
    """A folder or file of the host seen in the sandbox at `target`."""

    source: Path
    target: Path
    writable: bool = False


@frozen
class Job:
    """One program to run confined. `env` is the whole environment; `masked` paths show as empty.

    `links` are symbolic links that the sandbox has besides: (where, what it says). `reach` is what it may connect to,
    None = it has no network. The rest is as in `Launch`.
    """

    argv: tuple[str, ...]
    cwd: Path
    mounts: tuple[Mount, ...]
    masked: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | Stream = Stream.OWN
    timeout: float = 60.0
    output_limit: int = 4_000_000
    tail_limit: int = 0
    stdout: Stream = Stream.OWN
    stderr: Stream = Stream.OWN
    links: tuple[tuple[Path, str], ...] = ()
    reach: Reach | None = None


@frozen
class Launch:
    """A process as the executor starts it: nothing is added to `argv`, `env` or the open files.

    `stdin` is a file with those bytes, NULL, or OWN: the pipe from the launch before it, and /dev/null for the first.
    `stdout` and `stderr` may be swapped or dropped. `timeout` in seconds of wall clock; `output_limit` in bytes for
    each of stdout and stderr, and of what is longer the last `tail_limit` bytes are kept too. `inherit` maps a
    descriptor number in the child, from 3 on, to the bytes it can read there (a seccomp filter, say). With a `reach`
    a proxy is started beside it, which serves the listening socket that is sent to it over `DOOR` (SCM_RIGHTS).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    stdin: bytes | Stream
    timeout: float
    output_limit: int
    inherit: Mapping[int, bytes] = field(default_factory=dict)
    stdout: Stream = Stream.OWN
    stderr: Stream = Stream.OWN
    tail_limit: int = 0
    reach: Reach | None = None


@frozen
class Outcome:
    """How a process ended. `code` is negative for a signal; `timed_out` and `truncated` say what we cut.

    Of truncated output there is the beginning and, where one was asked for, the tail right behind it. `connections`
    is what it made of its network.
    """

    code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False
    connections: tuple[Connection, ...] = ()


class Executor(Protocol):
    """The small process that alone starts programs."""

    async def run(self, *launches: Launch, ended: Callable[[Outcome], None] | None = None) -> Outcome:
        """Runs a pipeline, each launch reading what the one before it writes; waits for all, as a shell does.

        The outcome has the code and the stdout of the last, and the stderr of all as it came. The shortest `timeout`
        and the smallest limits hold for the whole. Every process group is reaped, also when cancelled: then `ended`
        alone is told the outcome, which it is told otherwise too.
        Raises `ExecutorError`; then nothing of the pipeline is left running.
        """

    async def end_all(self) -> None:
        """Kills every job there is, and the process itself when it does not say so within a moment."""

    async def close(self) -> None:
        """Ends the process and everything it started."""


class Sandbox(Protocol):
    """Runs programs so that they reach nothing but what the job mounts."""

    name: str

    async def run(self, *jobs: Job, ended: Callable[[Outcome], None] | None = None) -> Outcome:
        """Runs a pipeline as `Executor.run` does, each job in a sandbox of its own.

        Raises `SandboxError` when the canary did not hold, `ExecutorError` when the executor died.
        """

    async def check(self) -> str | None:
        """None = the canary held, which is remembered; else why not, with the fix: it is tried again now and then."""


class Files(Protocol):
    """Reading and writing below a root, never through a link that leads out of it.

    Paths are relative, with `/` between parts.
    All methods block: call them in a thread. They raise `ToolError` with the nearest names for a missing path.
    """

    def read(self, root: Path, path: str, *, limit: int) -> bytes:
        """At most `limit` bytes of a regular file."""

    def replace(self, root: Path, path: str, *, content: bytes, mode: int | None = None) -> None:
        """Writes a whole file atomically (folders made), on disk before it returns; its mode is kept unless given."""

    def remove(self, root: Path, path: str) -> None:
        """Deletes a regular file, on disk before it returns; nothing happens where there is none."""

    def mode(self, root: Path, path: str) -> int | None:
        """The permissions (0o000 to 0o777) of a regular file; None where there is none or a link is in the way."""

    def resolve(self, root: Path, path: str) -> str:
        """Where `path` leads when links below the root are followed; itself where it leads nowhere."""

    def digest(self, root: Path, path: str) -> str | None:
        """SHA-256 (hex) of a regular file; None where there is none."""

    def walk(self, root: Path, limit: int) -> Iterator[tuple[str, int, int]]:
        """(path, size, mtime in ns) of at most `limit` regular files; `.git` and links to folders are left out."""


class Git(Protocol):
    """git on the folder a run sees, in the sandbox, without hooks, filters' network or the owner's configuration."""

    async def __call__(self, *arguments: str, stdin: bytes = b"", writable: bool = False) -> Outcome:
        """Runs `git ARGUMENTS`; never raises for a non-zero exit. Raises `SandboxError` where no sandbox holds."""


class Commands(Protocol):
    """Runs shell plans on the folder a run sees: the decoded words of each command, never a line, and no shell."""

    async def run(self, plan: Plan, *, seconds: float) -> Outcome:
        """What bash would print and end with, byte for byte (no pipefail; 126, 127 and 128 + a signal's number).

        `seconds` of wall clock hold for the whole plan. Raises `SandboxError` where no sandbox holds, `ExecutorError`.
        """

    def reads_only(self, plan: Plan) -> bool:
        """Whether running the plan changes nothing, so that it may be run again."""

    def scripts(self, plan: Plan) -> tuple[str, ...]:
        """The files whose content decides what the plan does, relative to the workspace."""
