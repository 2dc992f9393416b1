"""The tool `shell`: what it plans, what it says of an outcome, and how it reads a model's ways to write a command."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from tests.tool_bench import bench

from kairosd.errors import ShellFormError, ToolError
from kairosd.ports import Outcome
from kairosd.tools.shell import build, result_text, shortened

pytestmark = pytest.mark.anyio

TOOL = build()


def text_of(outcome: Outcome, limit: int = 4000) -> str:
    given = TOOL.read({"command": "x"})  # type: ignore[attr-defined]
    return result_text(outcome, given, seconds=120, limit=limit)


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "git log -1 'a b'"},
        {"command": ["git", "log", "-1", "a b"]},
        {"argv": ["git", "log", "-1", "a b"]},
        {"command": '["git", "log", "-1", "a b"]'},
        {"cmd": "git log -1 'a b'", "timeout": "60"},
    ],
)
def test_a_line_and_its_words_are_the_same_plan(arguments: dict[str, object]) -> None:
    plan = TOOL.commands(arguments)  # type: ignore[arg-type]
    assert plan is not None
    assert [command.argv for command, _ in plan.commands] == [("git", "log", "-1", "a b")]


def test_the_program_that_is_a_bracket_is_a_line() -> None:
    plan = TOOL.commands({"command": "[ -f x ] && echo there"})
    assert plan is not None
    assert next(plan.commands)[0].argv == ("[", "-f", "x", "]")


@pytest.mark.parametrize("command", ["echo $(id)", "ls > file", "cat ~/x"])
def test_a_line_that_is_not_plain_is_refused_with_its_reason(command: str) -> None:
    with pytest.raises(ShellFormError):
        TOOL.commands({"command": command})


@pytest.mark.parametrize("words", [[1, 2], [], [["a"]]])
def test_words_must_be_words(words: object) -> None:
    with pytest.raises(ToolError):
        TOOL.commands({"command": words})  # type: ignore[dict-item]


async def test_a_plan_is_bound_to_the_content_of_its_scripts(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.put("run.sh", "echo one\n")
    arguments = {"command": "bash run.sh; ./run.sh x"}
    first = await TOOL.plan(arguments, made.context)
    assert list(first["scripts"]) == ["run.sh"]  # type: ignore[arg-type, call-overload]
    assert "echo one" not in json.dumps(first)
    made.put("run.sh", "echo two\n")
    assert await TOOL.plan(arguments, made.context) != first
    made.put("run.sh", "echo one\n")
    assert await TOOL.plan(arguments, made.context) == first


async def test_scripts_are_named_from_the_workspace_wherever_a_line_stands(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.put("src/run.py", "print(1)\n")
    root = made.context.workspace.path
    for line in (f"cd {root}/src && python run.py", "cd src && python run.py", f"python {root}/src/run.py"):
        plan = await TOOL.plan({"command": line}, made.context)
        assert [*plan["scripts"].items()] == [("src/run.py", sha256(b"print(1)\n").hexdigest())], line  # type: ignore[union-attr]
    outside = await TOOL.plan({"command": f"cd {root}/.. && python run.py; python /etc/x.py"}, made.context)
    assert outside["scripts"] == {}


async def test_only_what_reads_is_run_again_after_a_crash(tmp_path: Path) -> None:
    made = bench(tmp_path)
    assert await TOOL.probe(made.call("shell", {"command": "cat a | head -1 && ls"}), made.context) is False
    for line in ("pytest -q", "cat a && rm a", "find . -delete", "unheard-of"):
        assert await TOOL.probe(made.call("shell", {"command": line}), made.context) is None


async def test_the_answer_begins_with_the_exit_code(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.put("a.txt", "one\n")
    answer = await TOOL.run({"command": "cat a.txt missing", "timeout": 7}, made.context)
    assert answer.text.splitlines()[:3] == ["[exit 1]", "one", "[stderr]"]
    assert "No such file" in answer.text
    assert answer.evidence == "ran `cat a.txt missing`: exit 1"
    assert made.commands.seconds == [7]
    silent = await TOOL.run({"command": "true"}, made.context)
    assert silent.text == "[exit 0]\n[no output]"


def test_what_a_terminal_would_obey_is_not_passed_on() -> None:
    shown = text_of(
        Outcome(0, b"\x1b[31mred\x1b[0m \x1b]0;title\x07bell\x07 \xff\xfe\r\nnext\x00\n", b"\x1b[2Jcleared")
    )
    assert shown == "[exit 0]\nred bell \ufffd\ufffd\nnext\n[stderr]\ncleared"


def test_what_did_not_end_in_time_comes_with_the_fix() -> None:
    shown = text_of(Outcome(137, b"begun\n", b"", timed_out=True))
    assert "stopped after 120 s" in shown
    assert "timeout" in shown
    assert shown.endswith("begun")


def test_long_output_keeps_its_ends_and_its_failures() -> None:
    lines = [f"tests/test_{number}.py .......... ok" for number in range(5000)]
    lines[2500] = "E   AssertionError: assert 1 == 2"
    lines[2600] = "FAILED tests/test_app.py::test_adds"
    text = text_of(Outcome(1, "\n".join([*lines, "1 failed, 4999 passed in 3.2s"]).encode(), b"warned\n"))
    assert len(text) <= 4000
    assert text.startswith("[exit 1]\ntests/test_0.py")
    assert "AssertionError: assert 1 == 2" in text
    assert "FAILED tests/test_app.py::test_adds" in text
    assert text.endswith("1 failed, 4999 passed in 3.2s\n[stderr]\nwarned")
    assert "lines left out" in text


def test_one_long_line_and_long_stderr_fit() -> None:
    text = text_of(Outcome(0, b"x" * 300_000, b"warning\n" * 10_000, truncated=True), limit=1500)
    assert len(text) <= 1500
    assert "more characters" in text
    assert "longer than can be kept" in text


def test_what_fits_is_left_as_it_is() -> None:
    assert shortened("a\n\nb", 100) == "a\n\nb"
