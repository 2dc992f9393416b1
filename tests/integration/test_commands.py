"""Plans run for real, each command in a bubblewrap of its own, and print what bash prints, byte for byte."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import pytest
from tests.confined import confined
from tests.engine_bench import Setup
from tests.fakes import ManualClock, says, use

from kairosd.core.events import Tier
from kairosd.core.messages import ToolUse
from kairosd.core.runs import CallState, Run, RunState
from kairosd.core.shell.plans import Command, Operator, Pipeline, Plan, Stream
from kairosd.core.shell.syntax import read_line
from kairosd.core.workspaces import Workspace
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.commands import ENVIRONMENT, Ground, PlanRunner, workspace_mounts
from kairosd.errors import CheckoutError, ShellFormError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Mount, Outcome, Query
from kairosd.sandbox import bubblewrap
from kairosd.system.files import LocalFiles

pytestmark = pytest.mark.anyio

OWNER = {**ENVIRONMENT, "GIT_AUTHOR_DATE": "@1000000000 +0000", "GIT_COMMITTER_DATE": "@1000000000 +0000"}
PERSON = ("-c", "user.name=Owner", "-c", "user.email=owner@example.com", "-c", "init.defaultBranch=main")
BIN = (".venv/bin", "node_modules/.bin")


@dataclass
class World:
    """A workspace, and what a run may do with commands in it."""

    root: Path
    sandbox: bubblewrap.Bubblewrap
    run: Run = field(default_factory=lambda: Run("r_1", RunState.RUNNING, "g", "w", "owner", None, 2, Tier.OWNER, NOW))

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def workspace(self) -> Workspace:
        return Workspace("w", self.work, bin=BIN)

    @property
    def checkouts(self) -> Checkouts:
        folder, patches = self.root / "state/checkouts", self.root / "state/patches"
        return Checkouts(self.sandbox, LocalFiles(), folder=folder, patches=patches, clock=ManualClock())

    def put(self, path: str, content: str, *, mode: int = 0o644) -> Path:
        target = self.work / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)
        return target

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *PERSON, *arguments], cwd=self.work, env=OWNER, capture_output=True, check=True)

    def commit(self) -> None:
        if not (self.work / ".git").exists():
            self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-qm", "Fix the greeting")

    def reading(self) -> PlanRunner:
        ground = Ground(self.workspace, self.work, lambda _f, _g: workspace_mounts(LocalFiles(), self.workspace))
        return PlanRunner(self.sandbox, LocalFiles(), ground=ground)

    async def working(self) -> PlanRunner:
        checkout = await self.checkouts.ensure(self.run, self.workspace)

        def mounts(files: bool, history: bool) -> tuple[Mount, ...]:
            return self.checkouts.mounts(self.run, self.workspace, files=files, history=history)

        return PlanRunner(self.sandbox, LocalFiles(), ground=Ground(self.workspace, checkout.path, mounts))

    async def read(self, line: str, seconds: float = 60) -> Outcome:
        return await self.reading().run(read_line(line), seconds=seconds)

    async def work_on(self, line: str, seconds: float = 120) -> Outcome:
        return await (await self.working()).run(read_line(line), seconds=seconds)

    async def bash(self, line: str) -> tuple[int, bytes, bytes]:
        ran = await asyncio.to_thread(
            subprocess.run, ["bash", "-c", line], cwd=self.work, env={**ENVIRONMENT, "HOME": "/nonexistent"},
            stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
        return ran.returncode if ran.returncode >= 0 else 128 - ran.returncode, ran.stdout, ran.stderr


NOW = ManualClock().now()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    executor = ProcessExecutor()
    root = tmp_path.resolve()
    (root / "state").mkdir()
    (root / "work").mkdir()
    yield World(root, bubblewrap.build(executor, folder=root / "state", forbidden=(root / "state",)))
    await executor.close()


@pytest.fixture
def files(world: World) -> World:
    """An ordinary small project, committed, with a change."""
    world.put("README.md", "# app\n\nhello world\n")
    world.put("a.txt", "hello\nworld\nhello world\n")
    world.put("b.txt", "one\ntwo\nthree\nhello\n")
    world.put("file with space.txt", "spaces\n")
    world.put("src/app.py", "import os\n\n\ndef main() -> None:\n    print('hello')  # greet them\n")
    world.put("src/deep/nested.py", "VALUE = 1\n")
    world.put("data/numbers.csv", "3,c\n1,a\n2,b\n2,b\n")
    world.put("empty.txt", "")
    world.put("docs/guide.md", "hello guide\n")
    world.put("run.sh", "#!/bin/sh\necho ran $1; exit 5\n", mode=0o755)
    world.put("-x", "dash\n")
    world.commit()
    world.put("b.txt", "one\ntwo\n3\nhello\n")
    return world


def corpus() -> list[str]:
    folder = os.environ.get("KAIROS_SHARED")
    if not folder:
        return []
    with (Path(folder) / "security/shell_bypasses.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [json.loads(row["command_json"]) for row in rows if row["expected"] == "allow"]


LINES = r"""
echo hello
echo -n no newline
echo 'single  quoted' "double  quoted" plain\ escaped
printf '%s\n' a b c
printf '%05d|%-4s|\n' 42 ab
pwd
ls
ls -a
ls -1 src
ls -R src
ls missing
cat a.txt b.txt
cat -n a.txt
cat missing.txt
cat missing.txt 2>&1
cat missing.txt a.txt 2>/dev/null
cat missing.txt || echo none
cat a.txt && echo yes || echo no
cat missing.txt && echo yes || echo no
false || false && echo never; echo after
true || echo skipped && echo shown
false; echo done
true; false
false && echo a; echo b && false || echo c
head -2 a.txt
head -n 1 a.txt b.txt
tail -n 2 b.txt
tail -c 6 a.txt
wc a.txt
wc -l a.txt b.txt
wc < a.txt
wc -l < b.txt
cat < a.txt | wc -w
sort < data/numbers.csv | uniq -c
sort -t , -k 2 -r data/numbers.csv
cut -d , -f 1 data/numbers.csv | sort -n | tail -1
tr a-z A-Z < a.txt
tr -d '\n' < a.txt
diff a.txt b.txt
diff -u a.txt a.txt && echo same
grep hello a.txt
grep -c hello a.txt b.txt
grep -rn hello . | sort
grep -q nothing a.txt || echo absent
grep -n "hello world" a.txt; echo end
grep hello missing.txt 2>&1 | cat
grep hello missing.txt 2>&1 >/dev/null | wc -l
rg -n hello a.txt
rg -l --sort path hello
rg nothing; echo end
rg -c hello < a.txt
find . -name '*.py' -not -path './.git/*' | sort
find src -type f | sort | head -1
sed -n 2p a.txt
sed -n '1,2p' b.txt
git status --short
git log --oneline
git log -1 --format='%an %s'
git diff
git diff --stat
git show --stat HEAD
git diff --name-only | cat
git log --oneline | grep -c Fix
git rev-parse HEAD
git ls-files src
test -f a.txt && echo there
test -f missing || echo absent
[ -d src ] && echo folder
[ 1 = 2 ]
test 2 -gt 1
cd src && ls
cd src && cat app.py | head -1
cd missing && ls
cd a.txt
cd src && cd deep && ls
cd src/deep && pwd
cat empty.txt
rg x < empty.txt
echo one; echo two >/dev/null; echo three
echo a >&2
echo to nobody >/dev/null 2>&1
ls -- -x
cat 'file with space.txt' | tr a-z A-Z | rev
seq 3 | tac | paste -s -d ,
seq 100000 | tail -1
seq 100000 | head -3
yes | head -2
seq 5 | grep 9 | wc -l
cat a.txt | false
false | cat a.txt
stat -c %s a.txt
basename src/app.py .py
dirname src/app.py
nl a.txt
echo 'it'\''s'
echo "a	b"
echo ünï → ✓
cat </dev/null
wc -c </dev/null
wc -l < missing
wc -l < missing || echo no
nosuchprogram
nosuchprogram 2>&1
nosuchprogram 2>/dev/null || echo fallback
nosuchprogram 2>&1 | tr a-z A-Z
nosuchprogram | cat
file --brief a.txt
uniq data/numbers.csv
comm -12 a.txt a.txt
true
false
ls -l run.sh | cut -c 1-10
cat src/app.py | grep -n greet | head -n 1
echo '$HOME' '*' '$(date)'
date -u -d @0 +%F
""".strip().splitlines()


async def test_every_line_prints_what_bash_prints(files: World) -> None:
    lines = [*LINES, *corpus()]
    assert len(lines) >= 60
    wrong = []
    for line in lines:
        code, stdout, stderr = await files.bash(line)
        try:
            outcome = await files.read(line)
        except ShellFormError as error:
            wrong.append((line, error))
            continue
        if line.startswith("rg ") and line not in LINES:  # its threads tell files as they find them; ours are sorted
            same = (outcome.code, sorted(outcome.stdout.splitlines())) == (code, sorted(stdout.splitlines()))
        else:
            same = (outcome.code, outcome.stdout) == (code, stdout)
        if not same:
            wrong.append((line, (code, stdout), outcome))
        elif len(outcome.stderr.splitlines()) != len(stderr.splitlines()):
            wrong.append((line, stderr, outcome))
    assert wrong == []


async def test_a_script_of_the_workspace_ends_as_in_bash(files: World) -> None:
    files.put("broken", "#!/nowhere\n", mode=0o755)
    files.put("killed.sh", "#!/bin/sh\nkill -TERM $$\n", mode=0o755)
    files.commit()
    for line in ("./run.sh x", "./killed.sh", "./a.txt", "./src", "./none", "/none", "./broken", "/usr/bin/printf x"):
        plan = Plan((Pipeline((Command(tuple(line.split())),)),))
        outcome = await (await files.working()).run(plan, seconds=60)
        code, stdout, stderr = await files.bash(line)
        assert (outcome.code, outcome.stdout) == (code, stdout), line
        assert outcome.stderr == stderr or line in ("./killed.sh", "./broken")


def plan_of(*words: str) -> Plan:
    return Plan((Pipeline((Command(words),)),))


async def test_a_reader_can_change_nothing_and_reads_no_secret(files: World) -> None:
    files.put(".env", "TOKEN=hush")
    files.put("deep/er/id_rsa", "hush")
    files.put(".venv/lib/cacert.pem", "no secret")
    seen = await files.read("cat -- .venv/lib/cacert.pem; grep -r hush . ; find . -name '*rsa' -size 0")
    assert seen.stdout == b"no secret./deep/er/id_rsa\n"
    named = await files.read("cat .env")  # the gate has asked about it
    assert named.stdout == b"TOKEN=hush"
    hidden = await files.read("cat -- a.txt; ls .env; wc -c src/app.py")
    assert hidden.code == 0
    for words in (("/bin/sh", "-c", "echo x > new"), ("touch", "new"), ("rm", "a.txt")):
        outcome = await files.reading().run(plan_of(*words), seconds=60)
        assert outcome.code != 0
    assert not (files.work / "new").exists()
    assert (files.work / "a.txt").exists()


async def test_a_command_sees_no_environment_of_ours(files: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "hush")
    outcome = await files.reading().run(plan_of("env"), seconds=60)
    names = {line.split(b"=")[0].decode() for line in outcome.stdout.splitlines()}
    assert b"hush" not in outcome.stdout
    assert names == {*ENVIRONMENT, "PWD"}
    assert b"HOME=/tmp\n" in outcome.stdout


async def test_what_writes_sees_the_checkout_and_not_what_makes_git_run_things(files: World) -> None:
    files.put(
        "write.sh", "#!/bin/sh\necho x > new; echo y > .git/evil; echo z > .git/config; cat .git/config\n", mode=0o755
    )
    files.commit()
    outcome = await (await files.working()).run(plan_of("./write.sh"), seconds=60)
    checkout = await files.checkouts.ensure(files.run, files.workspace)
    assert (checkout.path / "new").read_text() == "x\n"
    assert not (files.work / "new").exists()
    assert b"hooksPath" not in outcome.stdout
    assert "z" not in (checkout.path / ".git/config").read_text().split()


async def test_an_effect_may_commit_and_the_commit_is_signed_by_whom_the_ground_says(files: World) -> None:
    runner = await files.working()
    done = await runner.run(read_line("git add a.txt && git status --short"), seconds=60)
    assert done.code == 0, done.stderr


async def test_without_a_repository_what_writes_has_no_checkout(world: World) -> None:
    world.put("a.txt", "a\n")
    assert (await world.read("cat a.txt")).stdout == b"a\n"
    with pytest.raises(CheckoutError):
        await world.working()


async def test_nothing_runs_where_cd_did_not_lead(files: World) -> None:
    (files.work / "out").symlink_to("/usr")
    (files.work / "in").symlink_to("src")
    assert (await files.read("cd out && ls")).stderr == b"bash: line 1: cd: out: No such file or directory\n"
    assert (await files.read("cd in && ls app.py")).stdout == b"app.py\n"
    cd = Pipeline((Command(("cd", "missing"), stderr=Stream.NULL),))
    then = Pipeline((Command(("ls",)),), Operator.THEN, "missing")
    outcome = await files.reading().run(Plan((cd, then)), seconds=60)
    assert (outcome.code, outcome.stdout) == (1, b"")
    assert b"not run" in outcome.stderr
    skipped = Plan(
        (Pipeline((Command(("true",)),)), Pipeline((Command(("cd", "src")),), Operator.OR), replace(then, cwd="src"))
    )
    assert (await files.reading().run(skipped, seconds=60)).code == 1


async def test_input_never_comes_through_a_link_that_leads_out(files: World) -> None:
    (files.root / "secret").write_text("hush")
    (files.work / "leak").symlink_to("../secret")
    outcome = await files.read("cat < leak; echo after")
    assert outcome.stdout == b"after\n"
    assert b"hush" not in outcome.stderr


async def test_a_program_of_the_workspace_never_stands_in_for_one_that_only_reads(files: World) -> None:
    for name in ("cat", "git"):
        files.put(f".venv/bin/{name}", "#!/bin/sh\necho hijacked\n", mode=0o755)
    files.put(".gitignore", ".venv/\n")
    files.commit()
    runner = await files.working()
    assert (await runner.run(read_line("cat a.txt | head -1"), seconds=60)).stdout == b"hello\n"
    assert b"hijacked" not in (await runner.run(read_line("git status --short"), seconds=60)).stdout
    assert runner.reads_only(read_line("cat a.txt"))
    assert runner.reads_only(read_line("/usr/bin/cat a.txt"))
    assert not runner.reads_only(read_line(".venv/bin/cat a.txt"))


async def test_time_and_output_are_those_of_the_whole_plan(files: World) -> None:
    files.put("flood.sh", "#!/bin/sh\nyes | head -c 30000000\n", mode=0o755)
    files.put("stuck.sh", "#!/bin/sh\ntrap '' TERM\necho begun\nsleep 600\n", mode=0o755)
    files.commit()
    runner = await files.working()
    flood = Pipeline((Command(("./flood.sh",)),))
    outcome = await runner.run(Plan((flood, replace(flood, operator=Operator.THEN))), seconds=60)
    assert (len(outcome.stdout), outcome.truncated, outcome.code) == (2_200_000, True, 0)
    stuck = Pipeline((Command(("./stuck.sh",)),))
    after = Pipeline((Command(("echo", "after")),), Operator.THEN)
    outcome = await runner.run(Plan((stuck, after)), seconds=1.5)
    assert (outcome.timed_out, outcome.stdout, outcome.code) == (True, b"begun\n", 137)


async def test_what_a_command_leaves_running_writes_nothing_later(files: World) -> None:
    late = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1.5)\n    open('late', 'w')\n"
    files.put("late.py", "#!/usr/bin/env python3\n" + late, mode=0o755)
    files.commit()
    outcome = await (await files.working()).run(plan_of("./late.py"), seconds=60)
    assert outcome.code == 0, outcome.stderr
    checkout = await files.checkouts.ensure(files.run, files.workspace)
    await asyncio.sleep(2.5)
    assert not (checkout.path / "late").exists()
    assert not (files.work / "late").exists()


PYTEST = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pytest in it, made as everybody makes one, of the interpreter that runs this."""
    folder = tmp_path_factory.mktemp("venv") / ".venv"
    python = os.path.realpath(sys.executable)
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for name in PYTEST:
        for file in metadata.files(name) or ():
            if ".." not in file.parts:
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target)
    return folder


