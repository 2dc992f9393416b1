"""What one small model gets done through Kairos, and through mini-swe-agent: six tasks, each checked by a program.

    KAIROS_MODEL_FILE=FILE python -m bench.harness [--rounds N] [--only TASK] [--seconds S] [--peer PYTHON] [--save]

The model is the product's own local one, driven as the product drives it: the daemon, `kairos tell`, the sandbox.
`--peer` names a Python that mini-swe-agent is installed in; it gets the same file from the same kind of server. A run
that says it is done where the check finds it is not is a false done; one that says it failed is honest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.harness_tasks import TASKS, Task, Work
from tests.e2e.daemon import Daemon, Settings, end_process, git, repository

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "harness.json"
PEER = ROOT / "bench" / "peers" / "mini.py"
SECONDS = 240.0
CONTEXT = 8192
GRACE = 60.0  # a peer's last request may still run when its time is over
DONE = ("done", "done_unchecked")
ENDED = (*DONE, "failed", "cancelled", "over_budget")


@dataclass(frozen=True)
class Row:
    """One task through one harness."""

    round: int
    task: str
    harness: str
    state: str
    solved: bool
    said_done: bool
    false_done: bool
    turns: int
    tokens: int
    first_prompt: int
    seconds: float
    answer: str


def by_kairos(task: Task, folder: Path, *, seconds: float, number: int, keep: Path | None) -> Row:
    """One task through a daemon of its own; the time includes the start of the model."""
    daemon = Daemon(_settings(folder))
    try:
        daemon.start()
        began = time.monotonic()
        run = daemon.json("tell", "--no-wait", "-w", "work", task.goal)["run"]
        found = daemon.json("runs", run)
        while found["state"] not in ENDED and found["state"] != "parked" and time.monotonic() - began < seconds:
            time.sleep(0.5)
            found = daemon.json("runs", run)
        spent = time.monotonic() - began
        if found["state"] not in ENDED:
            daemon.kairos("stop", run)
        first, tokens = _counted(daemon, run)
        if keep:
            shutil.copytree(daemon.state / "transcripts", keep / f"{number}-{task.name}", dirs_exist_ok=True)
            (keep / f"{number}-{task.name}" / "run.json").write_text(json.dumps(found, indent=1))
            shutil.copy(daemon.log, keep / f"{number}-{task.name}")
        daemon.stop()
    finally:
        daemon.close()
        shutil.rmtree(daemon.root, ignore_errors=True)
    if found.get("branch"):
        git(folder, "checkout", "--quiet", found["branch"])
    answer, said = str(found.get("result") or ""), found["state"] in DONE
    solved = task.solved(Work(folder, answer))
    return Row(
        number, task.name, "kairos", found["state"] if spent < seconds else "out of time", solved, said,
        said and not solved, found["turns"], tokens, first, round(spent, 1), answer[:500],
    )  # fmt: skip


def _settings(folder: Path) -> Settings:
    # The last section is the workspace's: what follows belongs to it.
    local = {"provider": "local", "file": str(_model_file()), "context": CONTEXT, "timeout_seconds": 600}
    return Settings({"work": folder}, {"local": local}, "local", hooks=False, more='level = "sandboxed"\n')


def _counted(daemon: Daemon, run: str) -> tuple[int, int]:
    """Tokens of the run's first prompt, and of all its calls."""
    with contextlib.closing(sqlite3.connect(f"file:{daemon.state / 'kairos.db'}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "SELECT coalesce(input, 0) + cache_read + cache_write, coalesce(output, 0) FROM model_calls "
            "WHERE cause = ? ORDER BY number", (run,),
        ).fetchall()  # fmt: skip
    prompts = [int(prompt or 0) for prompt, _ in rows]
    return (prompts[0] if prompts else 0), sum(prompts) + sum(int(answer or 0) for _, answer in rows)


def by_mini(task: Task, folder: Path, *, seconds: float, number: int, python: str) -> Row:
    """The same through mini-swe-agent, on a server that is warm already."""
    with _served() as (url, key):
        began = time.monotonic()
        try:
            done = subprocess.run(
                [python, str(PEER), str(folder), url, key, str(seconds)], input=task.goal, capture_output=True,
                text=True, timeout=seconds + GRACE, check=False,
            )  # fmt: skip
            found = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {"state": done.stderr[-300:]}
        except subprocess.TimeoutExpired:
            found = {"state": "out of time"}
        spent = time.monotonic() - began
    answer, said = str(found.get("answer", "")), bool(found.get("said_done"))
    solved = task.solved(Work(folder, answer))
    return Row(
        number, task.name, "mini-swe-agent", str(found.get("state")), solved, said, said and not solved,
        found.get("turns", 0), found.get("tokens", 0), found.get("first_prompt", 0), round(spent, 1), answer[:500],
    )  # fmt: skip


@contextlib.contextmanager
def _served() -> Iterator[tuple[str, str]]:
    """The product's own model process, for a peer: (address, key)."""
    key = secrets.token_urlsafe(12)
    orders = {
        "model": str(_model_file()), "key": key, "context": CONTEXT, "threads": os.cpu_count() or 1,
        "idle_seconds": "3600",
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", "kairosd.models.local_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(orders) + "\n")
        server.stdin.flush()
        yield json.loads(server.stdout.readline())["address"], key
    finally:
        end_process(server)


def _model_file() -> Path:
    path = Path(os.environ.get("KAIROS_MODEL_FILE", "/nowhere"))
    if not path.is_file():
        raise SystemExit("KAIROS_MODEL_FILE must name the local model's file: see `kairos model fetch`")
    return path


def measure(chosen: argparse.Namespace) -> Iterator[Row]:
    """Every task in every round, Kairos first; each in a fresh repository."""
    keep = Path(chosen.keep).resolve() if chosen.keep else None
    for number in range(1, chosen.rounds + 1):
        for task in TASKS:
            if chosen.only and task.name not in chosen.only:
                continue
            for harness in ("kairos", "mini-swe-agent"):
                if harness == "mini-swe-agent" and not chosen.peer:
                    continue
                folder = Path(tempfile.mkdtemp(prefix="kairos-harness-")) / "work"
                repository(folder, task.files)
                try:
                    if harness == "kairos":
                        yield by_kairos(task, folder, seconds=chosen.seconds, number=number, keep=keep)
                    else:
                        yield by_mini(task, folder, seconds=chosen.seconds, number=number, python=chosen.peer)
                finally:
                    shutil.rmtree(folder.parent, ignore_errors=True)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """By harness: solved in each round, false dones, and the largest first prompt."""
    found: dict[str, Any] = {}
    for harness in dict.fromkeys(row.harness for row in rows):
        own = [row for row in rows if row.harness == harness]
        rounds = sorted({row.round for row in own})
        found[harness] = {
            "solved_by_round": [sum(row.solved for row in own if row.round == number) for number in rounds],
            "tasks": len({row.task for row in own}),
            "false_done": sum(row.false_done for row in own),
            "first_prompt_max": max(row.first_prompt for row in own),
            "tokens": sum(row.tokens for row in own),
            "seconds": round(sum(row.seconds for row in own), 1),
        }
    return found


def _print(row: Row) -> None:
    verdict = "solved" if row.solved else "FALSE DONE" if row.false_done else "not solved"
    print(
        f"{row.round} {row.task:9} {row.harness:15} {verdict:11} {row.state[:24]:24} {row.turns:3} turns "
        f"{row.tokens:6} tokens {row.first_prompt:5} first {row.seconds:6.1f} s",
        flush=True,
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.harness", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often every task is given (default: 3)")
    parser.add_argument("--only", action="append", choices=[task.name for task in TASKS], help="only this task")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for one task (default: 240)")
    parser.add_argument("--peer", default=os.environ.get("KAIROS_MINI_PYTHON"), help="a Python with mini-swe-agent")
    parser.add_argument("--keep", metavar="FOLDER", help="copy the transcripts there")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    chosen = parser.parse_args(arguments)
    rows, load = [], os.getloadavg()
    for row in measure(chosen):
        _print(row)
        rows.append(row)
    found = summary(rows)
    for harness, told in found.items():
        print(f"{harness}: {json.dumps(told)}")
    print(f"load average before and after: {load[0]:.1f}, {os.getloadavg()[0]:.1f}")
    if chosen.save:
        _save(rows, found, f"python -m bench.harness --rounds {chosen.rounds} --seconds {chosen.seconds:g}", load[0])
    return 0 if _reached(found.get("kairos", {})) else 1


def _reached(ours: Mapping[str, Any]) -> bool:
    """At least four of six in each round, no false done, a first prompt of at most 2,000 tokens."""
    enough = all(solved * 6 >= 4 * ours["tasks"] for solved in ours.get("solved_by_round", ()))
    return bool(ours) and enough and ours["false_done"] == 0 and ours["first_prompt_max"] <= 2000


def _save(rows: Sequence[Row], found: Mapping[str, Any], command: str, load: float) -> None:
    machine = f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores"
    whole = {
        "command": command, "machine": machine, "commit": git(ROOT, "rev-parse", "HEAD").strip(),
        "python": platform.python_version(), "load_before": round(load, 1), "summary": found,
        "rows": [asdict(row) for row in rows],
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
