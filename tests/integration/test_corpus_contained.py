"""The corpus of shell tricks without the gate: bash itself runs every line in a run's sandbox, and nothing gets out.

The lines speak of /ws, /home/u and /tmp/pwned; each gets its own workspace, home and canaries in their place. That the
canaries can die at all is shown by the same lines in a sandbox with everything open.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.canaries import SECRET, Canaries, canaries
from tests.e2e.daemon import git, repository
from tests.fakes import ManualClock

from kairosd.core.events import Tier
from kairosd.core.runs import Run, RunState
from kairosd.core.shell.plans import Command, Pipeline, Plan
from kairosd.core.workspaces import Workspace
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.commands import Ground, PlanRunner
from kairosd.errors import CheckoutError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Mount
from kairosd.sandbox import bubblewrap
from kairosd.system.files import LocalFiles

pytestmark = pytest.mark.anyio

SHARED = os.environ.get("KAIROS_SHARED")
needs_corpus = pytest.mark.skipif(not SHARED, reason="KAIROS_SHARED does not say where the corpus is")
SECONDS = 5.0  # of one line
AT_ONCE = 4
REFUSED_OPENLY = "dos"  # a category that an open sandbox cannot be trusted with


@dataclass(frozen=True)
class Row:
    """A line, what is to be there before it, and what kind of trick it is."""

    line: str
    category: str
    setup: str


# What the corpus leaves out: each canary by itself, in more than one way.
MORE = (
    "curl -s http://127.0.0.1:9/",
    "wget -qO- http://127.0.0.1:9/",
    "exec 3<>/dev/tcp/127.0.0.1/9; echo hi >&3",
    "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 9), 2)'",
    "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"/tmp/door.sock\")'",
    "python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(\"docker.sock\")'",
    "python3 -c 'import socket; a, b = socket.socketpair(); a.connect(\"docker.sock\")'",
    "python3 -c 'import os; os.mknod(\"/tmp/pwned\")'",
    "git update-ref refs/heads/main HEAD~1",
    "git push origin HEAD:evil",
    "git config core.fsmonitor 'touch /tmp/pwned; false'; git status",
    "git config --global core.fsmonitor 'touch /tmp/pwned'",
    "git branch -D main; git checkout -B main HEAD~1",
    "git reflog expire --all; git gc --prune=now",
    "printf '#!/bin/sh\\ntouch /tmp/pwned\\n' > .git/hooks/post-commit; git commit -m x",
    "mv .git .git2; cp -a .git2 .git; git config core.fsmonitor 'touch /tmp/pwned; false'; git status",
    "rm -rf .git; echo gitdir: /ws/evilrepo/.git > .git; git status",
    "echo /ws/evilrepo/.git > .git/commondir; git status",
    "echo '* filter=evil' > .gitattributes; git config filter.evil.clean 'touch /tmp/pwned; cat'; git add -A",
    "rm -rf /ws /home/u / 2>/dev/null",
    "cat .env /home/u/.bashrc",
    "cp -r /home/u copy; cat copy/.ssh/*",
    "cat /proc/1/environ /proc/*/environ",
    "env; set; declare -p",
    "ln -s /home/u home; cat home/.ssh/id_rsa",
    "tar cf - /home/u",
    "mount --bind /home/u /ws; cat /ws/.ssh/id_rsa",
    "unshare -Ur mount --bind / /ws; chroot / id; nsenter -t 1 -a id",
    "setsid sh -c 'sleep 1; touch /tmp/pwned' &",
    "nohup sh -c 'sleep 1; touch /tmp/pwned' >/dev/null 2>&1 & disown",
    "at now <<< 'touch /tmp/pwned'; echo '* * * * * touch /tmp/pwned' | crontab -",
    "echo evil > /etc/profile.d/evil.sh; echo core > /proc/sys/kernel/core_pattern",
    "kill -9 -1",
)


def corpus() -> list[Row]:
    """The shared rows and ours."""
    rows = [Row(line, "ours", "evilrepo") for line in MORE]
    if SHARED:
        with (Path(SHARED) / "security" / "shell_bypasses.tsv").open(newline="", encoding="utf-8") as file:
            read = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows += [Row(json.loads(row["command_json"]), row["category"], row["setup"]) for row in read]
    return rows


@dataclass
class Stage:
    """A home, a workspace, and canaries around them. `here` puts them in the place of the corpus's own names."""

    root: Path
    found: Canaries
    marks: list[str] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.root / "home" / "u"

    @property
    def work(self) -> Path:
        return self.root / "ws"

    def here(self, text: str) -> str:
        for name, path in (("/ws", self.work), ("/home/u", self.home), ("/tmp/pwned", self.found.pit / "pwned")):
            text = re.sub(rf"(?<!\.){name}(?!\w)", str(path), text)
        text = text.replace("/tmp/door.sock", str(self.found.door))
        return re.sub(r"(127\.0\.0\.1|localhost)([:/]|\", )\d+", rf"\g<1>\g<2>{self.found.port}", text)

    def encoded(self, line: str) -> str:
        """The line for this stage, also where base64 hides a path."""

        def turned(match: re.Match[str]) -> str:
            made = subprocess.run(["base64", "-w0"], input=self.here("touch /tmp/pwned").encode(), capture_output=True)
            return made.stdout.decode()

        return self.here(re.sub(r"dG91Y2ggL3RtcC9wd25lZA==", turned, line))

    def furnish(self) -> None:
        """Everything that the lines expect to find."""
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh" / "id_rsa").write_text(f"SECRET {SECRET}\n")
        (self.home / ".ssh" / f"{SECRET}.pub").write_text("its name tells who has listed the folder\n")
        (self.home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
        (self.home / ".bashrc").write_text(f"export TOKEN={SECRET}\n")
        planted = "#!/bin/sh\ntouch /tmp/pwned\n"
        files = {
            "README.md": "# app\n\nhello world\n", "a.txt": "hello\nworld hello world\n", "b.txt": "one\nhello\n",
            "file with space.txt": "spaces\n", "src/app.py": "print('hello')\n", "evil.sh": planted,
            "evil/ls": planted, "evil/git-log": planted, "rgrc": "--pre=/ws/evil.sh\n", ".gitignore": ".env\n",
        }  # fmt: skip
        repository(self.work, {name: self.here(text) for name, text in files.items()})
        for name in ("evil.sh", "evil/ls", "evil/git-log"):
            (self.work / name).chmod(0o755)
        (self.work / "a.txt").write_text("hello\nworld hello world\nand more\n")
        git(self.work, "commit", "--quiet", "--all", "--message", "Make scripts run")
        (self.work / "b.txt").write_text("one\nhello\nnot committed\n")
        git(self.work, "remote", "add", "origin", str(self.work))
        (self.work / ".env").write_text(f"KEY={SECRET}\n")

    def prepare(self, setup: str, tree: Path) -> None:
        """Puts a row's `setup` into a tree: its files, and its git configuration as if nothing guarded it."""
        if setup == "evilrepo":
            repository(tree / "evilrepo")
            git(tree / "evilrepo", "config", "core.fsmonitor", self.here("touch /tmp/pwned;false"))
        elif setup == "link":
            (tree / "link").symlink_to(self.home / ".ssh" / "id_rsa")
        elif setup == "textconv":
            (tree / ".gitattributes").write_text("*.txt diff=evil\n*.md diff=evil\n")
            git(tree, "config", "diff.evil.textconv", self.here("/ws/evil.sh"))
        elif setup.startswith("gitcfg:"):
            name, _, value = setup.removeprefix("gitcfg:").partition("=")
            git(tree, "config", name, self.here(value))
        else:
            assert setup == "-", f"nobody knows how to set up {setup!r}"

    def effects(self, said: bytes, tree: Path) -> list[str]:
        """What the canaries say of one line: which of them are dead."""
        dead = ["file"] if list(self.found.pit.iterdir()) else []
        dead += ["http"] if self.found.web else []
        dead += ["socket"] if self.found.local else []
        dead += ["secret"] if SECRET.encode() in said or any(_holds(path) for path in _fresh(tree)) else []
        dead += ["home"] if self.home_marks() != self.marks else []
        dead += ["repository"] if self.found.sights() != self.found.before else []
        return dead

    def home_marks(self) -> list[str]:
        return [f"{path} {_content(path)!r}" for path in sorted(self.home.rglob("*"))]

    def begin(self) -> None:
        self.found.before, self.marks = self.found.sights(), self.home_marks()


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _holds(path: Path) -> bool:
    return SECRET.encode() in _content(path)


def _fresh(tree: Path) -> Iterator[Path]:
    """Files that a line may have copied a secret to; not those that were to hold one."""
    if tree.is_dir():
        yield from (path for path in tree.rglob("*") if path.name != ".env" and not path.is_symlink())


@contextlib.contextmanager
def stage(root: Path) -> Iterator[Stage]:
    """A stage with living canaries, and a socket in the workspace like Docker's."""
    root.mkdir()
    watched: dict[str, Path] = {}
    with canaries(root, watched) as found:
        made = Stage(root, found)
        made.furnish()
        watched["ws"] = made.work
        made.begin()
        yield made


Runner = Callable[[Stage, Row], Awaitable[list[str]]]


async def perform(rows: Sequence[Row], folder: Path, runner: Runner) -> dict[str, list[str]]:
    """Runs each row on a stage of its own, some at once; the effects by line, for those that had any."""
    found: dict[str, list[str]] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, row: Row) -> None:
        async with gate:
            place = folder / str(number)
            with stage(place) as set_up:
                if effects := await runner(set_up, row):
                    found[row.line] = effects
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async with asyncio.TaskGroup() as group:
        for number, row in enumerate(rows):
            group.create_task(one(number, row))
    return found


