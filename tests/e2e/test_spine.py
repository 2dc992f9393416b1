"""The spine, end to end with real processes: what the owner sees, asked of a scripted model over both protocols."""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.brain import (
    IGNORE,
    PROVIDERS,
    Brain,
    about_last_commit,
    add_hello,
    by_goal,
    edit_workflow,
)
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, git, repository

SETTLE_SECONDS = 3.0  # long enough for a second, wrong call to follow the right one
BODY = json.dumps(
    {
        "action": "opened",
        "repository": {"full_name": "ada/engine", "name": "engine", "owner": {"login": "ada"}, "private": False},
        "issue": {
            "number": 7, "title": "The engine stops", "body": "It stopped.", "state": "open", "labels": [],
            "user": {"login": "stranger"}, "author_association": "NONE", "html_url": "https://example.org/7",
        },
        "sender": {"login": "stranger", "type": "User"},
    }
).encode()  # fmt: skip


@dataclass
class Spine:
    """A ready daemon on one repository, with its scripted model."""

    daemon: Daemon
    brain: Brain
    folder: Path

    def code(self) -> str:
        """The code of the only open question."""
        (question,) = self.daemon.json("approvals", "--state", "open")
        return str(question["code"])


@pytest.fixture(params=PROVIDERS)
def spine(request: pytest.FixtureRequest, tmp_path: Path, brain: Brain, make_daemon: Make) -> Spine:
    folder = repository(tmp_path / "engine")
    (folder / "src" / "engine.py").write_text("SPEED = 2\n")
    (folder / "NOTES.md").write_text("faster\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Double the speed")
    brain.act = by_goal({"last commit": about_last_commit, "hello": add_hello, "workflow": edit_workflow})
    daemon = make_daemon(Settings({"engine": folder}, {"scripted": brain.section(request.param)}, "scripted"))
    daemon.start()
    return Spine(daemon, brain, folder)


def test_a_question_is_answered_where_it_was_asked(spine: Spine) -> None:
    told = spine.daemon.kairos("tell", "what changed in the last commit?", cwd=spine.folder)
    assert told.returncode == 0, told
    for fact in ("Double the speed", "NOTES.md", "src/engine.py"):
        assert fact in told.stdout
    assert "README.md" not in told.stdout, "that file was not in the last commit"
    as_json = spine.daemon.json("tell", "what changed in the last commit?", "-w", "engine")
    assert {"event", "run", "state", "answer", "price"} <= set(as_json)
    assert as_json["state"] == "done_unchecked"
    assert "Double the speed" in as_json["answer"]
    assert as_json["price"] is None, "a model without a tariff is priced unknown, never 0"
    assert git(spine.folder, "branch", "--list", "kairos/*") == "", "a question changes nothing"


def test_saving_a_file_leads_to_one_decision(spine: Spine) -> None:
    assert spine.brain.calls == 0, "the first sight of a workspace costs nothing"
    (spine.folder / "src" / "engine.py").write_text("SPEED = 3\n")
    spine.daemon.wait_for(lambda: spine.brain.decisions, "the change is looked at")
    time.sleep(SETTLE_SECONDS)
    assert len(spine.brain.decisions) == 1
    (decision,) = spine.daemon.json("decisions")
    assert (decision["verdict"], decision["reason"]) == ("ignore", IGNORE["reason"])
    assert "src/engine.py" in spine.brain.decisions[0].text


def test_a_webhook_is_taken_once(spine: Spine) -> None:
    daemon = spine.daemon
    first = daemon.hook("issues", BODY, delivery="d-1")
    assert first.status == 202, first
    again = {"duplicate_of": first.body["id"]}
    daemon.wait_for(lambda: spine.brain.decisions, "the webhook is decided about")
    daemon.wait_for(lambda: daemon.json("events", "--limit", "1")[0]["state"] == "settled", "it is settled")
    assert daemon.hook("issues", BODY, delivery="d-2", signature=None).status == 401
    assert daemon.hook("issues", BODY, delivery="d-2", signature="sha256=" + "0" * 64).status == 401
    assert _same(daemon.hook("issues", BODY, delivery="d-1"), again)
    assert _same(daemon.hook("issues", BODY, delivery="d-3"), again), "the delivery id is not signed"
    other = daemon.hook("issues", BODY.replace(b"stops", b"stopt"), delivery="d-1")
    assert _same(other, again), "the same delivery id"
    daemon.restart(kill=True)
    assert _same(daemon.hook("issues", BODY, delivery="d-1"), again), "also after kill -9"
    assert daemon.hook("issues", BODY, delivery=None).status == 400
    time.sleep(SETTLE_SECONDS)
    assert len(spine.brain.decisions) == 1, "a duplicate is no news"
    counters = daemon.status()["counters"]
    assert (counters["webhook_accepted"], counters["webhook_duplicate"]) == (1, 4)


