"""Starting and ending the proxies of commands that may reach hosts: what the executor's process knows of them."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sys
from typing import Any

import kairosd
from kairosd.executor import processes

ACCOUNT_MAX = 200_000  # bytes; a proxy tells no more than some hundred places
PROXY = "kairosd.executor.proxy"
SOURCES = os.path.dirname(os.path.dirname(kairosd.__file__))  # noqa: PTH120 - pathlib is not loaded here
START = f"import sys; sys.path.append({SOURCES!r}); import {PROXY} as proxy; proxy.main()"
DOOR = 3


def start(reach: dict[str, Any]) -> tuple[int, int, int]:
    """Starts a proxy; its process id, the file that it leaves its account in, and the socket that leads to it.

    Raises `OSError`. The two descriptors are the caller's to close.
    """
    command = {
        "argv": [sys.executable, "-I", "-S", "-X", "utf8", "-c", START, str(DOOR)],
        "env": {},
        "cwd": "/",
        "stdin": "data",
        "stdout": "own",
        "stderr": "null",
        "inherit": {"0": base64.b64encode(json.dumps(reach).encode()).decode()},
    }
    ours, theirs = socket.socketpair()
    record = os.memfd_create("kairos-connections")
    try:
        with theirs:
            pid = processes.launch(command, (-1, record, -1), given={DOOR: theirs.fileno()})
    except (OSError, ValueError):
        os.close(record)
        ours.close()
        raise
    return pid, record, ours.detach()


def dismiss(pid: int) -> None:
    """Asks a proxy to write its account and end."""
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # it has ended: its account is there


def account(record: int) -> list[dict[str, Any]]:
    """What the proxy that has ended has noted, nothing where it was killed; closes the file."""
    with os.fdopen(record, "rb") as file:
        file.seek(0)
        text = file.read(ACCOUNT_MAX)
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) else []
