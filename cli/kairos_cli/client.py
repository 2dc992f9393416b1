"""Asking the daemon: one HTTP/1.1 request a connection, over its unix socket.

Not `http.client`: it brings the e-mail package with it, which costs as much time as the whole answer of
`kairos status` (measured: 17 ms of 56). What a daemon of ours sends needs no more than this.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from urllib.parse import quote, urlencode

from kairos_cli.terminal import aside, clean
from kairosd.wire import EXIT_FAILED, EXIT_NOT_RUNNING, EXIT_USAGE, VERSION, Home, check_private, socket_path

TYPE_CHECKING = False  # the name type checkers know; importing `typing` for it costs a tenth of `kairos status`
if TYPE_CHECKING:
    from typing import Any

ANSWER_SECONDS = 30.0
FOLLOW_SECONDS = 50.0  # the daemon's heartbeat comes every 15 s: three missed are a dead daemon
LINE_MAX = 16_000_000  # bytes of one line or one answer part


class Failure(Exception):
    """The CLI cannot go on: what is wrong, what to do, and the exit code."""

    def __init__(self, message: str, *, fix: str | None = None, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.message, self.fix, self.code = message, fix, code


class SilentError(Failure):
    """The daemon took the request and did not answer in time."""


class Client:
    """The daemon of one home."""

    def __init__(self, place: Home) -> None:
        self._place = place
        self._told_version = False

    def get(self, *path: str, query: Mapping[str, object] | None = None) -> Any:
        """The answer to a question. Raises `Failure`."""
        return self._ask("GET", _target(path, query))

    def post(self, *path: str, body: Mapping[str, object] | None = None, seconds: float = ANSWER_SECONDS) -> Any:
        """The answer to an order. Raises `Failure`."""
        return self._ask("POST", _target(path, None), body=body, seconds=seconds)

    def delete(self, *path: str) -> Any:
        """The answer to a removal. Raises `Failure`."""
        return self._ask("DELETE", _target(path, None))

    def follow(self, run: str) -> Iterator[Mapping[str, Any]]:
        """The updates of a run as they come. Raises `Failure`, also when the daemon goes away in the middle."""
        try:
            with self._open(FOLLOW_SECONDS) as connection:
                reader = self._request(connection, f"GET {_target(('runs', run, 'follow'), None)}")
                status, headers = _head(reader)
                self._judge(status, headers, reader=reader)
                for line in _lines(_pieces(reader, headers)):
                    yield json.loads(line)
        except (OSError, ValueError) as error:
            raise _lost(error) from error

    def _ask(
        self, method: str, target: str, *, body: Mapping[str, object] | None = None, seconds: float = ANSWER_SECONDS
    ) -> Any:
        try:
            with self._open(seconds) as connection:
                reader = self._request(connection, f"{method} {target}", body=body)
                status, headers = _head(reader)
                self._judge(status, headers, reader=reader)
                return json.loads(b"".join(_pieces(reader, headers)) or b"null")
        except (OSError, ValueError) as error:
            raise _lost(error) from error

    def _open(self, seconds: float) -> socket.socket:
        for path in _candidates(self._place):
            check_private(path.parent)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(seconds)
            try:
                connection.connect(os.fsencode(path))
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
                connection.close()  # nobody there: the next place it may be
                continue
            except OSError:
                connection.close()
                raise
            return connection
        raise Failure("the daemon is not running", fix=f"start it: {start_command(self._place)}", code=EXIT_NOT_RUNNING)

    def _request(
        self, connection: socket.socket, line: str, *, body: Mapping[str, object] | None = None
    ) -> BufferedReader:
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{line} HTTP/1.1\r\nHost: kairos\r\nConnection: close\r\n"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        connection.sendall(f"{head}\r\n".encode("ascii") + content)
        return connection.makefile("rb")

    def _judge(self, status: int, headers: Mapping[str, str], *, reader: BufferedReader) -> None:
        version = clean(headers.get("x-kairos-version", "unknown"))
        if version != VERSION and not self._told_version:
            self._told_version = True
            aside(f"kairos: the daemon is version {version}, this command is {VERSION}")
            aside(f"  fix: restart the daemon: {restart_command(self._place)}")
        if status < 400:
            return
        try:
            refusal = json.loads(b"".join(_pieces(reader, headers)))
        except ValueError:
            refusal = {}
        found = refusal if isinstance(refusal, dict) else {}
        message = str(found.get("error") or f"the daemon answered {status}")
        fix = found.get("fix")
        raise Failure(message, fix=str(fix) if fix else None, code=int(found.get("exit_code") or EXIT_FAILED))


def start_command(place: Home) -> str:
    """The command that starts the daemon of `place`, as it can be typed here."""
    if place.is_default and _unit().exists():
        return "systemctl --user start kairosd"
    return f"{_home_prefix(place)}{_daemon()}"


def restart_command(place: Home) -> str:
    """The command that restarts the daemon of `place`."""
    if place.is_default and _unit().exists():
        return "systemctl --user restart kairosd"
    return f"stop it with Ctrl-C, then {_home_prefix(place)}{_daemon()}"


def _home_prefix(place: Home) -> str:
    return "" if place.is_default else f"KAIROS_HOME='{place.config.parent}' "


def _daemon() -> str:
    beside = Path(sys.executable).with_name("kairosd")
    return str(beside) if beside.exists() else "kairosd"


def _unit() -> Path:
    return Path.home() / ".config" / "systemd" / "user" / "kairosd.service"


def _candidates(place: Home) -> Iterator[Path]:
    """Where the socket may be. A login shell has `XDG_RUNTIME_DIR`, cron, sudo and services may not: look in both."""
    yield socket_path(place)
    if place.is_default:
        yield Path(f"/run/user/{os.geteuid()}/kairos/control.sock")
        yield place.state / "run" / "control.sock"
    if place.config.exists():
        configured = import_module("kairos_cli.configured").socket_setting(place.config)
        if configured:
            yield socket_path(place, configured)


def _target(path: tuple[str, ...], query: Mapping[str, object] | None) -> str:
    parameters = {name: value for name, value in (query or {}).items() if value is not None}
    encoded = f"?{urlencode(parameters)}" if parameters else ""
    if not all(part.strip() for part in path):
        raise Failure("an empty id names nothing", code=EXIT_USAGE)
    return "/" + "/".join(quote(part, safe="") for part in path) + encoded


def _head(reader: BufferedReader) -> tuple[int, dict[str, str]]:
    start = reader.readline(8192).split(None, 2)
    if len(start) < 2 or not start[0].startswith(b"HTTP/1."):
        raise ValueError("it closed the connection" if not start else "it does not speak HTTP")
    headers: dict[str, str] = {}
    while (line := reader.readline(8192)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(start[1]), headers


def _pieces(reader: BufferedReader, headers: Mapping[str, str]) -> Iterator[bytes]:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := _chunk_size(reader.readline(64)):
            yield _exactly(reader, size)
            reader.readline(8)
    elif "content-length" in headers:
        yield _exactly(reader, int(headers["content-length"]))
    else:
        yield reader.read()


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";")[0], 16)
    except ValueError:
        raise ValueError("the answer was cut off") from None


def _exactly(reader: BufferedReader, size: int) -> bytes:
    piece = reader.read(size)
    if len(piece) < size:
        raise ValueError("the answer was cut off")
    return piece


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LINE_MAX:
            raise ValueError("a line without an end")
        yield from (line for line in lines if line)


def _lost(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    fix = "see `kairos status` and its log: `journalctl --user -u kairosd`"
    if isinstance(error, TimeoutError):
        return SilentError("lost the daemon: it did not answer in time", fix=fix)
    return Failure(f"lost the daemon: {error}", fix=fix)
