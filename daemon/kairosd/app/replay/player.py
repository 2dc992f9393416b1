"""The player: today's engine over a scratch home, with the record played at every seam."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import cast

from kairosd.app.engine import build_engine
from kairosd.app.ground import Controls, Engine, Ground, Outside
from kairosd.app.outside import open_outside
from kairosd.app.replay.record import Exchanges, Record
from kairosd.app.replay.scratch import Scratch
from kairosd.app.replay.seams import played_seams
from kairosd.app.replay.standins import Off, Played
from kairosd.app.replay.tape import ReplayClock
from kairosd.config import Config, Environment
from kairosd.core.json import JsonObject
from kairosd.core.notices import Severity
from kairosd.engine.condition import Condition
from kairosd.engine.notices import Channel, Outbox
from kairosd.frozen import frozen
from kairosd.ports import Executor, Notifier, Sandbox

MARKED = frozenset(
    {"decision.asked", "workspace.looked", "run.queued", "run.started", "run.parked",
     "run.interrupted", "run.requeued", "run.ended"}
)  # fmt: skip


@frozen
class Player:
    """Builds engines, one for each cause. `lines` and `exchanges` are of the days that the replay goes by.

    `marked` are those of the lines that every decision looks through, `trusts` say what the owner has trusted.
    """

    record: Record
    lines: tuple[JsonObject, ...]
    marked: tuple[JsonObject, ...]
    trusts: tuple[JsonObject, ...]
    exchanges: Exchanges
    scratch: Scratch
    clock: ReplayClock
    ground: Ground
    outside: Outside

    @contextmanager
    def playing(self, played: Played, *, shadow: bool = False) -> Iterator[Engine]:
        """An engine for this cause; none of its parts runs by itself."""
        self.clock.tape = played.tape
        config = self.ground.config
        none = type(config.initiative.triggers)()
        mode = {"mode": "shadow" if shadow else "on", "triggers": none, "spacing_seconds": 0}
        config = replace(config, initiative=config.initiative.model_copy(update=mode))
        ground = replace(self.ground, config=config, seams=played_seams(played))
        yield build_engine(ground, self.outside, controls=_NO_CONTROLS)


def open_player(  # all that a player is made of
    record: Record, lines: tuple[JsonObject, ...], *, exchanges: Exchanges, scratch: Scratch, **given: object
) -> Player:
    """A player that reaches nothing: `given` has `clock`, `config`, `environment` and the `stack` that closes it."""
    clock, stack = cast("ReplayClock", given["clock"]), cast("AsyncExitStack", given["stack"])
    condition = Condition(clock)
    condition.state = "ready"
    config, environment = cast("Config", given["config"]), cast("Environment", given["environment"])
    ground = Ground(config, scratch.place, environment, clock, condition, scratch.stores)
    outside = open_outside(ground, (cast("Sandbox", Off()), cast("Executor", Off())), stack=stack)
    channel = Channel("replay", Severity.LOW, lambda: cast("Notifier", Off()), silent=True)
    outbox = Outbox(scratch.stores.notices, scratch.stores.approvals, clock=clock, channels=[channel])
    marked = tuple(line for line in lines if line["kind"] in MARKED)
    trusts = tuple(line for line in lines if line["kind"] == "workspace.trusted")
    return Player(record, lines, marked, trusts, exchanges, scratch, clock, ground, replace(outside, outbox=outbox))


_NO_CONTROLS = Controls(dict, lambda _name, _path: None, lambda _name, _level: None, lambda _name, _mode: None)
