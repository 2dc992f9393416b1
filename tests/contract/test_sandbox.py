"""What a program in the sandbox can and cannot do, tried with real programs; and that the canary notices a weak one."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kairosd.core.shell.plans import Stream
from kairosd.errors import SandboxError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Executor, Job, Launch, Mount, Outcome, Sandbox
from kairosd.sandbox import bubblewrap, none, seccomp

pytestmark = pytest.mark.anyio

HERE = Path("/tmp")


@pytest.fixture
async def executor() -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor()
    yield executor
    await executor.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def sandbox(executor: ProcessExecutor, state: Path) -> bubblewrap.Bubblewrap:
    return bubblewrap.build(executor, folder=state, forbidden=(state,))


class Weakened:
    """An executor that changes the words of bwrap before it runs them."""

    def __init__(self, executor: Executor, change: Callable[[list[str]], Sequence[str]]) -> None:
        self._executor = executor
        self._change = change
        self.launches = 0

    async def run(self, *launches: Launch, ended: Callable[[Outcome], None] | None = None) -> Outcome:
        self.launches += 1
        changed = [replace(launch, argv=tuple(self._change(list(launch.argv)))) for launch in launches]
        return await self._executor.run(*changed, ended=ended)

    async def close(self) -> None:
        await self._executor.close()


async def sh(sandbox: Sandbox, script: str, *mounts: Mount, masked: tuple[Path, ...] = ()) -> Outcome:
    job = Job(
        ("/bin/sh", "-c", script), mounts[0].target if mounts else HERE, mounts, masked, {"PATH": "/usr/bin:/bin"}
    )
    return await sandbox.run(job)


async def python(sandbox: Sandbox, script: str, *mounts: Mount) -> Outcome:
    program = Path(sys.executable).resolve()
    prefix = Mount(Path(sys.base_prefix).resolve(), Path(sys.base_prefix).resolve())
    shown = mounts if prefix.source.is_relative_to("/usr") else (*mounts, prefix)
    return await sandbox.run(Job((str(program), "-I", "-S", "-c", script), HERE, shown))


async def test_the_canary_holds_and_leaves_nothing_behind(sandbox: Sandbox, state: Path) -> None:
    assert await sandbox.check() is None
    assert list(state.iterdir()) == []


def without(*words: str) -> Callable[[list[str]], list[str]]:
    return lambda argv: [word for word in argv if word not in words]


def before_command(*words: str) -> Callable[[list[str]], list[str]]:
    return lambda argv: argv[: argv.index("--chdir")] + list(words) + argv[argv.index("--chdir") :]


@pytest.mark.parametrize(
    ("change", "leak"),
    [
        (before_command("--share-net"), "reach the network"),
        (without("--seccomp", "10"), "open a UNIX socket"),
        (without("--seccomp", "10"), "send to a UNIX socket by its path"),
        (before_command("--bind", "{state}", "{state}"), "read a file outside"),
        (before_command("--bind", "{state}", "{state}"), "write a file outside"),
        (lambda argv: ["--bind" if word == "--ro-bind" else word for word in argv], "write a read-only mount"),
        (before_command("--setenv", "LEAK", "1"), "see more variables"),
        (before_command("--bind", "/proc", "/proc"), "see other processes"),
    ],
)
async def test_the_canary_dies_in_a_sandbox_that_leaks(
    executor: ProcessExecutor, state: Path, change: Callable[[list[str]], list[str]], leak: str
) -> None:
    weak = Weakened(executor, lambda argv: [word.replace("{state}", str(state)) for word in change(argv)])
    sandbox = bubblewrap.build(weak, folder=state)
    reason = await sandbox.check()
    assert reason is not None
    assert leak in reason
    with pytest.raises(SandboxError, match="does not hold"):
        await sh(sandbox, "true")
    assert weak.launches == 1  # the answer is remembered, and nothing else was run


async def test_without_user_namespaces_the_reason_comes_with_the_fix(executor: ProcessExecutor, state: Path) -> None:
    says = "echo 'bwrap: No permissions to create new namespace' >&2; exit 1"
    sandbox = bubblewrap.build(Weakened(executor, lambda argv: ["/bin/sh", "-c", says]), folder=state)
    reason = await sandbox.check()
    assert reason is not None
    assert "No permissions to create new namespace" in reason
    assert "unprivileged_userns_clone" in reason


async def test_without_bubblewrap_the_reason_comes_with_the_fix(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "SEARCH", "/nowhere")
    reason = await sandbox.check()
    assert reason is not None
    assert "apt install bubblewrap" in reason


async def test_a_sandbox_that_could_not_be_tried_is_tried_again_later(
    executor: ProcessExecutor, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as on a full disk, or before bubblewrap was installed."""
    broken = Weakened(executor, lambda argv: ["/bin/false"])
    sandbox = bubblewrap.build(broken, folder=state)
    assert await sandbox.check()
    broken._change = list
    assert await sandbox.check(), "once in a while is enough"
    assert broken.launches == 1
    monkeypatch.setattr(bubblewrap, "AGAIN_SECONDS", 0.0)
    sandbox._again_at = 0.0
    assert await sandbox.check() is None
    assert (await sh(sandbox, "exit 3")).code == 3
    broken._change = lambda argv: ["/bin/false"]
    launches = broken.launches
    assert await sandbox.check() is None, "what held is remembered"
    assert broken.launches == launches