def with_environment(world: World, environment: Path) -> None:
    shutil.copytree(environment, world.work / ".venv", symlinks=True)
    start = f"#!{world.work.resolve()}/.venv/bin/python\nimport sys\nfrom pytest import console_main\n"
    world.put(".venv/bin/pytest", start + "sys.exit(console_main())\n", mode=0o755)
    world.put("app.py", "def add(a, b):\n    return a + b\n")
    world.put("test_app.py", "from app import add\n\ndef test_adds():\n    assert add(1, 2) == 3\n")
    world.put(".gitignore", ".venv/\nnode_modules/\n.pytest_cache/\n")
    world.commit()


WAYS = ("pytest -q", ".venv/bin/pytest -q test_app.py", "python -m pytest -q", "python -m pytest -q 2>&1 | tail -3")


@pytest.mark.parametrize("line", WAYS)
async def test_a_project_with_an_environment_runs_its_tests(world: World, environment: Path, line: str) -> None:
    with_environment(world, environment)
    outcome = await world.work_on(line)
    assert (outcome.code, b"1 passed" in outcome.stdout) == (0, True), outcome
    world.put("app.py", "def add(a, b):\n    return a - b\n")
    world.run = replace(world.run, id="r_2")
    outcome = await world.work_on(line)
    assert b"1 failed" in outcome.stdout
    assert outcome.code == (0 if "|" in line else 1)
    assert not list(world.work.rglob("__pycache__"))


