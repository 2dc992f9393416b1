"""Small models: what the daemon does by itself, what it lets such a model say, and what it lets pass as done."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.e2e.daemon import git
from tests.engine_bench import Bench, Setup
from tests.fakes import ManualClock, says, use
from tests.servers import ModelServer, Reply

from kairosd.config import ModelSection
from kairosd.core.messages import Prompt
from kairosd.core.runs import Run, RunState
from kairosd.engine.checkouts import Checkouts
from kairosd.executor.client import ProcessExecutor
from kairosd.models import openai
from kairosd.models.deps import ModelDeps
from kairosd.ports import Model
from kairosd.sandbox import bubblewrap
from kairosd.system.files import LocalFiles

pytestmark = pytest.mark.anyio

SUM = {
    "app.py": "def add(a, b):\n    return a - b\n",
    "test_app.py": "import unittest, app\nclass Adds(unittest.TestCase):\n    def test_it(self):\n"
    "        assert app.add(1, 2) == 3\n",
    "README.md": "# Sums\n",
}
LONG = {
    **SUM,
    "app.py": SUM["app.py"] + "# A table of sums follows.\n" + "".join(f"# 1 + {n} = {n + 1}\n" for n in range(150)),
}
FIX = "The test in test_app.py fails. Fix the bug."
RIGHT = use("edit", path="app.py", old="    return a - b", new="    return a + b")
WRONG = use("edit", path="app.py", old="    return a - b", new="    return a * b")


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    executor = ProcessExecutor()
    made = Setup(tmp_path.resolve(), workspace='level = "sandboxed"')
    state = made.folder / "home"
    state.mkdir(mode=0o700)
    made.sandbox = bubblewrap.build(executor, folder=state, forbidden=(state,))
    made.checkouts = Checkouts(
        made.sandbox, LocalFiles(), folder=state / "checkouts", patches=state / "patches", clock=made.clock
    )  # type: ignore[assignment]
    made.actor.by_schema = True
    yield made
    await executor.close()


def project(setup: Setup, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (setup.root / name).parent.mkdir(parents=True, exist_ok=True)
        setup.write(name, text)
    git(setup.root, "init", "--quiet", "--initial-branch=main")
    git(setup.root, "add", "--all")
    git(setup.root, "commit", "--quiet", "--message", "Begin")


async def calls(bench: Bench, run: str) -> list[str]:
    """Each call as `name path`, in order."""
    entries = await bench.stores.transcripts.read(run)
    uses = [one for entry in entries if entry["kind"] == "turn" for one in entry["uses"]]  # type: ignore[union-attr]
    return [f"{one['name']} {one.get('arguments', {}).get('path', '')}".strip() for one in uses]  # type: ignore[index]


def offered(prompt: Prompt, tool: str, parameter: str) -> list[object]:
    """The values that a call of `tool` may have at this step."""
    found: list[object] = []
    for spec in prompt.narrowed:
        rule = spec.schema["properties"].get(parameter, {}) if spec.name == tool else {}  # type: ignore[union-attr]
        found += rule.get("enum", [rule["const"]] if "const" in rule else [])
    return found


def landed(setup: Setup, run: Run, path: str) -> str:
    return git(setup.root, "show", f"{run.branch}:{path}")


async def test_it_looks_and_tests_first_and_stops_on_proof(setup: Setup) -> None:
    project(setup, SUM)
    setup.actor.add(says("", RIGHT))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell(FIX))
        made = await calls(bench, run.id)
    assert made == ["read app.py", "read test_app.py", "shell", "edit app.py", "shell", "finish"]
    assert run.state is RunState.DONE
    assert landed(setup, run, "app.py") == "def add(a, b):\n    return a + b\n"
    (prompt,) = setup.actor.prompts
    assert prompt.block is not None
    assert prompt.block.use.arguments == {"path": "app.py"}, "what the test asks for is not to be changed"


async def test_a_long_file_is_edited_by_the_calls_that_make_sense(setup: Setup) -> None:
    project(setup, LONG)
    setup.actor.add(says("", RIGHT))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell(FIX))
    assert run.state is RunState.DONE
    (prompt,) = setup.actor.prompts
    assert prompt.block is None
    assert offered(prompt, "edit", "path") == ["app.py"], "what the test asks for is not to be changed"
    assert offered(prompt, "read", "path") == ["README.md"], "what is in view is not to be read again"
    assert not [spec for spec in prompt.narrowed if spec.name in ("finish", "write", "shell")]


async def test_a_change_that_does_not_help_is_taken_back(setup: Setup) -> None:
    project(setup, SUM)
    setup.actor.add(says("", WRONG), says("", RIGHT))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell(FIX))
        made = await calls(bench, run.id)
    assert made[3:] == ["edit app.py", "shell", "edit app.py", "edit app.py", "shell", "finish"]
    assert run.state is RunState.DONE
    first, second = setup.actor.prompts
    assert (first.vary, second.vary) == (0, 1), "the likeliest answer was given in vain"


async def test_first_comes_what_is_known_to_be_missing(setup: Setup) -> None:
    project(setup, {"greet.py": "import sys\nprint('Hello')\n"})
    loud = use("edit", path="greet.py", old="print('Hello')", new="print('HELLO')")
    option = "print('HELLO' if '--shout' in sys.argv else 'Hello')"
    right = use("edit", path="greet.py", old="print('Hello')", new=option)
    setup.actor.add(says("", loud), says("", right), says("", use("finish", answer="There is an option now.")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Add an option --shout to greet.py."))
        made = await calls(bench, run.id)
    assert made == ["read greet.py", *["edit greet.py"] * 3, "finish"]
    first, second, third = setup.actor.prompts
    assert ["finish" in {spec.name for spec in one.narrowed} for one in (first, second, third)] == [False, False, True]
    assert run.state is RunState.DONE_UNCHECKED, "that an option was added does not say that it works"
    assert landed(setup, run, "greet.py") == f"import sys\n{option}\n"


async def test_a_whole_function_given_at_its_first_line_takes_its_place(setup: Setup) -> None:
    project(setup, SUM)
    wrong, right = (
        use("edit", path="app.py", old="def add(a, b):", new=f"def add(a, b):\n    return a {sign} b") for sign in "*+"
    )
    setup.actor.add(says("", wrong), says("", right))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell(FIX))
        made = await calls(bench, run.id)
    assert made[3:] == ["edit app.py", "shell", "write app.py", "edit app.py", "shell", "finish"]
    assert run.state is RunState.DONE
    assert landed(setup, run, "app.py") == "def add(a, b):\n    return a + b\n"


async def test_a_function_whose_body_is_given_again_below_its_head_takes_its_place(setup: Setup) -> None:
    project(setup, {"app.py": "def show(a):\n    text = str(a)\n    text = text.strip()\n    print(text)\n"})
    new = "def show(a):\n    text = str(a)\n    text = text.strip().upper()\n    print(text)"
    setup.actor.add(says("", use("edit", path="app.py", old="def show(a):", new=new)))
    setup.actor.add(says("", use("edit", path="app.py", old=new.split("\n")[0], new="def show(a):\n    a = a or 0")))
    setup.actor.add(says("", use("finish", answer="It shows capitals.")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Make show in app.py print capitals."))
    added = new.replace("def show(a):\n", "def show(a):\n    a = a or 0\n")
    assert landed(setup, run, "app.py") == f"{added}\n", "what only adds lines below the head stays an insertion"


def whole(sign: str) -> Reply:
    """An answer in plain text, with the file in a block."""
    return Reply(text=f"Here is app.py:\n\n```python\ndef add(a, b):\n    return a {sign} b\n```\n\nIt adds now.")


async def test_a_small_file_is_asked_for_whole_and_afresh_over_the_wire(setup: Setup) -> None:
    project(setup, SUM)
    replies = [whole("*"), Reply(text="I cannot see what is wrong."), whole("-"), whole("+")]
    async with wired(setup, replies) as server, setup.running() as bench:
        run = await bench.run(await bench.tell(FIX))
        made = await calls(bench, run.id)
        requests = [request.body for request in server.log]
    assert run.state is RunState.DONE
    assert landed(setup, run, "app.py") == "def add(a, b):\n    return a + b\n"
    again = ["write", "write app.py", "write app.py"]  # no block, the same as before, and right
    assert made[3:] == ["write app.py", "shell", "write app.py", *again, "shell", "finish"]
    assert ["temperature" in request for request in requests] == [False, True, True, True], "other answers than before"
    for request in requests:
        system, asked = (message["content"] for message in request["messages"])
        assert "response_format" not in request
        assert "JSON" not in system
        assert "AssertionError" in asked
        assert "return a - b" in asked
        assert "a * b" not in asked, "what failed would be written again"
        assert asked.endswith(f"The owner asks: {FIX}\n\nWrite the new app.py, whole.")


async def test_a_line_goes_into_the_section_that_the_goal_names(setup: Setup) -> None:
    begun = "# Anchor\n\n## Install\n\npip install anchor\n\n## Use\n\nanchor drop\n"
    project(setup, {"README.md": begun})
    right = begun.replace("install anchor\n", "install anchor\n\nIt needs Python.\n")
    texts = (f"{begun}\nIt needs Python.\n", begun.replace("install", "add"), right)
    setup.actor.add(*(says("", use("write", path="README.md", content=text)) for text in texts))
    setup.actor.add(says("", use("finish", answer="The line is there.")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Add the line 'It needs Python.' to the Install section of README.md."))
        made = await calls(bench, run.id)
    assert made[1:] == [*["write README.md"] * 5, "finish"], "two were taken back"
    assert landed(setup, run, "README.md") == right
    assert {check["kind"] for check in run.checks if check["passed"]} >= {"changed", "added", "within"}


def rewritten(path: str, text: str) -> object:
    return says("", use("write", path=path, content=text))


async def test_a_second_write_in_vain_leaves_what_the_first_has_mended(setup: Setup) -> None:
    two = "import unittest, app\nclass Sums(unittest.TestCase):\n"
    two += "    def test_add(self):\n        assert app.add(1, 2) == 3\n"
    two += "    def test_double(self):\n        assert app.double(2) == 4\n"
    code = "def add(a, b):\n    return a {} b\ndef double(a):\n    return a * {}\n"
    project(setup, {"app.py": code.format("-", 3), "test_app.py": two})
    setup.actor.add(*(rewritten("app.py", code.format("+", number)) for number in (3, 4, 2)))  # type: ignore[arg-type]
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("The tests in test_app.py fail. Fix the bugs."))
        entries = await bench.stores.transcripts.read(run.id)
    assert run.state is RunState.DONE
    assert landed(setup, run, "app.py") == code.format("+", 2)
    uses = [one for entry in entries if entry["kind"] == "turn" for one in entry["uses"]]  # type: ignore[union-attr]
    (back,) = [one for one in uses if str(one["id"]).startswith("back")]  # type: ignore[index]
    assert back["arguments"]["content"] == code.format("+", 3)  # type: ignore[index]


async def test_a_test_that_failed_before_takes_back_nothing_that_it_does_not_concern(setup: Setup) -> None:
    project(setup, SUM)
    setup.actor.add(rewritten("README.md", "# Sums\n\nIt adds.\n"))  # type: ignore[arg-type]
    setup.actor.add(says("", use("finish", answer="The line is there.")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Add the line 'It adds.' to README.md."))
    assert landed(setup, run, "README.md") == "# Sums\n\nIt adds.\n"


async def test_a_new_file_is_asked_for_by_its_name(setup: Setup) -> None:
    project(setup, {"app.py": "def add(a, b):\n    return a + b\n"})
    setup.actor.add(rewritten("hello.py", "print('hello')\n"))  # type: ignore[arg-type]
    setup.actor.add(says("", use("finish", answer="It is there.")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Create a file hello.py that prints hello."))
    assert run.state is RunState.DONE_UNCHECKED
    assert landed(setup, run, "hello.py") == "print('hello')\n"
    block = setup.actor.prompts[0].block
    assert block is not None
    assert block.use.arguments == {"path": "hello.py"}


async def test_a_file_too_long_to_be_looked_into_is_not_taken_for_a_new_one(setup: Setup) -> None:
    project(setup, {"app.py": "a = 1\n", "table.py": "ROW = 1\n" * 9000})
    setup.actor.add(*[says("", use("finish", answer="I did nothing."))] * 2)
    async with setup.running() as bench:
        await bench.run(await bench.tell("Write table.py, with two columns."))
    assert "table.py" not in [prompt.block.use.arguments["path"] for prompt in setup.actor.prompts if prompt.block]


async def test_a_file_that_may_not_be_read_is_not_shown_beside_another(setup: Setup) -> None:
    setup.workspace += '\n[[policy.rules]]\ntool = "read"\npath = "vault.py"\nverdict = "deny"\n'
    project(setup, {"app.py": "import vault\n\ndef add(a, b):\n    return a - b\n", "vault.py": "CODE = 4711\n"})
    setup.actor.add(rewritten("app.py", "import vault\n\ndef add(a, b):\n    return a + b\n"))  # type: ignore[arg-type]
    setup.actor.add(says("", use("finish", answer="It adds.")))
    async with setup.running() as bench:
        await bench.run(await bench.tell("Fix add in app.py."))
        made = [str(prompt) for prompt in setup.actor.prompts]
    assert made
    assert not [one for one in made if "4711" in one]


async def test_what_may_not_write_is_not_asked_to(setup: Setup) -> None:
    setup.workspace = 'level = "observe"'
    project(setup, SUM)
    setup.actor.add(*[says("", use("finish", answer="I may not change anything here."))] * 2)
    async with setup.running() as bench:
        await bench.run(await bench.tell("Fix add in app.py."))
    assert {prompt.block for prompt in setup.actor.prompts} == {None}


async def test_a_file_with_a_secret_is_not_shown_whole(setup: Setup) -> None:
    token = "ghp_" + "a1B2" * 9
    project(setup, {"app.py": f"{SUM['app.py']}TOKEN = '{token}'\n", "test_app.py": SUM["test_app.py"]})
    setup.actor.add(says("", RIGHT))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell(FIX))
    assert run.state is RunState.DONE
    (prompt,) = setup.actor.prompts
    assert prompt.block is None
    assert token not in str(prompt)


OPTIONS = "import argparse\nparser = argparse.ArgumentParser()\n"
READ = "options = parser.parse_args()\nprint('HELLO' if getattr(options, 'shout', False) else 'Hello')\n"


async def test_a_program_that_no_test_covers_must_still_start(setup: Setup) -> None:
    project(setup, {"greet.py": OPTIONS + READ})
    option = "parser.add_argument('--shout', action={})"
    wrong, right = (option.format(action) for action in ("'loud'", "'store_true'"))
    setup.actor.add(
        says(
            "", use("edit", path="greet.py", old="parser = argparse.ArgumentParser()", new=f"{OPTIONS[16:-1]}\n{wrong}")
        ),
        says("", use("edit", path="greet.py", old=wrong, new=right)),
        says("", use("finish", answer="There is an option now.")),
    )
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Add an option --shout to greet.py that greets in capital letters."))
        made = await calls(bench, run.id)
    assert made == ["read greet.py", "shell", "edit greet.py", "shell", "edit greet.py", "shell", "finish"]
    assert run.state is RunState.DONE_UNCHECKED, "that it starts does not say that it shouts"
    _, second, third = setup.actor.prompts
    assert "unknown action" in str(second.messages)
    assert ["finish" in {spec.name for spec in one.narrowed} for one in (second, third)] == [False, True]


async def test_tests_that_passed_before_do_not_prove_what_is_new(setup: Setup) -> None:
    project(setup, {**SUM, "app.py": "def add(a, b):\n    return a + b\n"})
    new = "def double(a):\n    return a * 3\n"
    setup.actor.add(says("", use("edit", path="app.py", old="", new=new)), says("", use("finish", answer="Added.")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Add a function `double` to app.py that doubles a number."))
    assert run.state is RunState.DONE_UNCHECKED
    assert "unbroken" in {check["kind"] for check in run.checks}


async def test_words_about_tests_that_nobody_ran_are_contradicted(setup: Setup) -> None:
    project(setup, {"README.md": "# Sums\n"})
    wrote = use("write", path="README.md", content="# Sums\nhello\n")
    claim = "I added the line and the test passed."
    setup.actor.add(says("", wrote), says("", use("finish", answer=claim)))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Add a line 'hello' to README.md"))
    assert run.result == f"{claim}\n[No test has passed in this run.]"


async def test_nothing_is_done_before_something_was_changed(setup: Setup) -> None:
    project(setup, {"notes.txt": "one\n"})
    setup.actor.add(says("It is done."), says("It is done."))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Add the line two to notes.txt."))
    assert run.state is RunState.FAILED
    assert [check["kind"] for check in run.checks if not check["passed"]] == ["changed"]


async def test_a_rename_is_through_when_the_old_name_is_gone(setup: Setup) -> None:
    project(setup, {"a.py": "def put(x):\n    return x\n", "b.py": "from a import put\n\noutput = put(1)\n"})

    async def next_place(prompt: Prompt) -> object:
        path, old = offered(prompt, "edit", "path")[0], str(offered(prompt, "edit", "old")[0])
        return says(
            "", use("edit", path=str(path), old=old, new=old.replace("put(", "store(").replace(" put", " store"))
        )

    setup.actor.add(*[next_place] * 3)  # type: ignore[list-item]
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Rename the function put to store everywhere."))
    assert run.state is RunState.DONE
    assert landed(setup, run, "b.py") == "from a import store\n\noutput = store(1)\n"


async def test_a_new_value_is_through_when_the_old_one_is_gone(setup: Setup) -> None:
    project(setup, {"limits.py": "WAIT = 10\nTRIES = 3\n", "README.md": "It waits 10 seconds.\n"})
    code = use("edit", path="limits.py", old="WAIT = 10", new="WAIT = 30")
    prose = use("edit", path="README.md", old="It waits 10 seconds.", new="It waits 30 seconds.")
    setup.actor.add(says("", code), says("", prose))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Raise the wait from 10 to 30 seconds, in code and README."))
    assert (run.state, [one for one in run.checks if not one["passed"]]) == (RunState.DONE_UNCHECKED, [])
    assert offered(setup.actor.prompts[0], "edit", "old") == ["It waits 10 seconds.", "WAIT = 10"]


async def test_a_question_is_given_no_tool_that_changes(setup: Setup) -> None:
    project(setup, {"conf.py": "PORT = 8080\n"})
    setup.actor.add(says("", use("finish", answer="It listens on 9090.")), says("", use("finish", answer="On 8080.")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Which port does it listen on?"))
        assert "9090" in str(setup.actor.prompts[1].messages)
    assert (run.state, run.result.splitlines()[0]) == (RunState.DONE_UNCHECKED, "On 8080.")
    names = {spec.name for spec in setup.actor.prompts[0].narrowed}
    assert not names & {"edit", "write", "git_commit"}


async def test_a_question_about_the_last_commit_begins_with_it(setup: Setup) -> None:
    project(setup, {"conf.py": "PORT = 8080\n"})
    setup.actor.add(says("", use("finish", answer="It added conf.py.")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("What changed in the last commit?"))
        made = await calls(bench, run.id)
    assert made == ["git_show", "finish"]
    assert [spec.name for spec in setup.actor.prompts[0].narrowed] == ["finish"]
    assert run.result.startswith("It added conf.py.")
    assert re.search(r'commit \w+ "Begin" changed README.md, conf.py$', run.result)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("It added conf.py. It went to `main`.", "It added conf.py.\n[Left out, since no result has shown it: main.]"),
        ("I could not find out what changed.", "[The model gave no answer.]"),
    ],
)
async def test_what_the_last_commit_changed_is_told_whatever_the_model_makes_of_it(
    setup: Setup, answer: str, told: str
) -> None:
    project(setup, {"conf.py": "PORT = 8080\n"})
    setup.actor.add(says("", use("finish", answer=answer)))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("What changed in the last commit?"))
    assert run.state is RunState.DONE_UNCHECKED
    assert run.result.startswith(f"{told}\n\nLooked at:")
    assert re.search(r'commit \w+ "Begin" changed README.md, conf.py$', run.result)


async def test_what_the_owner_says_to_remember_is_kept_without_a_model(setup: Setup) -> None:
    project(setup, {"conf.py": "PORT = 8080\n"})
    async with setup.running() as bench:
        run = await bench.run(
            await bench.tell("Remember: i moved the nightly build to Thursday because of the backups.")
        )
        made = await calls(bench, run.id)
        again = await bench.run(
            await bench.tell("Remember that I moved the nightly build to Thursday because of backups.")
        )
    assert made == ["remember", "finish"]
    assert run.result.startswith("I moved the nightly build to Thursday because of the backups.\n[remembered as m:")
    assert "known already" in again.result
    assert (run.state, setup.actor.prompts) == (RunState.DONE_UNCHECKED, [])


async def test_what_cannot_be_remembered_is_no_answer(setup: Setup) -> None:
    project(setup, {"conf.py": "PORT = 8080\n"})
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Remember that the server is currently on loan."))
        made = await calls(bench, run.id)
    assert (run.state, setup.actor.prompts) == (RunState.FAILED, [])
    assert made == ["remember", "finish"]
    assert "'currently' is a relative date" in run.result


async def test_an_answer_that_rests_on_nothing_twice_is_a_failure(setup: Setup) -> None:
    project(setup, {"conf.py": "PORT = 8080\n"})
    setup.actor.add(*(says("", use("finish", answer=f"It listens on {port}.")) for port in (9090, 9091)))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell("Which port does it listen on?"))
    assert run.state is RunState.FAILED
    assert "9091" in run.result


async def test_a_model_that_calls_tools_by_itself_is_left_alone(setup: Setup) -> None:
    project(setup, SUM)
    setup.actor.by_schema = False
    setup.actor.add(says("", RIGHT), says("", use("finish", answer="done")))
    async with setup.running() as bench:
        run = await bench.run(await bench.tell(FIX))
        assert await calls(bench, run.id) == ["edit app.py", "finish"]
    assert run.state is RunState.DONE_UNCHECKED
    assert not setup.actor.prompts[0].narrowed


async def test_over_the_wire_the_schema_holds_the_model_to_the_step(setup: Setup) -> None:
    project(setup, LONG)
    told = [json.dumps({"tool": each.name, "arguments": dict(each.arguments)}) for each in (WRONG, RIGHT)]
    async with wired(setup, [Reply(text=each) for each in told]) as server, setup.running() as bench:
        run = await bench.run(await bench.tell(FIX))
        first, second = (request.body for request in server.log)
    assert run.state is RunState.DONE
    calls_allowed = first["response_format"]["json_schema"]["schema"]["anyOf"]
    edits = [one["properties"]["arguments"]["properties"] for one in calls_allowed]
    (edit,) = [one for one in edits if "old" in one]
    assert edit["path"]["const"] == "app.py"
    assert edit["old"]["enum"][:2] == ["def add(a, b):", "    return a - b"]
    assert "temperature" not in first
    assert second["temperature"] > 0
    common = len(first["messages"]) - 1
    assert second["messages"][:common] == first["messages"][:common], "the server's cache holds what was said"
    assert "# edit was tried with" in str(second["messages"])
    assert not [one for one in second["messages"] if one["role"] == "assistant" and "edit" in one["content"]]
    assert "AssertionError" in first["messages"][-1]["content"]
    assert first["messages"][-1]["content"].endswith(f"Goal: {FIX}\nStill to do: nothing was changed")


@asynccontextmanager
async def wired(setup: Setup, replies: list[Reply]) -> AsyncIterator[ModelServer]:
    """The real client of a model that is held to a schema, and a server that gives `replies`."""
    async with ModelServer(lambda request: replies.pop(0)) as server:
        section = ModelSection(provider="openai", model="m", base_url=f"{server.url}/v1", tool_style="schema")
        deps = ModelDeps(ManualClock(), "key", Path("/nowhere"), jitter=lambda _: 0.0)
        model = openai.build("actor", section, deps=deps)
        setup.actor = Watched(model)  # type: ignore[assignment]
        yield server
        await model.close()


class Watched:
    """A real model with what the bench asks of its scripted one."""

    unexpected = waiting = 0
    thinking = 0

    def __init__(self, model: Model) -> None:
        self.name, self.provider, self.model, self.context = model.name, model.provider, model.model, model.context
        self.by_schema, self.stream = model.by_schema, model.stream
        self.held = asyncio.Event()
        self.held.set()
