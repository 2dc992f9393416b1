"""`kairos stop --all` ends everything within a second, whatever hangs; measured from outside, with real processes."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.brain import PROVIDERS, Brain, use
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, repository

Record = Callable[[str, object], None]
PROMISE = 1.0  # second, from the request to the answer
# The test's bound on `kairos stop --all` as a process, with its start, on a machine that others share.
BOUND = 3.0
MAKEFILE = """hang:
\ttrap '' TERM INT HUP; setsid sh -c "trap '' TERM; while :; do sleep {mark}; done" & while :; do sleep {mark}; done
"""


@pytest.fixture
def record(record_testsuite_property: Record) -> Record:
    """Where the measured times go: `--junit-xml` writes them down."""
    return record_testsuite_property


@pytest.fixture
def mark() -> str:
    """A number of seconds that no other process on this machine sleeps."""
    return f"7{os.getpid()}.{time.monotonic_ns() % 1_000_000}"


@pytest.fixture
def folder(tmp_path: Path, mark: str) -> Path:
    return repository(tmp_path / "engine", {"README.md": "# Engine\n", "Makefile": MAKEFILE.format(mark=mark)})


@pytest.fixture
def daemon(folder: Path, brain: Brain, make_daemon: Make) -> Daemon:
    made = make_daemon(Settings({"engine": folder}, {"scripted": brain.section(PROVIDERS[0])}, "scripted"))
    text = made.config.read_text()
    made.config.write_text(text.replace('repo = "ada/engine"', 'level = "sandboxed"\nrepo = "ada/engine"'))
    made.start()
    return made


def living(mark: str) -> list[int]:
    """The processes with `mark` among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it ended while we looked
    return found


def stop_all(daemon: Daemon, record: Record) -> dict[str, Any]:
    """What `kairos stop --all --json` prints; it took no longer than it may."""
    began = time.monotonic()
    found: dict[str, Any] = daemon.json("stop", "--all")
    took = time.monotonic() - began
    record("stop_all_seconds", round(took, 2))
    assert took < BOUND, f"the promise is {PROMISE} s"
    return found


def begin(daemon: Daemon, brain: Brain, mark: str) -> str:
    """Starts a run whose command never ends and heeds no signal; its id, once the processes are there."""
    brain.act = lambda _: use("shell", command="make hang", timeout=600)
    run = str(daemon.json("tell", "make it hang", "--no-wait")["run"])
    daemon.wait_for(lambda: len(living(mark)) >= 2, "the command hangs")
    return run


def state_of(daemon: Daemon, run: str) -> str:
    return str(daemon.json("runs", run)["state"])


def assert_stays_stopped(daemon: Daemon, brain: Brain, run: str) -> None:
    """After a restart nothing goes on and the pause holds."""
    asked = brain.calls
    daemon.start(looked=False)
    daemon.wait_for(lambda: state_of(daemon, run) == "cancelled", "the run is cancelled")
    assert daemon.status()["state"] == "paused"
    time.sleep(0.5)
    assert brain.calls == asked
    assert daemon.kairos("journal", "verify").returncode == 0
    assert not (daemon.state / "stopped").exists()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Another process's transaction, which nobody can write beside."""
    connection = sqlite3.connect(database, isolation_level=None, timeout=10)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_a_model_that_never_answers(daemon: Daemon, brain: Brain, record: Record) -> None:
    brain.hold()
    run = daemon.json("tell", "what is new?", "--no-wait")["run"]
    daemon.wait_for(lambda: brain.turns, "the model is asked")
    assert stop_all(daemon, record) == {"stopped": [run], "recorded": True, "marked": False}
    assert state_of(daemon, run) == "cancelled"
    daemon.kill()
    brain.release()
    assert_stays_stopped(daemon, brain, run)


def test_a_command_that_heeds_no_signal(daemon: Daemon, brain: Brain, mark: str, record: Record) -> None:
    run = begin(daemon, brain, mark)
    assert stop_all(daemon, record)["stopped"] == [run]
    assert living(mark) == []
    assert state_of(daemon, run) == "cancelled"
    daemon.stop()
    assert_stays_stopped(daemon, brain, run)
    daemon.kairos("resume", check=True)
    brain.act = lambda _: use("finish", answer="done", checks=[])
    assert json.loads(daemon.kairos("tell", "again", "--json", check=True).stdout)["answer"] == "done"


def test_a_locked_database(daemon: Daemon, brain: Brain, mark: str, record: Record) -> None:
    run = begin(daemon, brain, mark)
    with locked(daemon.state / "kairos.db"):
        assert stop_all(daemon, record) == {"stopped": [run], "recorded": False, "marked": True}
        assert living(mark) == []
        asked = brain.calls
        time.sleep(1)
        assert "not on record" in daemon.kairos("resume").stderr
    daemon.wait_for(lambda: state_of(daemon, run) == "cancelled", "the stop is on record")
    daemon.wait_for(lambda: not (daemon.state / "stopped").exists(), "the mark is gone")
    assert brain.calls == asked
    assert daemon.status()["state"] == "paused"


def test_a_kill_before_the_stop_is_on_record(daemon: Daemon, brain: Brain, mark: str, record: Record) -> None:
    run = begin(daemon, brain, mark)
    with locked(daemon.state / "kairos.db"):
        assert not stop_all(daemon, record)["recorded"]
        daemon.kill()
    assert_stays_stopped(daemon, brain, run)
    assert living(mark) == []


def test_a_full_disk(daemon: Daemon, brain: Brain, mark: str, record: Record) -> None:
    """No file of the daemon's may grow any more: what a full disk does to a database."""
    run = begin(daemon, brain, mark)
    assert daemon.process is not None
    before = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (0, before[1]))
    found = stop_all(daemon, record)
    assert found == {"stopped": [run], "recorded": False, "marked": True}
    assert living(mark) == []
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, before)
    daemon.wait_for(lambda: state_of(daemon, run) == "cancelled", "the stop is on record")


@pytest.mark.parametrize("which", ["server", "both"])
def test_an_executor_that_does_not_answer(daemon: Daemon, brain: Brain, mark: str, record: Record, which: str) -> None:
    run = begin(daemon, brain, mark)
    assert daemon.process is not None
    (waiting,) = children_of(daemon.process.pid)
    (server,) = children_of(waiting)
    for pid in [server] if which == "server" else [server, waiting]:
        os.kill(pid, signal.SIGSTOP)
    assert stop_all(daemon, record)["stopped"] == [run]
    daemon.wait_for(lambda: not living(mark), "the programs die with the executor", 2.0, pause=0.02)
    assert daemon.stop() == 0
    assert not Path(f"/proc/{waiting}").exists()


def children_of(parent: int) -> list[int]:
    ours = f"PPid:\t{parent}\n"
    return [pid for pid in living("kairosd.executor") if ours in Path(f"/proc/{pid}/status").read_text()]


def test_a_daemon_that_does_not_answer(daemon: Daemon, brain: Brain, mark: str) -> None:
    run = begin(daemon, brain, mark)
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)
    told = daemon.kairos("stop", "--all")
    assert told.returncode == 1
    assert f"kill -KILL {daemon.process.pid}" in told.stderr
    daemon.kill()
    daemon.wait_for(lambda: not living(mark), "the programs die with the daemon")
    assert_stays_stopped(daemon, brain, run)
