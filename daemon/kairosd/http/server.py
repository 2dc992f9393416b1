"""The control API's server, and the sockets of both: uvicorn without its habits.

It binds no socket, takes no signal, does not poll, and knows who speaks. uvicorn's own `uds=` makes a socket everybody
may write to; its main loop wakes ten times a second; its signal handlers turn SIGTERM into exit code 143. What is
reached into here is named in one contract test, and the minor version is pinned.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Any, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server

from kairosd.errors import AlreadyRunningError, KairosError

log = logging.getLogger("kairosd.http")

STOP_SECONDS = 2  # for answers under way; with uvicorn's own pauses an orderly stop stays below 3 s
DEADLINE = 5.0  # seconds for a whole request from its first byte, and for an idle connection (design §6)
BACKLOG = 256
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid


class QuietServer(Server):
    """Serves `app` on Unix sockets bound before, until `stop` or until its task is cancelled."""

    def __init__(self, app: Any) -> None:
        config = Config(
            app, http=UnixProtocol, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False,
            proxy_headers=False, server_header=False, date_header=False, timeout_keep_alive=int(DEADLINE),
            timeout_graceful_shutdown=STOP_SECONDS, backlog=BACKLOG, workers=1,
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


class Serving(Protocol):
    """An app on a bound socket, as a part the supervisor can start again: each run serves a duplicate of the socket."""

    async def run(self) -> None:
        """Serves until `stop` or until cancelled; connections that are still open at the end are cut."""

    def stop(self) -> None:
        """Makes `run` return once the requests under way are answered (at most `STOP_SECONDS`)."""


class ControlServer:
    """Implements `Serving` with uvicorn, for the daemon's own user."""

    def __init__(self, app: Any, bound: socket.socket) -> None:
        self._app = app
        self._bound = bound
        self._server: QuietServer | None = None

    async def run(self) -> None:
        self._server = QuietServer(self._app)
        await self._server.serve([self._bound.dup()])

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()


def control_server(app: Any, bound: socket.socket) -> Serving:
    """Serves the control API on a socket of `bind_unix`, to the daemon's own user only."""
    return ControlServer(app, bound)


class UnixProtocol(HttpToolsProtocol):
    """Drops whoever is not the daemon's own user, whatever the socket's mode says."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        uid = peer_uid(transport.get_extra_info("socket"))
        if uid != os.geteuid():
            log.warning("a process of user %d was refused on the control socket", uid)
            transport.abort()


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
    try:
        # Linux takes the file's mode from the socket's own. umask is the whole process's: other threads write files.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise KairosError(f"{path} cannot be bound: {error.strerror}", fix="set [daemon] socket") from error
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