@pytest.fixture
async def executor() -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor()
    yield executor
    await executor.close()


def plan_of_bash(line: str) -> Plan:
    return Plan((Pipeline((Command(("bash", "-c", line)),)),))


def confined(executor: ProcessExecutor, state: Path) -> Runner:
    """As a run does it once its owner has said yes to anything: a checkout, all of it writable, and no gate."""
    sandbox = bubblewrap.build(executor, folder=state, forbidden=(state,))

    async def run(made: Stage, row: Row) -> list[str]:
        one = Run("r_1", RunState.RUNNING, "g", "w", "owner", None, 2, Tier.OWNER, ManualClock().now())
        workspace = Workspace("w", made.work)
        checkouts = Checkouts(
            sandbox, LocalFiles(), folder=made.root / "state", patches=made.root / "patches", clock=ManualClock()
        )
        checkout = await checkouts.ensure(one, workspace)
        made.prepare(row.setup, checkout.path)
        shutil.copy(made.work / ".env", checkout.path / ".env")

        def mounts(files: bool, history: bool) -> tuple[Mount, ...]:
            return checkouts.mounts(one, workspace, files=files, history=history)

        runner = PlanRunner(sandbox, LocalFiles(), ground=Ground(workspace, checkout.path, mounts))
        with door(checkout.path / "docker.sock", made.found):
            outcome = await runner.run(plan_of_bash(made.encoded(row.line)), seconds=SECONDS)
            said = outcome.stdout + outcome.stderr
            assert row.category != "benign" or outcome.code < 126, (row, outcome)  # bash was there and ran it
            if "sleep" in row.line:
                await asyncio.sleep(1.2)  # what was left running would have shown itself by then
            with contextlib.suppress(CheckoutError):  # a line may have wrecked its checkout: nothing lands then
                said += (await checkouts.git(one, workspace)("status", "--short")).stdout
                await checkouts.commit(one, workspace, message="x", author=("A", "a@b.c"), trailers={})
                await checkouts.land(one, workspace, slug="x")
        return made.effects(said, checkout.path)

    return run


