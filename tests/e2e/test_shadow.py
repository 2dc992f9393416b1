"""A trigger in the shadow, end to end with real processes: it writes down, is rated, is promoted, and acts."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.brain import Brain
from tests.e2e.conftest import Make
from tests.e2e.daemon import Settings, repository

TIDY = {"reason": "a file was saved", "verdict": "act", "goal": "tidy the notes", "confidence": 90, "wake_seconds": 0}
MORE = '[initiative.triggers]\nfiles = "shadow"  # on trial\n'


def test_a_trigger_writes_down_is_rated_is_promoted_and_acts(tmp_path: Path, brain: Brain, make_daemon: Make) -> None:
    folder = repository(tmp_path / "engine")
    brain.decide = lambda _: TIDY
    daemon = make_daemon(Settings({"engine": folder}, {"m": brain.section("openai")}, "m", more=MORE))
    daemon.start()
    (folder / "notes.txt").write_text("first\n")
    (made,) = daemon.wait_for(lambda: daemon.json("decisions", "--shadow", "--state", "act"), "the shadow's decision")
    assert (made["verdict"], made["goal"], made["run"], made["source"]) == ("act", "tidy the notes", None, "files")
    assert "acted" in daemon.kairos("decisions", "--shadow").stdout
    assert "would have acted: a file was saved — tidy the notes" in daemon.kairos("journal").stdout
    assert daemon.json("runs") == []
    assert daemon.kairos("rate", str(made["events"][0]), "useful").stdout.startswith("useful: d_")
    refused = daemon.kairos("rate", str(made["id"]), "missed")
    assert (refused.returncode, "say useful or noise" in refused.stderr) == (2, True)
    (row,) = daemon.json("cost", "--calibration")
    assert (row["trigger"], row["acted"], row["useful"], row["unpriced_calls"]) == ("files", 1, 1, 1)
    assert daemon.kairos("promote", "fils").returncode == 2
    promoted = daemon.kairos("promote", "files")
    assert "1 decision; would have acted 1" in promoted.stdout
    assert 'files = "on"  # on trial\n' in daemon.config.read_text()
    daemon.wait_for(lambda: '"mode": "on",\n    "trigger": "files"' in daemon.kairos("promote", "--json").stdout, "it")
    (folder / "notes.txt").write_text("second\n")
    (run,) = daemon.wait_for(lambda: daemon.json("runs", "--state", "done_unchecked"), "a run")
    assert (run["goal"], run["trigger"]) == ("tidy the notes", "files")
    assert daemon.kairos("promote", "files", "--back").returncode == 0
    assert 'files = "shadow"  # on trial\n' in daemon.config.read_text()
