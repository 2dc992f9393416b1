"""The sandbox: bubblewrap with a minimal root, no home, and nothing of the daemon in sight.

Its network is its own and empty. Where the job may reach hosts, a few lines of ours run in it first: they listen on a
port in there, send that socket out to the executor's proxy, and become the job's program, which holds nothing of it.

The program sees /usr and its links read-only, an /etc that names only itself, its own processes, an empty /tmp and what
the job mounts, as the same user (so that what it writes is the owner's) without any capability. bwrap itself starts
with an *empty* environment: its process is number 1 in there, and `--clearenv` would still show what it began with in
/proc/1/environ. The job's variables come by `--setenv`.
"""

from __future__ import annotations

import asyncio
import grp
import os
import platform
import pwd
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from math import inf
from pathlib import Path

from kairosd.errors import SandboxError, SandboxLeakError
from kairosd.ports import DOOR, Executor, Job, Launch, Mount, Outcome
from kairosd.sandbox import canary, interpreter, seccomp

SEARCH = "/usr/local/bin:/usr/bin:/bin"
ROOT_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
LOADER = ("/etc/ld.so.cache", "/etc/alternatives")  # how programs find their libraries, and Debian its programs
FILTER_FD, USERS_FD, GROUPS_FD, MASKS_FD = 10, 11, 12, 20
MASKS_MAX = 500
AGAIN_SECONDS = 10.0  # after a canary that could not be run: the disk may have been full, or bwrap missing
PROXY_PORT = 3128
PROXY = f"http://127.0.0.1:{PROXY_PORT}"
# As the programs that fetch read them: both spellings, since curl wants one and others the other.
PROXY_ENVIRONMENT = {
    **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), PROXY),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1"),
    "NODE_USE_ENV_PROXY": "1",
}
CERTIFICATES = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted")
# Python ignores two signals, and what is ignored would stay so in the program.
OPENING = """
import os, signal, socket, sys
port, door, *argv = sys.argv[1:]
with socket.socket() as listener, socket.socket(fileno=int(door)) as out:
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(128)
    socket.send_fds(out, [b"."], [listener.fileno()])
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
try:
    os.execvp(argv[0], argv)
except OSError as error:
    sys.exit(f"{argv[0]}: {error.strerror}")
"""
FALLBACK_NAME = "kairos"
ISOLATION = ("--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "kairos")
# /proc/sys obeys the user id 0, also without capabilities: run by root, a writable /proc would be a way out.
PLACES = ("--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--ro-bind", "/usr", "/usr", "--remount-ro", "/proc")


class Bubblewrap:
    """Runs programs so that they reach nothing but what the job mounts; implements the port `Sandbox`.

    `folder` is where the canary may put its files: a private folder that no job mounts, such as the state folder.
    `forbidden` are folders that no job may mount, nor anything above them: Kairos's own and the like. `/` and the
    user's home are always among them; what lies *in* one (a checkout) may be mounted.
    """

    name = "bubblewrap"

    def __init__(self, executor: Executor, *, folder: Path, forbidden: Sequence[Path] = ()) -> None:
        self._executor = executor
        self._folder = folder
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
        self._forbidden = tuple(path.resolve() for path in (*forbidden, Path.home(), home) if path != Path("/"))
        self._checking = asyncio.Lock()
        self._checked = False
        self._again_at = inf
        self._reason: SandboxError | None = None

    async def run(self, *jobs: Job, ended: Callable[[Outcome], None] | None = None) -> Outcome:
        """Runs a pipeline, each job in a sandbox of its own, joined by real pipes.

        bwrap holds a job's ends of the pipes until it ends: a program that closes its stdout early and goes on is
        seen to by its neighbour only then. Raises `SandboxError` when the canary did not hold, `ExecutorError` when
        the executor died.
        """
        await self.check()
        if self._reason is not None:
            raise SandboxError(self._reason.message, fix=self._reason.fix)
        return await self._run(*jobs, ended=ended)

    async def check(self) -> str | None:
        """Runs the canary and remembers the answer: None = it holds, else the reason with its fix.

        What could not be tried is tried again after `AGAIN_SECONDS`; a canary that got out stays an answer.
        """
        clock = asyncio.get_running_loop()
        async with self._checking:
            if not self._checked or clock.time() >= self._again_at:
                reason, again_at = await self._prove(), inf
                if reason is not None and not isinstance(reason, SandboxLeakError):
                    again_at = clock.time() + AGAIN_SECONDS
                self._checked, self._reason, self._again_at = True, reason, again_at
        return None if self._reason is None else str(self._reason)

    async def _prove(self) -> SandboxError | None:
        try:
            await canary.prove(self._run, self._folder)
        except SandboxError as error:
            return error
        return None

    async def _run(self, *jobs: Job, ended: Callable[[Outcome], None] | None = None) -> Outcome:
        return await self._executor.run(*map(self._launch, jobs), ended=ended)

    def _launch(self, job: Job) -> Launch:
        program = shutil.which("bwrap", path=SEARCH)
        if program is None:
            raise SandboxError("bubblewrap is not installed", fix="apt install bubblewrap")
        user, group = os.getuid(), os.getgid()
        inherit = {
            FILTER_FD: seccomp.program(platform.machine()),
            USERS_FD: f"{_user_name(user)}:x:{user}:{group}::/tmp:/bin/sh\n".encode(),
            GROUPS_FD: f"{_group_name(group)}:x:{group}:\n".encode(),
        }
        words = [program, *ISOLATION, *PLACES, *_root(), "--seccomp", str(FILTER_FD)]
        words += ["--ro-bind-data", str(USERS_FD), "/etc/passwd", "--ro-bind-data", str(GROUPS_FD), "/etc/group"]
        for mount in job.mounts:
            self._refuse(mount)
            words += ["--bind" if mount.writable else "--ro-bind", str(mount.source), str(mount.target)]
        for number, (target, is_folder) in enumerate(_masks(job), start=MASKS_FD):
            if is_folder:
                words += ["--tmpfs", str(target), "--remount-ro", str(target)]
            else:
                words += ["--ro-bind-data", str(number), str(target)]
                inherit[number] = b""
        for where, says in job.links:
            words += ["--symlink", says, str(where)]
        words += _network(job)
        for name, value in {**job.env, **(PROXY_ENVIRONMENT if job.reach else {})}.items():
            words += ["--setenv", name, value]
        opening = (*interpreter.ARGV, OPENING, str(PROXY_PORT), str(DOOR)) if job.reach else ()
        words += ["--chdir", str(job.cwd), "--", *opening, *job.argv]
        return Launch(
            tuple(words), {}, "/", job.stdin, timeout=job.timeout, output_limit=job.output_limit, inherit=inherit,
            stdout=job.stdout, stderr=job.stderr, tail_limit=job.tail_limit, reach=job.reach,
        )  # fmt: skip

    def _refuse(self, mount: Mount) -> None:
        try:
            source = mount.source.resolve(strict=True)
            mode = source.stat().st_mode
        except OSError as error:
            raise SandboxError(f"{mount.source} cannot be mounted: {error.strerror}") from error
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise SandboxError(f"{mount.source} is no folder and no plain file, so it is not shown to a sandbox")
        if source == Path("/") or any(path.is_relative_to(source) for path in self._forbidden):
            raise SandboxError(f"{mount.source} holds more than a program may see: name a folder below it")


def _user_name(number: int) -> str:
    """The owner's own name, as `ls -l` shows it outside; a number may have none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return FALLBACK_NAME


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return FALLBACK_NAME


def _root() -> Iterator[str]:
    for name in ROOT_LINKS:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.is_dir():
            yield from ("--ro-bind", name, name)
    for name in LOADER:
        yield from ("--ro-bind-try", name, name)


def _network(job: Job) -> Iterator[str]:
    """What a program that may connect must see besides: whom to trust, and the interpreter that opens the way."""
    if job.reach:
        for folder in CERTIFICATES:
            yield from ("--ro-bind-try", folder, folder)
        for path in interpreter.places():
            yield from ("--ro-bind", str(path), str(path))


def _masks(job: Job) -> list[tuple[Path, bool]]:
    """The masked paths that exist: bwrap would create the others, in the owner's own folder where that is mounted."""
    masks = []
    for target in job.masked:
        source = _outside(job, target)
        if source is None or source.is_symlink() or not source.exists():
            continue  # a link shows nothing that its target does not
        masks.append((target, source.is_dir()))
    if len(masks) > MASKS_MAX:
        raise SandboxError(f"more than {MASKS_MAX} files are to be masked", fix="mask their folders instead")
    return masks


def _outside(job: Job, target: Path) -> Path | None:
    """Where a path of the sandbox lies on the host: the last mount that holds it wins, as in the sandbox."""
    for mount in reversed(job.mounts):
        if target.is_relative_to(mount.target):
            return mount.source / target.relative_to(mount.target)
    return None


def build(executor: Executor, *, folder: Path, forbidden: Sequence[Path] = ()) -> Bubblewrap:
    return Bubblewrap(executor, folder=folder, forbidden=forbidden)
