"""The executor's process: starts programs from its only thread, reads what they say, and leaves none of them behind.

It is isolated: `python -I -S -c CODE FD`, where CODE (see `client.START`) adds the folder of this package *behind* the
standard library and calls `main`. No site-packages, no `.pth`, no variable decides what it imports; it imports the
standard library, as little of it as possible, and `processes` beside it. It speaks frames over the socket FD: four
bytes of length, then JSON, binary fields in base64.

    in:   {"id", "timeout", "output_limit", "tail_limit", "commands"}                      start a pipeline
          commands: [{"argv", "env", "cwd", "stdin", "stdout", "stderr", "inherit", "reach", "door"}]
          {"cancel": id}                                                                  kill that pipeline
          {"cancel_all": true}                                                            kill all of them
    out:  {"id", "code", "stdout", "stderr", "timed_out", "truncated", "connections"}       how it ended
          {"id", "error"}                                                                 why it did not start
          {"idle": true}                                                                  nothing to do for IDLE_SECONDS
          {"pid"}                                                                         who we are, once at the start

`stdin` is "own" (the pipe before it; nothing for the first), "null" or "data" (the file that `inherit` has at 0);
`stdout` and `stderr` are "own", "null", "stderr" and "stdout". The last command's own stdout and the own stderr of all
are what we read; between commands there is nothing but a pipe of the kernel's. A command with a `reach` gets a proxy
of its own (see `proxies`), which ends with the pipeline.

End of file on the socket means that the daemon is gone: everything is killed, then the process ends.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from typing import Any

from kairosd.executor import fences, processes, proxies

IDLE_SECONDS = 20.0
FRAME_MAX = 256 * 1024 * 1024
CHUNK = 65536
WATCH_SECONDS = 0.05  # between two counts; a fork bomb in a sandbox makes some hundred processes in that time


class Job:
    """One pipeline: its commands' process groups and proxies, our two pipes from them, and what they said so far."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.number = request["id"]
        self.fence: str | None = None
        self.limit, self.tail = int(request["output_limit"]), int(request["tail_limit"])
        self.deadline = time.monotonic() + float(request["timeout"])
        self.codes: dict[int, int | None] = {}  # by process id, in the order of the commands
        self.groups: set[int] = set()
        self.proxies: dict[int, int] = {}  # by process id the file that each leaves its account in
        self.connections: list[dict[str, Any]] = []
        self.leaving = False  # its proxies have been told to go
        self.output: dict[int, bytearray] = {}
        self.ends: dict[int, bytearray] = {}  # what came after the limit, as far as the tail reaches back
        self.streams: tuple[int, int] = (-1, -1)
        self.open: set[int] = set()
        self.timed_out = False
        self.truncated = False
        self.crowded = False

    @property
    def ended(self) -> bool:
        return None not in self.codes.values()

    def kill(self) -> None:
        for pid in self.groups:
            processes.kill_group(pid)

    def stop(self) -> None:
        """Kills it, once its way out is being closed."""
        self.dismiss()
        self.kill()

    def note_end(self, pid: int, status: int) -> None:
        """A process has ended, perhaps one of ours."""
        if pid in self.proxies:
            self.connections += proxies.account(self.proxies.pop(pid))
        if pid in self.codes:
            self.codes[pid] = os.waitstatus_to_exitcode(status)
            processes.kill_group(pid)

    def dismiss(self) -> None:
        """Has its proxies give their account and end, at once; killed after three seconds."""
        if not self.leaving:
            self.leaving, self.deadline = True, time.monotonic() + 3.0
            for pid in self.proxies:
                proxies.dismiss(pid)

    def listen(self, stdout: int, stderr: int) -> None:
        self.streams = (stdout, stderr)
        self.output = {stream: bytearray() for stream in self.streams}
        self.ends = {stream: bytearray() for stream in self.streams}
        self.open = set(self.streams)
        for stream in self.streams:
            os.set_blocking(stream, False)

    def keep(self, stream: int, data: bytes) -> None:
        """Keeps what fits and the tail; the rest is read and forgotten, so that the program never blocks on us."""
        kept, end = self.output[stream], self.ends[stream]
        room = self.limit - len(kept)
        kept += data[:room]
        end += data[room:]
        if len(end) > self.tail:
            self.truncated = True
            del end[: -self.tail or None]

    def answer(self) -> dict[str, Any]:
        """How it ended: as in a shell, the last command's code is the pipeline's."""
        if self.crowded:
            self.ends[self.streams[1]] += f"kairos: killed: more than {processes.PROCESSES} processes\n".encode()
        said = (self.output[stream] + self.ends[stream] for stream in self.streams)
        stdout, stderr = (base64.b64encode(each).decode() for each in said)
        cut = {"timed_out": self.timed_out, "truncated": self.truncated}
        code, connections = [*self.codes.values()][-1], self.connections
        return {"id": self.number, "code": code, "stdout": stdout, "stderr": stderr, "connections": connections, **cut}


