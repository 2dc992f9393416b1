"""`kairosd explain` as a process: what the gate would say, without a daemon and without running anything."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kairosd.core.levels import Level

MODEL = '[models.a]\nprovider = "local"\n'
CORPUS = "security/shell_bypasses.tsv"
EIGHT = ["git status", "git log", "ls", "cat", "grep", "rg", "echo", "find"]
PATIENCE = 60.0  # seconds


@dataclass(frozen=True)
class Told:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Ground:
    """A home, and a folder that is the current one."""

    home: Path
    folder: Path

    def config(self, text: str) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        (self.home / "config.toml").write_text(MODEL + text)

    def workspace(self, level: str = "sandboxed", more: str = "") -> None:
        self.config(f'{more}[[workspaces]]\npath = "{self.folder}"\nlevel = "{level}"\n')

    def explain(self, *words: str, stdin: str | bytes = "") -> Told:
        found = subprocess.run(
            [sys.executable, "-m", "kairosd.main", "explain", *words],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            cwd=self.folder,
            env={**os.environ, "KAIROS_HOME": str(self.home)},
            timeout=PATIENCE,
        )
        return Told(found.returncode, found.stdout.decode(), found.stderr.decode())

    def one(self, command: str, *words: str) -> dict[str, Any]:
        told = self.explain(command, "--json", *words)
        assert told.code == 0, told.err
        (row,) = told.rows
        return row


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "a.txt").write_text("hello\n")
    return Ground(tmp_path / "home", folder)


def test_without_configuration_repository_or_daemon_it_answers(ground: Ground) -> None:
    told = ground.explain("cat a.txt | head -5 && ls")
    assert told.code == 0
    assert told.out.splitlines()[1] == "plan       cat a.txt | head -5 && ls"
    assert told.out.splitlines()[-1].startswith("verdict    allow: ")
    assert told.err == ""
    assert not (ground.home / "state").exists()


def test_nothing_is_run(ground: Ground) -> None:
    ground.workspace("project")
    for command in ("touch made", "ls; touch made", "rm a.txt"):
        assert ground.one(command)["verdict"] == "allow"
    assert sorted(path.name for path in ground.folder.iterdir()) == ["a.txt"]


def test_each_command_is_told_with_every_opinion_and_the_verdict_with_what_decided(ground: Ground) -> None:
    ground.workspace(more='[policy]\ndeny = ["git push"]\nask = ["make"]\n')
    row = ground.one("ls 2>/dev/null && make all; git push origin main")
    assert (row["verdict"], row["command"]) == ("deny", "ls 2>/dev/null && make all; git push origin main")
    assert "git push" in row["reason"]
    assert [each["argv"] for each in row["commands"]] == [["ls"], ["make", "all"], ["git", "push", "origin", "main"]]
    first, second, third = ({one["verdict"] for one in each["opinions"]} for each in row["commands"])
    assert (first, "ask" in second, "deny" in second, "deny" in third) == ({"allow"}, True, False, True)
    assert row["plan"]["pipelines"][0]["commands"][0]["stderr"] == "null"
    assert (row["level"], row["taint"], row["workspace"]) == ("sandboxed", "owner", "app")
    shown = ground.explain("ls 2>/dev/null && make all; git push origin main").out
    assert "2. make all" in shown
    assert row["reason"] in shown.splitlines()[-1]


def test_it_tells_which_hosts_a_command_would_reach(ground: Ground) -> None:
    rules = '[[policy.rules]]\nverdict = "deny"\nhost = "*.internal.example.org"\n'
    ground.workspace(more=f'[policy]\nhosts = ["packages.example.org", "*.example.org"]\n{rules}')
    reached = ["packages.example.org", "*.example.org", "-*.internal.example.org"]
    row = ground.one("make all && ls", "--level", "project")
    assert [each["hosts"] for each in row["commands"]] == [reached, []]
    assert f"   reaches {', '.join(reached)}" in ground.explain("make all", "--level", "project").out.splitlines()
    for words in (("--level", "sandboxed"), ("--level", "project", "--taint", "collaborator")):
        assert ground.one("make all", *words)["commands"][0]["hosts"] == []


def test_a_line_that_is_not_plain_has_no_plan_but_a_reason_and_a_rewrite(ground: Ground) -> None:
    row = ground.one("echo hi > out.txt")
    assert (row["verdict"], row["plan"]) == ("deny", None)
    assert row["reason"]
    assert row["fix"]
    assert f"fix        {row['fix']}" in ground.explain("echo hi > out.txt").out


def test_level_and_taint_can_be_supposed(ground: Ground) -> None:
    ground.workspace("suggest")
    wanted = {"observe": "deny", "suggest": "ask", "sandboxed": "allow", "project": "allow", "open": "allow"}
    assert {level.label: ground.one("make", "--level", level.label)["verdict"] for level in Level} == wanted
    assert ground.one("make")["verdict"] == "ask"
    assert ground.one("make", "--level", "open", "--taint", "collaborator")["verdict"] == "ask"
    assert ground.one("ls", "--taint", "public")["verdict"] == "deny"
    assert ground.explain("ls", "--level", "boss").code == 2


def test_the_workspace_is_the_named_one_or_the_one_around_or_the_only_one(ground: Ground, tmp_path: Path) -> None:
    for name in ("lib", "new"):
        (tmp_path / name).mkdir()
    spaces = "".join(f'[[workspaces]]\npath = "{tmp_path}/{name}"\nlevel = "project"\n' for name in ("lib", "new"))
    ground.config(spaces)
    lost = ground.explain("ls")
    assert (lost.code, "lib, new" in lost.err) == (2, True)
    assert ground.one("make", "-w", "lib")["workspace"] == "lib"
    assert ground.explain("ls", "-w", "nowhere").code == 2
    ground.config(f'{spaces}[[workspaces]]\npath = "{ground.folder}"\n')
    assert ground.one("make")["verdict"] == "ask"
    other = tmp_path / "other.toml"
    other.write_text(f"{MODEL}[policy]\nallow = []\n")
    row = ground.one("ls", "--config", str(other))
    assert (row["workspace"], row["verdict"]) == ("app", "ask")
    other.write_text('[policy]\nallow = ["bash -c"]\n')
    broken = ground.explain("ls", "--config", str(other))
    assert (broken.code, "bash" in broken.err) == (78, True)


def test_a_trusted_workspaces_own_file_counts(ground: Ground) -> None:
    (ground.folder / ".kairos.toml").write_text('[policy]\ndeny = ["ls"]\n')
    ground.workspace()
    assert ground.one("ls")["verdict"] == "allow"
    ground.config(f'[[workspaces]]\npath = "{ground.folder}"\ntrusted = true\n')
    assert ground.one("ls")["verdict"] == "deny"


def test_check_is_for_ci(ground: Ground) -> None:
    assert ground.explain("ls", "--check").code == 0
    assert ground.explain("ls; make", "--check").code == 1
    assert ground.explain("echo $HOME", "--check").code == 1
    both = json.dumps("ls") + "\n" + json.dumps("make") + "\n"
    assert ground.explain("--file", "-", "--json", "--check", stdin=both).code == 1
    assert ground.explain("--file", "-", "--json", "--check", stdin=json.dumps("ls")).code == 0


def test_a_file_is_answered_line_by_line_and_a_bad_line_costs_no_other(ground: Ground) -> None:
    commands = ["ls", "echo 'a\nb'", "make", "echo $(id)", "\ud800", "", "x" * 10_000, "ls \u2028 b"]
    lines = [json.dumps(command) for command in commands]
    text = "\n".join([*lines[:2], "ls", '{"a": 1}', "[", *lines[2:]]) + "\n\n"
    (ground.folder / "commands.txt").write_text(text)
    told = ground.explain("--file", "commands.txt", "--json")
    assert told.code == 2
    assert [row["command"] for row in told.rows] == commands
    assert all(set(row) == {"command", "verdict", "reason", "plan"} for row in told.rows)
    assert [row["verdict"] for row in told.rows] == ["allow", "allow", "ask", *["deny"] * 5]
    assert [line.split(": ")[1] for line in told.err.splitlines()] == [f"commands.txt:{number}" for number in (3, 4, 5)]
    assert ground.explain("--file", "-", "--json", stdin=b'"ls"\n"\xff"\n"ls"').out.count("allow") >= 2
    assert ground.explain("--file", "nowhere.txt", "--json").code == 2
    assert ground.explain("--file", "commands.txt").code == 2
    assert ground.explain("ls", "--file", "commands.txt", "--json").code == 2
    assert ground.explain().code == 2


def test_what_could_steer_a_terminal_is_shown_as_an_escape(ground: Ground) -> None:
    out = ground.explain("echo 'a\nb' '\u202etxt'").out
    assert "\u202e" not in out
    assert all(line.isprintable() for line in out.splitlines())


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


def test_of_the_corpus_nothing_runs_that_must_not_and_everything_that_may(ground: Ground) -> None:
    """The policy of the corpus: eight commands. Its paths begin with /ws, its secrets lie in /home/u."""
    shared = os.environ.get("KAIROS_SHARED")
    if shared is None or not (Path(shared) / CORPUS).is_file():
        pytest.skip("KAIROS_SHARED names no folder with the corpus of shell commands")
    with (Path(shared) / CORPUS).open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    folder, secret = ground.folder, ground.folder.parent / "id_rsa"
    secret.write_text("secret")
    for name in ("README.md", "b.txt", "file with space.txt", "-x"):
        (folder / name).write_text("hello world\n")
    git(folder, "init")
    git(folder, "add", "--", "a.txt", "README.md")
    git(folder, "commit", "-m", "fix")
    (folder / "link").symlink_to(secret)
    (folder / "evilrepo").mkdir()
    git(folder / "evilrepo", "init")
    git(folder / "evilrepo", "config", "core.fsmonitor", "touch /tmp/pwned;")
    ground.workspace(more=f"[policy]\nallow = {json.dumps(EIGHT)}\n")
    commands = [json.loads(row["command_json"]).replace("/ws", str(folder)) for row in rows]
    told = ground.explain("--file", "-", "--json", stdin="\n".join(map(json.dumps, commands)))
    assert told.code == 0, told.err
    assert len(told.rows) == len(rows) > 100
    wrong = [
        (row["category"], found["command"], found["verdict"], found["reason"])
        for row, found in zip(rows, told.rows, strict=True)
        if (row["expected"] == "allow") is not (found["verdict"] == "allow")
    ]
    assert wrong == []


@pytest.mark.parametrize("size", [20_000, 1 << 40], ids=["long", "without end"])
def test_a_policy_file_is_not_read_further_than_it_may_be_long(ground: Ground, size: int) -> None:
    ground.config(f'[[workspaces]]\npath = "{ground.folder}"\nlevel = "sandboxed"\ntrusted = true\n')
    with (ground.folder / ".kairos.toml").open("wb") as file:
        file.truncate(size)
    row = ground.one("ls")
    assert (row["verdict"], "more than" in row["reason"]) == ("ask", True)


def test_a_line_of_absurd_depth_is_no_command(ground: Ground) -> None:
    told = ground.explain("--file", "-", "--json", stdin="[" * 200_000 + '\n"ls"\n')
    assert (told.code, [row["verdict"] for row in told.rows]) == (2, ["allow"])
    assert "-:1: not a JSON string" in told.err
