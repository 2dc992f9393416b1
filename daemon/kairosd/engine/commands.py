"""Commands: runs a plan's decoded words in the sandbox and does itself what bash would do between them.

Each command has a sandbox of its own, joined to its neighbours by pipes. A reader sees the files read-only, a program
that runs the workspace's code may write the files but not `.git`, anything else both. What bash itself would say
(`command not found`, a missing file after `<`) is said by a small stand-in, so that it goes where the command's stderr
goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from kairosd import programs
from kairosd.core.json import JsonObject
from kairosd.core.levels import LEVELS, Level, Permission
from kairosd.core.paths import SECRET_PATHS, matches
from kairosd.core.shell import programs as shell_programs
from kairosd.core.shell.plans import Command, Operator, Pipeline, Plan, Stream
from kairosd.core.shell.programs import ProgramClass, Use
from kairosd.core.workspaces import Workspace
from kairosd.engine import credentials, git, snapshots
from kairosd.engine.executables import Needs, NotRunnableError, Scene, real_folders
from kairosd.engine.outlets import Lent, Outlet
from kairosd.errors import SandboxError, StoreError, ToolError
from kairosd.frozen import frozen
from kairosd.ports import Files, Job, Mount, Outcome, Sandbox, Tool

OUTPUT_MAX = 2_000_000  # bytes of stdout, and of stderr, that one plan may say
TAIL_MAX = 100_000  # of what is longer: test runners sum up at the end
INPUT_MAX = 16_000_000  # bytes of a file after `<`
SEARCHED_MAX = 200_000  # folders and files looked through for secrets
RECALLED_CODE = -9  # killed
RECALLED = b"kairos: stopped: it could reach hosts, and its run may not any more\n"
DEVICE = "/dev/null"
SAYS = 'printf "bash: line 1: %s\\n" "$1" >&2; exit "$2"'
# HOME is empty and gone with the command; no bytecode, lest it be landed where nobody ignores it; CI keeps test runners
# from watching, asking and looking for updates; git's own settings hold for every git that a test runner starts.
ENVIRONMENT: Mapping[str, str] = {
    **git.ENVIRONMENT,
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "CI": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@frozen
class Ground:
    """Where a run's commands work. `folder` is where the files lie: the workspace itself, or its checkout.

    `mounts` shows them at the workspace's own path, (files writable, `.git` writable); files whose names match
    `secrets` show as empty. Without an `outlet` nothing has a network.
    """

    workspace: Workspace
    folder: Path
    mounts: Callable[[bool, bool], tuple[Mount, ...]]
    secrets: tuple[str, ...] = SECRET_PATHS
    environment: Mapping[str, str] = field(default_factory=dict)
    outlet: Outlet | None = None


class PlanRunner:
    """Runs plans on one ground; implements the port `Commands`."""

    def __init__(self, sandbox: Sandbox, files: Files, *, ground: Ground) -> None:
        self._sandbox = sandbox
        self._files = files
        self._ground = ground

    async def run(self, plan: Plan, *, seconds: float) -> Outcome:
        """Runs the pipelines as bash would, at most `seconds` for all; see the port."""
        work = await asyncio.to_thread(self._work)
        now = asyncio.get_running_loop().time
        deadline, total, recalled = now() + seconds, Outcome(0, b"", b""), False
        for pipeline in plan.pipelines:
            if pipeline.operator is (Operator.AND if total.code else Operator.OR):
                continue
            if (folder := _target(pipeline)) is not None:
                outcome = await asyncio.to_thread(work.enter, pipeline, folder)
            else:
                jobs = await asyncio.to_thread(work.jobs, pipeline)
                left = max(0.1, deadline - now())
                room = max(0, OUTPUT_MAX - max(len(total.stdout), len(total.stderr)))
                limits = partial(replace, timeout=left, output_limit=room, tail_limit=TAIL_MAX)
                pairs = zip(pipeline.commands, jobs, strict=False)  # one job stands in for all where `cd` led nowhere
                lent = [(command, job.reach) for command, job in pairs if job.reach]
                outcome, recalled = await self._run(*(limits(job) for job in jobs), lent=lent)
            total = _joined(total, outcome)
            if total.timed_out or recalled:
                break
        return total

    async def _run(self, *jobs: Job, lent: Lent) -> tuple[Outcome, bool]:
        """Runs one pipeline; whether it was ended since what it was `lent` was recalled. Notes what it connected to."""
        outlet = self._ground.outlet
        if outlet is None or not lent:
            return await self._sandbox.run(*jobs), False
        ended = [Outcome(RECALLED_CODE, b"", b"")]
        try:
            async with outlet.lending(lent) as loan:
                if not loan.recalled:
                    await self._sandbox.run(*jobs, ended=ended.append)
        except asyncio.CancelledError:
            with contextlib.suppress(StoreError):  # a full disk must not keep a run from being stopped
                await outlet.note(ended[-1].connections)
            raise
        await outlet.note(ended[-1].connections)
        if not loan.recalled:
            return ended[-1], False
        return replace(ended[-1], code=RECALLED_CODE, stderr=ended[-1].stderr + RECALLED), True

    def reads_only(self, plan: Plan) -> bool:
        """Whether every command is a listed program that only reads, used as its file allows."""
        return reads_only(plan, self._ground.workspace)

    def scripts(self, plan: Plan) -> tuple[str, ...]:
        """The files whose content decides what the plan does, relative to the workspace."""
        return scripts_of(plan, self._ground.workspace)

    def _work(self) -> _Work:
        workspace, ground = self._ground.workspace, self._ground
        own = ground.mounts(False, False)
        bins: tuple[Path, ...] = ()
        if ground.folder != workspace.path:
            shared = [workspace.path / name for name in snapshots.shared_folders(workspace)]
            shown = [mount.target for mount in own]
            for path in real_folders(workspace.path, workspace.bin):
                if any(path.is_relative_to(folder) for folder in shared if folder in shown):
                    bins += (path,)
                elif path != workspace.path and (ground.folder / path.relative_to(workspace.path)).is_dir():
                    bins += (path,)
                    own += (Mount(path, path),)
        scene = Scene(workspace.path, own, bins)
        return _Work(
            ground, self._files, scene, scene.needs(), _secrets(ground, self._files), _credentials(ground, self._files)
        )


@dataclass(slots=True)
class _Work:
    """One plan on its way: how the sandbox looks, and the folder that `cd` has led to. Blocks: used in a thread."""

    ground: Ground
    files: Files
    scene: Scene
    needs: Needs
    secrets: tuple[Path, ...]
    credentials: tuple[Path, ...]
    cwd: str = "."

    def enter(self, pipeline: Pipeline, folder: str) -> Outcome:
        """`cd`: the folder must be there, and in the workspace also when links are followed."""
        command = pipeline.commands[0]
        target = Path(os.path.normpath(self.scene.root / pipeline.cwd / folder))
        host = self.scene.host(target)
        real = host.resolve() if host is not None else None
        inside = real is not None and any(real.is_relative_to(mount.source) for mount in self.scene.mounts)
        if not target.is_relative_to(self.scene.root) or real is None or not inside:
            problem = "No such file or directory"
        elif real.is_dir():
            self.cwd = posixpath.normpath(posixpath.join(pipeline.cwd, folder))  # as the plan counts folders
            return Outcome(0, b"", b"")
        else:
            problem = "Not a directory" if real.exists() else "No such file or directory"
        said = os.fsencode(f"bash: line 1: cd: {folder}: {problem}\n")
        if command.stderr is Stream.NULL:
            said = b""
        return Outcome(1, said, b"") if command.stderr is Stream.STDOUT else Outcome(1, b"", said)

    def jobs(self, pipeline: Pipeline) -> list[Job]:
        """The pipeline's commands as jobs; nothing runs where `cd` did not lead, since it was judged for there."""
        if pipeline.cwd != self.cwd:
            text = f"not run: it was to run in {pipeline.cwd}, where cd did not lead"
            return [self._stand_in(Command(("cd",)), 1, text=text)]
        return [self._job(command) for command in pipeline.commands]

    def _job(self, command: Command) -> Job:
        use = use_of(command, self.ground.workspace)
        kind = kind_of(use)
        reader = kind is ProgramClass.READER
        try:
            stdin = self._stdin(command)
        except ToolError as error:
            return self._stand_in(replace(command, stderr=Stream.OWN), 1, text=error.message)
        # A program that a list knows as the system's must not be one that the workspace brings along.
        with_bins = kind not in (ProgramClass.READER, ProgramClass.EFFECT)
        cwd = self.scene.root / self.cwd
        try:
            needs = self.scene.find(command.argv[0], cwd, with_bins=with_bins)
        except NotRunnableError as error:
            return self._stand_in(command, error.code, text=str(error))
        needs = needs if reader else needs | self.needs
        bare = self._bare(command.argv, cwd, writable=kind)
        search = ":".join(map(str, self.scene.search(with_bins=with_bins)))
        return replace(
            bare,
            mounts=(*bare.mounts, *needs.mounts.values()),
            links=tuple(needs.links.items()),
            masked=(*bare.masked, *self._masked(use, kind)),
            env={**bare.env, "PATH": search},
            stdin=stdin,
            stdout=command.stdout,
            stderr=command.stderr,
            reach=None if reader or self.ground.outlet is None else self.ground.outlet.reach(command),
        )

    def _bare(self, argv: Sequence[str], cwd: Path, *, writable: ProgramClass | None) -> Job:
        reader, confined = writable is ProgramClass.READER, writable is ProgramClass.CONFINED
        own = self.ground.mounts(not reader, not (reader or confined))
        added = self.scene.mounts[len(own) :]  # `bin` folders of the workspace that no share shows
        environment = {**ENVIRONMENT, **self.ground.environment}
        return Job(tuple(argv), cwd, (*own, *added), masked=snapshots.borrowing(own), env=environment)

    def _stand_in(self, command: Command, code: int, *, text: str) -> Job:
        job = self._bare(("/bin/sh", "-c", SAYS, "sh", text, str(code)), Path("/"), writable=ProgramClass.READER)
        return replace(job, stdin=Stream.OWN, stdout=command.stdout, stderr=command.stderr)

    def _stdin(self, command: Command) -> bytes | Stream:
        """The content of `< FILE`. Raises `ToolError` with what bash says."""
        if command.stdin in ("", DEVICE):
            return Stream.NULL if command.stdin else Stream.OWN
        target = Path(os.path.normpath(self.scene.root / self.cwd / command.stdin))
        mounts = [mount for mount in self.scene.mounts if target.is_relative_to(mount.target)]
        if not mounts:
            raise ToolError(f"{command.stdin}: No such file or directory")
        path = target.relative_to(mounts[-1].target)
        host = mounts[-1].source / path
        if not host.exists() or host.is_dir():
            raise ToolError(f"{command.stdin}: {'Is a directory' if host.is_dir() else 'No such file or directory'}")
        if command.stdin.endswith("/"):
            raise ToolError(f"{command.stdin}: Not a directory")
        content = self.files.read(mounts[-1].source, str(path), limit=INPUT_MAX + 1)
        if len(content) > INPUT_MAX:
            raise ToolError(f"{command.stdin}: File too large")
        return content

    def _masked(self, use: Use | None, kind: ProgramClass | None) -> tuple[Path, ...]:
        """What shows as empty; a secret that a reader names by itself was asked about, and so is shown to it."""
        named = use.reads if use is not None and kind is ProgramClass.READER else ()
        shown = {Path(os.path.normpath(self.scene.root / self.cwd / name)) for name in named}
        hidden = (path for path in self.secrets if path not in shown)
        gits_own = use is not None and use.program == "git" and not use.borrowed
        return (*hidden, *(() if gits_own else (path for path in self.credentials if path not in shown)))