class Server:
    """The loop: one selector over the socket, the pipes of all jobs and the wake-up of SIGCHLD."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.selector = selectors.DefaultSelector()
        self.jobs: dict[int, Job] = {}
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.alive = True
        self.fences = fences.Fences(processes.PROCESSES) if processes.unlimited() else None
        self.watching = self.fences is not None and self.fences.place is None
        self.others = 0  # tasks of the machine that are none of ours, when they were last told apart
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
                self.send({"idle": True})
            for key, events in ready:
                self._handle(key, events)
            self._enforce()
            self._watch()
            self._reap()
        for job in self.jobs.values():
            job.kill()
        processes.end_children()
        if self.fences is not None:
            self.fences.remove()

    def _patience(self) -> float:
        if not self.jobs:
            return IDLE_SECONDS
        left = max(0.0, min(job.deadline for job in self.jobs.values()) - time.monotonic())
        return min(left, WATCH_SECONDS) if self.watching else left

    def _handle(self, key: selectors.SelectorKey, events: int) -> None:
        if key.fileobj is self.channel:
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ:
                self._receive()
        elif key.fileobj == self.wake:
            os.read(self.wake, CHUNK)
        elif key.fd in key.data.open:  # a job that ended earlier in this round has closed its pipes
            self._read(key.data, key.fd)

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
            if job := self.jobs.get(request["cancel"]):
                job.stop()
            return
        if "cancel_all" in request:
            for job in self.jobs.values():
                job.stop()
            return
        try:
            self._start(request)
        except (OSError, ValueError) as error:
            self.send({"id": request["id"], "error": str(error)})

    def _start(self, request: dict[str, Any]) -> None:
        job, command = Job(request), request["commands"][0]
        ours: list[int] = []
        theirs: list[int] = []
        try:
            job.fence = self.fences.take() if self.fences is not None else None
            for _ in ("stdout", "stderr"):
                end, into = os.pipe()
                ours, theirs = [*ours, end], [*theirs, into]
            (stdout_in, stderr_in), source = theirs, -1
            for command in request["commands"]:
                after, out = (-1, stdout_in) if command is request["commands"][-1] else os.pipe()
                theirs += [] if after < 0 else [after, out]
                given = {}
                if command["reach"]:
                    pid, record, door = proxies.start(command["reach"])
                    job.proxies[pid] = record
                    theirs.append(door)
                    given[command["door"]] = door
                pid = processes.launch(command, (source, out, stderr_in), given=given, fence=job.fence)
                job.codes[pid] = None
                job.groups.add(pid)
                source = after
        except (OSError, ValueError) as error:
            for pid in (*job.groups, *job.proxies):
                processes.kill_group(pid)
            if self.fences is not None:
                self.fences.discard(job.fence)
            for descriptor in (*ours, *job.proxies.values()):
                os.close(descriptor)
            raise OSError(f"cannot start {command['argv'][0]}: {error}") from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self.jobs[job.number] = job
        job.listen(*ours)
        for stream in job.streams:
            self.selector.register(stream, selectors.EVENT_READ, job)

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
                job.timed_out = job.timed_out or not job.ended
                job.deadline = now + 1.0  # a process in an uninterruptible wait dies late: ask again, do not spin
                for pid in job.proxies if job.leaving else ():
                    processes.kill_group(pid)
                job.stop()

    def _watch(self) -> None:
        """Kills jobs with too many processes, where the kernel does not see to it.

        One small read tells whether a closer look, which costs milliseconds, can find anything.
        """
        if not self.watching or not self.jobs:
            return
        if (every := processes.count_tasks()) <= self.others + processes.PROCESSES:
            return
        found = processes.count_below(os.getpid())
        self.others = every - sum(found.values())
        sizes = [(job, sum(found.get(pid, 0) for pid in job.codes)) for job in self.jobs.values()]
        crowds = [job for job, size in sizes if size > processes.PROCESSES]
        if not crowds and sum(found.values()) > processes.PROCESSES * len(self.jobs):
            crowds = [*self.jobs.values()]  # those that have left their jobs cannot be told apart
        for job in crowds:
            job.crowded = True
            job.kill()

    def _reap(self) -> None:
        """Notes who ended. A job is over once all its groups are gone, not when its processes are."""
        for pid, status in processes.collect(block=False):
            for job in self.jobs.values():
                job.note_end(pid, status)
        for job in self.jobs.values():  # at once, since a number that is free may soon be somebody else's
            job.groups = {pid for pid in job.groups if job.codes[pid] is None or processes.group_exists(pid)}
        ended = [job for job in self.jobs.values() if job.ended]
        if ended and (strays := self._strays()):
            for pid in strays:
                processes.kill_group(pid)
            return  # their end wakes us again
        for job in ended:
            if not job.groups and job.proxies:
                job.dismiss()
            elif not job.groups:
                self._finish(job)

    def _strays(self) -> list[int]:
        """Processes that left their job's group and lost their parent, so that they are our children now."""
        running = {pid for job in self.jobs.values() for pid, code in job.codes.items() if code is None}
        running |= {pid for job in self.jobs.values() for pid in job.proxies}
        return [pid for pid in processes.children() if pid not in running and processes.group_of(pid) not in running]

    def _finish(self, job: Job) -> None:
        for descriptor in sorted(job.open):
            while descriptor in job.streams and self._read(job, descriptor):
                pass  # what was said before the end still counts, up to the limit
            if descriptor in job.open:
                self._close(job, descriptor)
        del self.jobs[job.number]
        self._release(job)
        self.send(job.answer())

    def _release(self, job: Job) -> None:
        if self.fences is not None:
            self.fences.give_back(job.fence)

    def send(self, answer: dict[str, Any]) -> None:
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


def main() -> None:
    """Serves the socket whose number is the first argument, in a process that the first one only waits for."""
    processes.adopt_orphans()
    channel = socket.socket(fileno=int(sys.argv[1]))
    first = os.getpid()
    if server := os.fork():
        channel.close()
        _outlive(server)
        return
    processes.adopt_orphans()
    processes.die_with_parent(signal.SIGTERM)
    made = Server(channel)
    made.send({"pid": os.getpid()})
    if os.getppid() == first:
        made.serve()


def _outlive(server: int) -> None:
    """Ends what a server that was killed leaves: bwrap asks to die with its parent only late in building a sandbox."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.waitpid(server, 0)
    processes.end_children()
