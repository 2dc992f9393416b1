"""The initiative: whether to act. Gates first, cheapest first, then one call of the cheap model (design §7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from kairosd.core.budget import Payer, Purse, purse_of
from kairosd.core.decisions import Answer, Decision, Verdict
from kairosd.core.events import Draft, Event, Tier
from kairosd.core.ids import mint
from kairosd.core.journal import Note
from kairosd.core.levels import Level
from kairosd.core.modes import SHADOW, Modes
from kairosd.core.notices import Notice, NoticeDraft
from kairosd.core.runs import Run, RunState
from kairosd.core.workspaces import Workspace, World
from kairosd.engine.breakers import Breakers
from kairosd.engine.deciding import Decider
from kairosd.engine.instructions import Instructions, pin, read_instructions
from kairosd.engine.postponing import Postponing
from kairosd.engine.purses import NoRoom, Purses
from kairosd.engine.quarantine import Filed, Quarantine
from kairosd.engine.repository import Repository, Survey
from kairosd.engine.signals import Alarm
from kairosd.errors import ModelError
from kairosd.frozen import frozen
from kairosd.ports import Claim, Clock, Files, Stores

HINTS = frozenset({"files", "tick"})  # they say "look"; what they saw is in the world, or is not worth a call
RECORD_ONLY = frozenset({("boot", "boot"), ("webhook", "ping")})


@frozen
class Settings:
    """`[initiative]`, and what of the whole configuration a fingerprint depends on."""

    spacing_seconds: int
    modes: Modes
    digest: str


@frozen
class Surroundings:
    """What every initiative shares."""

    stores: Stores
    clock: Clock
    decider: Decider
    files: Files
    address: Callable[[NoticeDraft], Sequence[Notice]]
    concluded: Callable[[], None]
    paused: Callable[[], bool]
    level: Callable[[str], Level]
    tell: Callable[[NoticeDraft], None]
    quarantine: Quarantine
    purses: Purses
    breakers: Breakers
    decides: str  # the name of the model that does


@frozen
class Sight:
    """One look at the world: its fingerprint, and the words for it."""

    fingerprint: str
    survey: Survey | None
    instructions: Instructions


class Initiative:
    """Decides for one workspace, or (with None) for events that belong to none."""

    def __init__(
        self, around: Surroundings, settings: Settings, *, workspace: Workspace | None, repository: Repository | None
    ) -> None:
        self._around = around
        self._stores = around.stores
        self._clock = around.clock
        self._settings = settings
        self._modes = settings.modes
        self._workspace = workspace
        self._repository = repository
        self._alarm = Alarm(around.clock)
        self._last_call: datetime | None = None
        self._postponing = Postponing(
            around.stores, around.clock, purses=around.purses, breakers=around.breakers, decides=around.decides
        )
        self._sighted = False
        self.missing = False
        self.next_wake: datetime | None = None
        self.ticks_skipped = 0

    @property
    def name(self) -> str | None:
        return self._workspace.name if self._workspace else None

    def wake(self) -> None:
        """Something happened, a run ended, or the owner resumed: look."""
        self._alarm.ring()

    async def run(self) -> None:
        """Looks whenever something rings, until cancelled."""
        if not self._sighted:
            await self.first_sight()
        self.wake()
        until: datetime | None = None
        while True:
            if until is None or until > self._clock.now():
                await self._alarm.wait(until)
            until = await self.look()

    async def notice_change(self) -> Draft | None:
        """A tick's question: has the world changed since the last look, or is a wake due? None = nothing to decide."""
        now = self._clock.now()
        world = await self._world()
        if self.next_wake and self.next_wake <= now:
            key = f"wake:{self.name}:{self.next_wake.isoformat()}"
            self.next_wake = None  # on disk it is cleared by the decision; until then the key refuses a second one
            return self._draft("wake", key)
        if self._around.paused() or self._modes.off or await self._busy():
            return None
        sight = await self._see(world)
        if sight is not None and not world.fingerprint:
            world = await self._remember(world, sight)
        if sight is None or _looked_at(sight, world, shadow=self._modes.of("tick") == SHADOW):
            self.ticks_skipped += 1
            return None
        if await self._around.purses.is_empty(Purse.TICK):
            return None  # the change is still there at the next tick
        return self._draft("changed", f"tick:{self.name}:{sight.fingerprint}:{now.isoformat()}")

    def _draft(self, kind: str, key: str) -> Draft:
        return Draft(source="tick", kind=kind, key=key, tier=Tier.LOCAL, workspace=self.name, facts={"kind": kind})

    async def first_sight(self) -> None:
        """Stores the world as it is, without a call: a restart is no news. What changes afterwards is."""
        self._sighted = True
        if self._workspace is None:
            return
        world = await self._world()
        self.next_wake = datetime.fromisoformat(world.next_wake) if world.next_wake else None
        sight = await self._see(world)
        if sight is not None:
            await self._remember(world, sight)

    async def _remember(self, world: World, sight: Sight) -> World:
        """Stores what is seen. A change acknowledged before a crash stays one: its event is still to be decided."""
        now = self._clock.now()
        waiting = await self._stores.events.pending(self.name, now) or await self._stores.events.next_due(
            self.name, now
        )
        fingerprint = world.fingerprint if world.fingerprint and waiting else sight.fingerprint
        pinned = world.trusted_hashes
        if self._workspace is not None and self._workspace.trusted and not pinned:
            pinned = pin(sight.instructions.hashes)
        note = Note("workspace.looked", workspace=world.workspace, data={"fingerprint": fingerprint})
        seen = replace(world, fingerprint=fingerprint, trusted_hashes=pinned)
        await self._stores.worlds.put(seen, note, now=now)
        return seen

    async def look(self) -> datetime | None:
        """Passes the gates; at their end one decision. Returns when to look again, None = when something rings."""
        now = self._clock.now()
        if self._modes.off or self._around.paused() or await self._busy():
            return None
        events = await self._recorded(await self._stores.events.pending(self.name, now))
        if not events:
            return await self._stores.events.next_due(self.name, now)
        if self._last_call and now < (spaced := self._last_call + timedelta(seconds=self._settings.spacing_seconds)):
            return spaced
        world = await self._world()
        sight = await self._see(world)
        if sight is None:
            return now + timedelta(seconds=60)  # a lost mount comes back by itself
        if self._workspace is not None and not world.fingerprint:
            world = await self._remember(world, sight)
        fresh = await self._without_stale_hints(events, world, sight=sight)
        paid, later = await self._around.purses.affordable(fresh)
        if not paid:
            return later if fresh else now
        if away_until := self._around.breakers.away_until(self._around.decides):
            return away_until
        self._last_call = now
        return await self._decide(self._batch(paid), sight)

    def _batch(self, events: Sequence[Event]) -> list[Event]:
        """Those of one tier that are followed alike. The shadow comes last: what it saw may be settled by then."""
        first = next((event for event in events if not self._modes.in_shadow(event)), events[0])
        alike = (first.tier, self._modes.in_shadow(first))
        return [event for event in events if (event.tier, self._modes.in_shadow(event)) == alike]

    async def _busy(self) -> bool:
        if self.name is None:
            return False
        running = await self._stores.runs.in_state(RunState.RUNNING, RunState.QUEUED, RunState.INTERRUPTED)
        return any(run.workspace == self.name for run in running)

    async def _recorded(self, events: Sequence[Event]) -> list[Event]:
        """Takes out what is only recorded: nobody needs to decide about a boot or a forge's ping."""
        plain = [event for event in events if (event.source, event.kind) in RECORD_ONLY]
        if plain:
            await self._stores.events.coalesce([event.id for event in plain], "recorded only", now=self._clock.now())
        return [event for event in events if event not in plain]

    async def _without_stale_hints(self, events: list[Event], world: World, *, sight: Sight) -> list[Event]:
        stale = [
            event for event in events
            if event.source in HINTS and event.kind != "wake"
            and _looked_at(sight, world, shadow=self._modes.in_shadow(event))
        ]  # fmt: skip
        if stale:
            reason = "the world is the one already looked at"
            await self._stores.events.coalesce([event.id for event in stale], reason, now=self._clock.now())
        return [event for event in events if event not in stale]

    async def _decide(self, batch: list[Event], sight: Sight) -> datetime | None:
        now = self._clock.now()
        asked = Decision(
            id=mint("d", now), workspace=self.name, tier=batch[0].tier, verdict=Verdict.ASKED, reason="", goal="",
            confidence=0, price=None, next_wake=None, events=tuple(event.id for event in batch), run=None, notice=None,
            fingerprint=sight.fingerprint, source=batch[0].source, shadow=self._modes.in_shadow(batch[0]),
            asked_at=now,
        )  # fmt: skip
        claim = await self._stores.events.claim(asked, asked.events, now=now)
        if claim is None:
            return now
        settled = False
        try:
            described = await self._repository.describe(sight.survey) if self._repository and sight.survey else ""
            answer, price = await self._around.decider.ask(claim, described, instructions=sight.instructions.text)
            filed = Filed()
            told = answer.verdict is Verdict.NOTIFY and not claim.decision.shadow
            if told and claim.decision.tier < Tier.COLLABORATOR:
                payer = Payer(claim.decision.id, purse_of(claim.decision.source))
                filed = await self._around.quarantine.file_all(claim.events, payer=payer)
            total = None if price is None or filed.price is None else price + filed.price
            await self._conclude(claim, answer, price=total, filed=filed.lines)
            settled = True
            self._postponing.passed()
        except (ModelError, NoRoom) as error:
            again = await self._postponing.postpone(claim.decision, error)
            settled = True
            return again
        finally:
            if not settled:
                # Asked here: what is shielded runs as a task of its own, which nobody cancels.
                task = asyncio.current_task()
                stopping = task is not None and task.cancelling() > 0
                await asyncio.shield(self._postponing.give_back(claim.decision, stopping=stopping))
        return now

    async def _conclude(self, claim: Claim, answer: Answer, *, price: int | None, filed: Sequence[str] = ()) -> None:
        now, asked = self._clock.now(), claim.decision
        world = await self._world()  # read again: the owner may have trusted the workspace meanwhile
        wake = _wake_at(answer, world, claim=claim, now=now)
        made = replace(
            asked, verdict=answer.verdict, reason=answer.reason, goal=answer.goal, confidence=answer.confidence,
            price=price, next_wake=wake, concluded_at=now, model=answer.model, escalated=answer.escalated,
        )  # fmt: skip
        run: Run | None = None
        notices: tuple[Notice, ...] = ()
        if not made.shadow:
            run = self._run_for(made, now)
            notices = tuple(self._around.address(_told(made, filed))) if made.verdict is Verdict.NOTIFY else ()
        made = replace(made, run=run.id if run else None, notice=notices[0].id if notices else None)
        seen: World | None = None
        if self._workspace is not None and made.tier >= Tier.LOCAL:
            # A stranger's event settles nothing about the world: it takes no wake away and hides no change.
            seen = self._settled(made, world)
        await self._stores.decisions.conclude(made, seen, run=run, notices=notices, now=now)
        self._around.concluded()

    def _settled(self, made: Decision, world: World) -> World:
        """What is remembered now. The shadow hides the change from itself alone, and sets and takes no wake."""
        if made.shadow:
            return replace(world, shadow_fingerprint=made.fingerprint)
        self.next_wake = made.next_wake
        wake = made.next_wake.isoformat() if made.next_wake else None
        return replace(world, fingerprint=made.fingerprint, next_wake=wake)

    def _run_for(self, made: Decision, now: datetime) -> Run | None:
        if made.verdict is not Verdict.ACT or self._workspace is None:
            return None
        return Run(
            id=mint("r", now), state=RunState.QUEUED, goal=made.goal, workspace=self._workspace.name,
            trigger=made.source, decision=made.id, taint=made.tier, created=now,
            level=int(self._around.level(self._workspace.name)),
        )  # fmt: skip

    async def _world(self) -> World:
        if self.name is None:
            return World("")
        return await self._stores.worlds.get(self.name) or World(self.name)

    async def _see(self, world: World) -> Sight | None:
        """Looks at the workspace. None when it is missing."""
        if self._workspace is None or self._repository is None:
            return Sight("", None, Instructions("", {}, ()))
        survey = await self._repository.survey()
        if survey.missing != self.missing:
            await self._say_missing(survey.missing)
        if survey.missing:
            return None
        uncommitted = {path for _, path in survey.changed}
        instructions = await read_instructions(
            self._around.files, self._workspace, pinned=world.trusted_hashes, uncommitted=uncommitted
        )
        if instructions.changed:
            self._around.tell(_changed_notice(self._workspace, instructions))
        marks = [self._settings.digest, *(f"{name}={value}" for name, value in sorted(instructions.hashes.items()))]
        return Sight(survey.fingerprint(marks), survey, instructions)

    async def _say_missing(self, missing: bool) -> None:
        self.missing = missing
        kind = "workspace.missing" if missing else "workspace.back"
        await self._stores.state.note(Note(kind, workspace=self.name or ""), self._clock.now())