async def test_a_canary_that_got_out_once_stays_an_answer(
    executor: ProcessExecutor, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "AGAIN_SECONDS", 0.0)
    weak = Weakened(executor, before_command("--share-net"))
    sandbox = bubblewrap.build(weak, folder=state)
    reason = await sandbox.check()
    assert reason is not None
    assert "does not hold" in reason
    weak._change = list
    assert await sandbox.check() == reason
    with pytest.raises(SandboxError, match="does not hold"):
        await sh(sandbox, "exit 0")
    assert weak.launches == 1


async def test_no_sandbox_runs_nothing(executor: ProcessExecutor, state: Path) -> None:
    sandbox = none.build(executor, folder=state)
    assert await sandbox.check() == none.REASON
    with pytest.raises(SandboxError):
        await sh(sandbox, "true")


async def test_files_written_are_the_callers_own(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    outcome = await sh(sandbox, "echo made > file; id -u; ls", Mount(folder, Path("/somewhere/else"), writable=True))
    assert outcome.stdout.split() == [str(os.getuid()).encode(), b"file"]
    assert (folder / "file").read_text() == "made\n"
    assert (folder / "file").stat().st_uid == os.getuid()


async def test_a_read_only_mount_over_a_writable_one_stays_so(sandbox: Sandbox, folder: Path) -> None:
    (folder / "kept").write_text("before")
    mounts = Mount(folder, folder, writable=True), Mount(folder / "kept", folder / "kept")
    outcome = await sh(sandbox, "echo x > kept; mv kept gone; rm -f kept; echo y > other; exit 0", *mounts)
    assert outcome.code == 0
    assert (folder / "kept").read_text() == "before"
    assert (folder / "other").read_text() == "y\n"


async def test_masked_paths_show_as_empty_and_are_untouched(sandbox: Sandbox, folder: Path) -> None:
    (folder / ".env").write_text("SECRET=1")
    (folder / "keys").mkdir()
    (folder / "keys" / "id_rsa").write_text("SECRET=2")
    masked = (folder / ".env", folder / "keys", folder / "absent")
    script = "cat .env keys/id_rsa; ls -A keys; ls -A; echo x > .env; echo x > keys/new"
    outcome = await sh(sandbox, script, Mount(folder, folder, writable=True), masked=masked)
    assert b"SECRET" not in outcome.stdout + outcome.stderr
    assert outcome.stdout.split() == [b".env", b"keys"]
    assert (folder / ".env").read_text() == "SECRET=1"
    assert [path.name for path in (folder / "keys").iterdir()] == ["id_rsa"]


@pytest.mark.parametrize("source", ["/", "{home}", "{state}", "{above}", "{socket}", "{absent}", "/dev/null", "{link}"])
async def test_what_may_not_be_mounted(sandbox: Sandbox, state: Path, tmp_path: Path, source: str) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        place = tmp_path / "s"
        door.bind(os.path.relpath(place))
        (tmp_path / "link").symlink_to(state)
        names = {"home": Path.home(), "state": state, "above": tmp_path, "socket": place, "absent": tmp_path / "none"}
        path = Path(source.format(**names, link=tmp_path / "link"))
        assert await sandbox.check() is None
        with pytest.raises(SandboxError):
            await sh(sandbox, "true", Mount(path, Path("/shown")))


async def test_a_link_of_the_sandbox_is_not_there_outside(sandbox: Sandbox, folder: Path) -> None:
    (folder / "real").write_text("found")
    place = folder.parent / "elsewhere" / "link"
    job = Job(("/bin/cat", str(place)), folder, (Mount(folder, folder),), links=((place, str(folder / "real")),))
    assert (await sandbox.run(job)).stdout == b"found"
    assert not place.parent.exists()


async def test_jobs_are_joined_by_pipes_each_in_a_sandbox_of_its_own(sandbox: Sandbox, folder: Path) -> None:
    def stage(script: str, *, writable: bool = False) -> Job:
        return Job(("/bin/sh", "-c", script), folder, (Mount(folder, folder, writable),), env={"PATH": "/usr/bin:/bin"})

    writer = stage("ls /proc | grep -c '^[0-9]'; echo 1 > one; echo err >&2", writable=True)
    reader = stage("ls /proc | grep -c '^[0-9]'; cat; echo 2 > two; exit 3")
    outcome = await sandbox.run(writer, reader)
    assert outcome.code == 3 or outcome.code == 2
    first, second = outcome.stdout.split()
    assert int(first) <= 5
    assert int(second) <= 5  # each sees its own processes only
    assert b"err" in outcome.stderr
    assert b"Read-only file system" in outcome.stderr
    assert [path.name for path in folder.iterdir()] == ["one"]


async def test_a_flood_into_a_reader_that_leaves_ends_at_once(sandbox: Sandbox, folder: Path) -> None:
    flood = Job(("/usr/bin/yes",), folder, (Mount(folder, folder),), timeout=30.0)
    head = replace(flood, argv=("/usr/bin/head", "-1"))
    outcome = await sandbox.run(flood, head)
    assert outcome == Outcome(0, b"y\n", b"")
    killed = await sandbox.run(
        replace(flood, argv=("/bin/sh", "-c", "kill -KILL $$")), replace(head, argv=("/bin/cat",))
    )
    assert killed == Outcome(0, b"", b"")
    last = await sandbox.run(flood, replace(head, argv=("/bin/sh", "-c", "kill -TERM $$")))
    assert last.code == 128 + 15


async def test_outputs_of_jobs_go_where_they_are_sent(sandbox: Sandbox, folder: Path) -> None:
    both = Job(("/bin/sh", "-c", "echo 1; echo 2 >&2; echo 3"), folder, (Mount(folder, folder),))
    tac = Job(("/usr/bin/tac",), folder, (Mount(folder, folder),))
    assert (await sandbox.run(replace(both, stderr=Stream.STDOUT), tac)).stdout == b"3\n2\n1\n"
    assert (await sandbox.run(replace(both, stdout=Stream.NULL))).stderr == b"2\n"
    assert (await sandbox.run(replace(tac, stdin=b"a\nb\n"))).stdout == b"b\na\n"


async def test_what_lies_in_a_forbidden_folder_may_be_mounted(sandbox: Sandbox, state: Path) -> None:
    checkout = state / "checkouts" / "r_1"
    checkout.mkdir(parents=True)
    assert (await sh(sandbox, "echo x > file", Mount(checkout, Path("/shown"), writable=True))).code == 0
    assert (checkout / "file").exists()


async def test_programs_end_with_the_sandbox(sandbox: Sandbox, tmp_path: Path) -> None:
    outcome = await sh(sandbox, "setsid sleep 987 & echo started")
    assert outcome.stdout == b"started\n"
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if b"sleep\x00987" in line]


