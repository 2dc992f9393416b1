"""The webhook server: requests in, answers out, and nothing that a stranger could hold on to.

Not uvicorn: every limit would be a hook into its internals, and it took a fifth of a delivery's CPU. Here a request is
one task and one write.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol

from kairosd.frozen import frozen
from kairosd.http.hook_requests import Request, RequestError, RequestReader
from kairosd.http.server import BACKLOG, DEADLINE, STOP_SECONDS

log = logging.getLogger("kairosd.http")

ANSWER_SECONDS = 30.0  # for an answer; GitHub itself gives up after 10
CONNECTIONS_MAX = 256
READ_BYTES = 64 * 1024
UNREAD_MAX = 64 * 1024  # bytes of answers kept for a sender that does not read them


@frozen
class Answer:
    """What is answered; `body` is JSON, or empty. `allow` is the method a 405 recommends."""

    status: int
    body: bytes = b""
    allow: str = ""


class App(Protocol):
    """What is served."""

    def room(self, request: Request) -> int:
        """How many bytes of body may follow this head; 0 = the body is dropped."""

    async def answer(self, request: Request) -> Answer:
        """Answers a whole request."""


class HooksServer:
    """Serves `app` on a bound socket, as a part the supervisor can start again: each run serves a duplicate."""

    def __init__(self, app: App, bound: socket.socket) -> None:
        self._app = app
        self._bound = bound
        self._stopping: asyncio.Event | None = None

    async def run(self) -> None:
        """Serves until `stop` or until cancelled; connections that are still open at the end are cut."""
        self._stopping = asyncio.Event()
        connections: set[HooksProtocol] = set()
        buffer = memoryview(bytearray(READ_BYTES))
        _settle_garbage()
        listener = await asyncio.get_running_loop().create_server(
            lambda: HooksProtocol(self._app, connections, buffer=buffer), sock=self._bound.dup(), backlog=BACKLOG
        )
        try:
            await self._stopping.wait()
            listener.close()
            if connections:
                await asyncio.wait([connection.finish() for connection in connections], timeout=STOP_SECONDS)
        finally:
            listener.close()
            for connection in tuple(connections):
                connection.abort()

    def stop(self) -> None:
        """Makes `run` return once the requests under way are answered (at most `STOP_SECONDS`)."""
        if self._stopping is not None:
            self._stopping.set()


class HooksProtocol(asyncio.BufferedProtocol):
    """One connection: its requests are answered one after the other, each within a deadline for the whole of it.

    `connections` holds all that are open. They share `buffer`: what is read into it is parsed before another reads.
    """

    deadline_seconds = DEADLINE
    connections_max = CONNECTIONS_MAX

    def __init__(self, app: App, connections: set[HooksProtocol], *, buffer: memoryview) -> None:
        self._app = app
        self._connections = connections
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._reader = RequestReader(app.room, self._take)
        self._waiting: deque[Request] = deque()  # sent before the answer to the one before
        self._task: asyncio.Task[None] | None = None
        self._stopping = False  # it ends as soon as no request is under way
        self._closing = False  # nothing more is read, and it ends with the answers under way
        self._refusal = b""  # what is said before the end
        self._gone: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._due = self._loop.time() + self.deadline_seconds
        self._timer = self._loop.call_at(self._due, self._check)
        self._connections.add(self)
        if len(self._connections) > self.connections_max:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._connections.discard(self)
        self._closing = True
        self._waiting.clear()  # the one under way goes on: what is becoming durable is not taken back
        self._gone.set_result(None)

    def finish(self) -> asyncio.Future[None]:
        """Ends with the request under way, or now if there is none. Returns what is done once it is gone."""
        self._stopping = True
        if self._task is None and self._reader.idle:
            self._close()
        return self._gone

    def abort(self) -> None:
        """Ends without another word."""
        if self._task is not None:
            self._task.cancel()
        self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._closing:
            return
        was_busy, was_idle = self._task is not None, self._reader.idle
        try:
            self._reader.feed(self._buffer[:nbytes])
        except RequestError as error:
            self._refuse(error.status)
        if was_busy:
            self._transport.pause_reading()  # who does not wait for answers is not read any further
        elif self._task is None and was_idle and not self._reader.idle:
            self._allow(self.deadline_seconds)
        if self._reader.awaited and self._task is None:
            self._reader.awaited = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take(self, request: Request) -> None:
        self._closing = self._closing or request.last
        self._waiting.append(request)
        if self._task is None:
            self._begin()

    def _begin(self) -> None:
        self._allow(ANSWER_SECONDS)
        self._task = self._loop.create_task(self._answer(self._waiting.popleft()))
        self._task.add_done_callback(self._answered)

    async def _answer(self, request: Request) -> None:
        answer = await self._app.answer(request)
        self._task = None
        if self._gone.done():
            return
        last = request.last or (self._stopping and not self._waiting)
        self._transport.write(_encoded(answer, last=last))
        if self._transport.get_write_buffer_size() > UNREAD_MAX:
            self._transport.abort()
        elif self._waiting:
            self._begin()
        elif self._closing or (self._stopping and self._reader.idle):
            self._close()
        else:
            self._allow(self.deadline_seconds)
            self._transport.resume_reading()

    def _answered(self, task: asyncio.Task[None]) -> None:
        """What `_answer` raised is a fault of ours: it costs this connection, and nobody else's."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._task = None
            log.error("a webhook could not be answered", exc_info=error)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)

    def _refuse(self, status: HTTPStatus) -> None:
        self._closing = True
        self._refusal = _encoded(Answer(status), last=True)
        if self._task is None:
            self._close()

    def _close(self) -> None:
        self._closing = True
        if not self._transport.is_closing():
            self._transport.write(self._refusal)
            self._transport.close()

    def _allow(self, seconds: float) -> None:
        """Moves the deadline. The timer looks at it when it fires, and is set anew only when that is too late."""
        self._due = self._loop.time() + seconds
        if self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due, self._check)

    def _check(self) -> None:
        if self._loop.time() >= self._due:
            self._transport.abort()
        else:
            self._timer = self._loop.call_at(self._due, self._check)


def hooks_server(app: App, bound: socket.socket) -> HooksServer:
    """Serves webhooks on a socket of `bind_tcp`, with every limit of `HooksProtocol`."""
    return HooksServer(app, bound)


def _settle_garbage() -> None:
    """Sets apart what the program consists of: measured a tenth less CPU for a webhook.

    Else each full collection walks a hundred thousand objects of libraries to find what a few requests have left.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _encoded(answer: Answer, *, last: bool) -> bytes:
    return _head(answer.status, answer.allow, length=len(answer.body), last=last) + answer.body


@lru_cache
def _head(status: int, allow: str, *, length: int, last: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-length: {length}"]
    if length:
        lines.append("content-type: application/json")
    if allow:
        lines.append(f"allow: {allow}")
    if last:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("ascii")
