"""Remembering at run time: what a run may keep, take back and look up; every word of it owed to what it has seen.

The same checks hold as for a dream. The evidence is the run's own: its goal, and the results of its calls. An entry
says what its sources say, is trusted as little as the least of them and as the run itself, and reaches the index only
once its file is on disk. What would touch the owner's own lines waits for the owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date

from kairosd.core.dream import Op, Operation, apply
from kairosd.core.dream_checks import Frame, examine
from kairosd.core.dream_dates import resolved
from kairosd.core.dream_support import foreign, support
from kairosd.core.duplicates import fitted, needs_nothing
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence
from kairosd.core.findable import of_entry
from kairosd.core.journal import Note
from kairosd.core.json import JsonObject, digest
from kairosd.core.memory import EVERYWHERE, ID_LEAST, Entry, Generation, plain
from kairosd.core.runs import CallState, Run
from kairosd.core.search import Answers, Question
from kairosd.core.secrets import Scrubber
from kairosd.core.spans import span_of
from kairosd.core.texts import cleaned
from kairosd.engine.indexing import Indexer
from kairosd.errors import StaleMemoryError, StoreError, ToolError
from kairosd.ports import Clock, MemoryStore, Proposal, RunMemory, Stores, Wish

log = logging.getLogger("kairosd.memory")

COMMIT_TRIES = 5  # each after somebody else wrote in that very moment
CITED_MOST = 4
ONE_MAY_GO = 4  # entries of which a quarter is one: the cap on losses is about dreams
TEXT_SEEN = 4000  # characters of a call's result that can be cited
RECALLING = frozenset({"memory_search", "remember", "forget"})  # what they say is memory's own output (invariant I11)


class Remembering:
    """Memory as runs change and search it. One a daemon; `of` makes it a run's own."""

    def __init__(self, memory: MemoryStore, stores: Stores, *, indexer: Indexer, clock: Clock, scrub: Scrubber) -> None:
        self._memory = memory
        self._stores = stores
        self._indexer = indexer
        self._clock = clock
        self.scrub = scrub

    def of(self, run: Run) -> RunMemory:
        """The memory that `run` may use."""
        return _OfRun(self, run)

    async def keep(self, run: Run, wish: Wish, *, call: str) -> str:
        """Remembers, and says what became of it. Raises `ToolError` naming every rule that the wish breaks."""
        today = self._today()
        told = await self._evidence(run)
        text = plain(resolved(wish.text, today))
        if self.scrub(text).found:
            raise ToolError("that holds a secret, and no secret is remembered", fix="say it without the secret")
        operation = Operation(
            Op.ADD, (), _sources(text, told), key=wish.key, text=text, kind=wish.kind, check=wish.check,
            everywhere=wish.everywhere, reason=f"remembered by {call}",
        )  # fmt: skip
        return await self._change(
            run, lambda base: fitted(operation, base, workspace=run.workspace, told=told), told=told, call=call
        )

    async def retire(self, run: Run, identifier: str, *, reason: str, call: str) -> str:
        """Takes an entry back, for the owner's own runs; else proposes it. Raises `ToolError`."""
        told = await self._evidence(run)
        base = await asyncio.to_thread(self._memory.load)
        entry = _find(base, identifier, workspace=run.workspace)
        cited = _sources(entry.text, told)
        operation = Operation(Op.RETIRE, (entry.id,), cited, reason=plain(reason)[:200])
        if run.trigger != "owner" or entry.pinned or entry.by_owner:
            return await self._propose(run, operation, told=told, why="a run wants to take it back", call=call)
        return await self._change(run, lambda _: operation, told=told, call=call)

    async def look_up(self, run: Run, question: Question, *, when: str) -> Answers:
        """What is found in the run's own workspace, its own transcript left out. Raises `ToolError`."""
        try:
            span = span_of(when, self._today()) if when.strip() else None
            scopes = (run.workspace, EVERYWHERE)
            answers = await self._indexer.search(replace(question, scopes=scopes, span=span))
        except ValueError as error:
            raise ToolError(f"`when` {error}", fix="leave it out to search all days") from error
        except StoreError as error:
            raise ToolError(f"memory cannot be searched now: {error}", fix="go on without it") from error
        others = [one for one in answers.found if one.passage.thread != run.id]
        return Answers(others, answers.behind)

    async def has(self, call: str) -> bool:
        """Whether the change that `call` asked for has been made: a manifest names it."""
        for generation in await asyncio.to_thread(self._memory.past):
            if generation.manifest.get("call") == call:
                return True
        return any(call in one.reason for one in await asyncio.to_thread(self._memory.proposals))

    async def _change(
        self, run: Run, made: Callable[[Generation], Operation], *, told: Mapping[str, Evidence], call: str
    ) -> str:
        for _ in range(COMMIT_TRIES):
            base = await asyncio.to_thread(self._memory.load)
            operation = made(base)
            if operation.op is Op.RESTAMP:
                known = _find(base, operation.targets[0], workspace=run.workspace)
                if needs_nothing(operation, known, told=told):
                    return f"known already as {_named(known)}"
            active = max(ONE_MAY_GO, len(base.visible(run.workspace)))
            judged = examine([operation], Frame(base, told, run.workspace, self._today(), active))
            if judged.rejected:
                problems = "; ".join(problem.text for _, found in judged.rejected for problem in found)
                raise ToolError(f"not remembered: {problems}", fix="say it in the words of what you have seen")
            if judged.held:
                return await self._propose(run, operation, told=told, why=judged.held[0][1], call=call)
            done = apply(base, operation, evidence=told, workspace=run.workspace, day=self._today())
            done = replace(done, manifest={"phase": "run", "call": call, "operations": [operation.record()]})
            try:
                stored = await asyncio.to_thread(self._memory.commit, done, base=base)
            except StaleMemoryError:
                continue  # somebody else wrote: on top of that, once more
            return await self._tell(run, operation, base=base, stored=stored, call=call)
        raise ToolError("memory is being written by somebody else", fix="try again later, or go on without it")

    async def _tell(self, run: Run, operation: Operation, *, base: Generation, stored: Generation, call: str) -> str:
        fresh = [entry for entry in stored.entries if base.get(entry.id) is None]
        named = fresh[0].id if fresh else operation.targets[0]
        data: JsonObject = {"op": operation.op.value, "entry": named, "generation": stored.number}
        await self._note("memory.changed", run, data=data, call=call)
        match operation.op:
            case Op.RESTAMP:
                return f"known already as {_named(_find(base, named, workspace=run.workspace))}; confirmed today"
            case Op.RETIRE:
                return f"m:{named} is taken back; its history stays"
            case Op.SUPERSEDE:
                return f"remembered as m:{named}, in place of m:{operation.targets[0]}"
        return f"remembered as m:{named}, trusted as {fresh[0].trust.label}"

    async def _propose(
        self, run: Run, operation: Operation, *, told: Mapping[str, Evidence], why: str, call: str
    ) -> str:
        base = await asyncio.to_thread(self._memory.load)
        now = self._clock.now()
        evidence = tuple(told[name].record() for name in operation.sources)
        record: JsonObject = {**operation.record(), "workspace": run.workspace}
        name = f"p{digest({**record, 'call': call})[:10]}"
        proposal = Proposal(name, f"{why} ({call})", now, base.number, (record,), evidence)
        await asyncio.to_thread(self._memory.propose, proposal)
        await self._note("memory.proposed", run, data={"proposal": proposal.id, "reason": why}, call=call)
        return f"not done: {why}. It waits for the owner as a proposal (kairos dream proposals)"

    async def _evidence(self, run: Run) -> dict[str, Evidence]:
        """What the run has seen. The owner's goal is the owner's word; no result is more than the run's own taint."""
        now = self._clock.now()
        day = now.astimezone().date()
        highest = Tier.OWNER if run.trigger == "owner" else Tier.LOCAL
        goal = plain(resolved(run.goal, run.created.astimezone().date()))
        found = {run.id: Evidence(run.id, run.created, day, run.workspace, min(highest, run.taint), "goal", goal)}
        for call in await self._stores.runs.calls(run.id):
            if call.state is CallState.SUCCEEDED and call.tool not in RECALLING and call.result.strip():
                text = self.scrub(plain(cleaned(call.result[:TEXT_SEEN]).text)).text
                tier = min(Tier.LOCAL, run.taint)
                found[call.id] = Evidence(call.id, call.requested_at, day, run.workspace, tier, call.tool, text)
        return found

    async def _note(self, kind: str, run: Run, *, data: JsonObject, call: str) -> None:
        note = Note(kind, call, cause=run.id, workspace=run.workspace, tier=run.taint.label, data=data)
        await self._stores.state.note(note, self._clock.now())

    def _today(self) -> date:
        return self._clock.now().astimezone().date()