REFUSED = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(action):
    try: action()
    except OSError as error: return error.errno
    return 0
def call(*numbers):
    libc.syscall(*numbers)
    return ctypes.get_errno()
print(refused(lambda: socket.socket(socket.AF_UNIX)), refused(lambda: socket.socket(40, socket.SOCK_STREAM)),
      refused(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)),
      refused(lambda: socket.socketpair()), refused(lambda: socket.socket()), refused(lambda: socket.socket(10, 2)),
      libc.unshare(0x10000000) and ctypes.get_errno(), call(435, 0, 0), call(425, 1, 0), call(0x40000000 + 39))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the test are this machine's")
async def test_the_filter_refuses_what_it_names(sandbox: Sandbox) -> None:
    outcome = await python(sandbox, REFUSED)
    assert outcome.stdout.split() == b"1 1 1 0 0 0 1 38 1 38".split(), outcome.stderr


async def test_python_with_threads_and_asyncio_works_under_the_filter(sandbox: Sandbox) -> None:
    script = "import asyncio, subprocess, sys\nasync def main():\n"
    script += "    await asyncio.to_thread(lambda: subprocess.run(['/bin/true'], check=True)); print('works')\n"
    outcome = await python(sandbox, script + "asyncio.run(main())")
    assert outcome.stdout == b"works\n", outcome.stderr


def test_a_filter_exists_for_the_usual_machines_only() -> None:
    assert seccomp.program("x86_64") != seccomp.program("aarch64")
    with pytest.raises(SandboxError, match="riscv64"):
        seccomp.program("riscv64")
