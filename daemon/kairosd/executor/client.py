"""The daemon's side of the executor: starts its process on need and turns frames into outcomes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import kairosd
from kairosd.core.hosts import Connection
from kairosd.errors import ExecutorError
from kairosd.ports import DOOR, Launch, Outcome

CLOSE_SECONDS = 5.0
END_SECONDS = 0.3  # for the answers to an emergency stop, which has a second for everything
CHILD = "kairosd.executor.child"  # by name: what it imports (ctypes, resource) is no business of the daemon's
# What the child runs. Our packages come last on its path, so that nothing beside them can stand in for a library.
START = f"import sys; sys.path.append({str(Path(kairosd.__file__).parents[1])!r}); import {CHILD} as child; "
START += "child.main()"


class ProcessExecutor:
    """Starts programs through a child process of its own; implements the port `Executor`.

    The child is started at the first job, asks to be let go after 20 s without one, and is started anew when it
    died; the jobs it had then end in `ExecutorError`. It is small, holds none of the daemon's secrets (its environment
    is empty), and starts everything from its only thread: a process bound to its parent's death follows the thread.
    """

    def __init__(self) -> None:
        self._link: _Link | None = None
        self._starting = asyncio.Lock()

    async def run(self, *launches: Launch, ended: Callable[[Outcome], None] | None = None) -> Outcome:
        """Runs a pipeline to its end and reaps its process groups, also when cancelled. Raises `ExecutorError`.

        See the port: one launch is a pipeline too.
        """
        link = await self._connected()
        number, answer = link.request(launches)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            link.cancel(number)
            await _surely(answer)
            raise
        finally:
            if ended is not None and answer.done() and answer.exception() is None:
                ended(answer.result())

    async def end_all(self) -> None:
        """Kills every job; the process too, where it does not answer, since they all die with it."""
        if (link := self._link) is not None and link.usable and not await link.cancel_all(END_SECONDS):
            link.kill()

    async def close(self) -> None:
        """Ends the process and everything it started."""
        async with self._starting:
            link, self._link = self._link, None
            if link is not None:
                await link.end()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._link.pid if self._link is not None and self._link.usable else None

    async def _connected(self) -> _Link:
        async with self._starting:
            if self._link is not None and not self._link.usable:
                gone, self._link = self._link, None
                await gone.end()
            if self._link is None:
                self._link = await _start()
            return self._link


class _Link(asyncio.Protocol):
    """One child process and the frames that go to and fro. No task: the event loop calls it."""

    process: asyncio.subprocess.Process
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.usable = True
        self.pid: int | None = None
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._incoming = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def request(self, launches: Sequence[Launch]) -> tuple[int, asyncio.Future[Outcome]]:
        self._number += 1
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = answer
        self._send(_encode(self._number, launches))
        return self._number, answer

    def cancel(self, number: int) -> None:
        if self.usable:
            self._send({"cancel": number})

    async def cancel_all(self, seconds: float) -> bool:
        """Whether all that was under way has ended within that time."""
        self._send({"cancel_all": True})
        answers = set(self._waiting.values())
        return not answers or not (await asyncio.wait(answers, timeout=seconds))[1]

    async def end(self) -> None:
        self.usable = False
        self.transport.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.kill()
            try:
                async with asyncio.timeout(END_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()  # it was stopped itself, so it waits for nobody
                await self.process.wait()

    def kill(self) -> None:
        """Kills the server; the process that waits for it ends what it leaves."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid or self.process.pid, signal.SIGKILL)

    def data_received(self, data: bytes) -> None:
        self._incoming += data
        while len(self._incoming) >= 4:
            (length,) = struct.unpack_from(">I", self._incoming)
            if len(self._incoming) < 4 + length:
                return
            frame = bytes(self._incoming[4 : 4 + length])
            del self._incoming[: 4 + length]
            try:
                self._answered(json.loads(frame))
            except (ValueError, KeyError, TypeError):
                self.transport.abort()  # nonsense: nothing it says later can be trusted

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(ExecutorError("the executor process died; it is started again for the next job"))
                answer.exception()  # a cancelled caller no longer looks: that is no news

    def _send(self, message: Mapping[str, Any]) -> None:
        frame = json.dumps(message).encode()
        self.transport.write(struct.pack(">I", len(frame)) + frame)

    def _answered(self, message: Mapping[str, Any]) -> None:
        if "pid" in message:
            self.pid = message["pid"]
            return
        if "idle" in message:
            if not self._waiting:  # else a job of ours crossed its question
                self.usable = False
                self.transport.close()
            return
        answer = self._waiting.pop(message["id"], None)
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(ExecutorError(message["error"]))
            answer.exception()
        else:
            answer.set_result(_decode(message))


async def _surely(answer: asyncio.Future[Outcome]) -> None:
    """Waits until it is there, for a while, whoever cancels once more meanwhile: the caller is cancelled anyway."""
    now = asyncio.get_running_loop().time
    until = now() + CLOSE_SECONDS
    while not answer.done() and (left := until - now()) > 0:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({answer}, timeout=left)


async def _start() -> _Link:
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-X", "utf8", "-c", START, str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            env={},
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise ExecutorError(f"cannot start the executor: {error}") from error
    finally:
        theirs.close()
    _, link = await asyncio.get_running_loop().create_unix_connection(_Link, sock=ours)
    link.process = process
    return link


def _encode(number: int, launches: Sequence[Launch]) -> Mapping[str, Any]:
    return {
        "id": number,
        "timeout": min(launch.timeout for launch in launches),
        "output_limit": min(launch.output_limit for launch in launches),
        "tail_limit": min(launch.tail_limit for launch in launches),
        "commands": [_command(launch) for launch in launches],
    }


def _command(launch: Launch) -> Mapping[str, Any]:
    given = {0: launch.stdin} if isinstance(launch.stdin, bytes) else {}
    return {
        "argv": launch.argv,
        "env": dict(launch.env),
        "cwd": launch.cwd,
        "stdin": "data" if isinstance(launch.stdin, bytes) else launch.stdin.value,
        "stdout": launch.stdout.value,
        "stderr": launch.stderr.value,
        "reach": asdict(launch.reach) if launch.reach is not None else None,
        "door": DOOR,
        "inherit": {str(each): base64.b64encode(data).decode() for each, data in {**launch.inherit, **given}.items()},
    }


def _decode(message: Mapping[str, Any]) -> Outcome:
    return Outcome(
        code=message["code"],
        stdout=base64.b64decode(message["stdout"]),
        stderr=base64.b64decode(message["stderr"]),
        timed_out=message["timed_out"],
        truncated=message["truncated"],
        connections=tuple(Connection(**each) for each in message["connections"]),
    )
