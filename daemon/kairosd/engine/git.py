"""git as Kairos runs it: always in the sandbox, with its own settings, without hooks, seeing the folders it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from kairosd.errors import CheckoutError, ToolError
from kairosd.frozen import frozen
from kairosd.ports import Files, Job, Mount, Outcome, Sandbox

SEARCH = "/usr/local/bin:/usr/bin:/bin"
POINTER_MAX = 4096  # bytes of a `.git` file or a `commondir`
ALTERNATES_MAX = 5  # git's own limit for chains, alt_odb_usable()

# Over what the repository's own configuration says. The environment carries it, so that it also holds for every git
# that a script or git itself starts; safe.directory counts from here, since this scope is the caller's.
# What git would start comes to nothing: "false" is a program that fails, and "" ends the list of helpers before it.
# Not here: diff.ignoreSubmodules, which would hide a submodule's change from what wakes us.
SETTINGS = {
    "core.alternateRefsCommand": "true",
    "core.askPass": "",
    "core.editor": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": "/dev/null",
    "core.pager": "cat",
    "core.quotePath": "false",
    "core.sshCommand": "false",
    "color.ui": "false",
    "commit.gpgSign": "false",
    "credential.helper": "",
    "fetch.fsckObjects": "true",
    "format.pretty": "medium",
    "gc.auto": "0",
    "gpg.openpgp.program": "false",
    "gpg.program": "false",
    "gpg.ssh.defaultKeyCommand": "false",
    "gpg.ssh.program": "false",
    "gpg.x509.program": "false",
    "log.showSignature": "false",
    "maintenance.auto": "false",
    "protocol.ext.allow": "never",
    "safe.directory": "*",
    "sequence.editor": "false",
    "status.submoduleSummary": "false",
    "submodule.recurse": "false",
    "tag.gpgSign": "false",
}
ENVIRONMENT: Mapping[str, str] = {
    "PATH": SEARCH,
    "HOME": "/tmp",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": str(len(SETTINGS)),
    **{f"GIT_CONFIG_KEY_{number}": name for number, name in enumerate(SETTINGS)},
    **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(SETTINGS.values())},
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",  # a replaced commit would be shown as harmless, and land as it is
    "GIT_OPTIONAL_LOCKS": "0",  # else `git status` would refresh the owner's index
    "GIT_TERMINAL_PROMPT": "0",
}
# They would run the programs that a repository names; git calls those of a path's attributes even for a plain diff.
PLAIN_DIFF = ("--no-ext-diff", "--no-textconv")
DIFFING = frozenset({"diff", "diff-files", "diff-index", "diff-tree", "format-patch", "log", "show"})


@frozen
class Layout:
    """Where a checkout keeps its parts; `gitdir` and `common` differ in a linked worktree (gitrepository-layout(5)).

    `objects` are the object folders, its own first, then those it borrows from.
    """

    worktree: Path
    gitdir: Path
    common: Path
    objects: tuple[Path, ...]

    def mounts(self) -> tuple[Mount, ...]:
        """Everything read-only, each at its own path."""
        shown: list[Path] = [self.worktree]
        for path in (self.common, self.gitdir, *self.objects):
            if not any(path.is_relative_to(other) for other in shown):
                shown.append(path)
        return tuple(Mount(path, path) for path in shown)


def find_layout(files: Files, worktree: Path) -> Layout | None:
    """The layout of the checkout whose root is `worktree`; None where it is not the root of one. Blocks."""
    pointer = worktree / ".git"
    if pointer.is_dir():
        gitdir = pointer.resolve()
    else:
        text = _read(files, worktree, path=".git")
        if not text.startswith("gitdir:"):
            return None
        gitdir = (worktree / text.removeprefix("gitdir:").strip()).resolve()
    if not (gitdir / "HEAD").is_file():
        return None
    shared = _read(files, gitdir, path="commondir")
    common = (gitdir / shared).resolve() if shared else gitdir
    return Layout(worktree, gitdir, common, tuple(_object_folders(files, common / "objects")))


def _object_folders(files: Files, first: Path) -> list[Path]:
    found = [first]
    for folder in found:
        for line in _read(files, folder, path="info/alternates").splitlines():
            path = (folder / line).resolve()
            if line and not line.startswith("#") and path not in found and len(found) <= ALTERNATES_MAX:
                found.append(path)
    return [folder for folder in found if folder.is_dir()]


def _read(files: Files, root: Path, *, path: str) -> str:
    try:
        return files.read(root, path, limit=POINTER_MAX).decode(errors="surrogateescape").strip()
    except ToolError:
        return ""


@frozen
class SandboxedGit:
    """Implements the port `Git` on `folder`: with the mounts `reading`, or `writing` for a call that may write."""

    sandbox: Sandbox
    folder: Path
    reading: tuple[Mount, ...]
    writing: tuple[Mount, ...]
    masked: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, *arguments: str, stdin: bytes = b"", writable: bool = False) -> Outcome:
        """Runs `git ARGUMENTS`; never raises for a non-zero exit. Raises `SandboxError` where no sandbox holds."""
        plain = PLAIN_DIFF if arguments and arguments[0] in DIFFING else ()
        argv = ("git", "--no-pager", *arguments[:1], *plain, *arguments[1:])
        return await self._run(argv, stdin=stdin, writable=writable)

    async def script(self, text: str, variables: Mapping[str, str], *, stdin: bytes = b"") -> bytes:
        """Runs a shell script of ours (parameters by variables, never in the text) that may write; its output.

        Raises `CheckoutError` with its last words when it fails.
        """
        with_variables = replace(self, environment={**self.environment, **variables})
        outcome = await with_variables._run(("/bin/sh", "-euc", text), stdin=stdin, writable=True)
        return checked(outcome)

    async def _run(self, argv: Sequence[str], *, stdin: bytes, writable: bool) -> Outcome:
        job = Job(
            argv=tuple(argv),
            cwd=self.folder,
            mounts=self.writing if writable else self.reading,
            masked=self.masked,
            env={**ENVIRONMENT, **self.environment},
            stdin=stdin,
            timeout=300.0 if writable else 60.0,
            output_limit=50_000_000 if writable else 4_000_000,
        )
        return await self.sandbox.run(job)


def checked(outcome: Outcome) -> bytes:
    """The standard output of a command that must have worked whole. Raises `CheckoutError` with what it said."""
    if outcome.timed_out:
        raise CheckoutError("git took too long", fix="the repository may be too large for a private checkout")
    if outcome.code != 0:
        said = outcome.stderr.decode(errors="replace").strip().splitlines()
        raise CheckoutError(f"git says: {said[-1]}" if said else f"git ended with {outcome.code}")
    if outcome.truncated:
        raise CheckoutError("git said more than can be taken in")
    return outcome.stdout
