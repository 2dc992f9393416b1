"""The desk: what the owner can ask of the daemon. The control API is a thin layer over it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from kairosd.core.decisions import Decision, Verdict
from kairosd.core.events import Draft, Tier
from kairosd.core.ids import mint
from kairosd.core.journal import Note
from kairosd.core.json import JsonObject
from kairosd.core.levels import Level
from kairosd.core.notices import NoticeDraft
from kairosd.core.ratings import Rating
from kairosd.core.runs import ENDED, Approval, ApprovalState, Run, RunState
from kairosd.core.workspaces import Workspace, World
from kairosd.engine import views
from kairosd.engine.answers import Answers
from kairosd.engine.checkouts import Checkouts
from kairosd.engine.diffs import diff_of
from kairosd.engine.dispatch import Dispatcher
from kairosd.engine.inbox import Inbox
from kairosd.engine.initiative import Initiative
from kairosd.engine.instructions import NAMES, is_trusted, pin, read_instructions
from kairosd.engine.purses import Purses
from kairosd.engine.repository import Repository
from kairosd.engine.signals import Feed
from kairosd.engine.stopping import EmergencyStop
from kairosd.engine.terms import Terms
from kairosd.errors import NotFoundError, TransitionError, UsageError
from kairosd.frozen import frozen
from kairosd.ports import Clock, Files, Query, Stores, Update

if TYPE_CHECKING:  # loaded when they are first used
    from kairosd.engine.appraisal import Appraisal
    from kairosd.engine.conversation import Conversation
    from kairosd.engine.undo import Undo
    from kairosd.engine.why import Thing

TEXT_MAX = 20_000  # characters of one message


@frozen
class Office:
    """What the desk hands the owner's wishes to."""

    stores: Stores
    clock: Clock
    files: Files
    feed: Feed
    inbox: Inbox
    dispatcher: Dispatcher
    emergency: EmergencyStop
    checkouts: Checkouts
    undo: Undo
    initiatives: Mapping[str | None, Initiative]
    workspaces: Mapping[str, Workspace]
    repositories: Mapping[str, Repository]
    queue: Callable[[NoticeDraft], None]
    status: Callable[[], JsonObject]
    sizes: Callable[[], Mapping[str, int]]
    reload: Callable[[], JsonObject]
    edit_workspace: Callable[[str, str | None], None]
    edit_level: Callable[[str, Level], None]
    appraisal: Appraisal
    terms: Terms
    pause: Callable[[bool], None]
    purses: Purses
    seen: Callable[[], None]  # the owner is here
    private_channels: AbstractSet[str]  # those that strangers were seen, since the start, to be kept out of


