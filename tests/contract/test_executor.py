"""What the executor promises of any program it starts: exact surroundings, limits, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kairosd.errors import ExecutorError
from kairosd.executor import child
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Launch, Outcome

pytestmark = pytest.mark.anyio

SHELL = Launch(("/bin/sh", "-c", "true"), {}, "/", b"", timeout=60.0, output_limit=100_000)


def sh(script: str) -> Launch:
    return replace(SHELL, argv=("/bin/sh", "-c", script))


@pytest.fixture
async def executor() -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor()
    yield executor
    await executor.close()


async def gone(pid: int) -> bool:
    for _ in range(600):
        if not Path(f"/proc/{pid}").exists():
            return True
        await asyncio.sleep(0.05)
    return False


async def written(path: Path) -> str:
    for _ in range(600):
        if path.exists() and (text := path.read_text()):
            return text
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} was never written")


async def test_a_program_gets_its_input_and_says_how_it_ended(executor: ProcessExecutor) -> None:
    outcome = await executor.run(replace(sh("cat; echo no >&2; exit 3"), stdin=b"x" * 300_000, output_limit=400_000))
    assert outcome == Outcome(3, b"x" * 300_000, b"no\n")


async def test_nothing_of_ours_reaches_the_program(executor: ProcessExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "hush")
    assert (await executor.run(replace(SHELL, argv=("/usr/bin/env",)))).stdout == b""
    given = replace(SHELL, argv=("/usr/bin/env",), env={"ONE": "1", "BYTES": os.fsdecode(b"\xff\xfe")})
    assert set((await executor.run(given)).stdout.splitlines()) == {b"ONE=1", b"BYTES=\xff\xfe"}
    child_environment = Path(f"/proc/{executor.pid}/environ").read_bytes()
    assert b"hush" not in child_environment
    descriptors = await executor.run(sh("ls /proc/self/fd | tr '\\n' ' '"))
    assert descriptors.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is ls's own


async def test_asked_for_descriptors_are_readable_at_their_numbers(executor: ProcessExecutor) -> None:
    outcome = await executor.run(replace(sh("cat <&5; cat <&7"), inherit={7: b"seven", 5: b"five "}))
    assert outcome.stdout == b"five seven"


async def test_a_program_runs_in_its_folder_and_its_own_session(executor: ProcessExecutor, tmp_path: Path) -> None:
    outcome = await executor.run(replace(sh("pwd; cut -d' ' -f1,5,6 /proc/$$/stat"), cwd=str(tmp_path)))
    folder, numbers = outcome.stdout.decode().splitlines()
    assert Path(folder) == tmp_path.resolve()
    pid, group, session = numbers.split()
    assert pid == group == session


async def test_a_program_that_cannot_start_is_named(executor: ProcessExecutor) -> None:
    with pytest.raises(ExecutorError, match="/no/such/program"):
        await executor.run(replace(SHELL, argv=("/no/such/program",)))
    assert (await executor.run(sh("echo fine"))).stdout == b"fine\n"


async def test_a_hanging_program_is_killed_with_everything_it_started(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sleep 600 & echo $! > {pids}; setsid sleep 600 & echo $! >> {pids}; wait"
    outcome = await executor.run(replace(sh(script), timeout=1.0))
    assert outcome.timed_out
    assert outcome.code == -signal.SIGKILL
    for pid in (await written(pids)).split():
        assert not Path(f"/proc/{pid}").exists()


async def test_what_a_program_leaves_running_is_ended_and_reaped(executor: ProcessExecutor, tmp_path: Path) -> None:
    detach = "import os,sys,time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n"
    script = detach + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    waits = f'{sys.executable} -c "$0"; while ! [ -s {tmp_path / "pid"} ]; do sleep 0.05; done; echo done'
    outcome = await executor.run(replace(SHELL, argv=("/bin/sh", "-c", waits, script)))
    assert outcome.stdout == b"done\n"
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
    children = Path(f"/proc/{executor.pid}/task/{executor.pid}/children").read_text()
    assert children.split() == []


async def test_a_flood_is_cut_and_does_not_block_the_program(executor: ProcessExecutor) -> None:
    flood = "head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo end >&2"
    outcome = await executor.run(replace(sh(flood), output_limit=1000))
    assert outcome == Outcome(0, b"\0" * 1000, b"\0" * 1000, truncated=True)


async def test_jobs_run_side_by_side(executor: ProcessExecutor, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading, writing = await asyncio.gather(
        executor.run(replace(sh(f"cat {fifo}"))), executor.run(replace(sh(f"echo met > {fifo}")))
    )
    assert (reading.stdout, writing.code) == (b"met\n", 0)


async def test_a_cancelled_job_is_dead_when_the_caller_hears_of_it(executor: ProcessExecutor, tmp_path: Path) -> None:
    task = asyncio.create_task(executor.run(sh(f"echo $$ > {tmp_path / 'pid'}; sleep 600")))
    pid = (await written(tmp_path / "pid")).strip()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert not Path(f"/proc/{pid}").exists()
    assert (await executor.run(sh("echo fine"))).stdout == b"fine\n"


async def test_a_dead_executor_fails_its_jobs_and_is_started_again(executor: ProcessExecutor, tmp_path: Path) -> None:
    task = asyncio.create_task(executor.run(sh(f"echo $$ > {tmp_path / 'pid'}; exec sleep 600")))
    pid = int(await written(tmp_path / "pid"))
    first = executor.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ExecutorError):
        await task
    assert await gone(pid)
    assert (await executor.run(sh("echo again"))).stdout == b"again\n"
    assert executor.pid != first


async def test_closing_ends_the_process_and_its_jobs(tmp_path: Path) -> None:
    executor = ProcessExecutor()
    task = asyncio.create_task(executor.run(sh(f"echo $$ > {tmp_path / 'pid'}; setsid sleep 600 & wait")))
    pid = int(await written(tmp_path / "pid"))
    process = executor.pid
    await executor.close()
    with pytest.raises(ExecutorError):
        await task
    assert await gone(pid)
    assert process is not None
    assert await gone(process)
    await executor.close()


async def test_an_idle_executor_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = Path(child.__file__).read_text()
    assert "IDLE_SECONDS = 20.0" in source
    impatient = tmp_path / "child.py"
    impatient.write_text(source.replace("IDLE_SECONDS = 20.0", "IDLE_SECONDS = 0.2"))
    monkeypatch.setattr(child, "__file__", str(impatient))
    executor = ProcessExecutor()
    await executor.run(sh("true"))
    process = executor.pid
    assert process is not None
    assert await gone(process)
    assert executor.pid is None
    assert (await executor.run(sh("echo back"))).stdout == b"back\n"
    await executor.close()


async def test_the_daemons_death_ends_everything(tmp_path: Path) -> None:
    script = f"""
import asyncio
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Launch
command = "echo $$ > {tmp_path / "pid"}; sleep 600"
asyncio.run(ProcessExecutor().run(Launch(("/bin/sh", "-c", command), {{}}, "/", b"", 600.0, 1000)))
"""
    daemon = subprocess.Popen([sys.executable, "-c", script])
    pid = int(await written(tmp_path / "pid"))
    daemon.kill()
    daemon.wait()
    assert await gone(pid)


async def test_the_child_loads_little() -> None:
    """It is forked for every program: what it loads is paid each time, and it must not know the daemon's parts."""
    script = f"import runpy, sys; runpy.run_path({child.__file__!r}); print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    assert not {name for name in names if name.startswith("kairosd") or name in {"asyncio", "subprocess", "logging"}}
    assert {"selectors", "socket"} <= names
