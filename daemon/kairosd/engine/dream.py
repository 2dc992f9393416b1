"""The dream: what was learned since the last one becomes memory, while the owner is away (design §10).

One dream walks these phases, each a method, batch by batch until the journal's end:

    orient       memory as it is now, with what the owner changed by hand
    verify       claims are looked up; what is wrong is marked, and what nobody needs expires
    gather       the journal after memory's cursor: noise, secrets and own output left out, grouped
    consolidate  one question a group to the model of role `dream`, which proposes operations
    check        every operation alone, then the whole generation, then that a search loses nothing
    commit       the new generation and its cursor become current at once, or nothing does
    tell         the journal, and the owner where something waits for them

Nothing is written before `commit`. Whatever ends a dream before that leaves memory and cursor as they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from kairosd.core.budget import Purse
from kairosd.core.dream import Op, Operation, mark_stale, retired
from kairosd.core.dream_audit import audit
from kairosd.core.dream_checks import Examined, Frame, Problem, examine
from kairosd.core.events import Tier
from kairosd.core.evidence import gather, grouped, without_series
from kairosd.core.expiry import expire, expiring
from kairosd.core.findable import run_of
from kairosd.core.journal import Note
from kairosd.core.json import Json, JsonObject, digest
from kairosd.core.memory import Generation
from kairosd.core.notices import NoticeDraft
from kairosd.core.secrets import Scrubber
from kairosd.engine.claims import Claims
from kairosd.engine.dream_asking import Consolidation, Group, fitted
from kairosd.engine.dream_state import TRIES, DreamRecord
from kairosd.engine.indexing import forgotten
from kairosd.engine.purses import NoRoom
from kairosd.errors import (
    ModelProtocolError,
    ModelRefusedError,
    ModelUnavailableError,
    NotFoundError,
    StaleMemoryError,
)
from kairosd.frozen import frozen
from kairosd.ports import Clock, JournalLines, MemoryStore, Proposal, Recall, Stores

log = logging.getLogger("kairosd.dream")

LINES_MOST = 2000  # of the journal, in one batch
COMMIT_TRIES = 5  # each after the owner saved a file in that very moment


@frozen
class DreamDeps:
    """What a dream works with. `tokens` bounds one dream; `recall` None = nothing is asked before a commit."""

    stores: Stores
    clock: Clock
    memory: MemoryStore
    journal: JournalLines
    consolidation: Consolidation
    claims: Claims
    scrub: Scrubber
    tell: Callable[[NoticeDraft], Awaitable[None]]
    tokens: int
    recall: Recall | None = None


@frozen
class Batch:
    """A stretch of the journal from which there is something to learn. `runs` tell of which run a line is."""

    groups: tuple[Group, ...]
    upto: int
    dropped: JsonObject
    runs: Mapping[str, str]


@frozen
class Draft:
    """A generation that is not written yet, and how it came about.

    `active` entries were there when the dream began, `gone` of them were lost before this draft.
    """

    generation: Generation
    active: int
    gone: int
    parts: tuple[tuple[Group, Examined], ...] = ()
    problems: tuple[str, ...] = ()
    tokens: int = 0
    price: int | None = 0
    calls: int = 0

    @property
    def accepted(self) -> tuple[Operation, ...]:
        return tuple(one for _, part in self.parts for one in part.accepted)

    def frame(self, group: Group, day: date) -> Frame:
        """What the operations of one more group are judged against."""
        evidence = {one.source: one for one in group.evidence}
        lost = self.gone + retired(self.accepted)
        return Frame(self.generation, evidence, group.workspace, day, active=self.active, gone=lost)


@dataclass(slots=True)
class Told:
    """What one dream came to, for the owner."""

    generations: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    proposals: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    tokens: int = 0
    price: int | None = 0
    outcome: str = "nothing new"
    gone: int = 0
    active: int = 0

    def view(self) -> JsonObject:
        return {
            "outcome": self.outcome, "generations": self.generations, "operations": dict(self.counts),
            "proposals": self.proposals, "dropped": self.dropped, "tokens": self.tokens, "price": self.price,
        }  # fmt: skip


class GroupFailed(Exception):
    """A group's evidence led to nothing usable; the text says why."""

    def __init__(self, group: Group, reason: str) -> None:
        super().__init__(reason)
        self.group = group


