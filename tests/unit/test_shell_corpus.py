"""The corpus of shell tricks: nothing that must not run is allowed, and what is ordinary is."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from kairosd.core.levels import Opinion, Ruling
from kairosd.core.policy import Policy, worst
from kairosd.core.shell.programs import read_use
from kairosd.core.shell.syntax import read_line
from kairosd.core.shell.verdicts import Place, judge_command
from kairosd.errors import ShellFormError, ToolError
from kairosd.programs import load_programs
from kairosd.system.files import LocalFiles

SHARED = os.environ.get("KAIROS_SHARED")
ALLOWED = ("git status", "git log", "ls", "cat", "grep", "rg", "echo", "find")
POLICY = Policy(allow=tuple(tuple(prefix.split()) for prefix in ALLOWED))
ROOT = "/ws"


def _corpus() -> list[tuple[str, str, str]]:
    if not SHARED:
        return []
    with (Path(SHARED) / "security" / "shell_bypasses.tsv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(json.loads(row["command_json"]), row["category"], row["expected"]) for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with what the corpus presumes: files, a link to a secret, a nested repository, a planted program."""
    outside = tmp_path_factory.mktemp("home")
    (outside / "id_rsa").write_text("secret\n")
    root = tmp_path_factory.mktemp("workspace")
    for name in ("a.txt", "b.txt", "README.md", "file with space.txt", "evil/ls", "evil.sh", "evilrepo/.git/config"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("hello world\n")
    (root / "link").symlink_to(outside / "id_rsa")
    return root


def _verdict(line: str, folder: Path) -> Opinion:
    try:
        plan = read_line(line)
    except ShellFormError as error:
        return Opinion(Ruling.DENY, str(error))
    opinions: list[Opinion] = []
    for command, cwd in plan.commands:
        place = Place(ROOT, cwd, lambda path: LocalFiles().resolve(folder, path))
        opinions += judge_command(POLICY, command, use=read_use(command, load_programs()), place=place)
    return worst(opinions)


@pytest.mark.skipif(not SHARED, reason="KAIROS_SHARED does not say where the corpus is")
@pytest.mark.parametrize("ruling", ["allow", "not-allow"])
def test_every_command_of_the_corpus_is_judged_as_it_must_be(ruling: str, folder: Path) -> None:
    wrong = []
    for line, category, expected in _corpus():
        if expected == ruling:
            verdict = _verdict(line, folder)
            if (verdict.ruling is Ruling.ALLOW) != (expected == "allow"):
                wrong.append((line, category, verdict))
    assert wrong == []


def test_a_link_out_of_the_workspace_is_denied(folder: Path) -> None:
    with pytest.raises(ToolError):
        LocalFiles().resolve(folder, "link")
    assert _verdict("cat link", folder).ruling is Ruling.DENY
    assert _verdict("cat a.txt", folder).ruling is Ruling.ALLOW
