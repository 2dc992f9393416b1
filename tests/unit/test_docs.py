"""The documentation says what the code says: tables are compared with the data, examples are executed."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from tests.fakes import ManualClock, settle
from tests.intake import RecordingIntake, deps_for
from tests.tool_bench import bench

import kairosd
from kairosd.config import ModelSection, OpenSection
from kairosd.config.choice import LOCAL_BYTES
from kairosd.core.decisions import allowed_answers, answer_schema, parse_answer
from kairosd.core.events import EventState, Tier
from kairosd.core.levels import CAPS, LEVELS, Level, Permission
from kairosd.core.messages import Done, Form, Message, Prompt, TextDelta, ToolUse, UseReady
from kairosd.core.notices import NOTICE_MOVES, Notice, NoticeState, Severity
from kairosd.core.paths import PROTECTED_PATHS, SECRET_PATHS
from kairosd.core.runs import APPROVAL_MOVES, CALL_MOVES, RUN_MOVES, ApprovalState, CallState, RunState
from kairosd.core.shell.programs import parse_program, read_use
from kairosd.core.shell.syntax import read_line
from kairosd.core.tasks import TASK_MOVES, TaskState
from kairosd.core.workspaces import Workspace
from kairosd.errors import NotifierRefusedError, ShellFormError
from kairosd.models.deps import ModelDeps
from kairosd.notifiers.deps import NotifierDeps

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
CELL = re.compile(r"`([^`]+)`")


def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def table(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose head begins with `first`, without head and rule; cells stripped."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


# --- docs/security.md


def test_the_table_of_levels_is_the_one_the_gate_reads() -> None:
    """Beyond the table a run asks; that level 0 is refused instead is what the sentence below it says."""
    text = page("docs/security.md")
    head = next(line for line in text.splitlines() if line.startswith("| level |"))
    permissions = CELL.findall(head)
    assert permissions == [permission.value for permission in Permission]
    found = {}
    for name, *cells in table(text, "level"):
        number, label = re.fullmatch(r"(\d) `(\w+)`", name).groups()  # type: ignore[union-attr]
        assert Level(int(number)).label == label
        assert set(cells) <= {"yes", "no"}
        found[Level(int(number))] = {
            Permission(each) for each, cell in zip(permissions, cells, strict=True) if cell == "yes"
        }
    assert found == LEVELS


def test_the_table_of_taint_is_the_one_the_gate_reads() -> None:
    found: dict[Tier, Level | None] = {}
    for tier, level in table(page("docs/security.md"), "text of tier"):
        (label,) = CELL.findall(tier)
        named = CELL.findall(level)
        found[Tier[label.upper()]] = Level.parse(named[0]) if named else None
    assert found == CAPS


@pytest.mark.parametrize(("title", "globs"), [("Secret paths", SECRET_PATHS), ("Protected paths", PROTECTED_PATHS)])
def test_the_default_paths_are_listed_whole(title: str, globs: tuple[str, ...]) -> None:
    section = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", page("docs/security.md"), re.MULTILINE | re.DOTALL)
    assert section is not None
    block = re.search(r"^```text\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert block is not None
    assert block[1].split() == list(globs)


def test_every_layer_is_proved_by_a_test_that_is_there() -> None:
    named = re.findall(r"`((?:unit|integration|contract|e2e)/test_\w+\.py)`", page("docs/security.md"))
    assert len(named) > 30
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_the_refused_lines_are_refused_with_the_rewrite_that_is_shown() -> None:
    rows = table(page("docs/security.md"), "a model writes")
    assert len(rows) > 10
    for written, _, instead in rows:
        with pytest.raises(ShellFormError) as refused:
            read_line(CELL.findall(written)[0])
        assert re.findall(r"(?:^|; )run: (.*)", refused.value.fix or "") == CELL.findall(instead)


# --- docs/architecture.md


def moves_in(text: str, thing: str) -> dict[str, set[str]]:
    """The transitions a row of the states table names: `a → b / c; d → e`."""
    row = next(cells for cells in table(text, "thing") if cells[0] == thing)
    found: dict[str, set[str]] = {}
    for part in row[1].split(";"):
        start, _, ends = part.partition("→")
        found[start.strip().strip("`")] = {end.strip().strip("`") for end in ends.split("/")}
    return found


def plain(moves: Mapping[Any, Iterable[StrEnum]]) -> dict[str, set[str]]:
    return {start.value: {end.value for end in ends} for start, ends in moves.items()}


@pytest.mark.parametrize(
    ("thing", "moves", "states"),
    [
        ("run", RUN_MOVES, RunState),
        ("tool call", CALL_MOVES, CallState),
        ("task", TASK_MOVES, TaskState),
        ("approval", APPROVAL_MOVES, ApprovalState),
        ("notice", NOTICE_MOVES, NoticeState),
    ],
)
def test_the_states_are_those_of_the_code(
    thing: str, moves: Mapping[Any, Iterable[StrEnum]], states: type[StrEnum]
) -> None:
    found = moves_in(page("docs/architecture.md"), thing)
    assert found == plain(moves)
    assert set(found) | set().union(*found.values()) == {state.value for state in states}


def test_the_states_of_events_are_those_of_the_code() -> None:
    found = moves_in(page("docs/architecture.md"), "event")
    assert set(found) | set().union(*found.values()) == {state.value for state in EventState}


def test_the_layout_names_every_package_and_no_other() -> None:
    block = re.search(r"^```text\ndaemon/kairosd/\n(.*?)^```", page("docs/architecture.md"), re.MULTILINE | re.DOTALL)
    assert block is not None
    named = set(re.findall(r"^  (\w+)(?:/|\.py) ", block[1], re.MULTILINE))
    folder = Path(next(iter(kairosd.__path__)))
    there = {path.name for path in folder.iterdir() if (path / "__init__.py").exists() and path.name != "_share"}
    there |= {path.stem for path in folder.glob("*.py") if path.stem != "__init__"}
    assert named == there


# --- README.md


def test_the_readme_tells_the_size_of_the_download() -> None:
    assert f"{LOCAL_BYTES:,} bytes" in page("README.md")


# --- docs/adding-an-adapter.md


def example(title: str) -> dict[str, Any]:
    """What the example under the heading `title` defines, executed as a module of its own."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page("docs/adding-an-adapter.md"), re.MULTILINE | re.DOTALL)
    assert section is not None
    (code,) = re.findall(r"^```python\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    module: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, f"adding-an-adapter.md ({title})", "exec"), module)
    return module


async def test_the_example_of_a_tool_works(tmp_path: Path) -> None:
    tool = example("A tool")["build"]()
    made = bench(tmp_path)
    made.put("x.txt", "one\ntwo\n")
    answer = await tool.run({"path": "x.txt"}, made.context)
    assert "x.txt: 2 lines" in answer.text
    assert tool.paths({"path": "./x.txt"}) == ("x.txt",)
    assert (tool.permission, tool.effect) == (Permission.READ, False)


async def test_the_example_of_a_notifier_works(tmp_path: Path) -> None:
    build = example("A notifier")["build"]
    clock = ManualClock()
    notifier = build(OpenSection.model_validate({"path": str(tmp_path / "notices")}), NotifierDeps(clock))
    notice = Notice(
        id="n_1", key="k", channel="file", title="Built", body="", severity=Severity.NORMAL,
        state=NoticeState.ATTEMPTING, created=clock.now(), due=clock.now(),
    )  # fmt: skip
    assert await notifier.arrived(notice) is False
    assert await notifier.deliver(notice) == "appended to notices"
    assert await notifier.arrived(notice) is True
    await notifier.close()
    with pytest.raises(NotifierRefusedError):
        build(OpenSection(), NotifierDeps(clock))


async def test_the_example_of_a_model_works(tmp_path: Path) -> None:
    section = ModelSection(provider="openai", model="m", base_url="http://127.0.0.1:1/v1")
    model = example("A model provider")["build"]("x", section, deps=ModelDeps(ManualClock(), "", tmp_path))
    words = [part async for part in model.stream(Prompt("", (Message("user", "hello"),)))]
    assert isinstance(words[0], TextDelta)
    assert words[0].text == "hello"
    assert isinstance(words[-1], Done)
    allowed = allowed_answers(Tier.LOCAL, has_workspace=True)
    form = Form("decide", "Say whether to act.", answer_schema(allowed))
    parts = [part async for part in model.stream(Prompt("", (Message("user", "x"),), form=form))]
    assert isinstance(parts[0], UseReady)
    assert isinstance(parts[0].use, ToolUse)
    assert parse_answer(parts[0].use.arguments, allowed).verdict == "ignore"
    assert await model.check()


async def test_the_example_of_a_trigger_works(tmp_path: Path) -> None:
    clock = ManualClock()
    deps = deps_for(clock, workspaces=(Workspace("one", tmp_path),))
    assert isinstance(deps.intake, RecordingIntake)
    trigger = example("A trigger")["build"](None, deps)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(trigger.run())
        await clock.advance(timedelta(hours=2, minutes=1).total_seconds())
        await settle()
        task.cancel()
    assert len(deps.intake.drafts) == 2
    assert len({draft.key for draft in deps.intake.drafts}) == 2


def test_the_example_of_a_program_allows_and_refuses_what_the_page_says() -> None:
    section = re.search(r"^## A program\n(.*)", page("docs/adding-an-adapter.md"), re.MULTILINE | re.DOTALL)
    assert section is not None
    (text,) = re.findall(r"^```toml\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    program = parse_program("shellcheck", tomllib.loads(text))
    rows = table(section[1], "command")
    assert len(rows) > 3
    for line, verdict in rows:
        use = read_use(next(iter(read_line(line.strip("`")).commands))[0], {"shellcheck": program})
        assert use is not None
        assert (use.problem == "") == (verdict == "allowed"), line
        assert bool(use.fix) == ("fix" in verdict), line