class _OfRun:
    """Implements `ports.RunMemory`."""

    def __init__(self, remembering: Remembering, run: Run) -> None:
        self._all = remembering
        self._run = run

    async def keep(self, wish: Wish, *, call: str) -> str:
        return await self._all.keep(self._run, wish, call=call)

    async def retire(self, identifier: str, *, reason: str, call: str) -> str:
        return await self._all.retire(self._run, identifier, reason=reason, call=call)

    async def look_up(self, question: Question, *, when: str = "") -> Answers:
        return await self._all.look_up(self._run, question, when=when)

    async def has(self, call: str) -> bool:
        return await self._all.has(call)


def _sources(text: str, told: Mapping[str, Evidence]) -> tuple[str, ...]:
    """The fewest sources that hold every word of `text` that any does, trusted ones first among equal ones.

    Were the trusted ones enough that hold most of it, a file's few words would be trusted as the owner's.
    """
    newest = sorted(told.values(), key=lambda one: (one.tier, one.moment), reverse=True)
    cited: list[Evidence] = []
    while len(cited) < CITED_MOST:
        left = [one for one in newest if one not in cited]
        best = max(left, key=lambda one: _gain(text, [*cited, one]), default=None)
        if best is None or (cited and _gain(text, [*cited, best]) <= _gain(text, cited)):
            break
        cited.append(best)
    return tuple(one.source for one in cited)


def _gain(text: str, cited: Sequence[Evidence]) -> tuple[int, float]:
    said = [one.text for one in cited]
    return -len(foreign(text, said, also={one.day.isoformat() for one in cited})), support(text, said)


def _named(entry: Entry) -> str:
    """The entry's id, and what keeps it from being shown as current (invariant I16)."""
    return ", ".join((f"m:{entry.id}", *of_entry(entry).doubts))


def _find(base: Generation, identifier: str, *, workspace: str) -> Entry:
    named = identifier.strip().removeprefix("m:")
    found = [entry for entry in base.visible(workspace) if named and entry.id.startswith(named)]
    exact = next((entry for entry in found if entry.id == named), None)
    if exact is None and (len(found) != 1 or len(named) < ID_LEAST):
        raise ToolError(
            f"{len(found)} entries have an id that begins with {named!r}; it takes {ID_LEAST} characters of one alone",
            fix="memory_search shows whole ids",
        )
    return exact or found[0]
