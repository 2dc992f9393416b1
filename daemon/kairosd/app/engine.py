"""The use cases, wired to each other."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from kairosd import wire
from kairosd.app.ground import Controls, Engine, Ground, Outside
from kairosd.app.late import late
from kairosd.app.memory import build_memory, build_recollection
from kairosd.app.toolbox import Toolbox
from kairosd.config import NtfySection, access_token, answers_token, api_key
from kairosd.core.journal import Note
from kairosd.core.json import JsonObject
from kairosd.core.modes import Modes
from kairosd.core.runs import Run
from kairosd.core.secrets import Scrubber
from kairosd.engine.absence import Absence
from kairosd.engine.asking import Asking
from kairosd.engine.bases import drop_bases
from kairosd.engine.breakers import Breakers
from kairosd.engine.deciding import Decider, Route
from kairosd.engine.desk import Office, OwnersDesk
from kairosd.engine.dispatch import Dispatcher
from kairosd.engine.dreaming import Dreamer
from kairosd.engine.hints import Hints
from kairosd.engine.housekeeping import Housekeeping
from kairosd.engine.inbox import Inbox
from kairosd.engine.incidents import Incidents
from kairosd.engine.initiative import Initiative, Settings, Surroundings
from kairosd.engine.purses import Purses
from kairosd.engine.quarantine import Quarantine
from kairosd.engine.replies import Replies
from kairosd.engine.signals import Feed
from kairosd.engine.stopping import EmergencyStop, Reins
from kairosd.engine.tasks import Tasks
from kairosd.engine.terms import Terms
from kairosd.engine.tooling import Tooling
from kairosd.errors import ConfigError
from kairosd.frozen import frozen
from kairosd.models.prices import tariff_of
from kairosd.ports import Model
from kairosd.store.retention import carry_out, folder_sizes, plan_sweep

if TYPE_CHECKING:
    from kairosd.app.running import Running
    from kairosd.engine.appraisal import Appraisal
    from kairosd.engine.indexing import Indexer
    from kairosd.engine.undo import Undo

DIGEST_HINTS = 800  # characters of memory that a deciding model is shown


@frozen
class Trunk:
    """What the desk, the initiatives and the dream are wired to."""

    ground: Ground
    outside: Outside
    asking: Asking
    tooling: Tooling
    dispatcher: Dispatcher
    inbox: Inbox
    initiatives: dict[str | None, Initiative]
    absence: Absence
    modes: Modes
    terms: Terms


@frozen
class Kit:
    """What runs have in common with deciding."""

    asking: Asking
    quarantine: Quarantine
    remembering: Hints
    terms: Terms


def build_engine(ground: Ground, outside: Outside, *, controls: Controls) -> Engine:
    """Wires the use cases."""
    outside = ground.seams.outside(outside)
    stores, clock, config = ground.stores, ground.clock, ground.config
    initiatives: dict[str | None, Initiative] = {}
    absence = Absence(stores, clock)
    inbox = Inbox(stores, clock, initiatives=initiatives, absence=absence)
    breakers = build_breakers(ground, outside, back=inbox.wake_all)
    asking = ground.seams.asking(build_asking(ground, outside, breakers=breakers))
    quarantine = Quarantine(asking, partial(choose_model, outside, breakers, name=config.roles.decide))

    replies = Replies(stores, clock, outbox=outside.outbox, privacy=outside.privacy)

    def ended(workspace: str) -> None:
        outside.outbox.ring()
        replies.ring()
        inbox.wake(workspace)

    recollection = build_recollection(ground, scrub=Scrubber(own_secrets(ground)))
    terms = Terms(config.policy, config.workspaces, superuser=os.geteuid() == 0)
    kit = Kit(asking, quarantine, recollection.remembering, terms)
    tooling = build_tooling(ground, outside, kit=kit)
    dispatcher = Dispatcher(tooling, outside.places, ended=ended, paused=lambda: ground.condition.paused)
    modes = Modes(config.initiative.mode, config.initiative.triggers.model_dump())
    trunk = Trunk(ground, outside, asking, tooling, dispatcher, inbox, initiatives, absence, modes, terms)
    build_initiatives(trunk)
    reins = Reins(
        stores=stores, clock=clock, files=outside.files, mark=ground.place.stop_mark, dispatcher=dispatcher,
        end_programs=outside.executor.end_all, pause=ground.condition.pause,
    )  # fmt: skip
    emergency = EmergencyStop(reins)
    housekeeping = Housekeeping(
        stores, clock, dispatcher=dispatcher, initiatives=initiatives.values(),
        sweep=lambda: sweep(ground, outside, indexer=recollection.indexer),
    )  # fmt: skip
    dreams = partial(choose_model, outside, breakers, name=config.roles.dream or config.roles.act)
    memory = build_memory(ground, outside, absence=absence, recollection=recollection, thinking=(asking, dreams))
    desk = build_desk(trunk, emergency, controls=controls, dreamer=memory.dreamer)
    feed = tooling.feed
    return Engine(asking, dispatcher, emergency, initiatives, inbox, housekeeping, desk, feed, terms, memory, replies)


def build_initiatives(trunk: Trunk) -> None:
    """One for each workspace, and one for what belongs to none."""
    ground, outside, asking, config = trunk.ground, trunk.outside, trunk.asking, trunk.ground.config

    def concluded() -> None:
        outside.outbox.ring()
        trunk.inbox.wake_set()
        trunk.dispatcher.wake()

    route = Route(
        cheap=partial(choose_model, outside, asking.breakers, name=config.roles.decide),
        strong=partial(choose_model, outside, asking.breakers, name=config.roles.act),
        below=config.initiative.escalate_below,
    )
    hints = partial(trunk.tooling.remembering.hints, limit=DIGEST_HINTS)
    around = Surroundings(
        stores=ground.stores, clock=ground.clock, files=outside.files, address=outside.outbox.address,
        decider=Decider(ground.stores, ground.clock, asking=asking, route=route, hints=hints), concluded=concluded,
        paused=lambda: ground.condition.paused, level=trunk.terms.level, tell=outside.outbox.queue,
        quarantine=trunk.tooling.quarantine, purses=asking.purses, breakers=asking.breakers,
        decides=config.roles.decide,
    )  # fmt: skip
    settings = Settings(config.initiative.spacing_seconds, trunk.modes, config.digest)
    trunk.initiatives[None] = Initiative(around, settings, workspace=None, repository=None)
    for name, place in outside.places.items():
        trunk.initiatives[name] = Initiative(around, settings, workspace=place.workspace, repository=place.repository)


def build_desk(trunk: Trunk, emergency: EmergencyStop, *, controls: Controls, dreamer: Dreamer) -> OwnersDesk:
    """What the owner's commands are answered by."""
    ground, outside, asking, tooling = trunk.ground, trunk.outside, trunk.asking, trunk.tooling
    stores, clock = ground.stores, ground.clock
    workspaces = {one.name: one for one in ground.config.workspaces}

    def undo() -> Undo:
        module = importlib.import_module("kairosd.engine.undo")
        made: Undo = module.Undo(stores, clock, checkouts=outside.checkouts, files=outside.files, workspaces=workspaces)
        return made

    def appraisal() -> Appraisal:
        module = importlib.import_module("kairosd.engine.appraisal")
        made: Appraisal = module.Appraisal(stores, clock, trunk.modes, controls.edit_trigger)
        return made

    office = Office(
        stores=stores, clock=clock, files=outside.files, feed=tooling.feed, inbox=trunk.inbox,
        dispatcher=trunk.dispatcher, emergency=emergency, checkouts=outside.checkouts, initiatives=trunk.initiatives,
        undo=late(undo), workspaces=workspaces,
        repositories={name: place.repository for name, place in outside.places.items()},
        queue=outside.outbox.queue, sizes=lambda: folder_sizes(ground.place),
        status=lambda: {
            **status_of(ground, asking), "channels": outside.privacy.view(), "last_dream": dreamer.last
        },
        private_channels=outside.privacy.proven, reload=controls.reload, edit_workspace=controls.edit_workspace,
        edit_level=controls.edit_level, terms=trunk.terms,
        appraisal=late(appraisal),
        pause=ground.condition.pause, purses=asking.purses, seen=trunk.absence.seen,
    )  # fmt: skip
    return OwnersDesk(office)


