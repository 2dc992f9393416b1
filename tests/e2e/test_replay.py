"""Replay of what a real daemon has recorded, with real git and a real sandbox behind it, after it has gone."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from tests.e2e.brain import PROVIDERS, Brain, about_last_commit, add_hello, by_goal, edit_workflow
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, git, repository


def lived(tmp_path: Path, brain: Brain, make_daemon: Make) -> Daemon:
    """A question, a change that lands, a change that the owner is asked about, a decision, and a kill."""
    folder = repository(tmp_path / "engine")
    brain.act = by_goal({"last commit": about_last_commit, "hello": add_hello, "workflow": edit_workflow})
    daemon = make_daemon(Settings({"engine": folder}, {"scripted": brain.section(PROVIDERS[0])}, "scripted"))
    daemon.start()
    assert daemon.kairos("tell", "what changed in the last commit?", cwd=folder).returncode == 0
    assert daemon.kairos("tell", "add hello to the README", cwd=folder).returncode == 0
    assert git(folder, "branch", "--list", "kairos/*")
    assert daemon.kairos("tell", "change the workflow", cwd=folder).returncode == 4
    daemon.restart(kill=True)
    (question,) = daemon.json("approvals", "--state", "open")
    assert daemon.kairos("approve", str(question["code"])).returncode == 0
    daemon.wait_for(lambda: not [run for run in daemon.json("runs") if run["ended"] is None], "an end of every run")
    (folder / "README.md").write_text("another\n")
    daemon.wait_for(lambda: [one for one in daemon.json("decisions") if one["source"] != "owner"], "a decision")
    daemon.wait_for(lambda: not daemon.status()["queue"]["pending"], "an empty queue")
    daemon.stop()
    return daemon


def test_a_day_of_a_real_daemon_comes_out_as_it_was(tmp_path: Path, brain: Brain, make_daemon: Make) -> None:
    daemon = lived(tmp_path, brain, make_daemon)
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    done = daemon.kairos("replay", today, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["first"], answer["missing"]) == (0, None, [])
    assert answer["counts"]["run"] == 3
    assert answer["counts"]["decision"] >= 4

    (path,) = (daemon.state / "exchanges").rglob("*.jsonl")
    lines = path.read_text().splitlines()
    place, line = next((n, line) for n, line in enumerate(lines) if '"role":"decide"' in line)
    lines[place] = line.replace('"confidence":', '"confidence":1', 1)
    path.write_text("\n".join(lines) + "\n")
    done = daemon.kairos("replay", today, "--json")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["diverged"]) == (1, [json.loads(line)["cause"]])
