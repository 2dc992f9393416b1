"""Background work with the real daemon, the real sandbox and real processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from bench.crash import decide, payload
from tests.e2e.brain import Brain, finish, results, steps, use
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, git, repository

ROOT = Path(__file__).resolve().parents[2]
SLOW = (
    "import sys, time\n\nprint('begun', flush=True)\ntime.sleep(float(sys.argv[1]))\n"
    "open('made.txt', 'w').write('made\\n')\nprint('FAILED: two tests')\nsys.exit(3)\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return repository(tmp_path / "engine", {"README.md": "# Engine\n", "slow.py": SLOW})


@pytest.fixture
def slow() -> str:
    """How long the command takes, as a number that no other process has among its words."""
    return f"30.{os.getpid()}{time.monotonic_ns() % 1000}"


def started(folder: Path, brain: Brain, make_daemon: Make, *, patience: str = "") -> Daemon:
    daemon = make_daemon(Settings({"engine": folder}, {"scripted": brain.section("anthropic")}, "scripted"))
    if patience:
        daemon.command = (sys.executable, "-m", "bench.kills_daemon")
        daemon.env |= {"KAIROS_BENCH_PATIENCE": patience, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'daemon'}"}
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace('repo = "ada/engine"', 'level = "sandboxed"\nrepo = "ada/engine"'))
    daemon.start()
    return daemon


def begin(daemon: Daemon) -> None:
    """A failed workflow: it leads to a run that nobody waits for."""
    assert daemon.hook("workflow_run", payload("act-0001"), delivery="d-1").status == 202


def ended(daemon: Daemon) -> dict[str, object]:
    return dict(daemon.wait_for(lambda: [run for run in daemon.json("runs") if run["ended"]], "the run has ended")[0])


def parked(daemon: Daemon) -> str:
    def found() -> str:
        return next((run["id"] for run in daemon.json("runs") if run["parked_on"] == "task"), "")

    return daemon.wait_for(found, "the run waits for its task")


def is_running(word: str) -> bool:
    """Whether any process of the machine has this among its words."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in line.read_bytes():
                return True
        except OSError:
            continue  # it ended while we looked
    return False


def test_what_takes_more_than_fifteen_seconds_goes_on_and_is_reported(
    folder: Path, brain: Brain, make_daemon: Make
) -> None:
    brain.decide = decide
    brain.act = steps(
        use("shell", command="python3 slow.py 18"), finish("I wait for it."), finish("Two tests fail."),
    )  # fmt: skip
    daemon = started(folder, brain, make_daemon)
    begin(daemon)
    daemon.wait_for(lambda: daemon.status()["tasks"], "the command is in the background")
    run = parked(daemon)
    assert "slow.py 18" in daemon.kairos("status").stdout
    assert "running" in daemon.kairos("runs", run).stdout
    found = ended(daemon)
    (task,) = daemon.json("runs", str(found["id"]))["tasks"]
    assert (task["state"], task["code"], task["timed_out"]) == ("ended", 3, False)
    assert 17 <= task["seconds"] <= 30
    assert Path(task["output"]).read_text() == "begun\nFAILED: two tests\n"
    first = results(brain.turns[1])[0]
    assert f"goes on in the background as {task['id']}" in first
    assert f"[background] {task['id']}" in brain.turns[-1].text
    assert "[exit 3]" in brain.turns[-1].text
    assert (found["state"], found["result"]) == ("done_unchecked", found["result"])
    assert git(folder, "show", f"{found['branch']}:made.txt") == "made\n", "what it made in the background lands"
    (event,) = [one for one in daemon.json("events") if one["source"] == "task"]
    assert (event["key"], event["tier"], event["facts"]["exit_code"]) == (task["id"], "local", 3)
    calls = daemon.json("runs", str(found["id"]))["calls"]
    assert [call["state"] for call in calls if call["tool"] == "shell"] == ["succeeded"]
    assert [link["kind"] for link in daemon.json("why", task["id"])] == ["task", "call", "run", "decision", "event"]
    assert daemon.kairos("journal", "verify").returncode == 0


def test_the_owner_who_waits_gets_the_result_itself(folder: Path, brain: Brain, make_daemon: Make) -> None:
    brain.act = steps(use("shell", command="python3 slow.py 3"), finish("Two tests fail."))
    daemon = started(folder, brain, make_daemon, patience="1")
    assert daemon.kairos("tell", "run it").returncode == 0
    assert results(brain.turns[-1])[0].startswith("[exit 3]\nbegun")
    assert daemon.json("runs", daemon.json("runs")[0]["id"])["tasks"] == []


@pytest.mark.parametrize("way", ["stop", "stop --all", "terminate", "kill -9"])
def test_nothing_is_left_running(folder: Path, brain: Brain, make_daemon: Make, way: str, slow: str) -> None:
    brain.decide = decide
    brain.act = steps(use("shell", command=f"python3 slow.py {slow}"), finish("I wait."), finish("I have looked."))
    daemon = started(folder, brain, make_daemon, patience="1")
    begin(daemon)
    run = parked(daemon)
    assert is_running(slow)
    if way.startswith("stop"):
        daemon.kairos(*way.split(), check=True)
        assert daemon.json("runs", run)["state"] == "cancelled"
    elif way == "terminate":
        assert daemon.stop() == 0
    else:
        daemon.kill()
    daemon.wait_for(lambda: not is_running(slow), "its processes are gone", 5)
    if way.startswith("stop"):
        assert [task["state"] for task in daemon.json("runs", run)["tasks"]] == ["stopped"]
        assert daemon.kairos("undo", run).returncode == 0
        return
    daemon.start()
    assert ended(daemon)["state"] == "done_unchecked"
    assert [task["state"] for task in daemon.json("runs", run)["tasks"]] == ["lost"]
    assert "was lost" in brain.turns[-1].text
    assert [event["kind"] for event in daemon.json("events") if event["source"] == "task"] == ["lost"]