OUTLAW = """
import pathlib, pytest
@pytest.mark.parametrize("path", ".git/commondir .git/evil .git/config .git/hooks/x .venv/bin/cat /usr/x".split())
def test_refused(path):
    with pytest.raises(OSError):
        pathlib.Path(path).write_text("evil")
@pytest.mark.parametrize("path", [".git", ".venv"])
def test_moved(path):
    with pytest.raises(OSError):
        pathlib.Path(path).rename("elsewhere")
def test_alone():
    pathlib.Path("own").write_text("fine")
    assert not list(pathlib.Path.home().iterdir()) or pathlib.Path.home() == pathlib.Path("/tmp")
"""


async def test_tests_reach_the_files_and_neither_git_nor_the_environment(world: World, environment: Path) -> None:
    with_environment(world, environment)
    world.put("test_outlaw.py", OUTLAW)
    world.commit()
    outcome = await world.work_on("pytest -q test_outlaw.py")
    assert (outcome.code, b"9 passed" in outcome.stdout) == (0, True), outcome.stdout
    assert not (world.work / "own").exists()
    assert not list(world.work.glob(".git/evil"))


async def test_an_interpreter_is_found_through_links_that_no_mount_shows(world: World, environment: Path) -> None:
    with_environment(world, environment)
    real = (world.work / ".venv/bin/python").resolve()
    elsewhere = world.root / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "current").symlink_to(real.parent.parent)
    (elsewhere / "python").symlink_to("current/bin/" + real.name)
    (world.work / ".venv/bin/python").unlink()
    (world.work / ".venv/bin/python").symlink_to(elsewhere / "python")
    outcome = await world.work_on("pytest -q")
    assert b"1 passed" in outcome.stdout, outcome


