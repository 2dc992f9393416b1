"""Ways out of a run's checkout and sandbox that others have been left by, each tried with real programs."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
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
from kairosd.ports import Job, Mount, Outcome
from kairosd.sandbox import bubblewrap
from kairosd.system.files import LocalFiles

pytestmark = pytest.mark.anyio

SAFE = ("config", "hooks", "info")


@dataclass
class World:
    """An owner's repository, and a run that is at its worst. What it gets to run outside leaves a file in `pit`."""

    root: Path
    executor: ProcessExecutor
    sandbox: bubblewrap.Bubblewrap

    def __post_init__(self) -> None:
        self.workspace = Workspace("w", self.root / "work")
        self.run = Run("r_1", RunState.RUNNING, "g", "w", "owner", None, 2, Tier.OWNER, ManualClock().now())
        folder, patches = self.root / "state/checkouts", self.root / "state/patches"
        self.checkouts = Checkouts(self.sandbox, LocalFiles(), folder=folder, patches=patches, clock=ManualClock())

    @property
    def pit(self) -> Path:
        return self.root / "pit"

    @property
    def tree(self) -> Path:
        return self.root / "state/checkouts/r_1/tree"

    async def bash(self, script: str, seconds: float = 20.0) -> Outcome:
        """What a run's owner may have said yes to: everything in the checkout is writable."""
        await self.checkouts.ensure(self.run, self.workspace)

        def mounts(files: bool, history: bool) -> tuple[Mount, ...]:
            return self.checkouts.mounts(self.run, self.workspace, files=files, history=history)

        runner = PlanRunner(self.sandbox, LocalFiles(), ground=Ground(self.workspace, self.tree, mounts))
        return await runner.run(Plan((Pipeline((Command(("bash", "-c", script)),)),)), seconds=seconds)

    async def end(self) -> None:
        """Everything that the daemon does with a checkout, as often as it may."""
        await self.checkouts.git(self.run, self.workspace)("status")
        try:
            await self.checkouts.diff(self.run, self.workspace)
            await self.checkouts.commit(self.run, self.workspace, message="x", author=("A", "a@b.c"), trailers={})
            await self.checkouts.land(self.run, self.workspace, slug="x")
        except CheckoutError:
            pass  # a wrecked checkout does not land
        await self.checkouts.discard(self.run)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    executor = ProcessExecutor()
    for name in ("state", "pit"):
        (tmp_path / name).mkdir()
    repository(tmp_path / "work")
    sandbox = bubblewrap.build(executor, folder=tmp_path / "state", forbidden=(tmp_path / "state",))
    yield World(tmp_path.resolve(), executor, sandbox)
    await executor.close()


@pytest.fixture
def door(tmp_path: Path) -> Iterator[socket.socket]:
    """A listening socket in the workspace, such as Docker's or our own, that anybody may open."""
    with socket.socket(socket.AF_UNIX) as made:
        path = tmp_path / "s"
        made.bind(os.path.relpath(path))
        path.chmod(0o666)
        made.listen()
        made.setblocking(False)
        yield made


async def python(world: World, script: str, *mounts: Mount) -> list[str]:
    program = Path(sys.executable).resolve()
    prefix = Path(sys.base_prefix).resolve()
    shown = mounts if prefix.is_relative_to("/usr") else (*mounts, Mount(prefix, prefix))
    outcome = await world.sandbox.run(Job((str(program), "-I", "-S", "-c", TRY + script), Path("/tmp"), shown))
    assert outcome.code == 0, outcome.stderr
    return outcome.stdout.decode().split()


TRY = """
import ctypes, errno, fcntl, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def tries(action):
    try: found = action()
    except OSError as error: found = errno.errorcode[error.errno]
    print(found)
def call(*numbers):
    if libc.syscall(*numbers) < 0: raise OSError(ctypes.get_errno(), "")
    return "done"
"""
ATTACKS = {
    "a .git folder of its own": "mv .git .old; cp -a .old .git; git config core.fsmonitor 'touch {pit}/x'; git status",
    "a .git file": "rm -rf .git; git init -q evil; git -C evil config core.fsmonitor 'touch {pit}/x'; "
    "mv .git .old; echo 'gitdir: evil/.git' > .git; git status",
    "commondir": "git init -q evil; git -C evil config core.fsmonitor 'touch {pit}/x'; "
    "echo ../evil/.git > .git/commondir; git status",
    "config": "git config core.fsmonitor 'touch {pit}/x'; printf '[core]\\n\\tpager = touch {pit}/x' > .git/config",
    "config.worktree": "printf '[core]\\n\\tfsmonitor = touch {pit}/x' > .git/config.worktree",
    "hooks": "printf '#!/bin/sh\\ntouch {pit}/x\\n' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit",
    "attributes": "echo '* filter=evil diff=evil' | tee .git/info/attributes .gitattributes; "
    "git config filter.evil.clean 'touch {pit}/x; cat'; git config diff.evil.textconv 'touch {pit}/x; cat'",
    "objects elsewhere": "mv .git/objects .git/o; mkdir .git/objects; ln -s ../../../../ .git/objects/info",
    "alternates": "echo {pit} > .git/objects/info/alternates; rm -rf .git/objects/info; ln -s {pit} .git/objects/info",
    "a submodule": "git init -q sub; git -C sub config core.fsmonitor 'touch {pit}/x'; git -C sub commit -qm x "
    "--allow-empty; git add sub; git submodule add ./sub sub2; git status",
    "links": "ln -s {pit} pit; ln -s / root; ln -sfn {pit} src; echo x > pit/x; git add -A",
    "permissions": "mkdir -p deep/er; touch deep/er/f; chmod 000 deep; chmod 000 .git",
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_nothing_planted_in_a_checkout_runs_or_reaches_outside(world: World, attack: str) -> None:
    owners = [(world.root / "work/.git" / name) for name in ("config", "HEAD", "index")]
    before = [path.read_bytes() for path in owners], git(world.root / "work", "show-ref", "main")
    await world.bash("true")
    guarded = {name: _content(world.tree / ".git" / name) for name in SAFE}
    await world.bash("echo more >> README.md; " + ATTACKS[attack].format(pit=world.pit))
    assert {name: _content(world.tree / ".git" / name) for name in SAFE} == guarded
    assert not (world.tree / ".git").is_symlink()
    await world.bash("git status; git log -p; ls -laR /; exit 0")
    await world.end()
    assert list(world.pit.iterdir()) == []
    assert ([path.read_bytes() for path in owners], git(world.root / "work", "show-ref", "main")) == before
    assert not world.tree.exists()


def _content(path: Path) -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in [path, *path.rglob("*")] if each.is_file()}


