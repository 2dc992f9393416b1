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

import kairosd
from kairosd.core.shell.plans import Stream
from kairosd.errors import ExecutorError
from kairosd.executor import client
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Launch, Outcome

pytestmark = pytest.mark.anyio

SHELL = Launch(("/bin/sh", "-c", "true"), {}, "/", Stream.OWN, timeout=60.0, output_limit=100_000)


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


@pytest.mark.parametrize(
    ("lines", "limit", "tail", "truncated"),
    [(1000, 100, 50, True), (1000, 3000, 893, False), (1000, 3000, 892, True), (3, 100, 50, False)],
)
async def test_a_tail_is_kept_behind_the_beginning(
    executor: ProcessExecutor, lines: int, limit: int, tail: int, truncated: bool
) -> None:
    whole = "".join(f"{number}\n" for number in range(1, lines + 1)).encode()
    outcome = await executor.run(replace(sh(f"seq {lines}; sleep 0.2"), output_limit=limit, tail_limit=tail))
    assert outcome.truncated is truncated
    assert outcome.stdout == (whole[:limit] + whole[-tail:] if truncated else whole)


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


async def test_an_idle_executor_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = client.START.replace("child.main()", "child.IDLE_SECONDS = 0.2; child.main()")
    assert impatient != client.START
    monkeypatch.setattr(client, "START", impatient)
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
    script = client.START.replace("child.main()", "print(*sorted(sys.modules))")
    loaded = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    ours = {name for name in names if name.startswith("kairosd")}
    assert ours == {
        "kairosd",
        *(f"kairosd.executor{part}" for part in ("", ".child", ".fences", ".processes", ".proxies")),
    }
    assert not names & {"asyncio", "subprocess", "logging", "site"}
    assert {"selectors", "socket"} <= names


