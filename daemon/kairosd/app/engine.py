"""The use cases, wired to each other."""

from __future__ import annotations

import asyncio
import importlib
import os
import pkgutil
from datetime import timedelta
from pathlib import Path

from kairosd import tools, wire
from kairosd.app.ground import Controls, Engine, Ground, Outside
from kairosd.core.journal import Note
from kairosd.core.json import JsonObject
from kairosd.engine.asking import Asking
from kairosd.engine.deciding import Decider
from kairosd.engine.desk import Office, OwnersDesk
from kairosd.engine.dispatch import Dispatcher
from kairosd.engine.ending import Ending, EndingDeps
from kairosd.engine.gate import Gate
from kairosd.engine.housekeeping import Housekeeping
from kairosd.engine.inbox import Inbox
from kairosd.engine.initiative import Initiative, Settings, Surroundings
from kairosd.engine.ledger import Ledger
from kairosd.engine.runs import Tooling
from kairosd.engine.signals import Feed
from kairosd.models.prices import tariff_of
from kairosd.ports import Tool
from kairosd.store.retention import carry_out, folder_sizes, plan_sweep


def build_engine(ground: Ground, outside: Outside, *, controls: Controls) -> Engine:
    """Wires the use cases."""
    stores, clock, config, outbox = ground.stores, ground.clock, ground.config, outside.outbox
    feed = Feed()
    asking = Asking(stores, clock, tariffs=tariff_of, tell=outbox.queue)
    initiatives: dict[str | None, Initiative] = {}
    inbox = Inbox(stores, clock, initiatives=initiatives)

    def ended(workspace: str) -> None:
        outbox.ring()
        inbox.wake(workspace)

    def concluded() -> None:
        outbox.ring()
        inbox.wake_set()
        dispatcher.wake()

    dispatcher = Dispatcher(build_tooling(ground, outside, asking=asking, feed=feed), outside.places, ended=ended)
    around = Surroundings(
        stores=stores, clock=clock, files=outside.files, address=outbox.address, concluded=concluded,
        decider=Decider(stores, clock, asking=asking, model=lambda: outside.models.get(config.roles.decide)),
        paused=lambda: ground.condition.paused, tell=outbox.queue,
    )  # fmt: skip
    settings = Settings(config.initiative.spacing_seconds, config.initiative.mode, config.digest)
    initiatives[None] = Initiative(around, settings, workspace=None, repository=None)
    for name, place in outside.places.items():
        initiatives[name] = Initiative(around, settings, workspace=place.workspace, repository=place.repository)
    office = Office(
        stores=stores, clock=clock, files=outside.files, feed=feed, inbox=inbox, dispatcher=dispatcher,
        checkouts=outside.checkouts, initiatives=initiatives,
        workspaces={one.name: one for one in config.workspaces},
        repositories={name: place.repository for name, place in outside.places.items()},
        queue=outbox.queue, status=lambda: status_of(ground, asking),
        sizes=lambda: folder_sizes(ground.place), reload=controls.reload,
        edit_workspace=controls.edit_workspace, pause=lambda on: setattr(ground.condition, "paused", on),
    )  # fmt: skip
    housekeeping = Housekeeping(
        stores, clock, dispatcher=dispatcher, initiatives=initiatives.values(), sweep=lambda: sweep(ground)
    )
    return Engine(asking, dispatcher, initiatives, inbox, housekeeping, OwnersDesk(office), feed)


def build_tooling(ground: Ground, outside: Outside, *, asking: Asking, feed: Feed) -> Tooling:
    """What every run works with."""
    stores, clock, config, outbox = ground.stores, ground.clock, ground.config, outside.outbox
    expires = timedelta(seconds=config.approval_expires_seconds)
    ending = EndingDeps(
        stores=stores, clock=clock, checkouts=outside.checkouts, files=outside.files, feed=feed,
        address=outbox.address, author=outside.author, expires=expires,
        workspaces={one.name: one for one in config.workspaces},
    )  # fmt: skip
    return Tooling(
        stores=stores, clock=clock, asking=asking, model=lambda: outside.models.get(config.roles.act),
        files=outside.files, tools=load_tools(), checkouts=outside.checkouts, ending=Ending(ending), feed=feed,
        ledger=Ledger(stores, Gate(config.policy), clock=clock, address=outbox.address, expires=expires),
        tell=outbox.tell, author=outside.author,
    )  # fmt: skip


def load_tools() -> dict[str, Tool]:
    """Every tool there is: each module of `kairosd.tools` that has `build`."""
    found: dict[str, Tool] = {}
    for module_info in pkgutil.iter_modules(tools.__path__):
        module = importlib.import_module(f"{tools.__name__}.{module_info.name}")
        if hasattr(module, "build"):
            tool: Tool = module.build()
            found[tool.spec.name] = tool
    return found


async def sweep(ground: Ground) -> None:
    """Applies `[retention]` in a thread."""

    def work() -> int:
        sweeps = plan_sweep(ground.place, ground.config.retention, now=ground.clock.now())
        for one in sweeps:
            carry_out(one)
        return len(sweeps)

    done = await asyncio.to_thread(work)
    if done:
        await ground.stores.state.note(Note("daemon.swept", data={"things": done}), ground.clock.now())


def status_of(ground: Ground, asking: Asking) -> JsonObject:
    """What `status` says besides the counts that the stores keep."""
    config, roles = ground.config, ground.config.roles
    down = {name: why for name, (_, why) in asking.down.items()}
    return {
        **ground.condition.view(),
        "version": wire.VERSION,
        "pid": os.getpid(),
        "models": [
            {
                "role": role, "name": name, "provider": config.models[name].provider,
                "model": config.models[name].model or Path(config.models[name].file).stem, "down": down.get(name),
            }
            for role, name in (("decide", roles.decide), ("act", roles.act))
        ],
        "counters": dict(ground.condition.counters),
        "last_dream": None,
        "purses": {},
    }  # fmt: skip