class OwnersDesk:
    """Implements `Desk`."""

    def __init__(self, office: Office) -> None:
        self._o = office
        self._stores = office.stores
        self._answers = Answers(
            office.stores, office.clock, proven=office.private_channels, tell=office.queue, pause=office.pause
        )

    async def status(self) -> JsonObject:
        counters = await self._stores.state.counters()
        base = {**self._o.status(), "sizes": await asyncio.to_thread(self._o.sizes)}
        skipped = sum(initiative.ticks_skipped for initiative in self._o.initiatives.values())
        own = base.get("counters")
        live = own if isinstance(own, Mapping) else {}
        return {
            **base, "queue": {name: counters.get(name, 0) for name in ("pending", "parked", "dead")},
            "counters": {
                **{name: counters.get(name, 0) for name in COUNTED},
                "ticks_skipped": skipped,
                **live,
            },
            "next_wake": views.iso(min(wakes) if (wakes := self._wakes()) else None),
            "notices": {name: counters.get(f"notices_{name}", 0) for name in ("queued", "delivered", "failed")},
            "purses": await self._o.purses.view(),
            "tasks": [views.task_view(task) for task in await self._stores.tasks.running()],
            "workspaces": await self.workspaces(),
        }  # fmt: skip

    def _wakes(self) -> list[datetime]:
        return [one.next_wake for one in self._o.initiatives.values() if one.next_wake]

    async def tell(self, text: str, workspace: str | None, *, folder: str | None) -> JsonObject:
        if not text.strip():
            raise UsageError("there is nothing to tell", fix='kairos tell "what changed in the last commit?"')
        if len(text) > TEXT_MAX:
            raise UsageError(f"a message may have {TEXT_MAX} characters, this one has {len(text)}")
        place = self._choose(workspace, folder)
        self._o.seen()
        now = self._o.clock.now()
        run, made = _asked(text.strip(), place.name, level=self._o.terms.level(place.name), now=now)
        draft = Draft(
            source="owner", kind="told", key=made.events[0], tier=Tier.OWNER, workspace=place.name,
            text={"message": run.goal},
        )  # fmt: skip
        receipt = await self._stores.events.add_direct(draft, run, decision=made, now=now)
        self._o.dispatcher.wake()
        return {"event": receipt.id, "run": run.id, "workspace": place.name}

    async def follow(self, run: str) -> AsyncIterator[Update]:
        found = await self._stores.runs.get(run)
        with self._o.feed.subscribe(found.id) as updates:
            if still := await self._standstill(found.id):
                yield still
                return
            talk: Conversation = await _part("conversation").Conversation.load(self._stores.transcripts, found.id)
            for said in talk.messages:
                if said.role == "assistant" and said.text:
                    yield Update("text", said.text)
            async for update in updates:
                yield await self._completed(found.id, update)
                if update.kind in ("ended", "parked"):
                    return

    async def _standstill(self, run: str) -> Update | None:
        """The closing update of a run that will say nothing more by itself."""
        found = await self._stores.runs.get(run)
        if found.state in ENDED:
            return await self._completed(run, Update("ended", found.result))
        if found.state is RunState.PARKED:
            return await self._completed(run, Update("parked", ""))
        return None

    async def _completed(self, run: str, update: Update) -> Update:
        if update.kind not in ("ended", "parked"):
            return update
        found = await self._stores.runs.get(run)
        opened = [one for one in await self._stores.approvals.of_run(run) if one.state is ApprovalState.OPEN]
        code = opened[0].code if opened else None
        question = opened[0].question if opened else update.text
        data: JsonObject = {
            **update.data, "state": found.state.value, "answer": found.result or question, "price": found.price,
            "code": code, "run": run, "branch": found.branch, "patch": found.patch,
        }  # fmt: skip
        return Update(update.kind, update.text or question, data)

    async def listing(self, kind: str, query: Query) -> Sequence[JsonObject]:
        match kind:
            case "events":
                return [views.event_view(row) for row in await self._stores.events.find(query)]
            case "decisions":
                return [views.decision_view(row) for row in await self._stores.decisions.find(query)]
            case "runs":
                undone = await self._o.undo.undone()
                return [views.run_view(row, undone.get(row.id)) for row in await self._stores.runs.find(query)]
            case "approvals":
                return [await self._approval(row) for row in await self._stores.approvals.find(query)]
            case "grants":
                return [views.grant_view(row) for row in await self._stores.grants.find(query)]
            case "tasks":
                return [views.task_view(row) for row in await self._stores.tasks.find(query)]
            case "notices":
                return [views.notice_view(row) for row in await self._stores.notices.find(query)]
        raise NotFoundError(f"there is no list of {kind}", fix=f"there are: {KINDS}")

    async def costs(self, by: str, *, since: datetime, limit: int) -> Sequence[JsonObject]:
        found = await self._stores.model_calls.costs(by, since=since, limit=limit)
        return [views.spending_view(row, by) for row in found]

    async def calibration(self, since: datetime) -> Sequence[JsonObject]:
        return await self._o.appraisal.calibration(since)

    async def rate(self, identifier: str, rating: str) -> JsonObject:
        return await self._o.appraisal.rate(identifier, Rating(rating))

    async def triggers(self, since: datetime, workspace: str | None) -> Sequence[JsonObject]:
        return await self._o.appraisal.triggers(since, workspace and self._choose(workspace, None).name)

    async def set_trigger(self, trigger: str, mode: str) -> JsonObject:
        told = await self._o.appraisal.set_mode(trigger, mode)
        return {**told, "changed": () if told["was"] == mode else (await self.reload())["changed"]}

    async def show(self, identifier: str) -> JsonObject:
        thing: Thing = await _part("why").find(self._stores, identifier)
        match thing.id[0]:
            case "r":
                return await self._show_run(await self._stores.runs.get(thing.id))
            case "c":
                return views.call_view(await self._stores.runs.get_call(thing.id))
        kinds = {"e": "events", "d": "decisions", "a": "approvals", "n": "notices", "g": "grants", "t": "tasks"}
        rows = await self.listing(kinds[thing.id[0]], Query(prefix=thing.id, limit=1))
        return rows[0]

    async def _show_run(self, run: Run) -> JsonObject:
        calls = [views.call_view(call) for call in await self._stores.runs.calls(run.id)]
        tasks = [views.task_view(task) for task in await self._stores.tasks.of_run(run.id)]
        model_calls = await self._stores.model_calls.of(run.id)
        undone = (await self._o.undo.undone()).get(run.id)
        merge = f"git merge {run.branch}" if run.branch else f"git apply {run.patch}" if run.patch else None
        workspace, repository = self._o.workspaces.get(run.workspace), self._o.repositories.get(run.workspace)
        diff = await diff_of(run, self._o.checkouts, workspace=workspace, repository=repository)
        return {
            **views.run_view(run, undone), "calls": calls, "tasks": tasks, "model_calls": list(model_calls),
            "diff": diff, "merge": None if undone else merge,
        }  # fmt: skip

    async def why(self, identifier: str) -> Sequence[JsonObject]:
        links: Sequence[JsonObject] = await _part("why").chain(self._stores, identifier)
        return links

    async def retry(self, event: str) -> JsonObject:
        found = await self._stores.events.retry((await self._stores.events.get(event)).id, self._o.clock.now())
        self._o.inbox.wake(found.workspace)
        return views.event_view(found)

    async def pause(self, reason: str) -> JsonObject:
        self._o.pause(True)  # at once, whatever the database does
        self._o.seen()
        note = Note("daemon.paused", data={"reason": reason[:500]})
        await self._stores.state.put("paused", reason or "by the owner", note=note, now=self._o.clock.now())
        return {"state": "paused", "reason": reason}

    async def resume(self) -> JsonObject:
        if self._o.emergency.pending:
            raise TransitionError("the stop is not on record yet", fix="see kairos status, then resume")
        await self._answers.forget_denials()
        await self._stores.state.put("paused", None, note=Note("daemon.resumed"), now=self._o.clock.now())
        again = await self._stores.state.get("paused")
        if again is not None or self._o.emergency.pending:
            raise TransitionError("it was stopped again meanwhile", fix="kairos status, then kairos resume")
        self._o.pause(False)
        for initiative in self._o.initiatives.values():
            initiative.wake()
        self._o.dispatcher.wake()
        return {"state": "ready"}

    async def stop(self, run: str | None) -> JsonObject:
        self._o.seen()  # a dream under way ends too
        if run is None:
            return await self._o.emergency.pull()
        return {"stopped": await self._o.dispatcher.stop((await self._stores.runs.get(run)).id)}

    async def answer(
        self, code: str, *, approve: bool, channel: str, always: bool = False, at: datetime | None = None
    ) -> JsonObject:
        approval = await self._answers.answer(code, channel=channel, approve=approve, always=always, at=at)
        self._o.seen()  # who only guesses is not the owner
        self._o.dispatcher.wake()
        return await self._approval(approval)

    async def _approval(self, approval: Approval) -> JsonObject:
        return views.approval_view(approval, await self._stores.runs.get(approval.run))

    async def revoke(self, grant: str) -> JsonObject:
        return views.grant_view(await self._stores.grants.revoke(grant, now=self._o.clock.now()))

    async def workspaces(self) -> Sequence[JsonObject]:
        worlds = {name: await self._stores.worlds.get(name) for name in self._o.workspaces}
        return [_workspace_view(self._o, name, world=world) for name, world in worlds.items()]

    async def trust(self, workspace: str) -> JsonObject:
        place = self._choose(workspace, None)
        found = await read_instructions(self._o.files, place, pinned="", uncommitted=())
        now = self._o.clock.now()
        world = await self._stores.worlds.get(place.name) or World(place.name)
        note = Note("workspace.trusted", workspace=place.name, data={"files": dict(found.hashes)})
        await self._stores.worlds.put(replace(world, trusted_hashes=pin(found.hashes)), note, now=now)
        return {"workspace": place.name, "files": list(found.hashes), "looked_for": list(NAMES)}

    async def set_workspace(self, name: str, path: str | None) -> JsonObject:
        self._o.edit_workspace(name, path)
        return {"workspace": name, **await self.reload()}

    async def undo(self, run: str, *, dry_run: bool) -> JsonObject:
        return await self._o.undo.undo(run, dry_run=dry_run)

    async def set_level(self, workspace: str, level: str) -> JsonObject:
        told = _change_level(self._o, self._choose(workspace, None).name, level=Level.parse(level))
        note = Note("workspace.level", workspace=workspace, data=told)
        await self._stores.state.note(note, self._o.clock.now())
        changed = () if level == Level.OPEN.label else (await self.reload())["changed"]
        return {"workspace": workspace, **told, "changed": changed}

    async def reload(self) -> JsonObject:
        changes = self._o.reload()
        await self._stores.state.note(Note("daemon.reloaded", data=changes), self._o.clock.now())
        return changes

    async def test_notice(self) -> JsonObject:
        title, body = "Kairos can reach you", "This is the test you asked for."
        self._o.queue(NoticeDraft(key=f"test:{mint('n', self._o.clock.now())}", title=title, body=body))
        return {"queued": True}

    def _choose(self, name: str | None, folder: str | None) -> Workspace:
        """The workspace meant: by name, by folder, or the only one there is."""
        workspaces = self._o.workspaces
        if name is not None:
            if name in workspaces:
                return workspaces[name]
            raise UsageError(f"there is no workspace {name}", fix=f"there are: {', '.join(workspaces) or 'none'}")
        inside = [one for one in workspaces.values() if folder and Path(folder).is_relative_to(one.path)]
        if inside:
            return max(inside, key=lambda one: len(one.path.parts))
        if len(workspaces) == 1:
            return next(iter(workspaces.values()))
        listed = ", ".join(workspaces) or "none; add one with `kairos workspace add PATH`"
        raise UsageError("which workspace?", fix=f"say -w NAME: {listed}")


