"""Undo, by the owner's own command on real repositories: all of what a run left is taken back, or nothing is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.brain import PROVIDERS, Brain, by_goal, finish, results, steps, use
from tests.e2e.conftest import Make
from tests.e2e.daemon import Daemon, Settings, git, repository
from tests.servers import Reply, Request

HELLO = steps(use("read", path="README.md"), use("edit", path="README.md", old="", new="hello\n"), finish("added"))
MANY = steps(
    use("read", path="README.md"),
    use("edit", path="README.md", old="", new="hello\n"),
    use("write", path="docs/new.md", content="new\n"),
    use("shell", command="rm old.txt"),
    use("shell", command="chmod +x run.sh"),
    finish("changed"),
)
BROKEN = steps(
    use("read", path="README.md"),
    use("edit", path="README.md", old="", new="x\n"),
    use("sleep", seconds=60, reason="a build"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = repository(tmp_path / "engine", {"README.md": "# engine\n", "old.txt": "old\n", "run.sh": "#!/bin/sh\n"})
    (made / "README.md").chmod(0o640)
    return made


def started(folder: Path, brain: Brain, make_daemon: Make, more: dict[str, object] | None = None) -> Daemon:
    brain.act = by_goal({"hello": HELLO, "many": MANY, "hang": BROKEN})
    settings = Settings({"engine": folder}, {"scripted": brain.section(PROVIDERS[0])}, "scripted")
    daemon = make_daemon(settings)
    if more:
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
        daemon.config.write_text(daemon.config.read_text().replace("[[workspaces]]\n", f"[[workspaces]]\n{lines}"))
    daemon.start()
    return daemon


def tell(daemon: Daemon, goal: str) -> dict[str, Any]:
    told: dict[str, Any] = daemon.json("tell", goal, "-w", "engine")
    shown: dict[str, Any] = daemon.json("runs", told["run"])
    return shown


def seen(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file of the owner's with its content and permissions."""
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777) for path in files}


def test_a_branch_is_deleted_and_a_merged_one_is_reverted_on_another(
    folder: Path, brain: Brain, make_daemon: Make
) -> None:
    daemon = started(folder, brain, make_daemon)
    run = tell(daemon, "add hello")
    before = git(folder, "rev-parse", "HEAD")

    tried = daemon.kairos("undo", run["id"], "--dry-run")
    assert f"  delete the branch {run['branch']}" in tried.stdout
    assert daemon.json("runs", run["id"])["undone"] is None
    assert git(folder, "branch", "--list", run["branch"])
    undone = daemon.kairos("undo", run["id"])
    assert undone.returncode == 0, undone
    assert "prompts to" in undone.stdout, "what left the machine is listed"
    assert git(folder, "branch", "--list", "kairos/*") == ""
    assert git(folder, "rev-parse", "HEAD") == before
    assert "nothing" in daemon.kairos("undo", run["id"]).stdout
    assert "(undone)" in daemon.kairos("runs").stdout
    shown = daemon.json("runs", run["id"])
    assert (bool(shown["undone"]), shown["merge"]) == (True, None)
    # The journal's file follows the database by a moment.
    noted = b'"kind":"run.undone"'
    daemon.wait_for(lambda: any(noted in line for line in daemon.journal_lines()), "the undo is in the journal", 10)

    run = tell(daemon, "add hello")
    git(folder, "merge", "--quiet", run["branch"])
    (folder / "later.txt").write_text("later\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Go on")
    (line,) = [line for line in daemon.json("undo", run["id"])["undone"] if "git merge" in line]
    assert "hello" in (folder / "README.md").read_text(), "the owner's own branch is the owner's"
    git(folder, "merge", "--quiet", line.rpartition(" ")[2])
    assert (folder / "README.md").read_text() == "# engine\n"
    assert (folder / "later.txt").exists()
    assert daemon.kairos("undo", run["id"]).returncode == 0


def test_a_branch_that_somebody_went_on_with_stays(folder: Path, brain: Brain, make_daemon: Make) -> None:
    daemon = started(folder, brain, make_daemon)
    run = tell(daemon, "add hello")
    git(folder, "switch", "--quiet", run["branch"])
    refused = daemon.kairos("undo", run["id"])
    assert refused.returncode == 1
    assert "checked out" in refused.stderr
    (folder / "mine.txt").write_text("mine\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Mine")
    git(folder, "switch", "--quiet", "-")
    refused = daemon.kairos("undo", run["id"])
    assert refused.returncode == 1
    assert "+mine" in refused.stderr
    assert git(folder, "branch", "--list", run["branch"])


def test_direct_edits_are_restored_with_their_mode_and_only_if_nobody_touched_them(
    folder: Path, brain: Brain, make_daemon: Make
) -> None:
    daemon = started(folder, brain, make_daemon, {"level": "project", "landing": "direct"})
    before = seen(folder)
    run = tell(daemon, "change many")
    after = seen(folder)
    assert after["README.md"] == (b"# engine\nhello\n", 0o640)
    assert after["docs/new.md"][0] == b"new\n"
    assert "old.txt" not in after
    assert after["run.sh"][1] & 0o100
    assert run["branch"] is None
    assert git(folder, "branch", "--list", "kairos/*") == ""
    assert git(folder, "log", "--oneline").count("\n") == 1, "the owner commits"

    (folder / "README.md").write_text("# engine\nhello\nand mine\n")
    refused = daemon.kairos("undo", run["id"])
    assert refused.returncode == 1
    assert "+and mine" in refused.stderr
    assert (folder / "docs/new.md").exists(), "all or nothing"

    (folder / "README.md").write_bytes(after["README.md"][0])
    undone = daemon.kairos("undo", run["id"])
    assert undone.returncode == 0, undone
    assert seen(folder) == before


def test_below_its_level_direct_is_a_branch(folder: Path, brain: Brain, make_daemon: Make) -> None:
    daemon = started(folder, brain, make_daemon, {"level": "suggest", "landing": "direct"})
    before = seen(folder)
    assert tell(daemon, "add hello")["branch"]
    assert seen(folder) == before


def test_over_a_change_of_the_owners_direct_is_a_branch_that_says_why(
    folder: Path, brain: Brain, make_daemon: Make
) -> None:
    daemon = started(folder, brain, make_daemon, {"level": "project", "landing": "direct"})

    def act(request: Request) -> Reply:
        if len(results(request)) == 2:
            (folder / "README.md").write_text("# the owner's\n")
        return HELLO(request)

    brain.act = act
    run = tell(daemon, "add hello")
    assert run["branch"]
    assert (folder / "README.md").read_text() == "# the owner's\n"
    (notice,) = [one for one in daemon.json("notices") if one["cause"] == run["id"]]
    assert "README.md has changed since the run began" in notice["body"]


def test_what_is_under_way_is_stopped_first(folder: Path, brain: Brain, make_daemon: Make) -> None:
    daemon = started(folder, brain, make_daemon)
    run = daemon.json("tell", "hang", "-w", "engine", "--no-wait")["run"]
    daemon.wait_for(lambda: daemon.json("runs", run)["calls"][2:], "it sleeps")
    refused = daemon.kairos("undo", run)
    assert refused.returncode == 2
    assert "kairos stop" in refused.stderr
    assert daemon.kairos("stop", run).returncode == 0
    assert "checkout" in daemon.kairos("undo", run).stdout
    assert list((daemon.state / "checkouts").iterdir()) == []
