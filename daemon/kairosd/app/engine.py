"""The use cases, wired to each other."""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import timedelta
from functools import partial
from pathlib import Path

from kairosd import wire
from kairosd.app.ground import Controls, Engine, Ground, Outside
from kairosd.app.toolbox import Toolbox
from kairosd.config import Config, NtfySection, access_token, api_key
from kairosd.core.journal import Note
from kairosd.core.json import JsonObject
from kairosd.core.secrets import Scrubber
from kairosd.engine.asking import Asking
from kairosd.engine.deciding import Decider
from kairosd.engine.desk import Office, OwnersDesk
from kairosd.engine.dispatch import Dispatcher
from kairosd.engine.ending import Ending, EndingDeps
from kairosd.engine.gate import Gate
from kairosd.engine.handover import Handover
from kairosd.engine.housekeeping import Housekeeping
from kairosd.engine.inbox import Inbox
from kairosd.engine.initiative import Initiative, Settings, Surroundings
from kairosd.engine.ledger import Ledger, Questions
from kairosd.engine.limits import Limits
from kairosd.engine.purses import Purses
from kairosd.engine.quarantine import Quarantine
from kairosd.engine.runs import Tooling
from kairosd.engine.signals import Feed
from kairosd.engine.stopping import EmergencyStop, Reins
from kairosd.engine.terms import Terms
from kairosd.engine.undo import Undo
from kairosd.errors import ConfigError
from kairosd.models.prices import tariff_of
from kairosd.store.retention import carry_out, folder_sizes, plan_sweep


def build_engine(ground: Ground, outside: Outside, *, controls: Controls) -> Engine:
    """Wires the use cases."""
    stores, clock, config, outbox = ground.stores, ground.clock, ground.config, outside.outbox
    feed = Feed()
    asking = build_asking(ground, outside)
    quarantine = Quarantine(asking, lambda: outside.models.get(config.roles.decide))
    initiatives: dict[str | None, Initiative] = {}
    inbox = Inbox(stores, clock, initiatives=initiatives)

    def ended(workspace: str) -> None:
        outbox.ring()
        inbox.wake(workspace)

    def concluded() -> None:
        outbox.ring()
        inbox.wake_set()
        dispatcher.wake()

    tooling = build_tooling(ground, outside, asking=asking, feed=feed, quarantine=quarantine)
    terms = tooling.ledger.gate.terms
    dispatcher = Dispatcher(tooling, outside.places, ended=ended, paused=lambda: ground.condition.paused)
    reins = Reins(
        stores=stores, clock=clock, files=outside.files, mark=ground.place.stop_mark, dispatcher=dispatcher,
        end_programs=outside.executor.end_all, pause=ground.condition.pause,
    )  # fmt: skip
    around = Surroundings(
        stores=stores, clock=clock, files=outside.files, address=outbox.address, concluded=concluded,
        decider=Decider(stores, clock, asking=asking, model=lambda: outside.models.get(config.roles.decide)),
        paused=lambda: ground.condition.paused, level=terms.level, tell=outbox.queue, quarantine=quarantine,
        purses=asking.purses,
    )  # fmt: skip
    settings = Settings(config.initiative.spacing_seconds, config.initiative.mode, config.digest)
    initiatives[None] = Initiative(around, settings, workspace=None, repository=None)
    for name, place in outside.places.items():
        initiatives[name] = Initiative(around, settings, workspace=place.workspace, repository=place.repository)
    workspaces = {one.name: one for one in config.workspaces}
    undo = Undo(stores, clock, checkouts=outside.checkouts, files=outside.files, workspaces=workspaces)
    office = Office(
        stores=stores, clock=clock, files=outside.files, feed=feed, inbox=inbox, dispatcher=dispatcher,
        emergency=(emergency := EmergencyStop(reins)), checkouts=outside.checkouts, initiatives=initiatives, undo=undo,
        workspaces=workspaces, repositories={name: place.repository for name, place in outside.places.items()},
        queue=outbox.queue, status=lambda: status_of(ground, asking), sizes=lambda: folder_sizes(ground.place),
        reload=controls.reload, edit_workspace=controls.edit_workspace, edit_level=controls.edit_level, terms=terms,
        pause=ground.condition.pause, purses=asking.purses,
    )  # fmt: skip
    housekeeping = Housekeeping(
        stores, clock, dispatcher=dispatcher, initiatives=initiatives.values(),
        sweep=lambda: sweep(ground, tooling.ending),
    )  # fmt: skip
    return Engine(asking, dispatcher, emergency, initiatives, inbox, housekeeping, OwnersDesk(office), feed, terms)