def reads_only(plan: Plan, workspace: Workspace) -> bool:
    """Whether every command of the plan is a listed program that only reads, used as its file allows."""
    return all(kind_of(use_of(command, workspace)) is ProgramClass.READER for command, _ in plan.commands)


def scripts_of(plan: Plan, workspace: Workspace) -> tuple[str, ...]:
    """The files whose content decides what the plan does, relative to the workspace; those outside are left out."""
    found: list[str] = []
    for command, cwd in plan.commands:
        use = use_of(command, workspace)
        named = use.scripts if use is not None else ()
        named = (*named, command.argv[0]) if "/" in command.argv[0] else named
        found += [f"{cwd}/{name}" if not name.startswith("/") else name for name in named]
    return _inside(found, workspace)


def folders_of(plan: Plan, workspace: Workspace) -> tuple[str, ...]:
    """The folders that the plan's commands run in, relative to the workspace; those outside are left out."""
    return _inside((cwd for _, cwd in plan.commands), workspace)


def _inside(paths: Iterable[str], workspace: Workspace) -> tuple[str, ...]:
    root = workspace.path
    relative = dict.fromkeys(posixpath.relpath(root / path, root) for path in paths)
    return tuple(path for path in relative if path.split("/")[0] != "..")


def use_of(command: Command, workspace: Workspace) -> Use | None:
    """The command as its program's file reads it; None for one that no file knows. `cd` reads."""
    if command.argv[0] == "cd":
        return Use("cd", ProgramClass.READER)
    return shell_programs.read_use(command, programs.load_programs(), bins=workspace.bin)


