"""What an idle daemon costs: memory, CPU, wake-ups, start, and one `kairos status`; each beside a floor.

    python -m bench.footprint [--seconds N] [--save]

The daemon watches two repositories of 5,000 files with the hooks listening and one ntfy notifier, and has made ten
decisions. The floors are a bare import of the seven packages it must be built on, which the aims hold against; of the
five that the design counted, without httpx and desktop-notifier; and `python -c pass`. The aim for memory is that of
the daemon's process; the executor's two, which are there for 20 s after its last job, stand beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.crash import payload
from bench.ntfy import Ntfy, ntfy_program
from tests.e2e.brain import IGNORE, Brain
from tests.e2e.daemon import Daemon, Settings, git, repository
from tests.servers import Request

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "footprint.json"
FILES, FOLDERS = 5000, 100
DECISIONS = 10
STARTS, STATUSES = 5, 20
REST_SECONDS = 5.0  # after the last decision, before the idle span is measured
FLOORS = {  # what is imported besides a trigger of apscheduler, which is what both have of that package
    "bare_import": "desktop_notifier, fastapi, httpx, sqlalchemy, uvicorn, watchfiles",
    "smaller_import": "fastapi, sqlalchemy, uvicorn, watchfiles",
}
BARE = """
import {packages}
from apscheduler.triggers.cron import CronTrigger
for line in open("/proc/self/smaps_rollup"):
    if line.startswith(("Rss:", "Pss:")):
        print(line.split()[1])
"""


@dataclass(frozen=True)
class Memory:
    """In kB, of one process. `rss` counts shared pages in full, `pss` by the share."""

    rss: int
    pss: int


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for folder in Path(f"/proc/{pid}/task").iterdir():
        for child in (folder / "children").read_text().split():
            found += family(int(child))
    return found


def memory(pid: int) -> list[Memory]:
    """Of each process of the family, the daemon's own first."""
    found = []
    for one in family(pid):
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:])
        found.append(Memory(int(fields["Rss"].split()[0]), int(fields["Pss"].split()[0])))
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of the family so far, and of those of it that have ended."""
    ticks = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def wake_ups(pid: int) -> dict[str, int]:
    """Voluntary context switches so far by thread: how often each went to sleep, and so was woken."""
    found: dict[str, int] = {}
    for one in family(pid):
        for task in Path(f"/proc/{one}/task").iterdir():
            fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
            name = f"{fields['Name'].strip()} {task.name}"
            found[name] = int(fields["voluntary_ctxt_switches"])
    return found


def timed(command: Sequence[str], env: Mapping[str, str]) -> float:
    """Seconds of one whole process."""
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(command, env=env, check=True, stdout=quiet, stderr=quiet, stdin=quiet)
    return time.perf_counter() - began


class Readiness:
    """The service manager's side of sd_notify: knows the very moment of READY=1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def wait(self, seconds: float) -> float:
        """Returns when the daemon has said READY=1, as the clock's reading."""
        self._socket.settimeout(seconds)
        while b"READY=1" not in self._socket.recv(4096):
            pass
        return time.perf_counter()

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds by the clock, and of user and system time: the latter tell more on a machine that others use too."""

    seconds: float
    cpu: float


@dataclass(slots=True)
class Floor:
    """What bare imports took."""

    starts: list[Start] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)

    def take(self, packages: str, env: Mapping[str, str]) -> None:
        """Imports once more, in a process of its own."""
        command = [sys.executable, "-c", BARE.format(packages=packages)]
        began, before = time.perf_counter(), _spent_by_children()
        said = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        self.starts.append(Start(time.perf_counter() - began, _spent_by_children() - before))
        self.memories.append(Memory(*map(int, said.stdout.split())))

    def figures(self) -> dict[str, float]:
        """The medians."""
        median = statistics.median
        return {
            "rss_mb": _mb(round(median(one.rss for one in self.memories))),
            "pss_mb": _mb(round(median(one.pss for one in self.memories))),
            "seconds": _round(median(one.seconds for one in self.starts)),
            "cpu_seconds": _round(median(one.cpu for one in self.starts)),
        }


def starts(daemon: Daemon) -> tuple[list[Start], dict[str, Floor]]:
    """The daemon's way to ready (its processes together) and the whole of each bare import, taken in turn."""
    ready, floors = [], {name: Floor() for name in FLOORS}
    for _ in range(STARTS):
        listener = Readiness(daemon.root / "notify")
        began = time.perf_counter()
        daemon.start(ready=False, env={"NOTIFY_SOCKET": str(listener.path)})
        seconds = listener.wait(60) - began
        assert daemon.process is not None
        ready.append(Start(seconds, cpu_seconds(daemon.process.pid)))
        listener.close()
        listener.path.unlink()
        daemon.wait_for(daemon.is_ready, "ready")
        daemon.stop()
        for name, packages in FLOORS.items():
            floors[name].take(packages, daemon.env)
    return ready, floors