@pytest.mark.parametrize("place", ["bin/python3", "private/bin/python3", "tool"])
async def test_an_interpreter_brings_no_other_folder_into_sight(world: World, environment: Path, place: str) -> None:
    """What it leads to must be the prefix of an interpreter, and hold nothing else."""
    with_environment(world, environment)
    target = world.root / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("#!/bin/sh\ncat ../../secret\n")
    target.chmod(0o755)
    (target.parent / "secret").write_text("hush")
    (world.work / ".venv/bin/python").unlink()
    (world.work / ".venv/bin/python").symlink_to(target)
    outcome = await world.work_on("pytest -q")
    assert outcome.code == 126
    assert b"no program may see" in outcome.stderr


async def test_npm_runs_the_tests_of_a_project(world: World) -> None:
    world.put("package.json", json.dumps({"name": "app", "version": "1.0.0", "scripts": {"test": "node --test"}}))
    test = "const test = require('node:test'); const assert = require('node:assert');\n"
    world.put("test/app.test.js", test + "test('adds', () => assert.strictEqual(1 + 2, 3));\n")
    world.put(".gitignore", "node_modules/\n")
    world.commit()
    outcome = await world.work_on("npm test")
    assert outcome.code == 0, outcome
    assert b"# pass 1" in outcome.stdout
    assert (await world.work_on("node --test")).code == 0


