"""The executor's process: starts programs from its only thread, reads what they say, and leaves none of them behind.

Run by path, isolated (`python -I -S child.py FD`), so it may import the standard library only and as little of it as
possible. It speaks frames over the socket FD: four bytes of length, then JSON, binary fields in base64.

    in:   {"id", "argv", "env", "cwd", "stdin", "timeout", "output_limit", "inherit"}      start a job
          {"cancel": id}                                                                  kill that job
    out:  {"id", "code", "stdout", "stderr", "timed_out", "truncated"} or {"id", "error"}  how it ended
          {"idle": true}                                                                  nothing to do for IDLE_SECONDS

End of file on the socket means that the daemon is gone: everything is killed, then the process ends.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from typing import Any

IDLE_SECONDS = 20.0
FRAME_MAX = 256 * 1024 * 1024
CHUNK = 65536
PROCESSES = 512  # tasks a job may add to what its user already runs
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


class Job:
    """One started program: its process group, its pipes, and what it said so far."""

    def __init__(self, pid: int, request: dict[str, Any]) -> None:
        self.number = request["id"]
        self.pid = pid
        self.limit = int(request["output_limit"])
        self.deadline = time.monotonic() + float(request["timeout"])
        self.stdin = memoryview(base64.b64decode(request["stdin"]))
        self.output: dict[int, bytearray] = {}
        self.streams: tuple[int, int] = (-1, -1)
        self.open: set[int] = set()
        self.code: int | None = None
        self.timed_out = False
        self.truncated = False

    def keep(self, stream: int, data: bytes) -> None:
        """Keeps what fits under the limit; the rest is read and forgotten, so that the program never blocks on us."""
        kept = self.output[stream]
        room = self.limit - len(kept)
        kept += data[:room]
        self.truncated = self.truncated or len(data) > room

    def answer(self) -> dict[str, Any]:
        stdout, stderr = (base64.b64encode(self.output[stream]).decode() for stream in self.streams)
        cut = {"timed_out": self.timed_out, "truncated": self.truncated}
        return {"id": self.number, "code": self.code, "stdout": stdout, "stderr": stderr, **cut}


class Server:
    """The loop: one selector over the socket, the pipes of all jobs and the wake-up of SIGCHLD."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.selector = selectors.DefaultSelector()
        self.jobs: dict[int, Job] = {}
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.alive = True
        self.wake, wake_in = os.pipe()
        for descriptor in (self.wake, wake_in):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: self.stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        channel.setblocking(False)
        channel.set_inheritable(False)  # we inherited it; a job that held it would outlive the daemon's end of file
        self.selector.register(channel, selectors.EVENT_READ)
        self.selector.register(self.wake, selectors.EVENT_READ)

    def stop(self) -> None:
        self.alive = False

    def serve(self) -> None:
        """Works until the daemon is gone."""
        while self.alive:
            ready = self.selector.select(self._patience())
            if not ready and not self.jobs:
                self._send({"idle": True})
            for key, events in ready:
                self._handle(key, events)
            self._enforce()
            self._reap()
        for job in self.jobs.values():
            _kill_group(job.pid)
        while children := _children():
            for pid in children:
                _kill_group(pid)
            _collect(block=True)

    def _patience(self) -> float:
        if not self.jobs:
            return IDLE_SECONDS
        return max(0.0, min(job.deadline for job in self.jobs.values()) - time.monotonic())

    def _handle(self, key: selectors.SelectorKey, events: int) -> None:
        if key.fileobj is self.channel:
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ:
                self._receive()
        elif key.fileobj == self.wake:
            os.read(self.wake, CHUNK)
        elif key.fd in key.data.open:  # a job that ended earlier in this round has closed its pipes
            (self._feed if events & selectors.EVENT_WRITE else self._read)(key.data, key.fd)

    def _receive(self) -> None:
        try:
            data = self.channel.recv(CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self.stop()
        self.incoming += data
        while len(self.incoming) >= 4:
            (length,) = struct.unpack_from(">I", self.incoming)
            if length > FRAME_MAX:
                self.stop()
                return
            if len(self.incoming) < 4 + length:
                return
            request = json.loads(self.incoming[4 : 4 + length])
            del self.incoming[: 4 + length]
            self._accept(request)

    def _accept(self, request: dict[str, Any]) -> None:
        if "cancel" in request:
            for job in self.jobs.values():
                if job.number == request["cancel"]:
                    _kill_group(job.pid)
            return
        try:
            self._start(request)
        except (OSError, ValueError) as error:
            self._send({"id": request["id"], "error": f"cannot start {request['argv'][0]}: {error}"})

    def _start(self, request: dict[str, Any]) -> None:
        pipes = [os.pipe() for _ in range(3)]
        ours = (pipes[0][1], pipes[1][0], pipes[2][0])
        theirs = {0: pipes[0][0], 1: pipes[1][1], 2: pipes[2][1]}
        data = {int(number): _in_memory(base64.b64decode(text)) for number, text in request["inherit"].items()}
        try:
            pid = _launch(request, theirs | data)
        except (OSError, ValueError):
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in (*theirs.values(), *data.values()):
                os.close(descriptor)
        job = Job(pid, request)
        job.streams = ours[1:]
        job.output = {stream: bytearray() for stream in job.streams}
        job.open = set(ours)
        self.jobs[pid] = job
        for descriptor in ours:
            os.set_blocking(descriptor, False)
        self.selector.register(ours[0], selectors.EVENT_WRITE, job)
        for stream in job.streams:
            self.selector.register(stream, selectors.EVENT_READ, job)

    def _feed(self, job: Job, descriptor: int) -> None:
        try:
            job.stdin = job.stdin[os.write(descriptor, job.stdin[:CHUNK]) :] if job.stdin else job.stdin
        except BlockingIOError:
            return
        except BrokenPipeError:
            job.stdin = memoryview(b"")
        if not job.stdin:
            self._close(job, descriptor)

    def _read(self, job: Job, stream: int) -> bool:
        try:
            data = os.read(stream, CHUNK)
        except BlockingIOError:
            return False
        if data:
            job.keep(stream, data)
        else:
            self._close(job, stream)
        return bool(data)

    def _close(self, job: Job, descriptor: int) -> None:
        self.selector.unregister(descriptor)
        job.open.discard(descriptor)
        os.close(descriptor)

    def _enforce(self) -> None:
        now = time.monotonic()
        for job in self.jobs.values():
            if now >= job.deadline:
                job.timed_out = job.timed_out or job.code is None
                job.deadline = now + 1.0  # a process in an uninterruptible wait dies late: ask again, do not spin
                _kill_group(job.pid)

    def _reap(self) -> None:
        """Notes who ended. A job is over once its whole group is gone, not when its first process is."""
        for pid, status in _collect(block=False):
            if pid in self.jobs:
                self.jobs[pid].code = os.waitstatus_to_exitcode(status)
                _kill_group(pid)
        ended = [job for job in self.jobs.values() if job.code is not None]
        if ended and (strays := self._strays()):
            for pid in strays:
                _kill_group(pid)
            return  # their end wakes us again
        for job in ended:
            if not _group_exists(job.pid):
                self._finish(job)

    def _strays(self) -> list[int]:
        """Processes that left their job's group and lost their parent, so that they are our children now."""
        running = {job.pid for job in self.jobs.values() if job.code is None}
        return [pid for pid in _children() if pid not in running and _group_of(pid) not in running]

    def _finish(self, job: Job) -> None:
        for descriptor in sorted(job.open):
            while descriptor in job.streams and self._read(job, descriptor):
                pass  # what was said before the end still counts, up to the limit
            if descriptor in job.open:
                self._close(job, descriptor)
        del self.jobs[job.pid]
        self._send(job.answer())

    def _send(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.outgoing += struct.pack(">I", len(text)) + text
        self._flush()

    def _flush(self) -> None:
        try:
            while self.outgoing:
                del self.outgoing[: self.channel.send(memoryview(bytes(self.outgoing[: 16 * CHUNK])))]
        except BlockingIOError:
            pass  # the selector says when there is room again
        except ConnectionError:
            self.stop()
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.outgoing else 0)
        self.selector.modify(self.channel, wanted)


def _launch(request: dict[str, Any], descriptors: dict[int, int]) -> int:
    """Forks and executes; `descriptors` maps the child's numbers to ours. Raises `OSError`, `ValueError`."""
    argv = [_word(word) for word in request["argv"]]
    env = {_word(name): _word(value) for name, value in request["env"].items()}
    cwd, processes, us = _word(request["cwd"]), _process_limit(), os.getpid()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            tell = fcntl.fcntl(tell, fcntl.F_DUPFD_CLOEXEC, max(descriptors) + 1)
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
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
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


def _children() -> list[int]:
    try:
        listing = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
    except OSError:
        return []  # a kernel without this file: groups are still killed and reaped
    with os.fdopen(listing) as file:
        return [int(pid) for pid in file.read().split()]


def _collect(*, block: bool) -> list[tuple[int, int]]:
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        except ChildProcessError:
            return ended
        ended += [(pid, status)] if pid else []
        if block or not pid:
            return ended


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue  # gone already, or it took another identity and dies with its sandbox


def main() -> None:
    """Serves the socket whose number is the first argument."""
    daemon = os.getppid()
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    server = Server(socket.socket(fileno=int(sys.argv[1])))
    if os.getppid() == daemon:
        server.serve()


if __name__ == "__main__":
    main()