def kind_of(use: Use | None) -> ProgramClass | None:
    """The class that its file vouches for; None where it vouches for nothing."""
    return None if use is None or use.problem or use.opaque else use.kind


def needs_checkout(tool: Tool, arguments: JsonObject, *, level: Level, workspace: Workspace) -> bool:
    """Whether a call must find a checkout made: it changes files, or holds any command but readers. Blocks."""
    if tool.permission in (Permission.EDIT, Permission.COMMIT):
        return tool.permission in LEVELS[level]
    try:
        plan = tool.commands(arguments)
    except ToolError:
        return False  # it goes back to the model as it is
    return plan is not None and level > Level.OBSERVE and not reads_only(plan, workspace)


def changes(tool: Tool, arguments: JsonObject, *, workspace: Workspace) -> bool:
    """Whether a call that succeeds changes what other calls find: not one that reads or runs the workspace's code."""
    try:
        plan = tool.commands(arguments)
    except ToolError:
        return False
    if plan is None:
        return tool.effect
    looking = (ProgramClass.READER, ProgramClass.CONFINED)
    return any(kind_of(use_of(command, workspace)) not in looking for command, _ in plan.commands)


def signature(author: tuple[str, str], now: datetime) -> Mapping[str, str]:
    """Who a commit is by, for git's environment."""
    return {**snapshots.committer(now), "GIT_AUTHOR_NAME": author[0], "GIT_AUTHOR_EMAIL": author[1]}


