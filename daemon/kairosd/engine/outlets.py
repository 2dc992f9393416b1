"""Outlets: what the commands under way may reach, for as long as their run may have it.

A command keeps the network that it was started with. Meanwhile its run may read what a stranger wrote, and the owner
may narrow the rules: a command that then has more than it would be given ends, and the line that it is part of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from weakref import WeakSet

from kairosd.core.hosts import Connection, Reach
from kairosd.core.journal import Note
from kairosd.core.runs import Run
from kairosd.core.shell.plans import Command
from kairosd.engine.gate import Gate
from kairosd.ports import Clock, Stores

Lent = Sequence[tuple[Command, Reach]]


@dataclass(slots=True, eq=False)
class Loan:
    """What the commands of one pipeline were given. `recalled` says whether they were ended for it."""

    lent: Lent
    scope: asyncio.Timeout
    over: asyncio.Event = field(default_factory=asyncio.Event)
    recalled: bool = False

    def recall(self) -> None:
        """Cancels whoever waits for the pipeline."""
        if not self.recalled:
            self.recalled = True
            self.scope.reschedule(asyncio.get_running_loop().time())


@dataclass(slots=True, eq=False, weakref_slot=True)
class Outlet:
    """The way out of the commands of one run. `run` is that run as it stands."""

    run: Run
    _gate: Gate
    _stores: Stores
    _clock: Clock
    _loans: set[Loan] = field(default_factory=set)

    def reach(self, command: Command) -> Reach | None:
        """What the command may connect to now; None where it has no network."""
        return self._gate.reach(command, run=self.run)

    @asynccontextmanager
    async def lending(self, lent: Lent) -> AsyncIterator[Loan]:
        """While this is open the commands have what they were `lent`; it is left early where that is recalled."""
        loan = Loan(lent, asyncio.timeout(None))
        self._loans.add(loan)
        try:
            async with loan.scope:
                self.look()  # it was worked out a moment ago
                yield loan
        except TimeoutError:
            if not loan.recalled:
                raise
        finally:
            self._loans.discard(loan)
            loan.over.set()

    def look(self) -> list[Loan]:
        """Recalls what would not be given any more; the loans."""
        narrowed = [loan for loan in self._loans if any(self._has_too_much(*each) for each in loan.lent)]
        for loan in narrowed:
            loan.recall()
        return narrowed

    async def note(self, connections: Sequence[Connection]) -> None:
        """Writes down what the commands have reached, or tried to: places and numbers, no content."""
        if connections:
            data = {"places": [asdict(each) for each in connections]}
            note = Note("run.connected", self.run.id, workspace=self.run.workspace, data=data)
            await self._stores.state.note(note, self._clock.now())

    def _has_too_much(self, command: Command, given: Reach) -> bool:
        now = self.reach(command)
        return now is None or not set(given.allow) <= set(now.allow) or not set(given.deny) >= set(now.deny)


class Outlets:
    """The outlets of all runs."""

    def __init__(self, gate: Gate, stores: Stores, *, clock: Clock) -> None:
        self._gate = gate
        self._stores = stores
        self._clock = clock
        self._open: WeakSet[Outlet] = WeakSet()
        gate.terms.watch(self.look)

    def of(self, run: Run) -> Outlet:
        """A new one, for commands of the run."""
        outlet = Outlet(run, self._gate, self._stores, self._clock)
        self._open.add(outlet)
        return outlet

    async def follow(self, run: Run) -> None:
        """The run has changed. Returns when no command of it has more than it may have now."""
        recalled: list[Loan] = []
        for outlet in [one for one in self._open if one.run.id == run.id]:
            outlet.run = run
            recalled += outlet.look()
        for loan in recalled:
            await loan.over.wait()

    def look(self) -> None:
        """Levels or rules have changed."""
        for outlet in [*self._open]:
            outlet.look()
