"""Approvals with real processes: a line that is not plain runs in the sandbox after a yes, once or for always."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.e2e.brain import Brain, finish, results, use
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, git, repository
from tests.servers import Reply, Request

LINE = 'for word in one two; do echo "$word" >> words.txt; done; sh ./add.sh'


def ask_for_a_loop(request: Request) -> Reply:
    seen = results(request)
    if not seen:
        return use("shell", command=LINE)
    if len(seen) == 1:
        return use("request_approval", command=LINE, reason=f"attempt of turn {request.turns}")
    return finish(seen[-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = repository(tmp_path / "engine")
    (made / "add.sh").write_text("echo three >> words.txt\n")
    git(made, "add", "--all")
    git(made, "commit", "--quiet", "--message", "Add a script")
    return made


@pytest.fixture
def daemon(folder: Path, brain: Brain, make_daemon: Make) -> Daemon:
    brain.act = ask_for_a_loop
    made = make_daemon(Settings({"engine": folder}, {"scripted": brain.section("openai")}, "scripted"))
    made.start()
    return made


def test_a_line_is_asked_about_once_granted_and_taken_back(daemon: Daemon, folder: Path) -> None:
    asked = daemon.kairos("tell", "write the words", cwd=folder)
    (question,) = daemon.json("approvals", "--state", "open")
    assert asked.returncode == 4, asked
    assert LINE.split(";")[0] in question["question"]
    assert 'The model says: "attempt' in question["question"]
    assert (question["goal"], question["always"]) == ("write the words", True)
    daemon.restart(kill=True)
    assert daemon.json("approvals", "--state", "open") == [question]

    daemon.kairos("approve", question["code"], "--always", check=True)
    daemon.wait_for(lambda: daemon.json("runs")[0]["ended"], "the run goes on to its end")
    (run,) = daemon.json("runs")
    assert git(folder, "show", f"{run['branch']}:words.txt") == "one\ntwo\nthree\n"
    assert not (folder / "words.txt").exists()

    (grant,) = daemon.json("grants")
    assert daemon.kairos("tell", "write the words again", cwd=folder).returncode != 4, "exactly that is allowed now"
    calls = daemon.json("runs", daemon.json("runs")[0]["id"])["calls"]
    assert any(call["rule"].endswith(f"({grant['id']})") for call in calls)
    assert daemon.json("grants")[0]["uses"] == 1
    assert "add.sh" in daemon.kairos("grants", check=True).stdout

    (folder / "add.sh").write_text("echo four >> words.txt\n")
    assert daemon.kairos("tell", "and again", cwd=folder).returncode == 4, "another script is another question"
    daemon.kairos("deny", daemon.json("approvals", "--state", "open")[0]["code"], check=True)

    (folder / "add.sh").write_text("echo three >> words.txt\n")
    daemon.kairos("grants", "revoke", grant["id"], check=True)
    assert daemon.json("grants") == []
    assert daemon.kairos("tell", "once more", cwd=folder).returncode == 4


def test_a_script_swapped_after_the_question_is_asked_about_anew(daemon: Daemon, folder: Path) -> None:
    assert daemon.kairos("tell", "write the words", cwd=folder).returncode == 4
    (run,) = daemon.json("runs")
    (script,) = daemon.root.rglob(f"*/{run['id']}/**/add.sh")
    script.write_text("echo evil >> words.txt\n")
    (first,) = daemon.json("approvals", "--state", "open")
    daemon.kairos("approve", first["code"], check=True)
    daemon.wait_for(
        lambda: [one["id"] for one in daemon.json("approvals", "--state", "open")] not in ([], [first["id"]]),
        "the question is asked anew",
    )
    assert not (script.parent / "words.txt").exists()
    (second,) = daemon.json("approvals", "--state", "open")
    assert "changed since it was asked" in second["rule"]