def workspace_mounts(files: Files, workspace: Workspace) -> tuple[Mount, ...]:
    """The workspace itself, read-only, with what its `.git` needs where that lies elsewhere. Blocks."""
    layout = git.find_layout(files, workspace.path)
    return layout.mounts() if layout is not None else (Mount(workspace.path, workspace.path),)


def _target(pipeline: Pipeline) -> str | None:
    """Where `cd` is to lead; None for any other pipeline."""
    (first, *others) = pipeline.commands
    return first.argv[-1] if first.argv[0] == "cd" and not others else None


def _joined(before: Outcome, after: Outcome) -> Outcome:
    code = after.code if after.code >= 0 else 128 - after.code  # as bash says of a signal
    return Outcome(
        code=code,
        stdout=before.stdout + after.stdout,
        stderr=before.stderr + after.stderr,
        timed_out=before.timed_out or after.timed_out,
        truncated=before.truncated or after.truncated,
    )


def _secrets(ground: Ground, files: Files) -> tuple[Path, ...]:
    """The files to be masked, where the sandbox shows them. Shared folders hold libraries' own: `cacert.pem` is none.

    Raises `SandboxError` where there are too many files to be sure.
    """
    root, found, seen = ground.folder, list[Path](), 0
    skipped = {root / ".git", *(root / name for name in ground.workspace.share)}
    for name, folders, names in os.walk(root):
        folder = Path(name)
        folders[:] = [each for each in folders if folder / each not in skipped]
        seen += len(folders) + len(names)
        if seen > SEARCHED_MAX:
            raise SandboxError(
                f"{root} has more than {SEARCHED_MAX} files to look through for secrets",
                fix="make a smaller folder the workspace",
            )
        paths = (os.path.relpath(folder / each, root) for each in names)
        found += [ground.workspace.path / path for path in paths if matches(path, ground.secrets)]
        if ".git" in folder.relative_to(root).parts:  # of a clone in it, or a submodule of that
            told = (folder / each for each in credentials.NAMES if each in names)
            held = (path for path in told if credentials.holds_credential(files, path))
            found += [ground.workspace.path / path.relative_to(root) for path in held]
    return tuple(found)


def _credentials(ground: Ground, files: Files) -> tuple[Path, ...]:
    """Git's configuration files with a credential in them, where the sandbox shows them."""
    root, shown = ground.folder, ground.workspace.path
    found = credentials.configurations(files, root)
    return tuple(shown / path.relative_to(root) if path.is_relative_to(root) else path for path in found)
