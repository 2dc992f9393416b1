"""Programs and files: the executor, the sandbox, git, and reading and writing below a root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of the host seen in the sandbox at `target`."""

    source: Path
    target: Path
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One program to run confined. `env` is the whole environment; `masked` paths show as empty.

    `timeout` in seconds of wall clock; `output_limit` in bytes for each of stdout and stderr.
    """

    argv: tuple[str, ...]
    cwd: Path
    mounts: tuple[Mount, ...]
    masked: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    timeout: float = 60.0
    output_limit: int = 4_000_000


@dataclass(frozen=True, slots=True)
class Launch:
    """A process as the executor starts it: nothing is added to `argv`, `env` or the open files.

    `inherit` maps a descriptor number in the child to the bytes it can read there (a seccomp filter, say).
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    stdin: bytes
    timeout: float
    output_limit: int
    inherit: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a process ended. `code` is negative for a signal; `timed_out` and `truncated` say what we cut."""

    code: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False


class Executor(Protocol):
    """The small process that alone starts programs."""

    async def run(self, launch: Launch) -> Outcome:
        """Runs to the end and reaps the whole process group, also when cancelled. Raises `ExecutorError`."""

    async def close(self) -> None:
        """Ends the process and everything it started."""


class Sandbox(Protocol):
    """Runs programs so that they reach nothing but what the job mounts."""

    name: str

    async def run(self, job: Job) -> Outcome:
        """Raises `SandboxError` when the canary did not hold, `ExecutorError` when the executor died."""

    async def check(self) -> str | None:
        """Runs the canary once and remembers the answer: None = it holds, else the reason with its fix."""


class Files(Protocol):
    """Reading and writing below a root, never through a link that leads out of it.

    Paths are relative, with `/` between parts.
    All methods block: call them in a thread. They raise `ToolError` with the nearest names for a missing path.
    """

    def read(self, root: Path, path: str, *, limit: int) -> bytes:
        """At most `limit` bytes of a regular file."""

    def replace(self, root: Path, path: str, *, content: bytes) -> None:
        """Writes a whole file atomically (mode kept, folders made), on disk before it returns."""

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
