"""Failed checks go back to a run once, and the stronger model goes on with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.engine_bench import MODELS, Bench, Setup, forever, open_setup
from tests.fakes import decides, says, use

from kairosd.core.diagnosis import decisive_lines
from kairosd.core.messages import StreamPart
from kairosd.core.runs import Run, RunState
from kairosd.ports import Query

pytestmark = pytest.mark.anyio

STRONG = MODELS.replace('act = "actor"', 'act = "decider"\nescalate = "actor"')
A, B = use("write", path="a.txt", content="a\n"), use("write", path="b.txt", content="b\n")


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with open_setup(tmp_path) as made:
        yield made


def finish(*paths: str, answer: str = "it is there") -> list[StreamPart]:
    checks = [{"kind": "file_exists", "path": path} for path in paths]
    return list(says("", use("finish", answer=answer, checks=checks)))  # type: ignore[arg-type]


def journal(setup: Setup) -> str:
    return "".join(file.read_text() for file in (setup.folder / "home").glob("**/journal/**/*.jsonl"))


async def told(bench: Bench, run: str) -> list[str]:
    entries = await bench.stores.transcripts.read(run)
    return [str(entry["text"]) for entry in entries if entry.get("about") == "repair"]


async def test_what_failed_goes_back_and_the_mended_run_is_done_and_lands(setup: Setup) -> None:
    setup.actor.add(says("", A), finish("a.txt", "b.txt"), says("", B), finish("b.txt"))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
        (words,) = await told(bench, run.id)
    assert run.state is RunState.DONE
    assert setup.checkouts.landed[run.id] == {"a.txt": "a\n", "b.txt": "b\n"}
    assert "- file_exists: b.txt is not there" in words
    assert "a.txt" not in words
    assert setup.actor.prompts[2].messages[-1].text == words
    assert run.escalated == "actor went on after failed checks: file_exists"
    assert journal(setup).count('"kind":"run.escalated"') == 1
    assert [check["path"] for check in run.checks if check["kind"] == "file_exists"] == ["b.txt", "a.txt"]


async def test_a_second_failure_is_one_and_nothing_lands(setup: Setup) -> None:
    setup.actor.add(says("", A), finish("b.txt"), finish("b.txt", answer="it cannot be done"))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert (run.state, run.turns) == (RunState.FAILED, 3)
    assert "cannot be done" in run.result
    assert setup.checkouts.landed == {}


@pytest.mark.parametrize("last", [finish(), says("I leave it at that"), finish("a.txt")])
async def test_a_run_cannot_pass_by_asking_for_less(setup: Setup, last: list[StreamPart]) -> None:
    setup.actor.add(says("", A), finish("b.txt"), last)
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert run.state is RunState.FAILED
    assert setup.checkouts.landed == {}


async def test_the_stronger_model_goes_on_and_a_tick_gets_the_same_chance(setup: Setup) -> None:
    """`decider` decides and acts, `actor` goes on: with its own window, and priced as what it is."""
    setup.models = STRONG
    setup.actor.model = "claude-sonnet-4-5"
    setup.decider.add(decides("act", "write both"), says("", A), finish("b.txt"))
    setup.actor.add(says("", B), finish("b.txt"))
    async with setup.running() as bench:
        await bench.hint()
        (run,) = await bench.stores.runs.find(Query())
        calls = await bench.stores.model_calls.of(run.id)
    assert (run.state, run.trigger, run.price) == (RunState.DONE, "files", 2 * 150 + 2 * 450)
    assert [call["model"] for call in calls] == ["claude-haiku-4-5"] * 2 + ["claude-sonnet-4-5"] * 2
    assert run.escalated.startswith("actor went on")


async def test_calls_behind_finish_are_not_made_and_no_word_parts_a_call_from_its_result(setup: Setup) -> None:
    checks = [{"kind": "file_exists", "path": "b.txt"}]
    both = says("", use("finish", answer="x", checks=checks), use("bell"))  # type: ignore[arg-type]
    setup.actor.add(both, says("", B), finish("b.txt"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.DONE
        assert await bench.calls(run) == []
    last, word = setup.actor.prompts[1].messages[-2:]
    assert [result.text for result in last.results][1] == "not made: it came after finish"
    assert "This is not done" in word.text


async def test_without_turns_left_it_is_failed_at_once(setup: Setup) -> None:
    setup.config = "[limits]\nrun_turns = 2\n"
    setup.actor.add(says("", A), finish("b.txt"))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
    assert (run.state, run.escalated) == (RunState.FAILED, "")


@pytest.mark.parametrize("before", [True, False])
async def test_a_crash_around_the_giving_back_neither_loses_nor_doubles_the_chance(setup: Setup, before: bool) -> None:
    async def crash(real: object, run: Run, **named: object) -> None:
        if not before:
            await real(run, **named)  # type: ignore[operator]
        await forever()

    setup.hooks = {"runs": {"escalate": crash}}
    setup.actor.add(says("", A), finish("b.txt"))
    async with setup.running() as bench:
        run = await bench.tell()
        assert await told(bench, run) == []
    setup.hooks = {}
    setup.actor.add(says("", B), finish("b.txt"))
    async with setup.running() as bench:
        await bench.quiet()
        ended = await bench.run(run)
        assert len(await told(bench, run)) == 1
    assert ended.state is RunState.DONE
    assert journal(setup).count('"kind":"run.escalated"') == 1


PYTEST = """\
============ test session starts ============
collected 40 items
tests/test_a.py ......F...
E       assert 3 == 4
E        +  where 3 = add(1, 2)
tests/test_a.py:7: AssertionError
=========== short test summary info =========
FAILED tests/test_a.py::test_adds - assert 3 == 4
1 failed, 39 passed in 0.31s
"""


def test_the_lines_that_say_why_are_found_and_bounded() -> None:
    found = decisive_lines(PYTEST, 8)
    assert "E       assert 3 == 4" in found
    assert "FAILED tests/test_a.py::test_adds - assert 3 == 4" in found
    assert not any("collected" in line for line in found)
    compiler = "\n".join(f"x.c:{line}: error: undefined name" for line in range(100))
    assert decisive_lines(compiler, 4) == tuple(f"x.c:{n}: error: undefined name" for n in (0, 1, 98, 99))
    assert decisive_lines("one\n\ntwo\ntwo\n", 8) == ("one", "two")
    assert decisive_lines("", 8) == ()
    assert max(map(len, decisive_lines("error " + "x" * 5000, 8))) == 200
