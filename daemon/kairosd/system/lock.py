"""One daemon for each home, and one for each workspace whichever home it is named in (flock(2))."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from kairosd.errors import AlreadyRunningError
from kairosd.wire import Home, HomeError, check_private


class Lock:
    """A held lock. It ends with `release` or with the process; the file stays, since removing it would race."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    def release(self) -> None:
        """Lets others have it. Twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def lock_home(place: Home) -> Lock:
    """Holds `place` for this process. Raises `AlreadyRunningError` naming the process that has it."""
    place.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    return _hold(
        place.state / "lock", str(place.state), fix="`kairos status` asks it; KAIROS_HOME=DIR makes a second home"
    )


def lock_workspace(workspace: Path, folder: Path) -> Lock:
    """Holds the folder `workspace` by its identity (device and inode), so that a link or second name is the same one.

    `folder` is where all daemons of this user look: `locks_folder()`. Raises `AlreadyRunningError`, `HomeError`,
    `FileNotFoundError` for a workspace that is not there.
    """
    found = workspace.stat()
    if folder.is_symlink():  # in a folder that everybody may write to, a link would lead us elsewhere
        raise HomeError(f"{folder} is a link: Kairos will not use it")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(folder)
    name = f"workspace-{found.st_dev:x}-{found.st_ino:x}.lock"
    return _hold(folder / name, str(workspace), fix="remove the workspace from one of the two configurations")


def locks_folder(runtime: str | None) -> Path:
    """Where workspaces are locked: in `runtime` (`XDG_RUNTIME_DIR`), else in a folder of this user's in /tmp.

    Not in the home: two homes of one user must see each other's locks.
    """
    user = os.geteuid()
    for base in (runtime, f"/run/user/{user}"):
        if base and Path(base).is_dir() and Path(base).stat().st_uid == user:
            return Path(base) / "kairos-locks"
    return Path("/tmp") / f"kairos-{user}"


def holder(path: Path) -> str:
    """Who holds or last held the lock file `path`, as it was written there: the process id; empty when unknown."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""


def _hold(path: Path, what: str, *, fix: str) -> Lock:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        process = holder(path)
        named = f" (process {process})" if process else ""
        raise AlreadyRunningError(f"another daemon{named} is already at work on {what}", fix=fix) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n{what}\n".encode("utf-8", "surrogateescape"))
    return Lock(descriptor, path)
