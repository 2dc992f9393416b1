"""Lines that an attacker tried, and ordinary ones beside them, under an owner's list of eight commands."""

from __future__ import annotations

import time

import pytest

from kairosd.core.levels import Ruling
from kairosd.core.paths import matches
from kairosd.core.policy import Policy, worst
from kairosd.core.shell.programs import ProgramClass, read_use
from kairosd.core.shell.syntax import read_line
from kairosd.core.shell.verdicts import Place, judge_command
from kairosd.errors import ShellFormError
from kairosd.programs import load_programs

EIGHT = ("git status", "git log", "ls", "cat", "grep", "rg", "echo", "find")
POLICY = Policy(allow=tuple(tuple(prefix.split()) for prefix in EIGHT))
BIN = (".venv/bin",)


def allowed(line: str, policy: Policy = POLICY) -> bool:
    try:
        plan = read_line(line)
    except ShellFormError:
        return False
    opinions = [
        opinion
        for command, cwd in plan.commands
        for opinion in judge_command(
            policy, command, use=read_use(command, load_programs(), bins=BIN), place=Place("/ws", cwd, str)
        )
    ]
    return worst(opinions).ruling is Ruling.ALLOW


HOSTILE = r"""
git log --format=mine
git log --pretty=mine
git log --format=fuller:%G?
git log --format='%h %+GS'
git log --pretty=tformat:%GG
git log --pretty='date: %G?'
git log -gp
git log --walk-reflogs -p
git log -5p
git log -1 -U1
git log --cc
git log --diff-merges=on
git log --no-pager -p --ext-diff
git --no-pager log -p
git --no-pager log --output=x
git --no-pager -c core.fsmonitor=touch status
git -P -p log
git -P -C / status
git --no-pager push
git --no-pager --help log
git --help log
git --no-pager -- log
rg --path-separator '\x1b' -l hello
rg --path-separator='\x07' -l hello
rg -d
.venv/bin/ls
.venv/bin/cat a.txt
.venv/bin/git status
./.venv/bin/grep x a.txt
grep -f/etc/passwd a.txt
grep -of ../secret a.txt
grep -5f ../secret a.txt
rg -f../secret -o .
find . -newermm ../secret
find . -printf '\0033[2J'
echo -n -e '\e[2J'
cat a.txt <(ls)
cat < //dev//tcp/1/1
ls ;; cat a.txt
"""


@pytest.mark.parametrize("line", HOSTILE.strip().split("\n"))
def test_what_an_attacker_tried_is_not_allowed(line: str) -> None:
    assert not allowed(line)


BENIGN = r"""
git log --format='%h: %s'
git log --format='date: %ad' --date=short
git log --pretty='format:%h %s'
git log --pretty=fuller -1
git log --format=
git log -g -3
git log --simplify-by-decoration --oneline
git log --left-only --cherry-pick main...HEAD
git log --grep-reflog=commit -g
git log -S hello --no-ext-diff --no-textconv
rg --path-separator / -l hello
grep -n5 hello a.txt
grep -rn3 hello src
grep -5 hello a.txt
find . '(' -name a.txt -o -name b.txt ')' -type f
cd src && cat ../a.txt
"""


@pytest.mark.parametrize("line", BENIGN.strip().split("\n"))
def test_what_a_developer_reads_with_is_allowed(line: str) -> None:
    assert allowed(line)


@pytest.mark.parametrize(
    "line",
    [
        "git for-each-ref --format='%(*signature:grade)'",
        "git for-each-ref --sort=signature:grade",
        "git branch --sort=-*signature",
        "git tag -l --sort=signature",
        "jq -r '\"DM======\" | @base32d' a.json",
    ],
)
def test_no_key_or_format_starts_what_the_repository_names(line: str) -> None:
    assert not allowed(line, Policy())
    assert allowed("git for-each-ref --sort=-committerdate --format='%(refname:short)'", Policy())


def test_a_list_names_the_systems_program_and_not_one_of_that_name_in_the_workspace() -> None:
    use = read_use(next(read_line(".venv/bin/ls").commands)[0], load_programs(), bins=BIN)
    assert use is not None
    assert (use.borrowed, use.kind) == (True, ProgramClass.CONFINED)
    assert allowed(".venv/bin/ls", Policy(allow=((".venv/bin/ls",),)))
    assert allowed(".venv/bin/pytest -q", Policy(allow=(("pytest",),)))


def test_a_glob_of_many_stars_is_matched_at_once() -> None:
    deep = "/".join("abcdefghijklmnopqrstuvwxyz")
    started = time.perf_counter()
    assert not matches(deep, ["**/" * 20 + "nothing"])
    assert matches(deep, ["**/" * 20 + "z"])
    assert not matches(deep, ["/".join(["**", "?"] * 20) + "/nothing"])
    assert time.perf_counter() - started < 1.0