FINISH = says("", use("finish", answer="the tests pass"))


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with confined(tmp_path) as made:
        yield made


def in_git(setup: Setup) -> World:
    world = World(setup.folder, setup.sandbox)  # type: ignore[arg-type]
    (setup.folder / "work").symlink_to(setup.root)
    return world


async def test_a_run_fixes_a_bug_and_proves_it_with_the_projects_pytest(setup: Setup, environment: Path) -> None:
    world = in_git(setup)
    with_environment(world, environment)
    world.put("app.py", "def add(a, b):\n    return a - b\n")
    setup.actor.add(
        says("", use("shell", command="python -m pytest -q 2>&1 | tail -5")),
        says("", use("edit", path="app.py", old="a - b", new="a + b")),
        says("", use("shell", command="pytest -q && git status --short")),
        FINISH,
    )
    async with setup.running() as bench:
        run = await bench.tell()
        first, _, last, _ = await bench.results(run)
        assert "1 failed" in first
        assert last.startswith("[exit 0]")
        assert "1 passed" in last
        assert "M app.py" in last
        assert (await bench.run(run)).branch
    assert "a - b" in (world.work / "app.py").read_text()


async def test_a_run_proves_its_work_with_npm_test(setup: Setup) -> None:
    world = in_git(setup)
    world.put("package.json", json.dumps({"name": "app", "version": "1.0.0", "scripts": {"test": "node --test"}}))
    test = "const test = require('node:test'); const add = require('../app');\n"
    world.put("test/app.test.js", test + "test('adds', () => require('node:assert').strictEqual(add(1, 2), 3));\n")
    world.put("app.js", "module.exports = (a, b) => a - b;\n")
    world.commit()
    setup.actor.add(
        says("", use("shell", command=["npm", "test"])),
        says("", use("edit", path="app.js", old="a - b", new="a + b")),
        says("", use("shell", command="npm test")),
        FINISH,
    )
    async with setup.running() as bench:
        first, _, last, _ = await bench.results(await bench.tell())
        assert first.startswith("[exit 1]")
        assert last.startswith("[exit 0]")
        assert "# pass 1" in last