class Dream:
    """One dream at a time: `dream` walks the phases above."""

    def __init__(self, deps: DreamDeps) -> None:
        self._d = deps
        self._record = DreamRecord(deps.stores, deps.clock)
        self._noise = (0, 0)  # after that cursor there is nothing to learn up to that line: it is not read again

    async def dream(self) -> Told:
        """Learns from all that is new. What stops it is told in `outcome`; memory is whole at every moment."""
        told = Told()
        try:
            base = await self._verify(await self._orient(), told)
            told.active = len(base.entries)
            while (batch := await self._gather(base, left=self._d.tokens - told.tokens)) is not None:
                if self._least(batch.groups, base) > self._d.tokens - told.tokens:
                    told.outcome = "the token cap is reached; the rest comes with the next dream"
                    if not told.tokens:
                        told.outcome = "one question takes more than the token cap: raise [dream] tokens"
                    break
                draft = await self._consolidate(batch, base, told=told)
                base = await self._commit(draft, base, batch=batch, told=told)
            await self._record.ended()
        except NoRoom as empty:
            told.outcome = str(empty)
            self._d.consolidation.purses.hold(Purse.DREAM, empty.breach)
        except ModelUnavailableError as error:
            told.outcome = f"the model could not be asked: {error}"
            await self._record.failed("")
        except GroupFailed as failure:
            told.outcome = f"what is new could not be learned: {failure}"
        if told.outcome not in ("nothing new", "done"):
            await self._note("dream.stopped", {"reason": told.outcome[:500], "tokens": told.tokens})
        return told

    async def unlearned(self, limit: int) -> int:
        """How many pieces of evidence there are after memory's cursor; `limit` and more count as `limit`."""
        base = await self._orient()
        batch = await self._gather(base, left=self._d.tokens)
        return min(limit, sum(len(group.evidence) for group in batch.groups)) if batch else 0

    async def _orient(self) -> Generation:
        return await asyncio.to_thread(self._d.memory.load)

    async def _verify(self, base: Generation, told: Told) -> Generation:
        """The part that needs no model. It is committed by itself, so that it holds whatever the model does."""
        found, today = await self._d.claims.verify(base, today=self._today()), self._today()
        marked = mark_stale(base, found)
        gone = {one.id: one for one in expiring([one for one in base.entries if one.id not in found], today)}
        if not found and not gone and not base.edited:
            return base
        marked = expire(marked, gone.values(), today=today)
        manifest: JsonObject = {
            "phase": "verify", "marked": sorted(found), "expired": sorted(gone), "edited": sorted(base.edited),
        }  # fmt: skip
        problems = [one for one in audit(base, marked, marked={*found, *gone}) if one.invariant != "I7"]
        if problems:
            raise AssertionError(f"looking claims up changed more than marks: {problems[0]}")
        try:
            made = await asyncio.to_thread(self._d.memory.commit, replace(marked, manifest=manifest), base=base)
        except StaleMemoryError:
            return await self._orient()  # the owner is writing: the claims are looked up again next time
        told.generations.append(made.number)
        told.counts.update(marked=len(found), expired=len(gone))
        told.gone, told.outcome = len(gone), "done"
        await self._note("memory.verified", {"generation": made.number, **manifest})
        return made

    async def _gather(self, base: Generation, *, left: int) -> Batch | None:
        """The next stretch with evidence that `left` tokens are enough for, if any is; noise is passed over."""
        after = self._noise[1] if self._noise[0] == base.cursor else base.cursor
        room = self._d.consolidation.room()
        hidden = set(forgotten(base))
        while lines := await asyncio.to_thread(self._d.journal.after, after, limit=LINES_MOST):
            tiers = await self._tiers(lines)
            runs = {f"j{line['seq']}": run_of(line) for line in lines}
            while True:
                found = await asyncio.to_thread(gather, lines, base.entries, scrub=self._d.scrub, known=tiers)
                known = tuple(one for one in found.evidence if hidden.isdisjoint((one.source, runs[one.source])))
                found = without_series(replace(found, evidence=known))
                groups = tuple(Group(name, tuple(each)) for (name, _), each in grouped(found.evidence).items())
                fits = all(fitted(group.evidence, room) for group in groups) and self._least(groups, base) <= left
                if len(lines) == 1 or fits:
                    break
                lines = lines[: len(lines) // 2]
            if groups:
                return Batch(groups, found.upto, dict(found.dropped), runs)
            after = found.upto
            self._noise = (base.cursor, after)
        return None

    async def _tiers(self, lines: Sequence[Mapping[str, Json]]) -> dict[str, Tier]:
        """The tiers that the runs of these calls have by now, also of runs that have not rested since."""
        found = {}
        for name in {str(line.get("cause")) for line in lines if str(line.get("kind")).startswith("call.")}:
            with contextlib.suppress(NotFoundError):
                found[name] = (await self._d.stores.runs.get(name)).taint
        return found

    async def _consolidate(self, batch: Batch, base: Generation, *, told: Told) -> Draft:
        """Operations for every group, one after the other, each on what the one before it left."""
        draft, before, began = Draft(base, max(told.active, 1), told.gone), told.tokens, self._d.consolidation.spent
        for number, group in enumerate(batch.groups):
            # What the later ones need at the least is kept for them.
            left = self._d.tokens - told.tokens - self._least(batch.groups[number + 1 :], base)
            frame = draft.frame(group, self._today())
            try:
                found = await self._d.consolidation.ask(group, frame, cause="dream", tokens=left)
            except (ModelProtocolError, ModelRefusedError) as error:
                await self._put_aside(GroupFailed(group, str(error)), batch)
                continue
            finally:
                told.tokens = before + self._d.consolidation.spent - began
            draft = replace(
                draft, generation=found.examined.generation, parts=(*draft.parts, (group, found.examined)),
                problems=(*draft.problems, *found.problems), tokens=draft.tokens + found.tokens,
                price=_sum(draft.price, found.price), calls=draft.calls + found.calls,
            )  # fmt: skip
        return draft

    def _least(self, groups: Sequence[Group], base: Generation) -> int:
        return sum(self._d.consolidation.least(group, base) for group in groups)

    async def _put_aside(self, failure: GroupFailed, batch: Batch) -> None:
        """Raises `failure` until the same batch has failed often enough; then its evidence is given up, on record."""
        group = failure.group
        tries = await self._record.failed(f"{group.name}:{group.evidence[0].source}")
        if tries < TRIES:
            raise failure
        sources: list[Json] = [one.source for one in group.evidence]
        note: JsonObject = {"group": group.name, "sources": sources, "reason": str(failure)[:500], "tries": tries}
        await self._note("dream.dead", note, workspace=group.workspace)
        log.warning("a dream gives up on %d pieces of evidence of %s: %s", len(sources), group.name, failure)

    async def _check(self, draft: Draft, base: Generation) -> list[Problem]:
        """What speaks against the whole generation; empty = nothing."""
        evidence = [one for group, _ in draft.parts for one in group.evidence]
        found = await asyncio.to_thread(audit, base, draft.generation, accepted=draft.accepted, evidence=evidence)
        if not found and self._d.recall is not None:
            added = [entry for entry in draft.generation.entries if entry.id not in base.ids]
            lost = await asyncio.to_thread(self._d.recall.losses, base, draft.generation, added=added)
            found = [Problem("I19", text) for text in lost]
        return found

    async def _commit(self, draft: Draft, base: Generation, *, batch: Batch, told: Told) -> Generation:
        """Makes the draft current. Where the owner saved meanwhile, it is made anew from what they saved."""
        began = base.cursor
        for _ in range(COMMIT_TRIES):
            draft = replace(draft, generation=replace(draft.generation, cursor=batch.upto))
            if await self._check(draft, base):
                draft = await self._without_faults(draft, base, batch=batch)
            whole = replace(draft.generation, manifest=_manifest(draft, batch))
            try:
                # Shielded: a commit that has begun is told of, whoever comes back in this moment.
                return await asyncio.shield(self._written(whole, base, draft=draft, told=told))
            except StaleMemoryError:
                base = await self._orient()
                if base.cursor != began:
                    return base  # gone back meanwhile: what lies between is to be learned again
                draft = self._again(draft, base, batch=batch)
        raise GroupFailed(batch.groups[0], "memory was changed by hand each time it was to be written")

    async def _without_faults(self, draft: Draft, base: Generation, *, batch: Batch) -> Draft:
        """The draft of the groups that pass on top of each other. Raises until the others have failed often enough."""
        sound = replace(draft, parts=())
        for part in draft.parts:
            tried = self._again(replace(sound, parts=(*sound.parts, part)), base, batch=batch)
            tried = replace(tried, generation=replace(tried.generation, cursor=batch.upto))
            if problems := await self._check(tried, base):
                await self._put_aside(GroupFailed(part[0], "; ".join(map(str, problems[:5]))), batch)
            else:
                sound = tried
        return sound if sound.parts else replace(sound, generation=replace(base, cursor=batch.upto))

    def _again(self, draft: Draft, base: Generation, *, batch: Batch) -> Draft:
        """The same operations on memory as the owner left it; what touches their lines is now held for them.

        What rests on what they have forgotten meanwhile is left out.
        """
        made, hidden = replace(draft, generation=base, parts=()), set(forgotten(base))
        gone = {source for source, run in batch.runs.items() if not hidden.isdisjoint((source, run))}
        for group, part in draft.parts:
            wanted = [*part.accepted, *(one for one, _ in part.held)]
            known = [one for one in wanted if gone.isdisjoint(one.sources)]
            found = examine(known, made.frame(group, self._today()))
            found = replace(found, rejected=(*part.rejected, *found.rejected))
            made = replace(made, generation=found.generation, parts=(*made.parts, (group, found)))
        return made

    async def _written(self, whole: Generation, base: Generation, *, draft: Draft, told: Told) -> Generation:
        made = await asyncio.to_thread(self._d.memory.commit, whole, base=base)
        await self._tell(made, draft, told=told)
        return made

    async def _tell(self, made: Generation, draft: Draft, *, told: Told) -> None:
        held = [(group, one, reason) for group, part in draft.parts for one, reason in part.held]
        proposals = [await self._propose(group, one, reason=reason, base=made.number) for group, one, reason in held]
        counts = {op.value: sum(one.op is op for one in draft.accepted) for op in Op}
        told.generations.append(made.number)
        told.proposals += proposals
        told.dropped += draft.problems
        told.price = _sum(told.price, draft.price)
        told.gone += retired(draft.accepted)
        told.outcome = "done"
        for name, count in counts.items():
            told.counts[name] = told.counts.get(name, 0) + count
        data: JsonObject = {
            "generation": made.number, "cursor": made.cursor, "operations": counts, "proposals": proposals,
            "dropped": len(draft.problems), "tokens": draft.tokens, "price": draft.price,
        }  # fmt: skip
        await self._note("dream.committed", data)

    async def _propose(self, group: Group, operation: Operation, *, reason: str, base: int) -> str:
        """Holds an operation for the owner. The same one is held once, whatever became of it."""
        name = f"p{digest(operation.record())[:10]}"
        evidence = tuple(one.record() for one in group.evidence if one.source in operation.sources)
        record: JsonObject = {**operation.record(), "workspace": group.workspace}
        await asyncio.to_thread(
            self._d.memory.propose, Proposal(name, reason, self._d.clock.now(), base, (record,), evidence)
        )
        await self._note("memory.proposed", {"proposal": name, "reason": reason[:500]}, workspace=group.workspace)
        body = f"{operation.op}: {operation.text or ', '.join(operation.targets)}\n{reason}\nkairos dream accept {name}"
        await self._d.tell(NoticeDraft(key=f"memory:{name}", title="A change of memory waits for you", body=body))
        return name

    async def _note(self, kind: str, data: JsonObject, *, workspace: str = "") -> None:
        await self._d.stores.state.note(Note(kind, workspace=workspace, data=data), self._d.clock.now())

    def _today(self) -> date:
        return self._d.clock.now().astimezone().date()


def _manifest(draft: Draft, batch: Batch) -> JsonObject:
    rejected: list[Json] = [
        {"operation": one.record(), "problems": [str(each) for each in problems]}
        for _, part in draft.parts
        for one, problems in part.rejected
    ]
    return {
        "phase": "consolidate", "operations": [one.record() for one in draft.accepted], "rejected": rejected,
        "held": [one.record() for _, part in draft.parts for one, _ in part.held], "dropped": batch.dropped,
        "evidence": sum(len(group.evidence) for group in batch.groups), "tokens": draft.tokens, "price": draft.price,
        "calls": draft.calls,
    }  # fmt: skip


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
