"""The canary: a program that tries to get out of the sandbox, beside doors that are really there and really open.

It must reach what it was given (else it proves nothing) and fail at everything else.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from kairosd.errors import ExecutorError, SandboxError, SandboxLeakError
from kairosd.ports import Job, Mount, Outcome
from kairosd.sandbox import interpreter

TIMEOUT = 20.0  # seconds; it takes a twentieth of one on an idle machine
NAMESPACES = re.compile(r"namespace|uid map|Operation not permitted|Permission denied|No space left")
NAMESPACE_FIX = (
    "allow unprivileged user namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), "
    "an AppArmor profile for bwrap or sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 24.04), "
    "or run the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
)

# Runs inside, in the daemon's own interpreter: no other program is sure to be there. Prints what it could do.
ESCAPES = r"""
import json, os, socket, sys
inside, outside, port, nonce = sys.argv[1:]
found = []
def tries(name, action):
    try:
        if action() is not False: found.append(name)
    except OSError: pass
def unix():
    socket.socket(socket.AF_UNIX)
def door():
    left, right = socket.socketpair()
    left.connect(inside + "/door")
def datagram():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.sendto(b"x", inside + "/door")
def network():
    socket.create_connection(("127.0.0.1", int(port)), 2)
def write(path):
    with open(path, "w") as file: file.write("out")
tries("read a file outside", lambda: open(outside + "/secret").read())
tries("write a file outside", lambda: write(outside + "/written"))
tries("write a read-only mount", lambda: write(inside + "/read-only/written"))
tries("write to /usr", lambda: write("/usr/kairos-canary"))
tries("set the kernel's parameters", lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
tries("reach the network", network)
tries("open a UNIX socket", unix)
tries("reach a UNIX socket by its path", door)
tries("send to a UNIX socket by its path", datagram)
tries("see the environment of its parent", lambda: bool(open("/proc/1/environ", "rb").read()))
tries("see other processes", lambda: len([name for name in os.listdir("/proc") if name.isdigit()]) > 3)
tries("see the user's home", lambda: bool(os.listdir(outside)))
given = {"KAIROS_CANARY=" + nonce, "PWD=" + inside, ""}
tries("see more variables", lambda: bool(set(open("/proc/self/environ").read().split("\0")) - given))
write(inside + "/sign")
print(json.dumps([open(inside + "/nonce").read(), found]))
"""


async def prove(run: Callable[[Job], Awaitable[Outcome]], folder: Path) -> None:
    """Runs the canary through `run`.

    Raises `SandboxLeakError` with what it could do, `SandboxError` where it could not be tried.
    `folder` is outside of every mount; the canary's files are made and removed there.
    """
    with contextlib.ExitStack() as stack:
        try:
            outside = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="canary-", dir=folder)))
            doors = stack.enter_context(_open_doors())
            outcome = await run(_job(outside, doors))
            _judge(outcome, outside, doors=doors)
        except (OSError, ExecutorError) as error:
            raise SandboxError(f"the sandbox could not be tried out: {error}") from error


class _Doors:
    def __init__(self, inside: Path, port: int) -> None:
        self.inside = inside
        self.port = port
        self.nonce = secrets.token_hex(8)


@contextlib.contextmanager
def _open_doors() -> Iterator[_Doors]:
    """A folder to mount with a UNIX socket in it, and a TCP port. In /tmp: a socket's path must be short."""
    with (
        tempfile.TemporaryDirectory(prefix="kairos-") as name,
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door,
    ):
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        door.bind(f"{name}/door")
        doors = _Doors(Path(name), tcp.getsockname()[1])
        (doors.inside / "nonce").write_text(doors.nonce)
        (doors.inside / "read-only").mkdir()
        yield doors


def _job(outside: Path, doors: _Doors) -> Job:
    (outside / "secret").write_text(doors.nonce)
    # The interpreter may lie in the user's home (pyenv, uv): it is shown where it is, and only it.
    mounts = [Mount(path, path) for path in interpreter.places()]
    mounts.append(Mount(doors.inside, doors.inside, writable=True))
    mounts.append(Mount(doors.inside / "read-only", doors.inside / "read-only"))
    argv = (*interpreter.ARGV, ESCAPES, str(doors.inside), str(outside))
    return Job(
        argv=(*argv, str(doors.port), doors.nonce),
        cwd=doors.inside,
        mounts=tuple(mounts),
        env={"KAIROS_CANARY": doors.nonce},
        timeout=TIMEOUT,
    )


def _judge(outcome: Outcome, outside: Path, *, doors: _Doors) -> None:
    said = outcome.stderr.decode(errors="replace").strip().splitlines()
    last = said[-1] if said else f"it ended with {outcome.code}"
    if outcome.timed_out:
        raise SandboxError("the sandbox did not answer in time")
    if outcome.code != 0:
        fix = NAMESPACE_FIX if NAMESPACES.search(last) else None
        raise SandboxError(f"the sandbox cannot be built: {last}", fix=fix)
    try:
        nonce, found = json.loads(outcome.stdout)
    except ValueError as error:
        raise SandboxError("the canary answered nonsense") from error
    if (outside / "written").exists() or (doors.inside / "read-only" / "written").exists():
        found.append("write where it should not")
    if found:
        raise SandboxLeakError(f"the sandbox does not hold: a program in it could {', '.join(found)}")
    if nonce != doors.nonce or not (doors.inside / "sign").exists():
        raise SandboxError("the sandbox does not show a program the folders it was given")
