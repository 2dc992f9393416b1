"""Silence is free: a world that has not changed costs no model call (seconds per phase: KAIROS_IDLE_SECONDS)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.e2e.brain import IGNORE, Brain, by_goal, edit_workflow, finish
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, repository

SECONDS = float(os.environ.get("KAIROS_IDLE_SECONDS", "12"))
SETTLE_SECONDS = 4.0  # long enough for a second, wrong call to follow the right one: ticks come every second
WAIT = {**IGNORE, "verdict": "wait", "reason": "a change is under way", "wake_seconds": 86_400}


def test_an_unchanged_world_costs_nothing(tmp_path: Path, brain: Brain, make_daemon: Make) -> None:
    folder = repository(tmp_path / "engine")
    brain.act = by_goal({"workflow": edit_workflow, "long": lambda _: finish("It took a while.")})
    daemon = make_daemon(
        Settings({"engine": folder}, {"scripted": brain.section("anthropic")}, "scripted", tick=every_second())
    )
    daemon.start()
    _make_the_world_look_busy(daemon, brain, folder)

    _stays_silent(daemon, brain, "with a dirty tree, an open approval, a parked run and a wait behind it")
    daemon.restart()
    _stays_silent(daemon, brain, "after a restart")
    daemon.restart(kill=True)
    _stays_silent(daemon, brain, "after kill -9")

    brain.decide = lambda _: IGNORE
    before = brain.calls
    (folder / "notes.txt").write_text("a third line\n")
    daemon.wait_for(lambda: brain.calls > before, "the change is looked at")
    time.sleep(SETTLE_SECONDS)
    assert brain.calls - before == 1, "one change is one look"

    _one_look_after_a_run(daemon, brain, folder)


def every_second() -> dict[str, object]:
    return {"enabled": True, "min_seconds": 1, "max_seconds": 1}


def _make_the_world_look_busy(daemon: Daemon, brain: Brain, folder: Path) -> None:
    parked = daemon.kairos("tell", "write the workflow")
    assert parked.returncode == 4, parked
    assert [one["state"] for one in daemon.json("approvals")] == ["open"]
    assert [one["state"] for one in daemon.json("runs")] == ["parked"]
    brain.decide = lambda _: WAIT
    (folder / "notes.txt").write_text("not committed\n")
    daemon.wait_for(lambda: brain.decisions, "the new file is looked at")
    daemon.wait_for(lambda: daemon.json("decisions", "--limit", "1")[0]["verdict"] == "wait", "the decision is stored")


def _stays_silent(daemon: Daemon, brain: Brain, when: str) -> None:
    calls, skipped = brain.calls, _skipped(daemon)
    time.sleep(SECONDS)
    assert brain.calls == calls, f"{brain.calls - calls} model calls {when}"
    assert _skipped(daemon) - skipped >= SECONDS / 3, f"no ticks came {when}: the silence proves nothing"
    assert daemon.status()["queue"]["parked"] == 1


def _skipped(daemon: Daemon) -> int:
    return int(daemon.status()["counters"]["ticks_skipped"])


def _one_look_after_a_run(daemon: Daemon, brain: Brain, folder: Path) -> None:
    brain.hold()
    before, turns = len(brain.decisions), len(brain.turns)
    told = daemon.kairos("tell", "--no-wait", "take a long look", check=True)
    assert told.returncode == 0
    daemon.wait_for(lambda: len(brain.turns) > turns, "the run has asked its model")
    (folder / "notes.txt").write_text("changed while a run was at work\n")
    time.sleep(SETTLE_SECONDS)
    assert len(brain.decisions) == before, "nobody decides about a workspace while a run is at work in it"
    brain.release()
    daemon.wait_for(lambda: len(brain.decisions) > before, "the change is looked at after the run")
    time.sleep(SETTLE_SECONDS)
    assert len(brain.decisions) - before == 1, "one look after the run"