KINDS = "events, decisions, runs, tasks, approvals, grants, notices"


def _workspace_view(office: Office, name: str, *, world: World | None) -> JsonObject:
    workspace, initiative = office.workspaces[name], office.initiatives[name]
    return {
        "name": name,
        "path": str(workspace.path),
        "repo": workspace.repo,
        "level": office.terms.level(name).label,
        "state": "missing" if initiative.missing else "watched" if workspace.watch else "unwatched",
        "trusted": is_trusted(workspace, world.trusted_hashes if world else ""),
        "next_wake": views.iso(initiative.next_wake),
    }


def _asked(goal: str, workspace: str, *, level: Level, now: datetime) -> tuple[Run, Decision]:
    """What the owner's word leads to: a run at once, and the decision that says so."""
    event, decision = mint("e", now), mint("d", now)
    run = Run(
        id=mint("r", now), state=RunState.QUEUED, goal=goal, workspace=workspace, trigger="owner", decision=decision,
        level=int(level), taint=Tier.OWNER, created=now,
    )  # fmt: skip
    made = Decision(
        id=decision, workspace=workspace, tier=Tier.OWNER, verdict=Verdict.ACT, reason="owner asked", goal=goal,
        confidence=100, price=0, next_wake=None, events=(event,), run=run.id, notice=None, fingerprint="",
        source="owner", shadow=False, asked_at=now, concluded_at=now,
    )  # fmt: skip
    return run, made


def _part(name: str) -> ModuleType:
    """A module that only few questions need, loaded when one is asked."""
    return importlib.import_module(f"kairosd.engine.{name}")


def _change_level(office: Office, workspace: str, *, level: Level) -> JsonObject:
    was = office.terms.level(workspace)
    if level is Level.OPEN:
        office.terms.open(workspace)
    else:
        office.edit_level(workspace, level)
        office.terms.shut(workspace)
    return {"level": level.label, "was": was.label}


COUNTED = (
    "events", "decisions", "model_calls", "runs", "tool_calls", "denied", "webhook_accepted", "webhook_rejected",
    "webhook_duplicate",
)  # fmt: skip
