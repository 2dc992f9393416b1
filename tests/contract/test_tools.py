"""Every tool keeps the promises of the port. A new file in the folder is picked up by itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
from tests.tool_bench import bench, event

import kairosd.tools
from kairosd.core.levels import Permission
from kairosd.errors import ToolError
from kairosd.ports import Tool

pytestmark = pytest.mark.anyio

ISSUE_TOOLS = {
    "read", "glob", "grep", "write", "edit", "git_status", "git_diff", "git_log", "git_show", "git_commit",
    "read_event", "notify", "finish", "sleep",
}  # fmt: skip
KEYWORDS = {"type", "description", "properties", "required", "additionalProperties", "enum", "default", "items"} | {
    "minimum", "maximum", "minLength",
}  # fmt: skip
VALUES = {"string": "x", "integer": 1, "boolean": True, "array": []}
WRONG = {"string": {"a": 1}, "integer": "many", "boolean": "perhaps", "array": [7]}
ESCAPES = ("../x", "a/../../x", "/etc/passwd", "~/.ssh/id_rsa", "..", "a\0b", "./../x")


def _tools() -> dict[str, Tool]:
    found = {}
    for each in pkgutil.iter_modules(kairosd.tools.__path__):
        module = importlib.import_module(f"kairosd.tools.{each.name}")
        if hasattr(module, "build"):
            found[each.name] = module.build()
    return found


TOOLS = _tools()
EACH = pytest.mark.parametrize("name", sorted(TOOLS))


def _sample(tool: Tool) -> dict[str, object]:
    """Arguments that fit the schema: the required ones only."""
    properties = tool.spec.schema["properties"]
    return {name: VALUES[properties[name]["type"]] for name in tool.spec.schema["required"]}


def test_the_tools_of_the_issue_are_all_there() -> None:
    assert set(TOOLS) >= ISSUE_TOOLS


@EACH
def test_has_the_shape_of_the_port(name: str) -> None:
    tool = TOOLS[name]
    assert tool.spec.name == name, "a tool is found by its file, so both have one name"
    assert isinstance(tool.permission, Permission)
    assert isinstance(tool.effect, bool)
    for method, awaited in (("paths", False), ("plan", True), ("run", True), ("probe", True)):
        assert inspect.iscoroutinefunction(getattr(tool, method)) is awaited
    assert 20 <= len(tool.spec.description) <= 160


@EACH
def test_schema_is_plain_closed_and_small(name: str) -> None:
    schema = TOOLS[name].spec.schema
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) <= set(schema["properties"])
    assert len(schema["properties"]) <= 4, "weak models get lost among parameters"
    for part in _parts(schema):
        assert set(part) <= KEYWORDS, "keywords beyond these are not known to every provider's grammar"
    for parameter, rule in schema["properties"].items():
        assert rule["description"]
        assert ("default" in rule) is (parameter not in schema["required"])


def _parts(schema: dict[str, object]) -> list[dict[str, object]]:
    parts = [schema]
    for inner in [*schema.get("properties", {}).values(), schema.get("items")]:
        parts += _parts(inner) if inner else []
    return parts


@EACH
@pytest.mark.parametrize("escape", ESCAPES)
def test_paths_refuses_escapes(name: str, escape: str) -> None:
    tool = TOOLS[name]
    sample = _sample(tool)
    if "path" in tool.spec.schema["properties"]:
        attempts = [{**sample, "path": escape}]
    elif name == "glob":
        attempts = [{"pattern": escape}, {"pattern": f"{escape}/**/*.py"}]
    elif name == "finish":
        attempts = [{"answer": "a", "checks": [{"kind": "file_exists", "path": escape}]}]
    elif name == "request_approval":
        named = tool.paths({**sample, "command": f"cat {escape}"})
        assert not [path for path in named if path.startswith(("/", "..", "~"))]
        return
    else:
        assert tool.paths(sample) == (), "a tool that takes no path touches none"
        return
    for arguments in attempts:
        with pytest.raises(ToolError) as caught:
            tool.paths(arguments)
        assert caught.value.fix


@EACH
def test_paths_are_normal_and_relative(name: str) -> None:
    tool = TOOLS[name]
    if "path" in tool.spec.schema["properties"]:
        assert tool.paths({**_sample(tool), "path": " ./a//b/../c.txt "}) == ("a/c.txt",)


@EACH
async def test_bad_arguments_name_the_fix(name: str, tmp_path: Path) -> None:
    tool = TOOLS[name]
    context = bench(tmp_path).context
    properties = tool.spec.schema["properties"]
    sample = _sample(tool)
    bad = [{**sample, parameter: WRONG[rule["type"]]} for parameter, rule in properties.items()]
    bad += [{key: value for key, value in sample.items() if key != missing} for missing in sample]
    bad += [{**sample, missing: ""} for missing in sample if "minLength" in properties[missing]]
    bad += [{**sample, "zzz_nonsense": 1}]
    for arguments in bad:
        with pytest.raises(ToolError) as at_gate:
            tool.paths(arguments)
        with pytest.raises(ToolError) as at_run:
            await tool.run(arguments, context)
        for caught in (at_gate, at_run):
            assert caught.value.fix, f"{arguments} is refused without a fix"


@EACH
async def test_effects_are_planned_and_probed_and_the_rest_is_neither(name: str, tmp_path: Path) -> None:
    """An effect's plan changes nothing; its probe says no before, yes after, whatever the daemon forgot in between."""
    tool = TOOLS[name]
    made = bench(tmp_path)
    made.put("x", "one\n")
    made.commit("start")
    made.put("y", "dirty\n")
    arguments = {"edit": {"path": "x", "old": "one", "new": "two"}, "write": {"path": "z", "content": "z\n"}}.get(
        name, _sample(tool)
    )
    if not tool.effect:
        assert await tool.plan(arguments, made.context) == {}
        assert await tool.probe(made.call(name, arguments), made.context) is False
        return
    before = _state(made)
    plan = await tool.plan(arguments, made.context)
    assert plan
    assert _state(made) == before
    call = made.call(name, arguments, plan=plan)
    if tool.commands(arguments) is not None:  # what programs have done nobody can tell, but for those that only read
        assert await tool.probe(call, made.context) is None
        return
    if name != "notify":  # whose probe mends a "no" by asking again
        assert await tool.probe(call, made.context) is False
    await tool.run(arguments, made.context)
    after = _state(made)
    assert after != before
    assert await tool.probe(call, made.context) is True
    assert _state(made) == after, "a probe applies nothing twice"


