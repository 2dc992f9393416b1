"""What the owner can ask of the dream, and do about it. All answers are JSON-ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime

from kairosd.core.dream import Operation, apply, read_operation
from kairosd.core.dream_audit import audit, sound
from kairosd.core.dream_checks import Frame, Problem, problems_of
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence, gather
from kairosd.core.journal import Note
from kairosd.core.json import Json, JsonObject
from kairosd.core.memory import DREAMT, Entry, Generation, format_line
from kairosd.core.secrets import Scrubber
from kairosd.engine.dreaming import Dreamer
from kairosd.errors import StaleMemoryError, TransitionError, UsageError
from kairosd.ports import Clock, JournalLines, MemoryStore, Proposal, Stores

STRETCH_MOST = 200_000  # journal lines of one generation that a verification reads again
ACCEPT_TRIES = 3


class MemoryDesk:
    """Implements the routes of `http/memory.py`."""

    def __init__(
        self, stores: Stores, clock: Clock, *, memory: MemoryStore, journal: JournalLines, dreamer: Dreamer
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._memory = memory
        self._journal = journal
        self._dreamer = dreamer

    async def now(self) -> JsonObject:
        """Dreams now; see `Told.view`. Raises `TransitionError` while a dream is under way."""
        return (await self._dreamer.now()).view()

    async def generations(self) -> Sequence[JsonObject]:
        """What is kept, newest first: `{number, parent, cursor, made, current, operations, tokens, price, ...}`."""
        current = await asyncio.to_thread(self._memory.load)
        return [_generation_view(one, current.number) for one in await asyncio.to_thread(self._memory.past)]

    async def show(self, number: int | None) -> JsonObject:
        """One generation with its report and its entries; None = the current one. Raises `NotFoundError`."""
        current = await asyncio.to_thread(self._memory.load)
        found = current if number is None else await asyncio.to_thread(self._memory.at, number)
        return {**_generation_view(found, current.number), "entries": [format_line(one) for one in found.entries]}

    async def diff(self, number: int | None) -> JsonObject:
        """What a generation changed of its parent: `{number, parent, changes: [{change, id, old, new, reason}]}`."""
        found = await self._at(number)
        kept = {one.number for one in await asyncio.to_thread(self._memory.past)}
        parent = next((one for one in _before(found) if one in kept), None)
        if parent is None:
            raise UsageError(f"generation {found.number} has none before it", fix="kairos dream show lists them")
        old = await asyncio.to_thread(self._memory.at, parent)
        return {"number": found.number, "parent": parent, "changes": changes(old, await self._whole(found))}

    async def undo(self, steps: int) -> JsonObject:
        """Goes back, cursor and all: `{generation, cursor, was}`. Raises `UsageError`."""
        return await self._step(self._memory.undo, steps, kind="memory.undone")

    async def redo(self, steps: int) -> JsonObject:
        """Goes forward along what was undone. Raises `UsageError`."""
        return await self._step(self._memory.redo, steps, kind="memory.redone")

    async def verify(self, number: int | None) -> JsonObject:
        """Checks a generation by itself and against its parent and the journal: `{number, problems}`."""
        found = await self._at(number)
        problems = sound(found)
        kept, parent = await asyncio.to_thread(self._memory.past), found.manifest.get("parent")
        if isinstance(parent, int) and parent in {one.number for one in kept} and not found.edited:
            problems += await self._compared(await asyncio.to_thread(self._memory.at, parent), found)
        return {"number": found.number, "entries": len(found.entries), "problems": [str(one) for one in problems]}

    async def proposals(self) -> Sequence[JsonObject]:
        """What waits for the owner, oldest first."""
        return [_proposal_view(one) for one in await asyncio.to_thread(self._memory.proposals)]

    async def accept(self, identifier: str) -> JsonObject:
        """Does what a proposal says; the loss cap and the owner's lines do not stand against the owner's own yes.

        Raises `NotFoundError`; `TransitionError` when memory has moved on so that it no longer fits.
        """
        proposal = await self._find(identifier)
        for _ in range(ACCEPT_TRIES):
            base = await asyncio.to_thread(self._memory.load)
            made = _accepted(proposal, base, today=self._clock.now().astimezone().date())
            try:
                done = await asyncio.to_thread(self._memory.commit, made, base=base)
            except StaleMemoryError:
                continue  # saved in that moment: what the proposal says is looked at again on what is there now
            await asyncio.to_thread(self._memory.settle, proposal.id, "accepted")
            await self._note("memory.accepted", {"proposal": proposal.id, "generation": done.number})
            return {**_proposal_view(proposal), "state": "accepted", "generation": done.number}
        raise TransitionError("memory is being written in this moment", fix="try again")

    async def reject(self, identifier: str) -> JsonObject:
        """A proposal is never made again. Raises `NotFoundError`."""
        proposal = await asyncio.to_thread(self._memory.settle, identifier, "rejected")
        await self._note("memory.rejected", {"proposal": proposal.id})
        return {**_proposal_view(proposal), "state": "rejected"}

    async def _at(self, number: int | None) -> Generation:
        if number is None:
            return await asyncio.to_thread(self._memory.load)
        return await asyncio.to_thread(self._memory.at, number)

    async def _find(self, identifier: str) -> Proposal:
        found = [one for one in await asyncio.to_thread(self._memory.proposals) if one.id.startswith(identifier)]
        if len(found) != 1 or not identifier:
            raise UsageError(f"{len(found)} proposals start with {identifier!r}", fix="kairos dream proposals")
        return found[0]

    async def _compared(self, old: Generation, new: Generation) -> list[Problem]:
        if new.manifest.get("phase") not in DREAMT:
            return []  # the owner or a run made it, on what no dream was shown
        told = await asyncio.to_thread(self._journal.after, old.cursor, limit=STRETCH_MOST)
        lines = [line for line in told if isinstance(seq := line.get("seq"), int) and seq <= new.cursor]
        evidence = (await asyncio.to_thread(gather, lines, (), scrub=Scrubber())).evidence
        marked = [new.manifest.get(name) for name in ("marked", "expired")]
        return await asyncio.to_thread(
            audit, await self._whole(old), await self._whole(new), accepted=_operations(new.manifest),
            evidence=evidence, marked=[str(name) for listed in marked if isinstance(listed, list) for name in listed],
        )  # fmt: skip

    async def _whole(self, found: Generation) -> Generation:
        """`found` with what the archive holds of its history, tombstones first: those never go there."""
        archived = await asyncio.to_thread(self._memory.archive, found)
        held = frozenset(found.history)
        told = (*(one for one in archived if one not in held), *(one for one in found.history if one.entry is not None))
        return replace(found, history=(*(one for one in found.history if one.entry is None), *told))

    async def _step(self, way: Callable[[int], Generation], steps: int, *, kind: str) -> JsonObject:
        was = (await asyncio.to_thread(self._memory.load)).number
        found = await asyncio.to_thread(way, steps)
        data: JsonObject = {"generation": found.number, "cursor": found.cursor, "was": was}
        await self._note(kind, data)
        return data

    async def _note(self, kind: str, data: JsonObject) -> None:
        await self._stores.state.note(Note(kind, data=data), self._clock.now())


def changes(old: Generation, new: Generation) -> list[JsonObject]:
    """What is different: added, superseded, retired and changed entries, each old line beside the new."""
    before = {entry.id: entry for entry in old.entries}
    after = {entry.id: entry for entry in new.entries}
    ended = {past.id: past for past in new.history}
    found: list[JsonObject] = []
    followed: set[str] = set()
    for name in [one for one in before if one not in after]:
        past = ended.get(name)
        successor = after.get(past.successor) if past else None
        followed.update([successor.id] if successor else [])
        found.append(_change(past.reason if past else "gone", before[name], new=successor))
    for name, entry in after.items():
        if name not in before and name not in followed:
            found.append(_change("add", None, new=entry))
        elif name in before and format_line(before[name]) != format_line(entry):
            found.append(_change("changed", before[name], new=entry))
    return found


def _change(what: str, old: Entry | None, *, new: Entry | None) -> JsonObject:
    named = old or new
    return {
        "change": what, "id": named.id if named else "", "key": named.key if named else "",
        "old": format_line(old) if old else None, "new": format_line(new) if new else None,
    }  # fmt: skip


def _accepted(proposal: Proposal, base: Generation, *, today: date) -> Generation:
    evidence = {str(one["source"]): _evidence(one) for one in proposal.evidence}
    made, done = base, list[Json]()
    for record in proposal.operations:
        workspace = str(record.get("workspace", ""))
        operation = read_operation({name: value for name, value in record.items() if name != "workspace"})
        problems = problems_of(operation, Frame(made, evidence, workspace, today))
        if problems:
            raise TransitionError(
                f"{proposal.id} no longer fits: {'; '.join(map(str, problems))}",
                fix=f"kairos dream reject {proposal.id}",
            )
        made = apply(made, operation, evidence=evidence, workspace=workspace, day=today)
        done.append(operation.record())
    return replace(made, manifest={"phase": "accepted", "proposal": proposal.id, "operations": done})


def _evidence(record: JsonObject) -> Evidence:
    return Evidence(
        str(record["source"]), datetime.fromisoformat(str(record["moment"])), date.fromisoformat(str(record["day"])),
        str(record["workspace"]), Tier.parse(str(record["tier"])), str(record["speaker"]), str(record["text"]),
    )  # fmt: skip


def _operations(manifest: Mapping[str, Json]) -> list[Operation]:
    found = manifest.get("operations")
    return [read_operation(one) for one in found] if isinstance(found, list) else []


def _before(found: Generation) -> list[int]:
    """The generations before that one, the nearest first; those between may be kept no more."""
    before = found.manifest.get("before")
    listed = [one[0] for one in before if isinstance(one, list)] if isinstance(before, list) else []
    return [one for one in (found.manifest.get("parent"), *listed) if isinstance(one, int)]


def _generation_view(one: Generation, current: int) -> JsonObject:
    manifest = one.manifest
    told = (
        "parent",
        "made",
        "phase",
        "operations",
        "rejected",
        "held",
        "dropped",
        "evidence",
        "tokens",
        "price",
        "calls",
    )
    return {
        "number": one.number, "cursor": one.cursor, "current": one.number == current,
        "edited": sorted(one.edited), **{name: manifest.get(name) for name in told},
    }  # fmt: skip


def _proposal_view(one: Proposal) -> JsonObject:
    return {
        "id": one.id, "reason": one.reason, "made": one.made.isoformat(), "operations": list(one.operations),
        "evidence": list(one.evidence),
    }  # fmt: skip
