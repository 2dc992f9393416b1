"""A second parser, shfmt's, reads every line that we accept in the same way, and sees nothing but plain commands."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.shell_lines import EXAMPLES, lines, mutations, noise

from kairosd.core.shell.plans import Command, Plan, Stream
from kairosd.core.shell.syntax import read_line
from kairosd.errors import ShellFormError

SHFMT = Path(sys.executable).parent / "shfmt"
ORIGINALS = [
    "git log --format='%h %s' -5 | grep fix",
    "cd src && python -m pytest -q tests/a.py::test_b 2>&1 | tail -n 5",
    "find . -name '*.py' -exec grep -n \"a b\" {} \\;",
    "echo 'it'\"'\"'s' # ' \nls # '",
    "cat a.txt 2>/dev/null || echo none; ls -la",
    "rg -n \"x|y$\" -g '*.md' && [ -f a ] && wc -l < a",
    "(cd a; b) && echo $(ls) `ls` ${x} > f & time { ls; }",
]

pytestmark = pytest.mark.skipif(not SHFMT.exists(), reason="shfmt-py is not installed: the second parser did NOT check")
quick = settings(max_examples=EXAMPLES or 20, deadline=None, suppress_health_check=[HealthCheck.too_slow])

Found = tuple[list[str], list[Command]]


def second_reading(line: str) -> Found:
    """The operators and commands of a line as shfmt sees them; an assertion fails where it sees anything else."""
    done = subprocess.run([SHFMT, "-ln", "bash", "--to-json"], input=line.encode(), capture_output=True, check=False)
    assert done.returncode == 0, (line, done.stderr)
    found: Found = ([], [])
    for place, statement in enumerate(json.loads(done.stdout)["Stmts"]):
        found[0].extend([";"] * bool(place))
        walk(statement, found, after="")
    return found


def walk(statement: dict[str, Any], found: Found, *, after: str) -> None:
    assert statement.keys() <= {"Pos", "End", "Position", "Semicolon", "Cmd", "Redirs", "Comments"}, statement.keys()
    command = statement["Cmd"]
    if command["Type"] == "BinaryCmd":
        assert not statement.get("Redirs")
        walk(command["X"], found, after=command["Op"])
        found[0].append(command["Op"])
        walk(command["Y"], found, after=after)
        return
    assert command["Type"] == "CallExpr"
    assert command.keys() <= {"Type", "Pos", "End", "Args"}
    redirects = [
        (one.get("N", {}).get("Value", ""), one["Op"], word(one["Word"])) for one in statement.get("Redirs", [])
    ]
    if after == "|&":
        redirects.append(("2", ">&", "1"))
    found[1].append(redirected([word(one) for one in command["Args"]], redirects))


def redirected(argv: Sequence[str], redirects: Sequence[tuple[str, str, str]]) -> Command:
    goes = {"0": "", "1": "out", "2": "err"}
    for number, operator, target in redirects:
        if operator == "<":
            goes[number or "0"] = target
        elif operator == ">&":
            goes[number or "1"] = goes[target]
        else:
            assert target == "/dev/null"
            assert operator in (">", "&>")
            goes |= {"1": "null", "2": "null"} if operator == "&>" else {number or "1": "null"}
    assert goes.keys() == {"0", "1", "2"}
    stdout = {"out": Stream.OWN, "err": Stream.STDERR, "null": Stream.NULL}[goes["1"]]
    stderr = {"out": Stream.STDOUT, "err": Stream.OWN, "null": Stream.NULL}[goes["2"]]
    return Command(tuple(argv), goes["0"], stdout, stderr)


def word(node: dict[str, Any]) -> str:
    return "".join(part for piece in node["Parts"] for part in decoded(piece))


def decoded(piece: dict[str, Any]) -> Iterator[str]:
    assert not piece.get("Dollar")
    if piece["Type"] == "SglQuoted":
        yield piece.get("Value", "")
    elif piece["Type"] == "DblQuoted":
        for inner in piece.get("Parts", []):
            assert inner["Type"] == "Lit"
            yield re.sub(r'\\([$`"\\])', r"\1", inner["Value"])
    else:
        assert piece["Type"] == "Lit"
        yield re.sub(r"\\(.)", r"\1", piece["Value"], flags=re.DOTALL)


def first_reading(plan: Plan) -> Found:
    operators: list[str] = []
    for pipeline in plan.pipelines:
        operators += [pipeline.operator.value] if pipeline.operator.value else []
        operators += ["|"] * (len(pipeline.commands) - 1)
    return operators, [command for command, _ in plan.commands]


def check(line: str) -> bool:
    """Whether the line is plain; if it is, both readings are the same."""
    try:
        plan = read_line(line)
    except ShellFormError:
        return False
    operators, commands = second_reading(line)
    assert (["|" if operator == "|&" else operator for operator in operators], commands) == first_reading(plan)
    return True


@quick
@given(lines())
def test_what_we_accept_of_generated_lines_is_read_alike(line: str) -> None:
    check(line)


@quick
@given(noise)
def test_what_we_accept_of_noise_is_read_alike(line: str) -> None:
    check(line)


@quick
@given(mutations(ORIGINALS))
def test_what_we_accept_of_mutated_lines_is_read_alike(line: str) -> None:
    check(line)


@pytest.mark.parametrize(
    "line", ["a $b", "a > c", "(a)", "! a", "a &", "a $(b)", "A=1 b", "a $'b'", "a <<< b", "time a"]
)
def test_the_second_reading_sees_what_is_not_plain(line: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        second_reading(line)


def corpus() -> list[tuple[str, str]]:
    shared = os.environ.get("KAIROS_SHARED")
    if not shared:
        pytest.skip("KAIROS_SHARED is not set: the corpus of bypasses was NOT checked")
    with (Path(shared) / "security" / "shell_bypasses.tsv").open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(json.loads(row["command_json"]), row["expected"]) for row in rows]


def test_the_corpus_is_read_alike_and_every_allowed_line_is_plain() -> None:
    for line, expected in corpus():
        assert check(line) or expected != "allow", line


def test_mutations_of_the_corpus_are_read_alike() -> None:
    @quick
    @given(mutations([line for line, _ in corpus()]))
    def search(line: str) -> None:
        check(line)

    search()