def _state(made: object) -> object:
    files = {
        path.relative_to(made.root).as_posix(): path.read_bytes()
        for path in made.root.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }
    return files, made.run_git("log", "--format=%H"), dict(made.services.notices), dict(made.context.memory.kept)


@EACH
async def test_results_keep_the_limit_and_look_like_no_answer_of_a_model(name: str, tmp_path: Path) -> None:
    tool = TOOLS[name]
    made = bench(tmp_path)
    made.put("x", "".join(f"line {number} x\n" for number in range(5000)))
    made.commit("x " * 400)
    made.put("x", "".join(f"other {number} x\n" for number in range(5000)))
    special = {
        "edit": {"path": "x", "old": "other 7 x", "new": "n"},
        "glob": {"pattern": "*"},
        "write": {"path": "z", "content": "n"},
    }
    if name == "read_event":
        made.services.events["x"] = event({"body": "many words\n" * 5000})
    answer = await tool.run(special.get(name, _sample(tool)), made.context)
    assert len(answer.text) <= made.context.limit
    assert answer.text.startswith("["), "a bracketed head"


@EACH
async def test_without_sandbox_it_works_or_says_what_to_do(name: str, tmp_path: Path) -> None:
    tool = TOOLS[name]
    made = bench(tmp_path)
    made.put("x", "x\n")
    made.git.broken = made.commands.broken = True
    special = {"edit": {"path": "x", "old": "x", "new": "y"}, "write": {"path": "z", "content": "z"}}
    arguments = special.get(name, _sample(tool))
    made.services.events["x"] = event({"body": "words"})
    if name.startswith("git_") or tool.commands(arguments) is not None:
        with pytest.raises(ToolError) as caught:
            await tool.run(arguments, made.context)
        assert caught.value.fix
    else:
        assert (await tool.run(arguments, made.context)).text