async def test_a_run_that_only_looks_has_no_checkout(setup: Setup) -> None:
    world = in_git(setup)
    world.commit()
    setup.actor.add(says("", use("shell", command="git log --oneline | head -1; cat README.md")), FINISH)
    async with setup.running() as bench:
        run = await bench.tell()
        assert "Fix the greeting\n# app" in (await bench.results(run))[0]
        assert (await bench.run(run)).base is None


async def test_a_form_refusal_goes_back_and_makes_no_checkout(setup: Setup) -> None:
    in_git(setup).commit()
    setup.actor.add(says("", use("shell", command="pytest $(ls)")), FINISH)
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.results(run))[0]
        assert (await bench.run(run)).base is None


@pytest.mark.parametrize("call", [use("shell", command="cat /etc/passwd"), use("write", path=".git/x", content="x")])
async def test_what_is_denied_makes_no_checkout(setup: Setup, call: ToolUse) -> None:
    setup.config = '[policy]\ndeny = ["make"]\n[[policy.rules]]\nverdict = "deny"\npath = ".git/**"\n'
    in_git(setup).commit()
    setup.actor.add(says("", use("shell", command="make all"), call), FINISH)
    async with setup.running() as bench:
        run = await bench.tell()
        denied = [one.state for one in await bench.stores.runs.calls(run) if one.tool != "finish"]
        assert denied == [CallState.DENIED] * 2
        assert (await bench.run(run)).base is None
    assert not (setup.folder / "home/checkouts" / run).exists()