def _looked_at(sight: Sight, world: World, *, shadow: bool) -> bool:
    """Whether this world has been decided about; in the shadow, also by the shadow."""
    return sight.fingerprint == world.fingerprint or (shadow and sight.fingerprint == world.shadow_fingerprint)


def _wake_at(answer: Answer, world: World, *, claim: Claim, now: datetime) -> datetime | None:
    """A wake is spent once for one state of the world: waiting must not become a habit that costs."""
    woken = any(event.kind == "wake" for event in claim.events)
    if not answer.wake_seconds or (woken and world.fingerprint == claim.decision.fingerprint):
        return None
    return now + timedelta(seconds=max(60, answer.wake_seconds))


def _told(made: Decision, filed: Sequence[str]) -> NoticeDraft:
    title = f"{made.workspace or 'Kairos'}: {made.goal.splitlines()[0][:100]}"
    body = "\n".join([made.goal, "", *filed, f"Why: {made.reason}"])
    return NoticeDraft(key=f"decision:{made.id}", title=title, body=body, cause=made.id, workspace=made.workspace)


def _changed_notice(workspace: Workspace, instructions: Instructions) -> NoticeDraft:
    """Once for each content: the key is the hash."""
    names = ", ".join(instructions.changed)
    marks = "-".join(instructions.hashes[name][:16] for name in instructions.changed)
    return NoticeDraft(
        key=f"instructions:{workspace.name}:{marks}",
        title=f"{workspace.name}: {names} changed since you trusted it",
        body=f"Until you say so again it is not used. Look at it, then: kairos workspace trust {workspace.name}",
        workspace=workspace.name,
    )
