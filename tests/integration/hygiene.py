"""Plays the daemon for `test_hygiene.py`: python hygiene.py FOLDER MARK SCENE [...]; prints JSON lines."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from kairosd.errors import ExecutorError
from kairosd.executor.client import ProcessExecutor
from kairosd.ports import Job, Mount
from kairosd.sandbox import bubblewrap

AT_ONCE = 8
KINDS = {
    "bomb": "f() { f | f & }; f; sleep 1d",
    "double": "(setsid sh -c '(trap \"\" TERM HUP; setsid sleep 1d) &' &) >/dev/null 2>&1; echo left",
    "flood": "yes & cat /dev/zero >&2 & head -c 10G /dev/zero",
    "sleep": "sleep 1d",
    "stubborn": "trap '' TERM INT HUP QUIT; while :; do sleep 1d; done",
}
SECONDS = {"bomb": 2.0, "flood": 1.0}
ENDLESS = ("double", "flood", "sleep", "stubborn")  # those that are killed with the executor, or the daemon


class Scene:
    """A sandbox like the daemon's, and jobs that carry the mark."""

    def __init__(self, folder: Path, mark: str) -> None:
        self.folder = folder
        self.mark = mark
        self.executor = ProcessExecutor()
        self.sandbox = bubblewrap.build(self.executor, folder=folder / "state", forbidden=(folder / "state",))

    def job(self, script: str, *, seconds: float, limit: int = 2_000_000) -> Job:
        work = self.folder / "work"
        return Job(
            ("/bin/bash", "-c", script, self.mark), work, (Mount(work, work, writable=True),), timeout=seconds,
            env={"PATH": "/usr/bin:/bin", "KAIROS_MARK": self.mark}, output_limit=limit,
        )  # fmt: skip

    def sizes(self) -> dict[str, int]:
        """Resident memory in kB."""
        return {"daemon": resident(os.getpid()), "executor": resident(self.executor.pid or 0)}

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.executor.pid}/fd").iterdir()))


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def say(found: object) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


async def storm(scene: Scene, number: int) -> None:
    """`number` jobs of all kinds, some at once; the memory after the first of each kind and after all."""
    gate, ended = asyncio.Semaphore(AT_ONCE), Counter[str]()

    async def one(kind: str) -> None:
        async with gate:
            await scene.sandbox.run(scene.job(KINDS[kind], seconds=SECONDS.get(kind, 0.3)))
            ended[kind] += 1

    names = [*KINDS]
    await asyncio.gather(*map(one, names))
    before, descriptors = scene.sizes(), scene.descriptors()
    others = ["double", "sleep", "stubborn"]
    rest = [names[at % 5] if at < number // 5 else others[at % 3] for at in range(number - 5)]
    await asyncio.gather(*map(one, rest))
    after = scene.sizes()
    children = Path(f"/proc/{scene.executor.pid}/task/{scene.executor.pid}/children").read_text().split()
    memory = {name: (before[name], after[name]) for name in before}
    say({
        "jobs": ended.total(), "kinds": dict(sorted(ended.items())), "children": children,
        "descriptors": (descriptors, scene.descriptors()), **memory,
    })  # fmt: skip


async def bomb(scene: Scene) -> None:
    """The most tasks that the machine had beyond those it has anyway."""
    await scene.sandbox.run(scene.job("true", seconds=5.0))
    calm, peak, over = tasks(), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.is_set():
            peak = max(peak, tasks() - calm)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    await scene.sandbox.run(scene.job(":(){ :|:& };:; sleep 1d", seconds=3.0))
    over.set()
    watcher.join()
    say({"peak": peak})


async def crowd(scene: Scene) -> None:
    """How small jobs end beside one that has all the tasks it may have, and keeps them."""
    calm = tasks()
    crowded = asyncio.create_task(scene.sandbox.run(scene.job("while :; do sleep 1d & done", seconds=6.0)))
    while tasks() - calm < 450 and not crowded.done():
        await asyncio.sleep(0.01)
    codes = [(await scene.sandbox.run(scene.job("/bin/true | /bin/true", seconds=20.0))).code for _ in range(5)]
    say({"crowd": tasks() - calm, "codes": codes})
    crowded.cancel()


def tasks() -> int:
    return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])


async def hang(scene: Scene) -> None:
    """Endless jobs; says who is who, then how many failed and whether the next one works."""
    await scene.sandbox.check()
    say({"daemon": os.getpid(), "executor": scene.executor.pid})
    jobs = [scene.job(f"{KINDS[kind]}; sleep 1d", seconds=600.0) for kind in ENDLESS]
    ended = await asyncio.gather(*map(scene.sandbox.run, jobs), return_exceptions=True)
    again = await scene.sandbox.run(scene.job("echo again", seconds=20.0))
    failed = sum(isinstance(each, ExecutorError) for each in ended)
    say({"failed": failed, "again": again.stdout.decode()})


async def flood(scene: Scene, stream: str) -> None:
    """Ten gigabytes through one job."""
    await scene.sandbox.run(scene.job("true", seconds=5.0))
    before, began = scene.sizes(), time.monotonic()
    outcome = await scene.sandbox.run(scene.job(f"head -c 10G /dev/zero >&{stream}", seconds=300.0))
    after = scene.sizes()
    memory = {name: (before[name], after[name]) for name in before}
    say({"code": outcome.code, "truncated": outcome.truncated, "seconds": time.monotonic() - began, **memory})


async def main(folder: str, mark: str, name: str, *words: str) -> None:
    scene = Scene(Path(folder), mark)
    reason = await scene.sandbox.check()
    assert reason is None, reason
    match name:
        case "storm":
            await storm(scene, int(words[0]))
        case "bomb":
            await bomb(scene)
        case "crowd":
            await crowd(scene)
        case "hang":
            await hang(scene)
        case "flood":
            await flood(scene, words[0])
    await scene.executor.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