async def test_a_link_inside_the_checkout_makes_the_next_sandbox_mount_nothing_else(world: World) -> None:
    other = world.root / "state/checkouts/r_2"
    other.mkdir(parents=True)
    (other / "file").write_text("of another run")
    await world.bash(ATTACKS["objects elsewhere"])
    outcome = await world.bash("find / -xdev -name file; cat .git/objects/info/r_2/file; git log --oneline")
    assert b"another run" not in outcome.stdout
    assert b"Begin the engine" in outcome.stdout


async def test_a_tool_writes_nothing_after_its_run_has_ended(world: World) -> None:
    script = "for i in 1 2; do (setsid sh -c 'trap \"\" HUP TERM; sleep 0.5; touch late' >/dev/null 2>&1 &); done"
    outcome = await world.bash(f"{script}; touch early")
    assert outcome.code == 0
    await asyncio.sleep(1.0)
    assert (world.tree / "early").exists()
    assert not (world.tree / "late").exists()


async def test_the_environment_of_nobody_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hush-hush")
    await world.sandbox.check()
    outcome = await world.bash("cat /proc/1/environ; cat /proc/*/environ /proc/*/task/*/environ; env; echo; ls /proc")
    assert b"hush-hush" not in outcome.stdout
    assert (await world.bash("tr '\\0' '\\n' < /proc/1/environ | wc -c")).stdout.strip() == b"0"
    others = {str(pid).encode() for pid in (os.getpid(), world.executor.pid)}
    assert not others & set(outcome.stdout.split(b"\n"))


async def test_a_socket_with_a_path_is_reached_by_no_way(world: World, door: socket.socket) -> None:
    script = """
where = "/shown/s"
tries(lambda: socket.socket(socket.AF_UNIX).connect(where))
tries(lambda: socket.socketpair()[0].connect(where))
tries(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b"x", where))
tries(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)[0].connect(where))
tries(lambda: call(41, 1, 1 | 0o2000000, 0))
tries(lambda: os.open(where, os.O_RDWR))
"""
    # Every sandbox shows this folder: the door of a service that an owner has left in a workspace.
    shown = Mount(world.root, Path("/shown"), writable=True)
    sandbox = bubblewrap.build(world.executor, folder=world.root / "state")
    told = await python(World(world.root, world.executor, sandbox), script, shown)
    assert told[:2] == ["EPERM", "EISCONN"]
    assert told[2] == "EPERM"
    assert "None" not in told
    with pytest.raises(BlockingIOError):
        door.accept()


async def test_no_other_process_and_no_terminal_is_touched(world: World) -> None:
    await world.sandbox.check()
    script = f"""
tries(lambda: call(101, 16, {world.executor.pid}, 0, 0))
tries(lambda: call(101, 16, {os.getpid()}, 0, 0))
tries(lambda: os.kill({world.executor.pid}, 9))
def types():
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, 0x5412, b"x")
tries(types)
tries(lambda: os.open("/dev/tty", os.O_RDWR))
tries(lambda: call(250, 0, -3, 1))
tries(lambda: call(425, 8, 0))
tries(lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) and call(165, b"none", b"/tmp", b"tmpfs", 0, None))
tries(lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
tries(lambda: os.chroot("/tmp"))
"""
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of the test are this machine's")
    told = await python(world, script)
    assert told == ["ESRCH"] * 3 + ["EPERM", "ENXIO", "EPERM", "EPERM", "EPERM", "EROFS", "EPERM"]
    assert Path(f"/proc/{world.executor.pid}").exists()


async def test_every_program_is_started_by_the_same_thread(world: World) -> None:
    """A process bound to its parent's death dies with the *thread* that forked it: a pool would kill at random."""
    await world.bash("true")
    running = [asyncio.create_task(world.bash("sleep 1; echo lived")) for _ in range(3)]
    await asyncio.sleep(0.5)
    threads = list(Path(f"/proc/{world.executor.pid}/task").iterdir())
    assert [path.name for path in threads] == [str(world.executor.pid)]
    assert [outcome.stdout for outcome in await asyncio.gather(*running)] == [b"lived\n"] * 3
