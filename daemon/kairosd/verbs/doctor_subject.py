"""What the doctor looks at, and what it says about it."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from kairosd.config import Config, Environment, load, read_environment
from kairosd.errors import ConfigError
from kairosd.frozen import frozen
from kairosd.wire import Home, HomeError, check_private, socket_path

ANSWER_SECONDS = 5.0


class Mark(StrEnum):
    """How a thing is. Only `fail` makes the doctor's exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@frozen
class Finding:
    """One line of the doctor's: `detail` is what was seen, `fix` what to do, empty where all is well."""

    mark: Mark
    detail: str
    fix: str = ""


@frozen
class Subject:
    """One installation. `config` is None where it is not usable, `problem` then says why.

    `status` is the running daemon's answer to `GET /status`, None without a daemon; `silence` why there is none.
    """

    place: Home
    environment: Environment
    config: Config | None
    problem: str
    status: Mapping[str, object] | None
    silence: str


def ok(detail: str) -> Finding:
    """All is well."""
    return Finding(Mark.OK, detail)


def warn(detail: str, fix: str = "") -> Finding:
    """It works, with less than it could."""
    return Finding(Mark.WARN, detail, fix)


def fail(detail: str, fix: str = "") -> Finding:
    """Something that Kairos needs does not work."""
    return Finding(Mark.FAIL, detail, fix)


def meet(place: Home) -> Subject:
    """Reads the configuration and asks the daemon, if there is one; changes nothing."""
    environment = read_environment()
    config, problem = None, ""
    try:
        config = load(None, folder=Path.cwd(), place=place, environment=environment)
    except ConfigError as error:
        problem = str(error)
    status, silence = _ask_daemon(place, config.daemon.socket if config else "")
    return Subject(place, environment, config, problem, status, silence)


def _ask_daemon(place: Home, configured: str) -> tuple[Mapping[str, object] | None, str]:
    try:
        path = socket_path(place, configured or None)
        check_private(path.parent)
    except HomeError as error:
        return None, str(error)
    connection = http.client.HTTPConnection("kairos", timeout=ANSWER_SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(ANSWER_SECONDS)
        connection.sock.connect(str(path))
        connection.request("GET", "/status")
        found = json.loads(connection.getresponse().read())
    except (FileNotFoundError, ConnectionRefusedError):
        return None, ""
    except (OSError, http.client.HTTPException, ValueError) as error:
        return None, f"it does not answer at {path}: {error}"
    finally:
        connection.close()
    return (found, "") if isinstance(found, dict) and "state" in found else (None, f"it answers nonsense at {path}")