def test_a_change_lands_as_a_branch_and_nothing_else_moves(spine: Spine) -> None:
    (spine.folder / "src" / "engine.py").write_text("SPEED = 4  # not committed\n")
    (spine.folder / "untracked.txt").write_text("mine\n")
    spine.daemon.wait_for(lambda: spine.brain.decisions, "the owner's own change was looked at")
    before = _owners_view(spine.folder)
    told = spine.daemon.kairos("tell", "add a line 'hello' to README.md", cwd=spine.folder)
    assert told.returncode == 0, (told, spine.daemon.tail())
    assert _owners_view(spine.folder) == before
    branch = _branch(spine.folder)
    assert branch in told.stdout, "the answer ends with the line to merge it"
    assert git(spine.folder, "diff", "--name-only", f"main...{branch}").split() == ["README.md"]
    author, committer, message = git(spine.folder, "log", "-1", "--format=%an <%ae>%x00%cn%x00%B", branch).split("\0")
    assert (author, committer) == ("Ada Lovelace <ada@example.org>", "Kairos")
    assert "Assisted-by: Kairos" in message
    git(spine.folder, "merge", "--quiet", "--no-edit", branch)
    assert (spine.folder / "README.md").read_text() == "# Engine\nhello\n"
    (run, *_) = spine.daemon.json("runs")
    assert (run["state"], run["branch"]) == ("done", branch)


def test_why_goes_back_to_the_event(spine: Spine) -> None:
    spine.daemon.kairos("tell", "add a line 'hello' to README.md", cwd=spine.folder, check=True)
    (run,) = spine.daemon.json("runs")
    (event,) = spine.daemon.json("events", "--limit", "1")
    calls = spine.daemon.json("runs", run["id"])["calls"]
    notices = [one for one in spine.daemon.json("notices") if one["cause"] == run["id"]]
    assert notices, "a landed branch is told"
    things = [event["id"], run["decision"], run["id"], calls[-1]["id"], notices[0]["id"]]
    for thing in things:
        chain = spine.daemon.json("why", thing)
        assert chain[0]["id"] == thing
        if thing != event["id"]:
            assert chain[-1]["id"] == event["id"], f"{thing} does not lead back to the event"
    assert "hello" in spine.daemon.kairos("why", run["id"], check=True).stdout
    assert spine.daemon.kairos("why", "r_doesnotexist").returncode == 2


def test_an_approval_survives_a_restart_and_lands(spine: Spine) -> None:
    asked = spine.daemon.kairos("tell", "write the workflow", cwd=spine.folder)
    code = spine.code()
    assert asked.returncode == 4, asked
    assert re.fullmatch(r"[a-z]{5}", code)
    assert code in asked.stdout + asked.stderr
    spine.daemon.restart(kill=True)
    assert spine.code() == code
    turns = len(spine.brain.turns)
    spine.daemon.kairos("approve", code, check=True)
    spine.daemon.wait_for(lambda: spine.daemon.json("runs")[0]["state"] == "done", "the run goes on to its end")
    assert len(spine.brain.turns) == turns + 1, "the model is told the result, and not asked again for the call"
    branch = _branch(spine.folder)
    assert git(spine.folder, "show", f"{branch}:.github/workflows/x.yml") == "on: push\n"
    assert not (spine.folder / ".github").exists()
    assert spine.daemon.kairos("approve", code).returncode != 0, "a question is answered once"


def test_a_denied_approval_changes_nothing(spine: Spine) -> None:
    assert spine.daemon.kairos("tell", "write the workflow", cwd=spine.folder).returncode == 4
    spine.daemon.kairos("deny", spine.code(), check=True)
    spine.daemon.wait_for(lambda: spine.daemon.json("runs")[0]["ended"], "the run ends")
    assert git(spine.folder, "branch", "--list", "kairos/*") == ""
    assert spine.daemon.json("runs")[0]["state"] == "done_unchecked"
    assert spine.daemon.json("approvals")[0]["state"] == "denied"


def _same(answer: object, body: object) -> bool:
    return (getattr(answer, "status", None), getattr(answer, "body", None)) == (200, body)


def _branch(folder: Path) -> str:
    branches = git(folder, "branch", "--list", "kairos/*", "--format=%(refname:short)").split()
    assert len(branches) == 1, branches
    return str(branches[0])


def _owners_view(folder: Path) -> dict[str, str]:
    """Everything of the checkout that belongs to the owner, as bytes or their hash."""
    files = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }
    index = folder / ".git" / "index"
    # The index first: `git status` may refresh it.
    kept = {"index": hashlib.sha256(index.read_bytes()).hexdigest()}
    kept["HEAD"] = (folder / ".git" / "HEAD").read_text() + git(folder, "rev-parse", "HEAD")
    kept["status"] = git(folder, "--no-optional-locks", "status", "--porcelain=v2", "--branch", "-z")
    kept["config"] = (folder / ".git" / "config").read_text()
    kept["stash"] = git(folder, "stash", "list")
    return files | kept
