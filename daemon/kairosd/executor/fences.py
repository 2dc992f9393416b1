"""Fences: control groups with a bound on their tasks, for a user whom RLIMIT_NPROC does not bind (cgroups(7)).

Each job has one to itself, so that a fork bomb leaves room for its neighbours; it goes on to the next job afterwards.

Version 1 has a hierarchy for `pids`, version 2 has one for all. In version 2 a group that holds processes shares out
no controller, so where our own does not, one is made at the root, which does.
"""

from __future__ import annotations

import os

MOUNT = "/sys/fs/cgroup"
PREFIX = "kairos-"


class Fences:
    """The fences of this executor: as many as it ever had jobs at once."""

    def __init__(self, tasks: int) -> None:
        self.tasks = tasks
        self.made: list[str] = []
        self.free: list[str] = []
        self.spent: list[str] = []  # of jobs that did not start
        self.count = 0
        self.place: str | None = None
        for place in _places():
            _sweep(place)
            try:
                self.free.append(self._make(place))
            except OSError:
                continue  # not ours to write in
            self.place = place
            return

    def take(self) -> str | None:
        """The folder of a group that no job has; None on a machine where none can be made.

        Raises `OSError` where one could be made before: then the job must not start unwatched.
        """
        if self.place is None:
            return None
        return self.free.pop() if self.free else self._make(self.place)

    def _make(self, place: str) -> str:
        folder = f"{place}/{PREFIX}{os.getpid()}.{self.count}"
        self.count += 1
        os.mkdir(folder)  # noqa: PTH102 - pathlib is not loaded here
        if not _write(f"{folder}/pids.max", str(self.tasks)):
            _remove(folder)
            raise OSError(f"{folder} takes no bound on its tasks")
        self.made.append(folder)
        return folder

    def give_back(self, fence: str | None) -> None:
        """The job that had it is over."""
        if fence is not None:
            self.free.append(fence)

    def discard(self, fence: str | None) -> None:
        """The job that had it did not start, perhaps because of it: somebody else may have removed the group."""
        if fence is not None:
            self.made.remove(fence)
            self.spent.append(fence)
        self.spent = [each for each in self.spent if not _remove(each)]

    def remove(self) -> None:
        """Removes them all, but for one in which something still lives."""
        for folder in (*self.made, *self.spent):
            _remove(folder)


def enter(folder: str) -> bool:
    """Puts the calling process into the group, with all it will start; whether that worked."""
    return _write(f"{folder}/cgroup.procs", "0")


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


def _remove(folder: str) -> bool:
    """Whether it is gone; if not, the next executor sweeps it."""
    try:
        os.rmdir(folder)  # noqa: PTH106
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _sweep(place: str) -> None:
    """Removes what executors that were killed have left behind."""
    try:
        names = os.listdir(place)  # noqa: PTH208
    except OSError:
        return
    for name in names:
        pid = name.removeprefix(PREFIX).partition(".")[0]
        if name.startswith(PREFIX) and pid.isdigit() and not os.access(f"/proc/{pid}", os.F_OK):
            _remove(f"{place}/{name}")


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
