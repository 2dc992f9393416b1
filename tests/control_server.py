"""The control API on a real unix socket in a home of its own, over a `FakeDesk`, for the tests of API and CLI."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import uvicorn
from tests.fakes import FakeDesk

from kairosd import wire
from kairosd.http.control import build_control

PATIENCE = 30.0  # seconds; the machine is shared


@dataclass(frozen=True)
class Told:
    """One answer of the control API."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Ran:
    """One call of `kairos`."""

    code: int
    out: str
    err: str


class ControlServer:
    """Serves `desk` from `home`/run/control.sock while entered."""

    def __init__(self, *, version: str = wire.VERSION, heartbeat_seconds: float = 15.0) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="kairos-t-"))
        self.desk = FakeDesk()
        self.path = self.home / "run" / "control.sock"
        self._version, self._heartbeat = version, heartbeat_seconds

    def __enter__(self) -> Self:
        self.path.parent.mkdir(mode=0o700)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        app = build_control(self.desk, self._version, heartbeat_seconds=self._heartbeat)
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._listener = listener
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve(sockets=[listener])))
        self._thread.start()
        wait_for(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._listener.close()
        shutil.rmtree(self.home)

    def ask(self, method: str, target: str, body: object = None) -> Told:
        """One request with the standard library's client, so that ours is not its own witness."""
        connection = self.connect()
        content = None if body is None else json.dumps(body)
        connection.request(
            method, target, body=content, headers={"Content-Type": "application/json"} if content else {}
        )
        response = connection.getresponse()
        text = response.read()
        connection.close()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Told(response.status, headers, json.loads(text) if text else None)

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the socket."""
        connection = http.client.HTTPConnection("kairos", timeout=PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(PATIENCE)
        connection.sock.connect(str(self.path))
        return connection

    def kairos(self, *words: str, **options: Any) -> Ran:
        """`kairos WORDS` as a process of its own on this home."""
        return kairos(self.home, *words, **options)


def kairos(home: Path, *words: str, **options: Any) -> Ran:
    """`kairos WORDS` as a process of its own; `options` as of `subprocess.run`."""
    done = subprocess.run(
        [str(program("kairos")), *words],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
        check=False,
        **{"stdin": subprocess.DEVNULL, **options} if "input" not in options else options,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def program(name: str) -> Path:
    """An installed program of ours."""
    return Path(sys.executable).parent / name


def environment(home: Path) -> dict[str, str]:
    """An environment with nothing of the developer's own in it."""
    return {"KAIROS_HOME": str(home), "HOME": str(home), "PATH": os.environ["PATH"], "TZ": "UTC", "LANG": "C.UTF-8"}


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns once `condition` holds. Fails after `PATIENCE` seconds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
