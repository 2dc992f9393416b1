"""Manners of the process: one a home, refusals with a line, signals, pause, and a journal that verifies."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from tests.e2e.brain import Brain, about_last_commit
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, repository


@pytest.fixture
def daemon(tmp_path: Path, brain: Brain, make_daemon: Make) -> Daemon:
    brain.act = about_last_commit
    folder = repository(tmp_path / "engine")
    return make_daemon(Settings({"engine": folder}, {"scripted": brain.section("anthropic")}, "scripted"))


def test_a_second_daemon_on_the_same_home_is_refused(daemon: Daemon) -> None:
    daemon.start()
    first, pid = daemon.process, daemon.status()["pid"]
    daemon.process = None
    daemon.start(ready=False)
    code = daemon.wait_end(30)
    daemon.process, second = first, daemon.process
    if second is not None and second.poll() is None:
        second.kill()
    assert code == 1
    assert f"process {pid}" in daemon.tail()
    assert daemon.status()["pid"] == pid, "the first one is not disturbed"


def test_what_the_owner_has_set_for_other_programs_is_not_in_the_way(daemon: Daemon) -> None:
    """uvicorn and FastAPI read these at their import or start; for a format or exporter they have not, they fail."""
    others = {
        "OTEL_PROPAGATORS": "b3multi", "OTEL_PYTHON_TRACER_PROVIDER": "sdk_tracer_provider",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "WEB_CONCURRENCY": "auto", "FORWARDED_ALLOW_IPS": "nobody", "UVICORN_PORT": "none",
    }  # fmt: skip
    daemon.start(env=others)
    assert daemon.status()["state"] == "ready"
    assert daemon.hook("ping", b"{}", delivery="1", signature=None).status == 401, "the hooks' server is there too"


def test_a_wrong_key_in_the_configuration_ends_with_78_and_its_line(daemon: Daemon) -> None:
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace("spacing_seconds", "spacing_secnods"))
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "spacing_seconds" in one)
    daemon.start(ready=False)
    assert daemon.wait_end(30) == 78
    said = daemon.tail()
    assert f"config.toml:{line}" in said
    assert "spacing_seconds" in said, "the nearest key is named"
    assert daemon.kairos("status").returncode == 3, "no daemon answers"


def test_sigterm_ends_it_with_0_within_ten_seconds(daemon: Daemon, brain: Brain) -> None:
    daemon.start()
    brain.hold()
    daemon.kairos("tell", "--no-wait", "what changed in the last commit?", check=True)
    daemon.wait_for(lambda: brain.turns, "a run is at work")
    assert daemon.stop(seconds=10.0) == 0
    brain.release()
    daemon.start()
    daemon.wait_for(lambda: daemon.json("runs")[0]["state"] == "done_unchecked", "the run is taken up again")
    assert "Begin the engine" in daemon.json("runs")[0]["result"]


def test_what_runs_dreams_and_questions_need_is_loaded_by_the_first_of_them(daemon: Daemon) -> None:
    """The memory of an idle daemon and its way to ready hang on it: bench/footprint.py."""
    runs = {
        "app.running",
        "engine.runs",
        "engine.ending",
        "engine.ledger",
        "engine.guide",
        "engine.checks",
        "core.aims",
    }
    dreams = {"app.dreams", "engine.dream", "engine.keeping", "core.dream_checks", "core.dream", "core.evidence"}
    questions = {"engine.undo", "engine.why", "engine.conversation"}
    looks = {"engine.remembering", "engine.indexing", "store.search", "core.search"}

    def loaded() -> set[str]:
        return set(re.findall(r"^import 'kairosd\.([\w.]+)'", daemon.log.read_text(), re.MULTILINE))

    daemon.start(env={"PYTHONVERBOSE": "1"})
    daemon.status()
    assert "engine.dispatch" in loaded()
    assert not loaded() & (runs | dreams | questions | looks)
    daemon.kairos("tell", "what changed in the last commit?", check=True)
    daemon.kairos("why", daemon.json("runs")[0]["id"], check=True)
    assert loaded() >= runs | {"engine.why", "engine.conversation"}
    assert not loaded() & {"app.dreams", "engine.dream", "engine.keeping"}


def test_paused_means_paused_also_after_a_restart(daemon: Daemon, brain: Brain, tmp_path: Path) -> None:
    daemon.start()
    daemon.kairos("pause", check=True)
    assert daemon.status()["state"] == "paused"
    daemon.restart()
    assert daemon.status()["state"] == "paused"
    (tmp_path / "engine" / "new.txt").write_text("x\n")
    told = daemon.kairos("tell", "what changed in the last commit?", cwd=tmp_path / "engine")
    assert told.returncode == 0, "the owner is served while paused"
    time.sleep(2)
    assert brain.decisions == []
    daemon.kairos("resume", check=True)
    daemon.wait_for(lambda: brain.decisions, "what happened meanwhile is looked at")


def test_the_journal_verifies_and_a_changed_line_is_named(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    daemon.kairos("tell", "what changed in the last commit?", cwd=tmp_path / "engine", check=True)
    daemon.restart(kill=True)
    daemon.kairos("journal", "verify", check=True)
    daemon.stop()
    (file,) = (daemon.state / "journal").rglob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b'"seq":2', b'"seq":3')
    file.write_bytes(b"".join(lines))
    verified = daemon.kairos("journal", "verify")
    assert verified.returncode == 1
    assert f"{file.name}:2" in verified.stdout + verified.stderr


def test_an_ordinary_day_leaves_no_warning_in_the_log(daemon: Daemon, tmp_path: Path) -> None:
    daemon.start()
    daemon.kairos("tell", "what changed in the last commit?", cwd=tmp_path / "engine", check=True)
    run = daemon.json("runs")[0]["id"]
    for words in (["status"], ["runs", run], ["why", run], ["approvals"], ["pause"], ["resume"], ["workspace", "list"]):
        daemon.kairos(*words, check=True)
    assert daemon.stop() == 0
    told = daemon.log.read_text().splitlines()
    assert told, "the log is where it is looked for"
    assert [line for line in told if "warning" in line.lower() or "warnings.warn" in line] == []
