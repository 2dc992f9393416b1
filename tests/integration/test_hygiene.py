"""Programs at their worst, a hundred of them, as root and as an ordinary user: memory stays flat, and nothing stays.

`hygiene.py` is the process that plays the daemon; what it leaves behind is looked for from outside, by a mark that
every process of a job has in its arguments or its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import kairosd
from kairosd.core.shell.plans import Stream
from kairosd.errors import ExecutorError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Launch

NOBODY = 65534
DRIVER = Path(__file__).with_name("hygiene.py")
PATIENCE = 60.0  # seconds for what takes one on an idle machine
GROWTH = 60_000  # kB; a hundred outputs that were kept would be 200 MB


@dataclass
class Play:
    """One user who runs `hygiene.py`, and what may be left of it."""

    folder: Path
    command: tuple[str, ...]
    environment: dict[str, str]
    mark: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [*self.command, str(DRIVER), str(self.folder), self.mark, *words]
        process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/"
        )
        self.started.append(process)
        return process

    def line(self, process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, f"it ended with {process.wait(PATIENCE)}"
        return json.loads(said)

    def leftovers(self) -> list[str]:
        """Processes of jobs, and folders and mounts."""
        found = [str(path) for path in (self.folder / "state").iterdir()]
        found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.folder) in line]
        drivers = {process.pid for process in self.started}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                said = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            except OSError:
                continue  # it ended while we looked, or is another user's
            if self.mark.encode() in said and int(path.name) not in drivers:
                found.append(f"{path.name}: {said[:200]!r}")
        return found

    def wait_until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, f"{what}: {self.leftovers()}"
            time.sleep(0.05)


def interpreter() -> str:
    """A Python that everybody may run: the tests' own may lie in a home."""
    for program in (sys.executable, "/usr/bin/python3"):
        script = "import os, sys; os.stat(os.path.realpath(sys.executable)); sys.exit(sys.version_info < (3, 11))"
        words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", program, "-c", script]
        if subprocess.run(words, capture_output=True, cwd="/", check=False).returncode == 0:
            return program
    pytest.skip("no Python that an ordinary user may run")


@pytest.fixture(params=["myself", "ordinary user"])
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    command: tuple[str, ...] = (sys.executable,)
    with tempfile.TemporaryDirectory(prefix="kairos-hygiene-") as name:
        folder = Path(name)
        for each in ("state", "work"):
            (folder / each).mkdir()
        if request.param == "ordinary user":
            if os.getuid() != 0:
                pytest.skip("we are one already")
            words = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
            command = (*words, interpreter())
            for path in (folder, folder / "state", folder / "work"):
                os.chown(path, NOBODY, NOBODY)
        packages = [str(Path(kairosd.__file__).parents[1]), *(path for path in sys.path if "site-packages" in path)]
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(packages), "HOME": "/nonexistent"}
        made = Play(folder, command, environment, f"hygiene-{os.getpid()}-{time.monotonic_ns()}")
        yield made
        for process in made.started:
            process.kill()
            process.communicate()


def end(process: subprocess.Popen[str]) -> None:
    assert process.wait(PATIENCE) == 0


def test_a_hundred_bad_programs_leave_nothing_and_take_no_memory(
    play: Play, record_testsuite_property: Callable[[str, object], None]
) -> None:
    process = play.start("storm", "100")
    found = play.line(process)
    assert found["jobs"] == 100
    assert set(found["kinds"]) == {"bomb", "double", "flood", "sleep", "stubborn"}
    for name in ("daemon", "executor"):
        record_testsuite_property(f"{name}_kb", found[name])
        assert found[name][1] - found[name][0] < GROWTH, found
    assert found["children"] == []
    assert found["descriptors"][0] == found["descriptors"][1]
    end(process)
    assert play.leftovers() == []


def test_a_fork_bomb_is_bounded(play: Play, record_testsuite_property: Callable[[str, object], None]) -> None:
    process = play.start("bomb")
    found = play.line(process)
    record_testsuite_property("tasks", found["peak"])
    assert found["peak"] > 200, "it did explode"
    assert found["peak"] < 15_000, "the kernel's own limit is elsewhere; unbounded it fills 32,768 in the time it has"
    end(process)
    assert play.leftovers() == []


def test_a_crowd_leaves_room_for_its_neighbours(play: Play) -> None:
    process = play.start("crowd")
    assert play.line(process)["codes"] == [0] * 5
    end(process)
    assert play.leftovers() == []


@pytest.fixture
async def executor() -> AsyncIterator[ProcessExecutor]:
    made = ProcessExecutor()
    yield made
    await made.close()


TRUE = Launch(("/bin/true",), {}, "/", Stream.OWN, timeout=60.0, output_limit=100)


@pytest.mark.anyio
async def test_a_group_that_somebody_removed_costs_one_job_and_no_more(executor: ProcessExecutor) -> None:
    assert (await executor.run(TRUE)).code == 0
    made = [*Path("/sys/fs/cgroup").glob(f"**/kairos-{executor.pid}.*")]
    if not made:
        pytest.skip("NOT TESTED: no control groups here")
    for folder in made:
        folder.rmdir()
    with pytest.raises(ExecutorError):
        await executor.run(TRUE)
    assert [(await executor.run(TRUE)).code for _ in range(3)] == [0, 0, 0]


@pytest.mark.anyio
async def test_a_job_that_finds_no_descriptors_leaves_none_and_no_group(executor: ProcessExecutor) -> None:
    assert (await executor.run(TRUE)).code == 0
    open_now = Path(f"/proc/{executor.pid}/fd")

    def state() -> tuple[int, int]:
        return len([*open_now.iterdir()]), len([*Path("/sys/fs/cgroup").glob(f"**/kairos-{executor.pid}.*")])

    before, highest = state(), max(int(each.name) for each in open_now.iterdir())
    usual = resource.prlimit(executor.pid or 0, resource.RLIMIT_NOFILE)
    for limit in range(3, highest + 12):
        resource.prlimit(executor.pid or 0, resource.RLIMIT_NOFILE, (limit, usual[1]))
        with contextlib.suppress(ExecutorError):
            await executor.run(TRUE)
    resource.prlimit(executor.pid or 0, resource.RLIMIT_NOFILE, usual)
    assert (await executor.run(TRUE)).code == 0
    descriptors, groups = state()
    assert descriptors == before[0]
    assert groups <= before[1]


@pytest.mark.parametrize("victim", ["daemon", "executor"])
def test_nothing_survives_the_death_of(play: Play, victim: str) -> None:
    process = play.start("hang")
    pids = play.line(process)
    play.wait_until(lambda: len(play.leftovers()) >= 8, "the jobs run")
    os.kill(pids[victim], signal.SIGKILL)
    if victim == "executor":
        assert play.line(process) == {"failed": 4, "again": "again\n"}
        end(process)
    play.wait_until(lambda: play.leftovers() == [], "something is left over")
    play.wait_until(lambda: not Path(f"/proc/{pids['executor']}").exists(), "the executor is left over")


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["1", "2"])
def test_ten_gigabytes_of_output_pass_by(
    play: Play, stream: str, record_testsuite_property: Callable[[str, object], None]
) -> None:
    process = play.start("flood", stream)
    found = play.line(process)
    record_testsuite_property("seconds", found["seconds"])
    assert (found["code"], found["truncated"]) == (0, True)
    for name in ("daemon", "executor"):
        assert found[name][1] - found[name][0] < GROWTH, found
    end(process)
