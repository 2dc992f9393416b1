"""uvicorn without its habits: it binds no socket, takes no signal, does not poll, and knows who and how many may speak.

uvicorn's own `uds=` makes a socket everybody may write to; its main loop wakes ten times a second; its signal handlers
turn SIGTERM into exit code 143; and neither it nor httptools bounds how long or how large the head of a request may be.
What is reached into here is named in one contract test, and the minor version is pinned.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kairosd.errors import AlreadyRunningError, KairosError

log = logging.getLogger("kairosd.http")

STOP_SECONDS = 2  # for answers under way; with uvicorn's own pauses an orderly stop stays below 3 s
DEADLINE = 5.0  # seconds for a whole request from its first byte, and for an idle connection (design §6)
ANSWER_SECONDS = 30.0  # for an answer; GitHub itself gives up after 10
CONNECTIONS_MAX = 256
HEAD_MAX = 32 * 1024  # bytes of request line and headers; GitHub sends less than 2 kB
HEADERS_MAX = 100
BACKLOG = 256
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid


class QuietServer(uvicorn.Server):
    """Serves `app` on sockets bound before, until `stop` or until its task is cancelled.

    `protocol` says who may connect: `UnixProtocol` on a Unix socket, `HooksProtocol` where strangers can reach it.
    """

    def __init__(self, app: Any, protocol: type[HttpToolsProtocol]) -> None:
        config = uvicorn.Config(
            app, http=protocol, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, date_header=False, timeout_keep_alive=int(DEADLINE),
            timeout_graceful_shutdown=STOP_SECONDS, backlog=BACKLOG,
        )  # fmt: skip
        super().__init__(config)
        self._stopping = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers until stopped; connections that are still open at the end are cut. Closes `sockets`."""
        try:
            await self._serve(sockets)
        finally:
            self._cut(sockets or [])

    def stop(self) -> None:
        """Lets requests under way finish, for at most `STOP_SECONDS`, and makes `serve` return."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        await self._stopping.wait()

    def _cut(self, sockets: list[socket.socket]) -> None:
        for server in getattr(self, "servers", []):
            server.close()
        for bound in sockets:
            bound.close()
        for task in list(self.server_state.tasks):
            task.cancel()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class Serving:
    """An app on a bound socket, as a part the supervisor can start again: each run serves a duplicate of the socket."""

    def __init__(self, app: Any, bound: socket.socket, *, protocol: type[HttpToolsProtocol]) -> None:
        self._app = app
        self._bound = bound
        self._protocol = protocol
        self._server: QuietServer | None = None

    async def run(self) -> None:
        """Serves until `stop` or until cancelled."""
        self._server = QuietServer(self._app, self._protocol)
        await self._server.serve([self._bound.dup()])

    def stop(self) -> None:
        """Makes `run` return once the requests under way are answered (at most `STOP_SECONDS`)."""
        if self._server is not None:
            self._server.stop()


def control_server(app: Any, bound: socket.socket) -> Serving:
    """Serves the control API on a socket of `bind_unix`, to the daemon's own user only."""
    return Serving(app, bound, protocol=UnixProtocol)


def hooks_server(app: Any, bound: socket.socket) -> Serving:
    """Serves webhooks on a socket of `bind_tcp`, with every limit of `HooksProtocol`."""
    return Serving(app, bound, protocol=HooksProtocol)


class UnixProtocol(HttpToolsProtocol):
    """Drops whoever is not the daemon's own user, whatever the socket's mode says."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        uid = peer_uid(transport.get_extra_info("socket"))
        if uid != os.geteuid():
            log.warning("a process of user %d was refused on the control socket", uid)
            transport.abort()


class HooksProtocol(HttpToolsProtocol):
    """Bounds what a stranger can hold: how many connections, for how long, and how large a head.

    One timer a connection: it looks at the deadline when it fires instead of being set anew for every request.
    """

    deadline_seconds = DEADLINE
    connections_max = CONNECTIONS_MAX

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._in_head = True
        self._head = 0
        self._refusal = b""
        self._due = self.loop.time() + self.deadline_seconds
        self._timer = self.loop.call_at(self._due, self._check)
        if len(self.connections) > self.connections_max:
            self._refuse(b"503 Service Unavailable")

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        # A header that never ends is kept inside the parser and calls nobody back, so the bytes are counted here too.
        if self._in_head and self._head > HEAD_MAX and not self.transport.is_closing():
            self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._due = self.loop.time() + self.deadline_seconds if self.cycle else self._due
        self._fields = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._measure(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._measure(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._head = 0
        self._due = self.loop.time() + ANSWER_SECONDS

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete:
            self._due = self.loop.time() + self.deadline_seconds

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal or b"400 Bad Request")

    def _measure(self, size: int) -> None:
        self._fields += size
        if self._fields > HEAD_MAX or len(self.headers) > HEADERS_MAX:
            self._refusal = b"431 Request Header Fields Too Large"
            raise ValueError("the head is too large")  # the parser stops and uvicorn calls send_400_response

    def _refuse(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _check(self) -> None:
        if self.loop.time() >= self._due:
            self.transport.abort()
        else:
            self._timer = self.loop.call_at(self._due, self._check)


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end of a connected Unix socket."""
    _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)


def bind_unix(path: Path) -> socket.socket:
    """A listening socket at `path` for this user alone (0600). A dead daemon's socket is replaced.

    Raises `AlreadyRunningError` when somebody answers there, `KairosError` when the place cannot be used.
    """
    if path.exists() or path.is_symlink():
        _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise KairosError(f"{path} cannot be bound: {error.strerror}", fix="set [daemon] socket") from error
    finally:
        os.umask(before)
    listener.setblocking(False)
    return listener


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening socket at `host` and `port` (0 = any free one). Raises `OSError` when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off for what is accepted: else an answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _clear(path: Path) -> None:
    if path.is_symlink() or not stat.S_ISSOCK(path.stat().st_mode):
        raise KairosError(f"{path} is in the way and is no socket", fix="move it, or set [daemon] socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:  # such as a full backlog: somebody is there
            raise AlreadyRunningError(f"{path} is in use: {error}") from error
    raise AlreadyRunningError(f"another daemon answers at {path}", fix="kairos status")