def build_breakers(ground: Ground, outside: Outside, *, back: Callable[[], None]) -> Breakers:
    """Who is left alone for a while, and who answers instead."""
    incidents = Incidents(ground.stores.state, ground.clock, tell=outside.outbox.tell)
    fallbacks = {name: section.fallback for name, section in ground.config.models.items()}
    return Breakers(ground.clock, incidents, fallbacks=fallbacks, jitter=jitter, back=back)


def jitter(seconds: float, seed: str) -> float:
    """A random part of `seconds`, the same for the same seed: a record can be played back."""
    return random.Random(seed).uniform(0.0, seconds)


def choose_model(outside: Outside, breakers: Breakers, *, name: str) -> Model:
    """The model of that name, or who stands in for it now."""
    return outside.models.get(breakers.choose(name))


def build_asking(ground: Ground, outside: Outside, *, breakers: Breakers) -> Asking:
    """What every model call goes through, with the purses that pay for it."""
    purses = Purses(ground.stores, ground.clock, caps=ground.config.budget, tell=outside.outbox.queue)
    return Asking(purses, breakers, tariffs=tariff_of)


def build_tooling(ground: Ground, outside: Outside, *, kit: Kit) -> Tooling:
    """What every run works with."""
    stores, clock, config, outbox = ground.stores, ground.clock, ground.config, outside.outbox
    feed, scrub = Feed(), Scrubber(own_secrets(ground))

    def model(run: Run) -> Model:
        name = config.roles.escalate if run.escalated else config.roles.act
        return choose_model(outside, kit.asking.breakers, name=name)

    @cache
    def running() -> Running:
        module = importlib.import_module("kairosd.app.running")
        built: Running = module.build_running(ground, outside, terms=kit.terms, feed=feed, scrub=scrub)
        return built

    return Tooling(
        stores=stores, clock=clock, asking=kit.asking,
        model=model,
        files=outside.files, sandbox=outside.sandbox, tools=Toolbox(ground.seams.tool), checkouts=outside.checkouts,
        ending=late(lambda: running().ending), feed=feed, quarantine=kit.quarantine,
        limits=late(lambda: running().limits), prefixes=late(lambda: running().prefixes),
        ledger=late(lambda: running().ledger),
        remembering=ground.seams.remembering(kit.remembering),
        tasks=Tasks(stores, clock, files=outside.files, state=ground.place.state, scrub=scrub),
        news=late(lambda: running().news), outlets=late(lambda: running().outlets),
        tell=outbox.tell, author=outside.author,
    )  # fmt: skip


