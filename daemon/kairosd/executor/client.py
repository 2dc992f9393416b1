"""The daemon's side of the executor: starts its process on need and turns frames into outcomes."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kairosd.errors import ExecutorError
from kairosd.executor import child
from kairosd.ports import Launch, Outcome

CLOSE_SECONDS = 5.0


class ProcessExecutor:
    """Starts programs through a child process of its own; implements the port `Executor`.

    The child is started at the first job, asks to be let go after 20 s without one, and is started anew when it
    died; the jobs it had then end in `ExecutorError`. It is small, holds none of the daemon's secrets (its environment
    is empty), and starts everything from its only thread: a process bound to its parent's death follows the thread.
    """

    def __init__(self) -> None:
        self._link: _Link | None = None
        self._starting = asyncio.Lock()

    async def run(self, launch: Launch) -> Outcome:
        """Runs to the end and reaps the whole process group, also when cancelled. Raises `ExecutorError`."""
        link = await self._connected()
        number, answer = link.request(launch)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            link.cancel(number)
            await asyncio.wait({answer}, timeout=CLOSE_SECONDS)
            raise

    async def close(self) -> None:
        """Ends the process and everything it started."""
        async with self._starting:
            link, self._link = self._link, None
            if link is not None:
                await link.end()

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is none."""
        return self._link.process.pid if self._link is not None and self._link.usable else None

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
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._incoming = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def request(self, launch: Launch) -> tuple[int, asyncio.Future[Outcome]]:
        self._number += 1
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = answer
        self._send(_encode(self._number, launch))
        return self._number, answer

    def cancel(self, number: int) -> None:
        if self.usable:
            self._send({"cancel": number})

    async def end(self) -> None:
        self.usable = False
        self.transport.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

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


async def _start() -> _Link:
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-X", "utf8", str(Path(child.__file__)), str(theirs.fileno())),
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


def _encode(number: int, launch: Launch) -> Mapping[str, Any]:
    return {
        "id": number,
        "argv": launch.argv,
        "env": dict(launch.env),
        "cwd": launch.cwd,
        "stdin": base64.b64encode(launch.stdin).decode(),
        "timeout": launch.timeout,
        "output_limit": launch.output_limit,
        "inherit": {str(each): base64.b64encode(data).decode() for each, data in launch.inherit.items()},
    }


def _decode(message: Mapping[str, Any]) -> Outcome:
    return Outcome(
        code=message["code"],
        stdout=base64.b64decode(message["stdout"]),
        stderr=base64.b64decode(message["stderr"]),
        timed_out=message["timed_out"],
        truncated=message["truncated"],
    )
