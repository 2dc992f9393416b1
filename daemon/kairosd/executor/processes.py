"""Starting processes and ending them: what the executor's process does with one command, without its loop.

Standard library only, and little of it: every program is a fork of the process that imports this.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import fcntl
import os
import resource
import signal
import struct
from typing import Any

from kairosd.executor import fences

PROCESSES = 512  # tasks a job may add to what its user already runs
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """From now on a descendant that loses its parent becomes our child, so that we can end it."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(number: int) -> None:
    """Asks for signal `number` when the thread that forked us ends."""
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def launch(
    command: dict[str, Any],
    streams: tuple[int, int, int],
    *,
    given: dict[int, int] | None = None,
    fence: str | None = None,
) -> int:
    """Starts one command of a pipeline between those descriptors; its process id, which is its group's too.

    With a `fence` it is put into that group first. `streams` are its stdin, stdout and stderr, `given` more descriptors
    of ours by its own numbers. A stdin below zero is none: the command reads /dev/null. Data
    comes as a file, not by a pipe, since programs tell the two apart (`wc < FILE` does). Raises `OSError` and
    `ValueError`; the descriptors stay open on our side.
    """
    stdin, stdout, stderr = streams
    made = {int(number): _in_memory(base64.b64decode(text)) for number, text in command["inherit"].items()}
    try:
        null = made[-1] = os.open(os.devnull, os.O_RDWR)
        source = {"own": stdin, "null": null, "data": made.get(0, null)}[command["stdin"]]
        wired = {
            0: source if source >= 0 else null,
            1: {"own": stdout, "null": null, "stderr": stderr}[command["stdout"]],
            2: {"own": stderr, "null": null, "stdout": stdout}[command["stderr"]],
        }
        wired |= {number: made[number] for number in made if number > 2}
        return _spawn(command, wired | (given or {}), fence=fence)
    finally:
        for descriptor in made.values():
            os.close(descriptor)


def _spawn(command: dict[str, Any], descriptors: dict[int, int], *, fence: str | None) -> int:
    """Forks and executes; `descriptors` maps the child's numbers to ours."""
    argv = [_word(word) for word in command["argv"]]
    env = {_word(name): _word(value) for name, value in command["env"].items()}
    cwd, processes, us = _word(command["cwd"]), _process_limit(), os.getpid()
    told, tell = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(told)
        os.close(tell)
        raise
    if pid == 0:
        try:
            tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, max(descriptors) + 1)
            if fence is not None and not fences.enter(fence):
                raise OSError(errno.EPERM, "its control group is gone")
            _confine(us, processes)
            _arrange(descriptors)
            os.chdir(cwd)
            os.execve(argv[0], argv, env)
        except OSError as error:
            os.write(tell, struct.pack(">i", error.errno or 0))
        finally:
            os._exit(127)
    os.close(tell)
    failure = os.read(told, 4)
    os.close(told)
    if failure:
        os.waitpid(pid, 0)
        (number,) = struct.unpack(">i", failure)
        raise OSError(number, os.strerror(number))
    return pid


def _confine(parent: int, processes: int | None) -> None:
    os.setsid()
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(127)  # it died before we could ask to be told
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)  # an ignored signal would stay ignored over exec
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if processes is not None:
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        limit = processes if hard == resource.RLIM_INFINITY else min(processes, hard)
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))


def _arrange(descriptors: dict[int, int]) -> None:
    """Puts each descriptor at its number; all others close on exec."""
    floor = max(descriptors) + 1
    moved = {number: fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, floor) for number, ours in descriptors.items()}
    for number, ours in moved.items():
        os.dup2(ours, number)


def _word(text: str) -> bytes:
    word = os.fsencode(text)
    if b"\0" in word:
        raise ValueError("a word with a zero byte in it")
    return word


def _in_memory(data: bytes) -> int:
    descriptor = os.memfd_create("kairos")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _process_limit() -> int | None:
    """What RLIMIT_NPROC shall be: the kernel counts all tasks of the user, and does not hold root to it."""
    uid = os.getuid()
    if uid == 0:
        return None
    tasks = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                tasks += sum(1 for _ in os.scandir(f"{entry.path}/task")) if entry.stat().st_uid == uid else 0
            except OSError:
                continue  # it ended while we looked
    return tasks + PROCESSES


def unlimited() -> bool:
    """Whether the kernel holds no process of ours to RLIMIT_NPROC, so that somebody has to count."""
    return os.getuid() == 0


def count_tasks() -> int:
    """How many tasks the machine has: one small read, whatever their number."""
    with open("/proc/loadavg") as file:  # noqa: PTH123 - pathlib is not loaded here
        return int(file.read().split()[3].partition("/")[2])


def count_below(parent: int) -> dict[int, int]:
    """For each child of `parent` the tasks that it and its descendants have."""
    parents: dict[int, int] = {}
    tasks: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    values = file.read().rpartition(b")")[2].split()
            except OSError:
                continue  # it ended while we looked
            parents[int(name)], tasks[int(name)] = int(values[1]), int(values[17])
    below: dict[int, int] = {}
    for pid, number in tasks.items():
        child = pid
        while parents.get(child, parent) != parent:
            child = parents[child]
        if parents.get(child) == parent:
            below[child] = below.get(child, 0) + number
    return below


def children() -> list[int]:
    """Our children, those we adopted too, dead ones that nobody has waited for among them."""
    try:
        listing = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    except OSError:
        return []  # a kernel without this file: groups are still killed and reaped
    with os.fdopen(listing) as file:
        return [int(pid) for pid in file.read().split()]


def end_children() -> None:
    """Kills our children with their groups, and those that become ours by that, until there are none."""
    while found := children():
        for pid in found:
            kill_group(pid)
        collect(block=True)


def collect(*, block: bool) -> list[tuple[int, int]]:
    """(process id, wait status) of the children that have ended; `block` waits for the first of them."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        except ChildProcessError:
            return ended
        ended += [(pid, status)] if pid else []
        if block or not pid:
            return ended


def group_of(pid: int) -> int:
    """The process group of `pid`; -1 when it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def group_exists(group: int) -> bool:
    """Whether anything of the group is left, dead or alive."""
    try:
        os.killpg(group, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def kill_group(pid: int) -> None:
    """Kills the group of `pid` and `pid` itself, where they are."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # gone already, or it took another identity and dies with its sandbox
