"""Limits: what one run may take before it is ended as a runaway, whatever its purse still holds."""

from __future__ import annotations

from dataclasses import replace

from kairosd.core.runs import Run
from kairosd.frozen import frozen
from kairosd.ports import Clock

BARREN_TURNS = 12  # in a row in which no call succeeded; refused ones end a run sooner (engine/runs.py)


@frozen
class Limits:
    """`[limits]`: of one run its turns, tokens of all its model calls, and seconds that it works, not those parked."""

    run_turns: int = 40
    run_tokens: int = 5_000_000
    run_seconds: int = 28_800


class Meter:
    """Adds up how long one run works, and says when it has had enough."""

    def __init__(self, limits: Limits, clock: Clock, *, run: Run) -> None:
        self._limits = limits
        self._clock = clock
        self._since = clock.monotonic()
        self._fruitful = run.turns

    def progress(self, run: Run) -> None:
        """A call of the run's last turn has succeeded."""
        self._fruitful = run.turns

    def read(self, run: Run) -> tuple[Run, str | None]:
        """The run with its time brought up to now, and why it is ended; None while it may go on."""
        worked = int(self._clock.monotonic() - self._since)
        self._since += worked
        run = replace(run, seconds=run.seconds + worked)
        if run.turns >= self._limits.run_turns:
            return run, f"{run.turns} turns were not enough ([limits] run_turns)"
        if run.tokens >= self._limits.run_tokens:
            return run, f"{run.tokens:,} tokens were not enough ([limits] run_tokens)"
        if run.seconds >= self._limits.run_seconds:
            return run, f"{run.seconds} seconds of work were not enough ([limits] run_seconds)"
        if run.turns - self._fruitful >= BARREN_TURNS:
            return run, f"no call succeeded in {BARREN_TURNS} turns"
        return run, None