def _spent_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def statuses(daemon: Daemon) -> tuple[list[float], list[float]]:
    """Whole times of `kairos status` and of `python -c pass`, taken in turn."""
    cli = str(Path(sys.executable).parent / "kairos")
    status, nothing = [], []
    for _ in range(STATUSES):
        status.append(timed([cli, "status"], daemon.env))
        nothing.append(timed([sys.executable, "-c", "pass"], daemon.env))
    return status, nothing


def decisions(daemon: Daemon) -> None:
    """Ten decisions, one of them a notice, each settled before the next."""
    for number in range(DECISIONS):
        daemon.hook("workflow_run", payload(f"calm-{number:04}"), delivery=f"footprint-{number}")
        daemon.wait_for(lambda wanted=number + 1: _made(daemon) >= wanted, f"decision {number + 1}")
    daemon.wait_for(lambda: daemon.status()["notices"]["queued"] == 0, "the notice is delivered")


def _made(daemon: Daemon) -> int:
    return len([row for row in daemon.json("decisions", "--limit", "100") if row["verdict"] != "asked"])


def idle(daemon: Daemon, seconds: float) -> dict[str, Any]:
    """What the daemon does when nothing happens."""
    pid = daemon.status()["pid"]
    time.sleep(REST_SECONDS)
    cpu, switches = cpu_seconds(pid), wake_ups(pid)
    began = time.monotonic()
    time.sleep(seconds)
    spent, after = time.monotonic() - began, wake_ups(pid)
    rates = {name: round((count - switches.get(name, 0)) / spent, 2) for name, count in after.items()}
    used = memory(pid)
    return {
        "rss_mb": _mb(sum(one.rss for one in used)), "pss_mb": _mb(sum(one.pss for one in used)),
        "rss_mb_by_process": [_mb(one.rss) for one in used],
        "cpu_seconds": round(cpu_seconds(pid) - cpu, 2), "seconds": round(spent),
        "wake_ups_per_second": round(sum(rates.values()), 2),
        "by_thread": {name: rate for name, rate in sorted(rates.items(), key=lambda one: -one[1]) if rate > 0.05},
    }  # fmt: skip


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """The whole benchmark; returns what is printed and saved."""
    program = ntfy_program()
    phone = Ntfy(folder, program) if program else None
    repositories = {name: repository(folder / name, _files()) for name in ("engine", "frame")}
    brain = Brain(decide=_decide)
    settings = Settings(
        repositories, {"scripted": brain.section("anthropic")}, "scripted", tick={"enabled": True},
        more=phone.section("kairos-footprint") if phone else "",
    )  # fmt: skip
    daemon = Daemon(settings)
    try:
        daemon.start()  # the first start makes the database
        daemon.stop()
        ready, floors = starts(daemon)
        daemon.start()
        decisions(daemon)
        found = idle(daemon, seconds)
        status, nothing = statuses(daemon)
        daemon.stop()
    finally:
        daemon.close()
        brain.close()
        if phone:
            phone.close()
        shutil.rmtree(daemon.root, ignore_errors=True)
    median = statistics.median
    return {
        "idle": found, "notifier": "ntfy" if phone else "none: no ntfy server here",
        **{name: floor.figures() for name, floor in floors.items()},
        "ready_seconds": _round(median(one.seconds for one in ready)),
        "ready_cpu_seconds": _round(median(one.cpu for one in ready)),
        "status_seconds": _round(median(status)), "python_pass_seconds": _round(median(nothing)),
    }  # fmt: skip