def build_asking(ground: Ground, outside: Outside) -> Asking:
    """What every model call goes through, with the purses that pay for it."""
    stores, clock, tell = ground.stores, ground.clock, outside.outbox.queue
    purses = Purses(stores, clock, caps=ground.config.budget, tell=tell)
    return Asking(stores, clock, purses=purses, tariffs=tariff_of, tell=tell)


def build_tooling(ground: Ground, outside: Outside, *, asking: Asking, feed: Feed, quarantine: Quarantine) -> Tooling:
    """What every run works with."""
    stores, clock, config, outbox = ground.stores, ground.clock, ground.config, outside.outbox
    gate = build_gate(config)
    expires = timedelta(seconds=config.approval_expires_seconds)
    ending = EndingDeps(
        stores=stores, clock=clock, checkouts=outside.checkouts, feed=feed, address=outbox.address, expires=expires,
        workspaces={one.name: one for one in config.workspaces},
        handover=Handover(
            stores, clock, outside.checkouts, files=outside.files, terms=gate.terms, author=outside.author
        ),
    )  # fmt: skip
    return Tooling(
        stores=stores, clock=clock, asking=asking, model=lambda: outside.models.get(config.roles.act),
        files=outside.files, sandbox=outside.sandbox, tools=Toolbox(), checkouts=outside.checkouts,
        ending=Ending(ending), feed=feed, quarantine=quarantine,
        limits=Limits(config.limits.run_tokens, config.limits.run_seconds),
        ledger=Ledger(
            stores, gate, clock=clock, questions=Questions(outbox.address, expires),
            scrub=Scrubber(own_secrets(ground)),
        ),
        tell=outbox.tell, author=outside.author,
    )  # fmt: skip


def build_gate(config: Config) -> Gate:
    """The gate over what each workspace is granted."""
    terms = Terms(config.policy, config.workspaces, superuser=os.geteuid() == 0)
    return Gate(config.policy, terms=terms)


def own_secrets(ground: Ground) -> set[str]:
    """The daemon's own keys, tokens and webhook secrets; what cannot be read now cannot be shown either."""
    config, environment = ground.config, ground.environment
    found = {secret.decode("utf-8", "replace") for secret in config.github_secrets}
    readers = [partial(api_key, section, environment) for section in config.models.values()]
    readers += [
        partial(access_token, one, environment) for one in config.notifiers.values() if isinstance(one, NtfySection)
    ]
    for read in readers:
        with contextlib.suppress(ConfigError):  # `doctor` and the part that needs it say so
            found.add(read() or "")
    return found


async def sweep(ground: Ground, ending: Ending) -> None:
    """Applies `[retention]` in a thread, and takes away what ended runs have left in the owners' repositories."""

    def work() -> int:
        sweeps = plan_sweep(ground.place, ground.config.retention, now=ground.clock.now())
        for one in sweeps:
            carry_out(one)
        return len(sweeps)

    done = await asyncio.to_thread(work)
    if done:
        await ground.stores.state.note(Note("daemon.swept", data={"things": done}), ground.clock.now())
    await ending.drop_bases()


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
    }  # fmt: skip
