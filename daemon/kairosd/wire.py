"""What daemon and CLI share: places, exit codes, versions. Standard library only, and cheap to import.

The CLI imports this module and nothing else of the daemon: `kairos status` must load no third-party module.
Together with `config` it is the only reader of the environment.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

VERSION = "0.1.0"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_PARKED = 4
EXIT_CONFIG = 78

SOCKET_PATH_MAX = 100  # bytes; sun_path holds 108, and the sandbox mounts below it
ID_PREFIXES = {"e": "event", "d": "decision", "r": "run", "c": "call", "a": "approval", "n": "notice"}


class HomeError(Exception):
    """A folder Kairos would trust is not the caller's own, or the socket's path is too long."""


class Home:
    """Where one Kairos keeps its things (design §5). Paths are absolute; nothing is created here.

    A plain class: `dataclasses` would cost the CLI a fifth of its whole time.
    """

    __slots__ = ("config", "data", "is_default", "run", "state")

    def __init__(self, config: Path, state: Path, *, data: Path, run: Path, is_default: bool) -> None:
        self.config = config
        self.state = state
        self.data = data
        self.run = run
        self.is_default = is_default

    @property
    def database(self) -> Path:
        return self.state / "kairos.db"

    @property
    def journal(self) -> Path:
        return self.state / "journal"

    @property
    def transcripts(self) -> Path:
        return self.state / "transcripts"

    @property
    def exchanges(self) -> Path:
        """The record of model calls, by day: what `kairos replay` goes by."""
        return self.state / "exchanges"

    @property
    def checkouts(self) -> Path:
        return self.state / "checkouts"

    @property
    def patches(self) -> Path:
        return self.state / "patches"

    @property
    def tasks(self) -> Path:
        return self.state / "tasks"

    @property
    def search_index(self) -> Path:
        return self.state / "search.db"

    @property
    def blobs(self) -> Path:
        return self.state / "blobs"

    @property
    def memory(self) -> Path:
        return self.data / "memory"

    @property
    def models(self) -> Path:
        return self.data / "models"

    @property
    def socket(self) -> Path:
        return self.run / "control.sock"

    @property
    def stop_mark(self) -> Path:
        """There while an emergency stop is not on record: the next daemon begins with it."""
        return self.state / "stopped"

    def own_folders(self) -> tuple[Path, ...]:
        """The folders that belong to Kairos alone: no workspace may contain one or lie in one."""
        return (self.config.parent, self.state, self.data, self.run)


def home() -> Home:
    """Finds the home of this user's Kairos from `KAIROS_HOME`, else from the XDG base directories."""
    override = os.environ.get("KAIROS_HOME")
    if override:
        root = Path(override).expanduser().absolute()
        return Home(root / "config.toml", root / "state", data=root / "data", run=root / "run", is_default=False)
    user = Path.home()
    state = _xdg("XDG_STATE_HOME", user / ".local" / "state")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Home(
        config=_xdg("XDG_CONFIG_HOME", user / ".config") / "config.toml",
        state=state,
        data=_xdg("XDG_DATA_HOME", user / ".local" / "share"),
        run=Path(runtime) / "kairos" if runtime else state / "run",
        is_default=True,
    )


def socket_path(place: Home, configured: str | None = None) -> Path:
    """The control socket: `[daemon] socket` when set, else the home's. Raises `HomeError` when it is too long."""
    path = Path(configured).expanduser().absolute() if configured else place.socket
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise HomeError(
            f"the socket's path is longer than {SOCKET_PATH_MAX} bytes: {path} "
            "(set KAIROS_HOME, XDG_RUNTIME_DIR or [daemon] socket to something shorter)"
        )
    return path


def check_private(folder: Path) -> None:
    """Raises `HomeError` unless `folder`, where it exists, is the caller's and writable by nobody else."""
    try:
        found = folder.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise HomeError(f"{folder} is not a folder")
    if found.st_uid != os.geteuid():
        raise HomeError(f"{folder} belongs to another user: Kairos will not use it")
    if found.st_mode & 0o022:
        raise HomeError(f"{folder} is writable by others: chmod go-w {folder}")


def _xdg(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    base = Path(value) if value and value.startswith("/") else default
    return base / "kairos"