async def test_nothing_beside_our_packages_stands_in_for_a_library(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    folder = str(Path(kairosd.__file__).parents[1])
    monkeypatch.setattr(
        client, "START", client.START.replace("; import", f"; sys.path.append({str(tmp_path)!r}); import")
    )
    assert folder in client.START
    executor = ProcessExecutor()
    assert (await executor.run(sh("echo fine"))).stdout == b"fine\n"
    await executor.close()


async def bash(line: str) -> tuple[int, bytes]:
    """What the real one makes of a line."""
    ran = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return ran.returncode, ran.stdout


async def test_each_command_reads_what_the_one_before_wrote(executor: ProcessExecutor) -> None:
    outcome = await executor.run(
        sh("seq 100000; echo one >&2"), sh("grep 7; echo two >&2; exit 1"), sh("wc -l; exit 4")
    )
    assert outcome.code == 4
    assert outcome.stdout == (await bash("seq 100000 | grep -c 7"))[1]
    assert sorted(outcome.stderr.splitlines()) == [b"one", b"two"]


async def test_a_pipeline_of_gigabytes_passes_by_us(executor: ProcessExecutor) -> None:
    outcome = await executor.run(sh("head -c 3000000000 /dev/zero"), sh("wc -c"))
    assert outcome == Outcome(0, b"3000000000\n", b"")
    assert executor.pid is not None
    status = Path(f"/proc/{executor.pid}/status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    assert peak < 60_000


async def test_a_writer_whose_reader_is_gone_ends(executor: ProcessExecutor) -> None:
    outcome = await executor.run(sh("exec yes"), sh("exec head -1"))
    assert outcome == Outcome(0, b"y\n", b"")
    redirected = await executor.run(sh("exec yes"), replace(sh("cat"), stdin=b"a file"))
    assert redirected == Outcome(0, b"a file", b"")
    last = await executor.run(sh("exec true"), sh("kill -TERM $$"))
    assert last.code == -signal.SIGTERM


async def test_a_pipeline_waits_for_all_of_its_commands(executor: ProcessExecutor, tmp_path: Path) -> None:
    outcome = await executor.run(sh(f"exec >&-; sleep 0.5; echo late > {tmp_path / 'file'}"), sh("cat; echo end"))
    assert outcome.stdout == b"end\n"
    assert (tmp_path / "file").read_text() == "late\n"


async def test_the_clock_and_the_cap_are_the_whole_pipelines(executor: ProcessExecutor, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    stuck = [sh(f"trap '' TERM PIPE; setsid sleep 600 & echo $! $$ >> {pids}; wait") for _ in range(3)]
    outcome = await executor.run(*stuck[:2], replace(stuck[2], timeout=1.0))
    assert outcome.timed_out
    for pid in (await written(pids)).split():
        assert not Path(f"/proc/{pid}").exists()
    flood = await executor.run(replace(sh("yes >&2 & yes"), timeout=1.0), replace(sh("cat"), output_limit=1000))
    assert (len(flood.stdout), len(flood.stderr), flood.truncated, flood.timed_out) == (1000, 1000, True, True)


async def test_outputs_go_where_they_are_sent(executor: ProcessExecutor) -> None:
    both = sh("echo 1; echo 2 >&2; echo 3; echo 4 >&2")
    joined = replace(both, stderr=Stream.STDOUT)
    assert await executor.run(joined) == Outcome(0, b"1\n2\n3\n4\n", b"")
    assert await executor.run(joined, sh("tac")) == Outcome(0, b"4\n3\n2\n1\n", b"")
    assert await executor.run(replace(both, stdout=Stream.STDERR)) == Outcome(0, b"", b"1\n2\n3\n4\n")
    assert await executor.run(replace(both, stdout=Stream.STDERR), sh("wc -l")) == Outcome(0, b"0\n", b"1\n2\n3\n4\n")
    assert await executor.run(replace(both, stdout=Stream.NULL)) == Outcome(0, b"", b"2\n4\n")
    assert await executor.run(replace(both, stderr=Stream.NULL)) == Outcome(0, b"1\n3\n", b"")
    swapped = replace(both, stdout=Stream.STDERR, stderr=Stream.STDOUT)
    assert await executor.run(swapped) == Outcome(0, b"2\n4\n", b"1\n3\n")


async def test_input_is_a_file_and_nothing_is_dev_null(executor: ProcessExecutor) -> None:
    kind = "stat -L -c %F /proc/self/fd/0"
    assert (await executor.run(replace(sh(kind), stdin=Stream.OWN))).stdout == b"character special file\n"
    assert (await executor.run(replace(sh(kind), stdin=b"x"))).stdout == b"regular file\n"
    assert (await executor.run(sh("true"), replace(sh(kind), stdin=Stream.OWN))).stdout == b"fifo\n"
    assert (await executor.run(sh("true"), replace(sh(kind), stdin=Stream.NULL))).stdout == b"character special file\n"


async def test_a_command_that_cannot_start_ends_its_pipeline(executor: ProcessExecutor, tmp_path: Path) -> None:
    first = sh(f"echo $$ > {tmp_path / 'pid'}; exec sleep 600")
    with pytest.raises(ExecutorError, match="/no/such/program"):
        await executor.run(first, replace(SHELL, argv=("/no/such/program",)))
    assert (await executor.run(sh("echo fine"))).stdout == b"fine\n"
    if (tmp_path / "pid").exists() and (text := (tmp_path / "pid").read_text()):
        assert await gone(int(text))
    assert len(list(Path(f"/proc/{executor.pid}/fd").iterdir())) < 12


async def test_a_cancelled_pipeline_is_dead_when_the_caller_hears_of_it(
    executor: ProcessExecutor, tmp_path: Path
) -> None:
    stage = sh(f"echo $$ >> {tmp_path / 'pids'}; sleep 600")
    task = asyncio.create_task(executor.run(stage, stage, stage))
    while len((await written(tmp_path / "pids")).split()) < 3:
        await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    for pid in (tmp_path / "pids").read_text().split():
        assert not Path(f"/proc/{pid}").exists()


async def test_the_same_pipeline_again_and_again_leaves_nothing(executor: ProcessExecutor) -> None:
    outcomes = await asyncio.gather(*(executor.run(sh(f"exec seq {n}"), sh("exec wc -l")) for n in range(40)))
    assert [int(outcome.stdout) for outcome in outcomes] == list(range(40))
    assert Path(f"/proc/{executor.pid}/task/{executor.pid}/children").read_text().split() == []
    assert len(list(Path(f"/proc/{executor.pid}/fd").iterdir())) < 12