def own_secrets(ground: Ground) -> set[str]:
    """The daemon's own keys, tokens and webhook secrets; what cannot be read now cannot be shown either."""
    config, environment = ground.config, ground.environment
    found = {secret.decode("utf-8", "replace") for secret in config.github_secrets}
    readers = [partial(api_key, section, environment) for section in config.models.values()]
    phones = [one for one in config.notifiers.values() if isinstance(one, NtfySection)]
    readers += [partial(token, one, environment) for one in phones for token in (access_token, answers_token)]
    for read in readers:
        with contextlib.suppress(ConfigError):  # `doctor` and the part that needs it say so
            found.add(read() or "")
    return found


async def sweep(ground: Ground, outside: Outside, *, indexer: Indexer) -> None:
    """Applies `[retention]` in a thread, and takes away what ended runs have left in the owners' repositories."""

    def work() -> list[Path]:
        sweeps = plan_sweep(ground.place, ground.config.retention, now=ground.clock.now())
        for one in sweeps:
            carry_out(one)
        return [one.path for one in sweeps]

    done = await asyncio.to_thread(work)
    if done:
        await ground.stores.state.note(Note("daemon.swept", data={"things": len(done)}), ground.clock.now())
    if expired := [path.stem for path in done if path.parent == ground.place.transcripts]:
        await indexer.expire(expired)
    await drop_bases(ground.config.workspaces, ground.stores, checkouts=outside.checkouts)


def status_of(ground: Ground, asking: Asking) -> JsonObject:
    """What `status` says besides the counts that the stores keep."""
    config, roles, breakers = ground.config, ground.config.roles, asking.breakers
    return {
        **ground.condition.view(),
        "version": wire.VERSION,
        "pid": os.getpid(),
        "models": [
            {
                "role": role, "name": name, "provider": config.models[name].provider,
                "model": config.models[name].model or Path(config.models[name].file).stem,
                "down": breakers.down.get(name), "instead": breakers.instead(name),
            }
            for role, name in (("decide", roles.decide), ("act", roles.act))
        ],
        "counters": dict(ground.condition.counters),
    }  # fmt: skip
