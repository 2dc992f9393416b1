"""Fences: a control group with a bound on its tasks, for a user whom RLIMIT_NPROC does not bind (cgroups(7)).

Version 1 has a hierarchy for `pids`, version 2 has one for all. In version 2 a group that holds processes shares out
no controller, so where our own does not, one is made at the root, which does.
"""

from __future__ import annotations

import os

MOUNT = "/sys/fs/cgroup"
PREFIX = "kairos-"


def build(tasks: int) -> str | None:
    """The folder of a new group that holds at most `tasks` tasks; None where none can be made."""
    for place in _places():
        _sweep(place)
        folder = f"{place}/{PREFIX}{os.getpid()}"
        try:
            os.mkdir(folder)  # noqa: PTH102 - pathlib is not loaded here
        except OSError:
            continue  # not ours to write in
        if _write(f"{folder}/pids.max", str(tasks)):
            return folder
        remove(folder)
    return None


def enter(folder: str) -> bool:
    """Puts the calling process into the group, with all it will start; whether that worked."""
    return _write(f"{folder}/cgroup.procs", "0")


def remove(folder: str) -> None:
    """Removes the group, unless something still lives in it."""
    try:
        os.rmdir(folder)  # noqa: PTH106
    except OSError:
        return  # the next executor sweeps it


def _places() -> list[str]:
    places: list[str] = []
    try:
        with open("/proc/self/cgroup") as file:  # noqa: PTH123 - pathlib is not loaded here
            lines = file.read().splitlines()
    except OSError:
        return places
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "pids":
            return [f"{MOUNT}/pids{path}".rstrip("/")]
        if controllers == "":
            places = [f"{MOUNT}{path}".rstrip("/"), MOUNT]
    return places


def _sweep(place: str) -> None:
    """Removes what executors that were killed have left behind."""
    try:
        names = os.listdir(place)  # noqa: PTH208
    except OSError:
        return
    for name in names:
        pid = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and pid.isdigit() and not os.access(f"/proc/{pid}", os.F_OK):
            remove(f"{place}/{name}")


def _write(file: str, text: str) -> bool:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(descriptor, text.encode())
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
