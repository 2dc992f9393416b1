"""Starts the real daemon with a bomb in it: SIGKILL at the n-th passage of one point (`bench/crash.py` drives it).

The product holds no code for this. The bomb is laid from outside, by wrapping what stands for the phase:

    KAIROS_BENCH_KILL=PHASE:MOMENT:N      the N-th passage of this point ends the process
    KAIROS_BENCH_SABOTAGE=MECHANISM       runs without the outbox, the intent row or the claim

`bench/crash_points.py` says what the phases and moments are.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import importlib
import inspect
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from kairosd.core.runs import CallState
from kairosd.engine.asking import Asking
from kairosd.engine.checkouts import Checkouts
from kairosd.main import main
from kairosd.models.exchange import Exchange
from kairosd.notifiers.ntfy import Ntfy
from kairosd.store import events as store_events
from kairosd.store import journal as store_journal
from kairosd.store import transcripts as store_transcripts
from kairosd.store.database import Database, Unit
from kairosd.store.decisions import DecisionStore
from kairosd.store.events import EventStore
from kairosd.store.journal import JournalWriter
from kairosd.store.lines import Lines
from kairosd.store.notices import NoticeStore
from kairosd.store.runs import RunStore
from kairosd.system import files as system_files

Given = Mapping[str, Any]  # the arguments of a call by their names, however they were passed
Check = Callable[[Given], bool]
_inside: contextvars.ContextVar[tuple[str, str]] = contextvars.ContextVar("inside", default=("", ""))


class Bomb:
    """Counts the passages of one point and ends the process at the chosen one."""

    def __init__(self, phase: str, moment: str, number: int) -> None:
        self.phase = phase
        self.moment = moment
        self._left = number

    def pass_by(self, phase: str, moment: str) -> None:
        if (phase, moment) == (self.phase, self.moment):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(
        self,
        owner: Any,
        name: str,
        point: tuple[str, str, str, str],
        *,
        only: Check = lambda _: True,
    ) -> None:
        """Passes a point before `owner.name` (an async function), inside its transaction, and after it.

        `point` is (phase, moment before, moment inside, moment after); an empty moment is none.
        """
        phase, before, inside, after = point
        original = getattr(owner, name)

        @functools.wraps(original)
        async def wrapped(*arguments: Any, **named: Any) -> Any:
            if not only(_given(original, arguments, named)):
                return await original(*arguments, **named)
            self.pass_by(phase, before)
            token = _inside.set((phase, inside))
            try:
                result = await original(*arguments, **named)
            finally:
                _inside.reset(token)
            self.pass_by(phase, after)
            return result

        setattr(owner, name, wrapped)


def _given(function: Callable[..., Any], arguments: Sequence[Any], named: Given) -> Given:
    return inspect.signature(function).bind(*arguments, **named).arguments


def lay(bomb: Bomb) -> None:
    """Puts the bomb's points where they belong."""
    lay_transactions(bomb)
    _lay_stores(bomb)
    _lay_stream(bomb)
    _lay_effects(bomb)
    lay_files(bomb)
    _lay_landing(bomb)


def lay_transactions(bomb: Bomb) -> None:
    write = Database.write

    async def wrapped(self: Database, work: Callable[[Unit], Any]) -> Any:
        phase, moment = _inside.get()

        def cut(unit: Unit) -> Any:
            result = work(unit)
            bomb.pass_by(phase, moment)
            return result

        return await write(self, cut if moment else work)

    Database.write = wrapped  # type: ignore[method-assign,assignment]


def _lay_stores(bomb: Bomb) -> None:
    def from_outside(given: Given) -> bool:
        return given["draft"].delivery is not None

    def intends(given: Given) -> bool:
        return given["state"] is CallState.INTENDED and given["call"].tool != "land"

    def succeeds(given: Given) -> bool:
        return given["state"] is CallState.SUCCEEDED and given["call"].effect and given["call"].tool != "land"

    def delivered(given: Given) -> bool:
        return given["notice"].state == "delivered" and given["notice"].channel == "ntfy"

    def deciding(given: Given) -> bool:
        return given["role"] == "decide"

    bomb.around(EventStore, "add", ("ingest", "before", "in", "after"), only=from_outside)
    bomb.around(EventStore, "claim", ("claim", "before", "in", "after"))
    bomb.around(Asking, "ask", ("decide", "before", "", "asked"), only=deciding)
    bomb.around(DecisionStore, "conclude", ("decide", "", "in", "after"))
    bomb.around(RunStore, "move_call", ("intent", "before", "in", "after"), only=intends)
    bomb.around(RunStore, "move_call", ("outcome", "before", "in", "after"), only=succeeds)
    bomb.around(Ntfy, "deliver", ("notice", "before", "", "in"))
    bomb.around(NoticeStore, "move", ("notice", "", "after", ""), only=delivered)


def _lay_stream(bomb: Bomb) -> None:
    stream = Exchange.stream

    async def wrapped(self: Exchange, prompt: Any) -> AsyncIterator[Any]:
        number = 0
        async with contextlib.aclosing(stream(self, prompt)) as parts:  # type: ignore[type-var]
            async for part in parts:
                number += 1
                if prompt.form is None and type(part).__name__ == "Done":
                    bomb.pass_by("mid-stream", "last")
                yield part
                if prompt.form is None:
                    bomb.pass_by("mid-stream", "first" if number == 1 else "later")

    Exchange.stream = wrapped  # type: ignore[method-assign,assignment]


