"""Checked completion by commands: what the gate lets run, the daemon runs itself, and its exit code sets the state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.confined import begin, confined
from tests.engine_bench import Setup
from tests.fakes import says, use

from kairosd.core.runs import RunState

pytestmark = pytest.mark.anyio

TEST = """import unittest, app
class Adds(unittest.TestCase):
    def test_it(self):
        assert app.add(1, 2) == 3
"""
RIGHT = use("edit", path="app.py", old="a - b", new="a + b")
WRONG = use("edit", path="app.py", old="a - b", new="a * b")


def finish(*commands: str) -> object:
    checks = [{"kind": "command", "command": command} for command in commands]
    return says("", use("finish", answer="the sum is right now", checks=checks))  # type: ignore[arg-type]


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with confined(tmp_path) as made:
        made.write("app.py", "def add(a, b):\n    return a - b\n")
        made.write("test_app.py", TEST)
        begin(made)
        yield made


@pytest.mark.parametrize(("edit", "state"), [(RIGHT, RunState.DONE), (WRONG, RunState.FAILED)])
async def test_a_command_decides_between_done_and_failed(setup: Setup, edit: object, state: RunState) -> None:
    setup.actor.add(says("", edit), finish("python3 -m unittest -q"))  # type: ignore[arg-type]
    if state is RunState.FAILED:
        setup.actor.add(finish())  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert run.state is state
    assert bool(run.branch) == (state is RunState.DONE), "what has failed its check does not land"
    (check, *_) = run.checks
    assert "exit 0" in str(check["seen"]) if state is RunState.DONE else "exit 1" in str(check["seen"])
    if state is RunState.FAILED:
        told = setup.actor.prompts[2].messages[-1].text
        assert "python3 -m unittest -q: exit 1: FAILED (failures=1)\n" in told
        assert "AssertionError" in told, "the lines that say why go back with it"


async def test_every_command_must_pass_and_each_is_told(setup: Setup) -> None:
    setup.actor.add(says("", RIGHT), finish("python3 -m unittest -q", "grep -c nothing app.py", "test -f app.py"))
    setup.actor.add(finish())  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert [check["passed"] for check in run.checks] == [True, False, True]
    assert run.state is RunState.FAILED


async def test_no_check_looks_into_what_the_owner_calls_a_secret(setup: Setup) -> None:
    setup.config = '[policy]\nsecret_paths = ["notes/**"]\n'
    setup.write("notes/plan.txt", "sell\n")
    look = {"kind": "file_contains", "path": "notes/plan.txt", "text": "sell"}
    setup.actor.add(says("", use("finish", answer="looked", checks=[look])), finish())
    async with setup.running() as bench:
        run = await bench.tell()
        (told, *_) = await bench.results(run)
        assert "may hold secrets and is not checked" in told
        assert (await bench.run(run)).checks == ()


@pytest.mark.parametrize("command", ["for f in *; do cat $f; done", "git push", "cat /etc/passwd"])
async def test_what_the_gate_refuses_is_no_check(setup: Setup, command: str) -> None:
    setup.actor.add(says("", RIGHT), finish(command), finish())
    async with setup.running() as bench:
        run = await bench.tell()
        told = await bench.results(run)
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
    assert len(told) == 3, "the refusal went back to the model"


async def test_a_check_that_leads_the_gate_astray_in_its_middle_is_none_either(setup: Setup) -> None:
    setup.actor.add(says("", RIGHT), finish("ls", "cat app.py && git push origin main"), finish("ls"))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert run.state is RunState.DONE
