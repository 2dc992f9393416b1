"""What a run's programs change of protected paths by themselves: asked about once, then landed or left out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.confined import begin, confined
from tests.e2e.daemon import git
from tests.engine_bench import Bench, Setup, forever
from tests.fakes import says, use

from kairosd.core.runs import RunState
from kairosd.errors import ChannelError
from kairosd.ports import Query

pytestmark = pytest.mark.anyio

WORKFLOW = ".github/workflows/ci.yml"
# The workspace's own code, run unasked: what it makes of the protected file is its argument.
GENERATE = f"""
import pathlib, sys
path = pathlib.Path("{WORKFLOW}")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text("on: push # " + sys.argv[1] + "\\n")
pathlib.Path("made.txt").write_text("made\\n")
"""
RUN = use("shell", command="python3 generate.py x")


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with confined(tmp_path) as made:
        made.write("generate.py", GENERATE)
        begin(made)
        yield made


async def landed(bench: Bench, run: str) -> tuple[set[str], str]:
    """The files of the run's branch that are not the owner's, and what the owner was told at the end."""
    ended = await bench.run(run)
    assert ended.state in (RunState.DONE, RunState.DONE_UNCHECKED), ended.result
    names = set()
    if ended.branch:
        names = set(git(bench.setup.root, "diff", "--name-only", "main", ended.branch).splitlines())
        commits = git(bench.setup.root, "log", "--format=%H", f"main..{ended.branch}").splitlines()
        every = {
            name for one in commits for name in git(bench.setup.root, "show", "--format=", "--name-only", one).split()
        }
        assert every == names, "no commit on the way holds more than the last"
    (notice,) = [one for one in await bench.stores.notices.find(Query()) if one.key == f"run:{run}"]
    return names, notice.body


@pytest.mark.parametrize("approve", [True, False])
async def test_a_protected_file_that_a_program_wrote_is_asked_about_once(setup: Setup, approve: bool) -> None:
    setup.actor.add(says("", RUN), says("", use("git_commit", message="Made")), says("", use("finish", answer="done")))
    async with setup.running() as bench:
        run = await bench.tell()
        assert git(setup.root, "branch", "--list", "kairos/*") == ""
        asked = await bench.question()
        assert "on: push # x" in str(asked["question"])
        assert WORKFLOW in str(asked["question"]).splitlines()[0]
        await bench.answer(approve)
        names, told = await landed(bench, run)
        assert len(await bench.stores.approvals.find(Query())) == 1
    assert names == ({"made.txt", WORKFLOW} if approve else {"made.txt"})
    assert (f"left out, since you did not allow it: changes {WORKFLOW}" in told) is not approve


async def test_a_question_that_nobody_answers_is_a_no_and_a_phone_cannot_say_yes(setup: Setup) -> None:
    setup.privacy.proven.add("ntfy")
    setup.actor.add(says("", RUN), says("", use("finish", answer="done")))
    async with setup.running(housekeeping=True) as bench:
        run = await bench.tell()
        code = str((await bench.question())["code"])
        with pytest.raises(ChannelError, match="protected"):
            await bench.engine.desk.answer(code, approve=True, channel="ntfy")
        await bench.advance(86400 + 120)
        names, told = await landed(bench, run)
    assert names == {"made.txt"}
    assert "left out" in told


async def test_the_question_survives_a_restart(setup: Setup) -> None:
    setup.actor.add(says("", RUN), says("", use("finish", answer="done")))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.question()
    async with setup.running() as bench:
        await bench.answer()
        names, _ = await landed(bench, run)
    assert names == {"made.txt", WORKFLOW}


async def test_what_a_tool_wrote_with_a_yes_is_not_asked_about_again_unless_a_program_changed_it(setup: Setup) -> None:
    write = use("write", path=WORKFLOW, content="on: push # by hand\n")
    for more, questions in (((), 1), ((says("", RUN),), 2)):
        setup.actor.add(says("", write), *more, says("", use("finish", answer="done")))
        async with setup.running() as bench:
            before = len(await bench.stores.approvals.find(Query()))
            run = await bench.tell()
            for _ in range(questions):
                await bench.answer()
            names, _ = await landed(bench, run)
            assert len(await bench.stores.approvals.find(Query())) - before == questions
        assert WORKFLOW in names


async def test_after_a_no_the_checks_look_at_what_lands(setup: Setup) -> None:
    check = {"kind": "file_exists", "path": WORKFLOW}
    setup.actor.add(says("", RUN), says("", use("finish", answer="done", checks=[check])))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer(False)
        assert (await bench.run(run)).state is RunState.FAILED
    assert git(setup.root, "branch", "--list", "kairos/*") == ""


async def test_when_nothing_is_left_to_land_nothing_lands(setup: Setup) -> None:
    setup.write("generate.py", GENERATE.replace("made.txt", ".gitattributes"))
    setup.actor.add(says("", RUN), says("", use("finish", answer="done")))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer(False)
        names, told = await landed(bench, run)
    assert names == set()
    assert ".gitattributes" in told


async def test_a_deleted_protected_file_is_asked_about_and_comes_back(setup: Setup) -> None:
    setup.write("KAIROS.md", "rules\n")
    setup.write("generate.py", "import os; os.remove('KAIROS.md'); open('made.txt', 'w').write('made')\n")
    git(setup.root, "add", "-A")
    git(setup.root, "commit", "-qm", "Rules")
    setup.actor.add(says("", RUN), says("", use("finish", answer="done")))
    async with setup.running() as bench:
        run = await bench.tell()
        assert "-rules" in str((await bench.question())["question"])
        await bench.answer(False)
        names, _ = await landed(bench, run)
    assert names == {"made.txt"}


async def test_what_a_check_writes_again_after_a_no_does_not_land(setup: Setup) -> None:
    check = {"kind": "command", "command": "python3 generate.py x"}
    setup.write("generate.py", GENERATE.replace("made.txt", ".gitattributes"))
    setup.actor.add(says("", use("finish", answer="done", checks=[check])))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer(False)
        names, _ = await landed(bench, run)
    assert names == set()


@pytest.mark.parametrize(
    ("program", "path"),
    [
        ("os.symlink('/etc/passwd', 'AGENTS.md')", "AGENTS.md"),
        ("os.symlink('made', '.github')", ".github"),
        ("os.mkdir('.github'); os.symlink('../made', '.github/workflows')", ".github/workflows"),
    ],
)
async def test_a_link_in_the_place_of_what_is_protected_is_asked_about(setup: Setup, program: str, path: str) -> None:
    setup.write("generate.py", f"import os; {program}; open('made.txt', 'w').write('made')\n")
    setup.actor.add(says("", RUN), says("", use("finish", answer="done")))
    async with setup.running() as bench:
        run = await bench.tell()
        assert f"land with {path}?" in str((await bench.question())["question"])
        await bench.answer(False)
        names, _ = await landed(bench, run)
    assert names == {"made.txt"}


async def test_a_yes_to_a_file_is_none_to_running_it(setup: Setup) -> None:
    setup.write("generate.py", "import os; os.chmod('AGENTS.md', 0o755)\n")
    write = use("write", path="AGENTS.md", content="by hand\n")
    setup.actor.add(says("", write), says("", RUN), says("", use("finish", answer="done")))
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer()
        assert "new file mode 100755" in str((await bench.question())["question"])
        await bench.answer()
        names, _ = await landed(bench, run)
    assert names == {"AGENTS.md"}


async def test_no_commit_on_the_way_holds_what_was_neither_shown_nor_allowed(setup: Setup) -> None:
    setup.write("generate.py", GENERATE + "if sys.argv[1] == 'back': path.unlink()\n")
    setup.write("later.txt", "later\n")
    git(setup.root, "add", "-A")
    git(setup.root, "commit", "-qm", "Ground")
    setup.actor.add(
        says("", RUN), says("", use("git_commit", message="First")),
        says("", use("shell", command="python3 generate.py back"), use("edit", path="later.txt", old="later", new="l")),
        says("", use("git_commit", message="Second")), says("", use("finish", answer="done")),
    )  # fmt: skip
    async with setup.running() as bench:
        run = await bench.tell()
        names, _ = await landed(bench, run)
        assert await bench.stores.approvals.find(Query()) == ()
        branch = (await bench.run(run)).branch
    assert names == {"made.txt", "later.txt"}
    assert "First" in git(setup.root, "log", "-1", "--format=%B", str(branch))


async def test_what_a_run_mends_after_the_question_lands_too(setup: Setup) -> None:
    """The checks fail once the owner has answered, so the run goes on: what it then changes is committed as well."""
    count = "import pathlib, sys; f = pathlib.Path('count'); n = len(f.read_text()) if f.exists() else 0\n"
    setup.write("flaky.py", count + "f.write_text('x' * (n + 1)); sys.exit(n == 1)\n")
    setup.write(".gitignore", "count\n")
    git(setup.root, "add", "-A")
    git(setup.root, "commit", "-qm", "Ground")
    finish = says("", use("finish", answer="done", checks=[{"kind": "command", "command": "python3 flaky.py"}]))
    setup.actor.add(says("", RUN), finish, says("", use("write", path="later.txt", content="later\n")), finish)
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer()
        names, _ = await landed(bench, run)
    assert names == {"made.txt", "later.txt", WORKFLOW}


# What a check writes: at two paths each time another content, and from its second time on at a third one the same.
RESTLESS = f"""
import os, pathlib
for name in ("{WORKFLOW}", "AGENTS.md", *((".gitattributes",) if os.path.exists("count") and THIRD else ())):
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("* text" if name == ".gitattributes" else os.urandom(8).hex())
pathlib.Path("made.txt").write_text("made")
pathlib.Path("count").write_text("x")
"""


@pytest.mark.parametrize(("third", "approve"), [(False, False), (True, False), (True, True)])
async def test_a_no_to_a_path_is_one_to_whatever_is_written_there(setup: Setup, third: bool, approve: bool) -> None:
    setup.write("restless.py", RESTLESS.replace("THIRD", str(third)))
    setup.write(".gitignore", "count\n")
    git(setup.root, "add", "-A")
    git(setup.root, "commit", "-qm", "Ground")
    setup.actor.add(
        says("", use("finish", answer="done", checks=[{"kind": "command", "command": "python3 restless.py"}]))
    )
    async with setup.running() as bench:
        run = await bench.tell()
        assert f"land with {WORKFLOW}, AGENTS.md?" in str((await bench.question())["question"])
        await bench.answer(False)
        if third:
            assert "land with .gitattributes?" in str((await bench.question())["question"])
            assert WORKFLOW not in str((await bench.question())["question"])
            await bench.answer(approve)
        names, told = await landed(bench, run)
        assert len(await bench.stores.approvals.find(Query())) == 1 + third
    assert names == {"made.txt", ".gitattributes"} if third and approve else {"made.txt"}
    assert f"changes {WORKFLOW}, AGENTS.md" in told
    assert ("changes .gitattributes" in told) is (third and not approve)


async def test_a_crash_before_the_second_question_is_open_asks_it_all_the_same(setup: Setup) -> None:
    """The landing's own row names the paths first: they must not be taken for those of the question before."""
    parks: list[object] = []

    async def park(real, *given: object, **named: object) -> None:  # type: ignore[no-untyped-def]
        parks.append(given)
        if len(parks) == 2:
            await forever()
        await real(*given, **named)

    setup.hooks = {"runs": {"park": park}}
    setup.write("restless.py", RESTLESS.replace("THIRD", "True"))
    setup.write(".gitignore", "count\n")
    git(setup.root, "add", "-A")
    git(setup.root, "commit", "-qm", "Ground")
    setup.actor.add(
        says("", use("finish", answer="done", checks=[{"kind": "command", "command": "python3 restless.py"}]))
    )
    async with setup.running() as bench:
        run = await bench.tell()
        await bench.answer(False)
        assert len(parks) == 2
    async with setup.running() as bench:
        assert "land with .gitattributes?" in str((await bench.question())["question"])
        await bench.answer()
        names, _ = await landed(bench, run)
    assert names == {"made.txt", ".gitattributes"}