def _lay_effects(bomb: Bomb) -> None:
    for module, name in (("edit", "Edit"), ("write", "Write"), ("git_commit", "GitCommit"), ("notify", "Notify")):
        found = importlib.import_module(f"kairosd.tools.{module}")
        bomb.around(getattr(found, name), "run", ("effect", "before", "", "after"))
    commit = importlib.import_module("kairosd.tools.git_commit")

    original = commit._change

    async def change(context: Any, *arguments: str, **named: Any) -> Any:
        result = await original(context, *arguments, **named)
        if arguments[0] == "add":
            bomb.pass_by("effect", "in")
        return result

    commit._change = change

    rename = os.rename

    def renamed(*arguments: Any, **named: Any) -> None:
        bomb.pass_by("effect", "in")  # the new content lies beside the file
        rename(*arguments, **named)

    system_files.os = With(os, rename=renamed)  # type: ignore[attr-defined]


class With:
    """A module with some of its functions replaced, for one user of it."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        self.__dict__.update(replaced)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def lay_files(bomb: Bomb) -> None:
    write = store_journal._write

    def journal_write(*arguments: Any, **named: Any) -> None:
        bomb.pass_by("journal", "before")
        with _torn(bomb, "journal"):
            write(*arguments, **named)
        bomb.pass_by("journal", "in")

    store_journal._write = journal_write
    store_journal.os = With(os, pwrite=_half(bomb, "journal"))  # type: ignore[attr-defined]
    store_transcripts.os = With(os, pwrite=_half(bomb, "outcome"))  # type: ignore[attr-defined]
    record = JournalWriter._record

    def recorded(self: JournalWriter, database: Database) -> None:
        record(self, database)
        bomb.pass_by("journal", "after")

    JournalWriter._record = recorded  # type: ignore[method-assign]
    original = store_transcripts._write_all

    def transcript_write(*arguments: Any, **named: Any) -> None:
        data = _given(original, arguments, named)["data"]
        with _torn(bomb, "outcome") if b'"kind":"result"' in data else contextlib.nullcontext():
            original(*arguments, **named)

    store_transcripts._write_all = transcript_write


_tearing: list[str] = []


@contextlib.contextmanager
def _torn(bomb: Bomb, phase: str) -> Iterator[None]:
    """Within it the next pwrite of this phase is one of those that may be torn."""
    if (bomb.phase, bomb.moment) != (phase, "torn"):
        yield
        return
    _tearing.append(phase)
    try:
        yield
    finally:
        _tearing.remove(phase)


def _half(bomb: Bomb, phase: str) -> Callable[[int, bytes, int], int]:
    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if phase not in _tearing:
            return os.pwrite(descriptor, data, offset)
        written = os.pwrite(descriptor, data[: len(data) // 2], offset)
        bomb.pass_by(phase, "torn")
        return written

    return pwrite


def _lay_landing(bomb: Bomb) -> None:
    def lands(given: Given) -> bool:
        return given["state"] is CallState.SUCCEEDED and given["call"].tool == "land"

    def with_branch(given: Given) -> bool:
        return given["run"].branch is not None

    bomb.around(Checkouts, "commit", ("landing", "before", "", "in"))
    bomb.around(Checkouts, "land", ("landing", "", "", "fetched"))
    bomb.around(RunStore, "move_call", ("landing", "", "", "after"), only=lands)
    bomb.around(RunStore, "end", ("landing", "", "ended", ""), only=with_branch)


def sabotage(mechanism: str) -> None:
    """Takes one safety mechanism out, so that the bench can show that it would notice."""
    if mechanism == "outbox":
        _without_outbox()
    elif mechanism == "intent":
        _without_intent()
    elif mechanism == "claim":
        _without_claim()


def _without_outbox() -> None:
    """Lines go from memory straight to the journal's writer, as a daemon without the table would do it."""
    waiting: list[tuple[int, str]] = []
    committed, next_lines = Lines.committed, JournalWriter._next_lines

    class Memory:
        def execute(self, _: Any, after: Mapping[str, int]) -> list[tuple[int, str]]:
            return [line for line in waiting if line[0] > after["after"]]

    def store(self: Lines, connection: Any) -> None:
        return None

    def hand_over(self: Lines) -> bool:
        waiting.extend((int(str(line["seq"])), str(line["line"])) for line in self._waiting)
        return committed(self)

    def from_memory(self: JournalWriter, connection: Any) -> Sequence[Any]:
        return next_lines(self, Memory())  # type: ignore[arg-type]

    Lines.store = store  # type: ignore[method-assign]
    Lines.committed = hand_over  # type: ignore[method-assign]
    JournalWriter._next_lines = from_memory  # type: ignore[method-assign,assignment]


def _without_intent() -> None:
    """An effect begins without its row: after a crash nothing says that it may have happened."""
    move = RunStore.move_call

    @functools.wraps(move)
    async def moved(*arguments: Any, **named: Any) -> Any:
        given = _given(move, arguments, named)
        return given["call"] if given["state"] is CallState.INTENDED else await move(*arguments, **named)

    RunStore.move_call = moved  # type: ignore[method-assign]


def _without_claim() -> None:
    """The decision is opened, but its events are not marked as taken."""
    move = store_events._move

    def moved(*arguments: Any, **named: Any) -> None:
        if _given(move, arguments, named)["event"].state != "claimed":
            move(*arguments, **named)

    store_events._move = moved


def start() -> int:
    """Lays what the environment asks for and runs the daemon."""
    sabotage(os.environ.get("KAIROS_BENCH_SABOTAGE", ""))
    if wanted := os.environ.get("KAIROS_BENCH_KILL"):
        phase, moment, number = wanted.split(":")
        lay(Bomb(phase, moment, int(number)))
    return main([])


if __name__ == "__main__":
    sys.exit(start())
