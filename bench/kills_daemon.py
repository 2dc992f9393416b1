"""Starts the real daemon with a bomb at one point of the ledger, for the calls of one tool; `bench/kills.py` drives it.

As in `bench/crash_daemon.py` the product holds no code for this:

    KAIROS_BENCH_KILL=TOOL:POINT          SIGKILL at this point of the first call of that tool
    KAIROS_BENCH_SABOTAGE=intent          runs without the intent row
    KAIROS_BENCH_PATIENCE=SECONDS         a command moves to the background after so long

`POINTS` are those of every effect, `TASK_POINTS` those that a command in the background has besides.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

from bench import crash_daemon
from bench.crash_daemon import Bomb, Given

from kairosd.core.runs import CallState
from kairosd.engine import tasks
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.commands import PlanRunner
from kairosd.main import main
from kairosd.notifiers.ntfy import Ntfy
from kairosd.store.runs import RunStore
from kairosd.store.tasks import TaskStore
from kairosd.system import files as system_files

POINTS: Mapping[str, str] = {
    "intent-before": "the intent is about to be stored",
    "intent-in": "stored, not committed",
    "intent-after": "committed, the effect not begun",
    "effect-half": "half of the effect is done",
    "outcome-before": "the effect is done, its outcome is about to be stored",
    "outcome-in": "stored, not committed",
    "outcome-after": "committed, the model not told",
    "result-torn": "half of the result's line is in the transcript",
}
TASK_POINTS: Mapping[str, str] = {
    "begin-before": "a command is about to become a task",
    "begin-in": "its row is stored, not committed",
    "begin-after": "committed, the model not told",
    "end-before": "the command has ended, its end is about to be stored",
    "end-in": "stored with its event, not committed",
    "end-after": "committed, the run not told",
}
HALF_SECONDS = 1.0  # into a command of two seconds that has made its mark at once
_acting: contextvars.ContextVar[str] = contextvars.ContextVar("acting", default="")


def lay(bomb: Bomb) -> None:
    """Puts the bomb at its point, for the calls of its tool alone."""
    tool = bomb.phase

    def moves(given: Given, state: CallState) -> bool:
        return given["state"] is state and given["call"].tool == tool

    crash_daemon.lay_transactions(bomb)
    for state, name in ((CallState.INTENDED, "intent"), (CallState.SUCCEEDED, "outcome")):
        point = (tool, f"{name}-before", f"{name}-in", f"{name}-after")
        bomb.around(RunStore, "move_call", point, only=functools.partial(moves, state=state))
    bomb.around(TaskStore, "begin", (tool, "begin-before", "begin-in", "begin-after"))
    bomb.around(TaskStore, "end", (tool, "end-before", "end-in", "end-after"))
    _lay_halves(bomb)
    crash_daemon.lay_files(bomb)


def _lay_halves(bomb: Bomb) -> None:
    """In the middle of each effect."""
    _mark_acting(bomb)

    def of_bench(given: Given) -> bool:
        return "kill" in given["notice"].title

    if bomb.phase == "notify":
        bomb.around(Ntfy, "deliver", ("notify", "", "", "effect-half"), only=of_bench)
    if bomb.phase == "land":
        bomb.around(Checkouts, "commit", ("land", "", "", "effect-half"))
    rename, run = os.rename, PlanRunner.run

    def renamed(*arguments: Any, **named: Any) -> None:
        if _acting.get() in ("write", "edit"):
            bomb.pass_by(_acting.get(), "effect-half")  # the new content lies beside the file
        rename(*arguments, **named)

    async def halved(*arguments: Any, **named: Any) -> Any:
        asyncio.get_running_loop().call_later(HALF_SECONDS, bomb.pass_by, _acting.get(), "effect-half")
        return await run(*arguments, **named)

    system_files.os = crash_daemon.With(os, rename=renamed)  # type: ignore[attr-defined]
    PlanRunner.run = halved  # type: ignore[method-assign]


def _mark_acting(bomb: Bomb) -> None:
    for module, name in (("write", "Write"), ("edit", "Edit"), ("shell", "Shell"), ("git_commit", "GitCommit")):
        found = getattr(importlib.import_module(f"kairosd.tools.{module}"), name)
        found.run = _marked(found.run, module)
    commit: Any = importlib.import_module("kairosd.tools.git_commit")
    original = commit._change

    async def change(context: Any, *arguments: str, **named: Any) -> Any:
        result = await original(context, *arguments, **named)
        if arguments[0] == "add":
            bomb.pass_by("git_commit", "effect-half")
        return result

    commit._change = change


def _marked(run: Any, name: str) -> Any:
    @functools.wraps(run)
    async def marked(*arguments: Any, **named: Any) -> Any:
        token = _acting.set(name)
        try:
            return await run(*arguments, **named)
        finally:
            _acting.reset(token)

    return marked


def start() -> int:
    """Lays what the environment asks for and runs the daemon."""
    if seconds := os.environ.get("KAIROS_BENCH_PATIENCE"):
        tasks.PATIENCE_SECONDS = float(seconds)
    crash_daemon.sabotage(os.environ.get("KAIROS_BENCH_SABOTAGE", ""))
    if wanted := os.environ.get("KAIROS_BENCH_KILL"):
        tool, point = wanted.split(":")
        torn, _, number = point.partition("#")
        lay(Bomb("outcome", "torn", int(number)) if torn == "result-torn" else Bomb(tool, point, 1))
    return main([])


if __name__ == "__main__":
    sys.exit(start())
