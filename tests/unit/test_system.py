"""The clock, the log, the locks, and what systemd is told: the real ones."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kairosd import wire
from kairosd.errors import AlreadyRunningError
from kairosd.system import clock as clocks
from kairosd.system.clock import SystemClock
from kairosd.system.lock import holder, lock_home, lock_workspace, locks_folder
from kairosd.system.logs import KeyValues, start_logging
from kairosd.system.notify import ServiceManager, watchdog_seconds

# --- clock


@pytest.mark.anyio
async def test_sleeping_until_a_moment_reaches_it() -> None:
    clock = SystemClock()
    moment = clock.now() + timedelta(milliseconds=30)
    await clock.sleep_until(moment)
    assert clock.now() >= moment
    assert clock.now().tzinfo is UTC


@pytest.mark.anyio
async def test_a_set_wall_clock_is_seen_within_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall jumps an hour ahead while somebody sleeps two: the second half of the sleep is not slept."""
    monkeypatch.setattr(clocks, "LONGEST_SLICE", 0.01)
    clock = SystemClock()
    ahead = timedelta(0)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + ahead, raising=False)
    sleeper = asyncio.ensure_future(clock.sleep_until(clock.now() + timedelta(hours=2)))
    await asyncio.sleep(0.03)
    assert not sleeper.done()
    ahead = timedelta(hours=3)
    await asyncio.wait_for(sleeper, 20)


# --- systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(20)
        yield receiver


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(
    manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool
) -> None:
    name = f"kairos-test-{os.getpid()}"
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    address = f"@{name}" if abstract else name
    manager.bind(f"\0{name}" if abstract else name)
    service = ServiceManager(address)
    service.ready("two\nlines")
    service.watchdog()
    service.reloading()
    service.stopping()
    service.status("busy")
    told = [manager.recv(4096).decode() for _ in range(5)]
    service.close()
    assert told[0] == "READY=1\nSTATUS=two lines"
    assert told[1] == "WATCHDOG=1"
    assert told[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert int(told[2].rpartition("=")[2]) > 0
    assert told[3:] == ["STOPPING=1", "STATUS=busy"]


def test_without_systemd_nothing_is_told_and_a_deaf_one_is_no_error(tmp_path: Path) -> None:
    for address in ("", str(tmp_path / "nobody"), "@nobody-here"):
        service = ServiceManager(address)
        service.ready()
        service.close()
        service.ready()


@pytest.mark.parametrize(
    ("interval", "pid", "seconds"),
    [("60000000", "", 30.0), pytest.param("60000000", str(os.getpid()), 30.0, id="ours"), ("60000000", "1", None),
     ("", "", None), ("0", "", None), ("x", "", None)],
)  # fmt: skip
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(interval: str, pid: str, seconds: float | None) -> None:
    assert watchdog_seconds(interval, pid) == seconds


# --- log


def record(message: str, **extra: object) -> logging.LogRecord:
    found = logging.makeLogRecord({"name": "kairosd.x", "levelno": 30, "levelname": "WARNING", "msg": message, **extra})
    found.created = 0.0
    return found


def test_a_log_line_is_key_value_and_cannot_be_forged() -> None:
    plain = KeyValues(journald=False)
    assert plain.format(record("up", port=8787)) == (
        "time=1970-01-01T00:00:00.000+00:00 level=warning logger=kairosd.x message=up port=8787"
    )
    forged = plain.format(record('a "b"\nlevel=error \x1b[31m'))
    assert "\n" not in forged
    assert "\x1b" not in forged
    assert forged.endswith(r'message="a \"b\"\nlevel=error \x1b[31m"')


def test_journald_gets_priorities_on_every_line() -> None:
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        found = record("failed", exc_info=sys.exc_info())
    lines = KeyValues(journald=True).format(found).splitlines()
    assert len(lines) > 3
    assert all(line.startswith("<4>") for line in lines)
    assert "time=" not in lines[0]


@pytest.fixture
def untouched_logging() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []
    yield
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.mark.usefixtures("untouched_logging")
def test_the_log_file_rotates_and_other_libraries_are_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kairosd.system.logs.FILE_BYTES", 2000)
    folder = tmp_path / "log"
    start_logging(journald=False, folder=folder)
    for number in range(200):
        logging.getLogger("kairosd.x").info("line %d", number)
    logging.getLogger("httpx").info("chatter")
    assert folder.stat().st_mode & 0o777 == 0o700
    files = sorted(folder.iterdir())
    assert len(files) == 5
    assert all(file.stat().st_size <= 2000 for file in files)
    assert "line 199" in (folder / "kairosd.log").read_text()
    assert "chatter" not in capsys.readouterr().err


# --- locks

HOLD = (
    "import sys; from pathlib import Path; from kairosd.system.lock import lock_workspace as w;"
    "l = w(Path(sys.argv[1]), Path(sys.argv[2])); print('held', flush=True); sys.stdin.read()"
)


def make_home(root: Path) -> wire.Home:
    return wire.Home(root / "config.toml", root / "state", data=root / "data", run=root / "run", is_default=False)


def test_one_daemon_a_home(tmp_path: Path) -> None:
    place = make_home(tmp_path)
    held = lock_home(place)
    with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()}"):
        lock_home(place)
    held.release()
    held.release()
    lock_home(place).release()


def test_one_daemon_a_workspace_by_whatever_name(tmp_path: Path) -> None:
    workspace, folder = tmp_path / "api", tmp_path / "locks"
    workspace.mkdir()
    (tmp_path / "alias").symlink_to(workspace)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(AlreadyRunningError, match=f"process {other.pid}"):
        lock_workspace(tmp_path / "alias", folder)
    other.kill()
    other.communicate()
    held = lock_workspace(tmp_path / "alias", folder)
    assert holder(held.path) == str(os.getpid())
    held.release()


def test_a_locks_folder_that_is_not_ours_alone_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for folder in (shared, tmp_path / "link"):
        with pytest.raises(wire.HomeError):
            lock_workspace(tmp_path, folder)


def test_locks_are_where_every_home_of_the_user_looks(tmp_path: Path) -> None:
    assert locks_folder(str(tmp_path)) == tmp_path / "kairos-locks"
    assert locks_folder(None).is_absolute()
    assert locks_folder("/nowhere") == locks_folder(None)