async def test_what_is_denied_or_asked_where_no_checkout_can_be_goes_back_to_the_model(setup: Setup) -> None:
    """Else the owner is asked about a folder, for the sake of a call that will not happen."""
    setup.config = '[policy]\ndeny = ["make"]\n'
    lines = ("make all", "python nowhere/../../x.py", "bash -c x")
    setup.actor.add(says("", *(use("shell", command=line) for line in lines)), FINISH)
    async with setup.running() as bench:
        run = await bench.tell()
        assert (await bench.run(run)).state is RunState.DONE_UNCHECKED
        denied, outside, asked = await bench.calls(run, "shell")
        assert not await bench.stores.approvals.find(Query())
    assert (denied.state, denied.result) == (CallState.DENIED, "denied: the owner's deny list has make")
    assert outside.state is CallState.DENIED
    assert asked.state is CallState.FAILED
    assert "there can be no checkout" in asked.result
    assert "is not the root" in asked.result


async def test_what_would_be_allowed_where_no_checkout_can_be_asks_the_owner_for_one(setup: Setup) -> None:
    setup.actor.add(says("", use("shell", command="python x.py")), FINISH)
    async with setup.running() as bench:
        run = await bench.run(await bench.tell())
        (approval,) = await bench.stores.approvals.find(Query())
    assert run.state is RunState.PARKED
    assert "git init" in approval.question


async def test_a_question_about_a_line_in_an_absolute_folder_can_be_asked(setup: Setup) -> None:
    setup.config = '[policy]\nask = ["python3"]\n'
    world = in_git(setup)
    world.put("src/x.py", "print('here')\n")
    world.commit()
    setup.actor.add(says("", use("shell", command=f"cd {setup.root}/src && python3 x.py")), FINISH)
    async with setup.running() as bench:
        run = await bench.tell()
        (approval,) = await bench.stores.approvals.find(Query())
        assert "src/x.py as it is now" in approval.question
        await bench.answer()
        (call,) = await bench.calls(run, "shell")
    assert call.state is CallState.SUCCEEDED
    assert "here" in call.result