def _decide(request: Request) -> Mapping[str, Any]:
    if "calm-0009" in request.text:
        return {**IGNORE, "verdict": "notify", "goal": "The tests fail."}
    return IGNORE


def _files() -> dict[str, str]:
    return {f"part{number % FOLDERS:03}/file{number:04}.py": f"VALUE = {number}\n" for number in range(FILES)}


def _mb(kilobytes: int) -> float:
    return round(kilobytes / 1024, 1)


def _round(seconds: float) -> float:
    return round(seconds, 3)


Line = tuple[str, str, str, str, bool]


def lines(found: Mapping[str, Any]) -> list[Line]:
    """What was measured, the floor beside it, the aim, and whether it was reached."""
    idle_, bare, smaller = found["idle"], found["bare_import"], found["smaller_import"]
    ready, status, nothing = found["ready_seconds"], found["status_seconds"], found["python_pass_seconds"]
    own, *others = idle_["rss_mb_by_process"]
    more, late, times = own - bare["rss_mb"], ready - bare["seconds"], status / nothing
    rate, executor = idle_["wake_ups_per_second"], f"and {sum(others):.1f} MB of the executor" if others else ""
    return [
        ("idle RSS", f"{own} MB", f"seven packages {bare['rss_mb']} MB", f"{more:+.1f} MB (aim +10)", more <= 10),
        ("", "", f"five packages {smaller['rss_mb']} MB", f"{own - smaller['rss_mb']:+.1f} MB over those", True),
        ("in all", f"{idle_['rss_mb']} MB", executor, "", True),
        ("idle PSS", f"{idle_['pss_mb']} MB", f"seven packages {bare['pss_mb']} MB", "", True),
        ("CPU", f"{idle_['cpu_seconds']} s", f"in {idle_['seconds']} s", "", True),
        ("wake-ups", f"{rate}/s", "", "aim 5/s", rate <= 5),
        ("ready", f"{ready} s", f"seven packages {bare['seconds']} s", f"{late:+.2f} s (aim +0.35)", late <= 0.35),
        ("", "", f"five packages {smaller['seconds']} s", f"{ready - smaller['seconds']:+.2f} s over those", True),
        ("CPU to it", f"{found['ready_cpu_seconds']} s", f"seven packages {bare['cpu_seconds']} s", "", True),
        ("status", f"{status} s", f"python -c pass {nothing} s", f"{times:.1f} x (aim 4)", times <= 4),
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.footprint", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the idle daemon is watched (default: 60)")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    chosen = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="kairos-footprint-"))
    try:
        found = measure(folder, chosen.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = lines(found)
    for name, value, floor, aim, reached in rows:
        print(f"{name:9} {value:>10}   {floor:28} {aim}{'' if reached else '   MISSED'}")
    print(f"RSS by process: {found['idle']['rss_mb_by_process']}; wake-ups by thread: {found['idle']['by_thread']}")
    if chosen.save:
        machine = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"
        whole = {
            "command": f"python -m bench.footprint --seconds {chosen.seconds:g}", "machine": machine,
            "commit": git(ROOT, "rev-parse", "HEAD").strip(), "python": platform.python_version(), **found,
        }  # fmt: skip
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(whole, indent=2) + "\n")
    return 0 if all(row[-1] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