def open_wide() -> Runner:
    """A sandbox in which everything but this stage is merely read-only."""

    async def run(made: Stage, row: Row) -> list[str]:
        made.prepare(row.setup, made.work)
        made.begin()
        words = [
            "bwrap",
            "--ro-bind",
            "/",
            "/",
            "--dev",
            "/dev",
            "--proc",
            "/proc",
            "--unshare-pid",
            "--die-with-parent",
        ]
        words += ["--bind", str(made.root), str(made.root), "--chdir", str(made.work), "--", "bash", "-c"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(made.home), "SECRET_ENV_KEY": SECRET}
        process = await asyncio.create_subprocess_exec(
            *words, made.encoded(row.line), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(SECONDS):
                said, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            said = await process.stdout.read() if process.stdout else b""
            await process.wait()
        return made.effects(said, made.work / "copy")

    return run


@contextlib.contextmanager
def door(path: Path, found: Canaries) -> Iterator[None]:
    """A second name for the canaries' socket."""
    os.link(found.door, path)
    yield
    path.unlink(missing_ok=True)


@needs_corpus
async def test_the_whole_corpus_in_the_sandbox_has_no_effect_outside(
    executor: ProcessExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_ENV_KEY", SECRET)
    (tmp_path / "state").mkdir()
    rows = corpus()
    assert {row.category for row in rows} > {"benign", "dos", "wrapper", "ours"}
    before = Path("/tmp/pwned").exists(), Path("/home/u").exists()
    assert await perform(rows, tmp_path, confined(executor, tmp_path / "state")) == {}
    assert (Path("/tmp/pwned").exists(), Path("/home/u").exists()) == before


@needs_corpus
async def test_the_same_lines_kill_canaries_where_nothing_holds_them(tmp_path: Path) -> None:
    rows = [row for row in corpus() if row.category != REFUSED_OPENLY and row.line not in MORE]
    effects = await perform(rows, tmp_path, open_wide())
    kinds = {kind for dead in effects.values() for kind in dead}
    assert {"file", "secret", "home", "http"} <= kinds
    assert len(effects) > len(rows) // 2, effects
    ordinary = [row.line for row in rows if row.category == "benign"]
    assert not set(ordinary) & set(effects), "an ordinary line kills no canary"
