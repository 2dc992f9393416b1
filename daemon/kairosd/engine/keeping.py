"""Memory in the owner's hands: look, search, ask why, pin, forget, carry in and out. All answers are JSON-ready."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from itertools import islice
from pathlib import Path

from kairosd.core.dream import Op, Operation
from kairosd.core.dream_checks import Frame, problems_of
from kairosd.core.dream_dates import resolved
from kairosd.core.dream_support import SUPPORT, foreign, support
from kairosd.core.duplicates import same
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence
from kairosd.core.findable import NOWHERE, of_transcript
from kairosd.core.forgetting import Echo
from kairosd.core.ids import mint
from kairosd.core.journal import Note
from kairosd.core.json import JsonObject, digest
from kairosd.core.memory import (
    EVERYWHERE,
    ID_LEAST,
    TEXT_MAX,
    Entry,
    Generation,
    Past,
    content_words,
    format_line,
    plain,
)
from kairosd.core.runs import ENDED, RunState
from kairosd.core.search import Found, Layer, Passage, Question, snippet
from kairosd.core.spans import span_of
from kairosd.core.workspaces import Workspace
from kairosd.engine.indexing import Indexer
from kairosd.engine.why import chain
from kairosd.errors import AmbiguousIdError, KairosError, NotFoundError, StaleMemoryError, TransitionError, UsageError
from kairosd.ports import Clock, JournalLines, MemoryStore, Proposal, Stores

PIN_TRIES = 5  # each after somebody else wrote in that very moment
LEAST_WORDS, LINES_MOST = 2, 500  # of a line that is carried in, and of one file
_HEADING, _FENCE, _BULLET = (
    re.compile(r"\s*#{1,6}\s"),
    re.compile(r"\s*(?:```|~~~)"),
    re.compile(r"(?:[-*+]|\d{1,4}\.)\s+"),
)


class Keeper:
    """Implements the routes below `/memory`."""

    def __init__(
        self, memory: MemoryStore, stores: Stores, *, journal: JournalLines, indexer: Indexer, clock: Clock
    ) -> None:
        self._memory = memory
        self._stores = stores
        self._journal = journal
        self._indexer = indexer
        self._clock = clock
        self.workspaces: Sequence[Workspace] = ()

    async def entries(self, workspace: str | None) -> Sequence[JsonObject]:
        """Every active entry, or those that a workspace sees; newest first. Raises `UsageError`."""
        self._check_name(workspace)
        found = await asyncio.to_thread(self._memory.load)
        listed = found.entries if workspace is None else found.visible(workspace)
        return [_entry_view(one) for one in sorted(listed, key=lambda one: (one.seen, one.id), reverse=True)]

    async def search(self, text: str, *, workspace: str | None, filters: JsonObject) -> JsonObject:
        """`{found: [...], behind}`; `filters` are `layer`, `kind`, `when`, `trust` and `limit`. Raises `UsageError`."""
        question = self._question(text, workspace, filters=filters)
        answers = await self._indexer.search(question)
        return {"found": [_found_view(one, question) for one in answers.found], "behind": answers.behind}

    async def why(self, identifier: str) -> JsonObject:
        """The entry, and each thing behind it: journal lines, or the chain of an id. Raises `NotFoundError`."""
        entry = await self._ever(identifier)
        numbers = [int(source[1:]) for source in entry.sources if source[0] == "j" and source[1:].isdigit()]
        lines = await asyncio.to_thread(self._journal.lines, numbers)
        chains: list[JsonObject] = []
        for source in entry.sources:
            if "_" in source:
                try:
                    chains.append({"source": source, "chain": list(await chain(self._stores, source))})
                except KairosError:
                    chains.append({"source": source, "chain": []})
        return {**_entry_view(entry), "lines": [dict(line) for line in lines], "chains": chains}

    async def blame(self, workspace: str | None) -> Sequence[JsonObject]:
        """Each entry with the generation that first held it as it is, and what made that one. Raises `UsageError`."""
        self._check_name(workspace)
        current = await asyncio.to_thread(self._memory.load)
        wanted = {format_line(one): one for one in current.entries if workspace is None or one.visible_in(workspace)}
        born: dict[str, Generation] = {}
        for past in await asyncio.to_thread(self._memory.past):  # newest first: the oldest that holds a line stays
            held = await asyncio.to_thread(self._memory.at, past.number)
            born.update({line: past for entry in held.entries if (line := format_line(entry)) in wanted})
        return [_blame_view(entry, born.get(line)) for line, entry in wanted.items()]

    async def history(self, identifier: str | None) -> Sequence[JsonObject]:
        """What is active no more, newest first; of one entry, all that it took the place of or that took its."""
        found = await self._all()
        past = found.history if identifier is None else _line_of(found, identifier)
        return [one.record() for one in sorted(past, key=lambda one: one.ended, reverse=True)]

    async def forget(self, identifier: str) -> JsonObject:
        """Leaves a tombstone without the text everywhere, and takes what says it still out of the index.

        That is what `core/forgetting.py` knows, and the journal lines that it was learned from, whatever their words:
        no dream learns it from them again. A run that has not ended and is behind it or says it is hidden as a whole,
        for what it says next is not known yet. What is past and said the same is forgotten with it. What another
        workspace was told stays there. The journal and transcripts are records and stay as they are.

        Raises `NotFoundError`; `UsageError` for the start of an id that is short or not the only one.
        """
        known = await self._known(identifier)
        name, now = known[-1].id, self._clock.now()
        said = {one.text for one in known} | {goal for one in known if (goal := await self._goal(one))}
        says = _sayer(said, elsewhere=self._elsewhere(known))
        sources = {source for one in known for source in one.sources}
        hidden = {source for source in sources if source[1:].isdigit()}
        hidden |= await self._under_way(says, sources=sources)  # first: what ends meanwhile is in the journal then
        await self._stores.state.drain()
        names = tuple(dict.fromkeys(one.id for one in known))  # its own last: what is cut short is begun again by it
        async with self._indexer.echoes(says) as found:
            echoes = sorted(hidden.union(found))
            for each in names:
                count = await asyncio.to_thread(self._memory.forget, each, now, sources=echoes if each == name else ())
        await self._indexer.drop([*(f"m:{each}" for each in names), *echoes])
        data: JsonObject = {"entry": name, "generations": count, "unlisted": len(echoes)}
        await self._note("memory.forgotten", data)
        return data

    async def pin(self, identifier: str, *, pinned: bool) -> JsonObject:
        """Makes an entry the owner's to change, or not any more. Raises `NotFoundError`, `TransitionError`."""
        for _ in range(PIN_TRIES):
            entry, base = await self._find(identifier)
            fresh = replace(entry, pinned=pinned)
            if fresh == entry:
                return _entry_view(entry)
            entries = tuple(fresh if one.id == entry.id else one for one in base.entries)
            made = replace(base, entries=entries, manifest={"phase": "pin", "entry": entry.id})
            try:
                await asyncio.to_thread(self._memory.commit, made, base=base)
            except StaleMemoryError:
                continue  # somebody else wrote: on top of that, once more
            await self._note("memory.pinned", {"entry": entry.id, "pinned": pinned})
            return _entry_view(fresh)
        raise TransitionError("memory is being written in this moment", fix="try again")

    async def export(self) -> JsonObject:
        """All of it, as lines that an editor and `carry_in` understand, and as records."""
        found = await self._all()
        return {
            "generation": found.number, "lines": [format_line(one) for one in found.entries],
            "entries": [_entry_view(one) for one in found.entries], "history": [one.record() for one in found.history],
        }  # fmt: skip

    async def carry_in(self, path: str, text: str, *, workspace: str | None) -> JsonObject:
        """Makes a proposal of each line of somebody's notes, trusted as the place where they lie.

        Answers `{proposals, refused}`. Raises `UsageError`.
        """
        scope, tier = self._place_of(Path(path), workspace)
        now, source = self._clock.now(), mint("e", self._clock.now())
        day, name = now.astimezone().date(), Path(path).name
        base = await asyncio.to_thread(self._memory.load)
        proposals: list[str] = []
        refused: list[JsonObject] = []
        for words in islice(_statements(text, day), LINES_MOST):
            found = Evidence(source, now, day, scope, tier, name, words)
            operation = Operation(Op.ADD, (), (source,), text=words, reason=f"from {name}")
            if problems := problems_of(operation, Frame(base, {source: found}, scope, day)):
                refused.append({"text": words[:200], "problems": [one.text for one in problems]})
                continue
            record: JsonObject = {**operation.record(), "workspace": scope}
            proposed = f"p{digest({**record, 'sources': []})[:10]}"
            proposal = Proposal(proposed, f"carried in from {path}", now, base.number, (record,), (found.record(),))
            await asyncio.to_thread(self._memory.propose, proposal)
            proposals.append(proposed)
        told: JsonObject = {"path": path, "tier": tier.label, "proposals": len(proposals)}
        await self._note("memory.carried_in", told, named=source, workspace=scope)
        return {**told, "workspace": scope, "proposals": proposals, "refused": refused}

    def _place_of(self, path: Path, workspace: str | None) -> tuple[str, Tier]:
        """Whose memory a file of notes is for, and how far it is trusted: as the workspace that it lies in."""
        around = [one for one in self.workspaces if path.is_relative_to(one.path)]
        inside = max(around, key=lambda one: len(one.path.parts), default=None)  # of nested ones the innermost
        scope = workspace or (inside.name if inside else None)
        if scope is None:
            raise UsageError(f"{path} lies in no workspace", fix="say which one it is about: -w NAME")
        self._check_name(scope)
        if inside is None:
            return scope, Tier.PUBLIC  # nobody knows who wrote it; the owner's own words come with `kairos tell`
        return scope, Tier.LOCAL if inside.trusted else Tier.COLLABORATOR

    def _check_name(self, workspace: str | None) -> None:
        if workspace is not None and workspace not in {one.name for one in self.workspaces}:
            raise UsageError(f"there is no workspace {workspace}", fix="kairos workspace")

    def _question(self, text: str, workspace: str | None, *, filters: JsonObject) -> Question:
        self._check_name(workspace)
        names = [workspace] if workspace else [one.name for one in self.workspaces]
        layer, kind, when = (str(filters.get(name) or "") for name in ("layer", "kind", "when"))
        trust, limit = str(filters.get("trust") or "public"), filters.get("limit")
        try:
            return Question(
                text, scopes=(EVERYWHERE, NOWHERE, *names), layers=(Layer(layer),) if layer else tuple(Layer),
                kinds=(kind,) if kind else (), span=span_of(when, self._today()) if when else None,
                tier=Tier.parse(trust), limit=limit if isinstance(limit, int) else 10,
            )  # fmt: skip
        except (ValueError, KeyError) as error:
            raise UsageError(
                f"that cannot be searched for: {error}",
                fix="--layer memory|journal|transcript, --trust owner|local|collaborator|public, --when 'last week'",
            ) from error

    async def _find(self, identifier: str) -> tuple[Entry, Generation]:
        found = await asyncio.to_thread(self._memory.load)
        return _one_of(found.entries, identifier), found

    async def _all(self, *, undone: bool = False) -> Generation:
        """Memory as it is now, with all of its history; `undone` = also what is archived of generations undone."""
        found = await asyncio.to_thread(self._memory.load)
        archive = await asyncio.to_thread(self._memory.archive, None if undone else found)
        ids = found.ids
        older = tuple(one for one in archive if one.id not in ids)  # an undo may have made it active again
        return replace(found, history=(*older, *found.history))

    async def _ever(self, identifier: str) -> Entry:
        """The entry, also one that is active no more."""
        found = await self._all(undone=True)
        past = [one.entry for one in found.history if one.entry is not None]
        return _one_of((*past, *found.entries), identifier)

    async def _known(self, identifier: str) -> list[Entry]:
        """What is meant, active or past, as it ever was; before that what is past and said the same."""
        found = await self._all(undone=True)
        past = [one.entry for one in found.history if one.entry is not None]
        entry = _one_of((*past, *found.entries), identifier)
        if len(named := identifier.strip().removeprefix("m:")) < ID_LEAST and named != entry.id:
            raise UsageError(f"{named!r} is too short to forget by", fix=f"kairos memory forget m:{entry.id}")
        for kept in await asyncio.to_thread(self._memory.past):  # an undone one may hold it under another id
            past += (await asyncio.to_thread(self._memory.at, kept.number)).entries
        own = [one for one in (*past, *found.entries) if one.id == entry.id]
        texts = {one.text for one in own}
        active = {one.id for one in found.entries} | {entry.id}
        others = dict.fromkeys(one for one in past if one.id not in active)
        like = [one for one in others if any(same(one.text, text) for text in texts)]
        return [*like, *own]

    async def _under_way(self, says: Callable[[Passage], bool], *, sources: Collection[str]) -> set[str]:
        """The runs that have not ended and are among `sources`, called what is there, or say it."""
        found: set[str] = set()
        for run in await self._stores.runs.in_state(*(set(RunState) - ENDED)):
            behind = {run.id, *(call.id for call in await self._stores.runs.calls(run.id))}
            told = [{"kind": "said", "text": run.goal}, *await self._stores.transcripts.read(run.id)]
            turns = of_transcript(run.id, told, workspace=run.workspace, taint=run.taint, at=run.created)
            if not behind.isdisjoint(sources) or await asyncio.to_thread(any, map(says, turns)):
                found.add(run.id)
        return found

    def _elsewhere(self, known: Sequence[Entry]) -> frozenset[str]:
        """The workspaces that are not told what is `known`; it is not said there of the same thing."""
        scopes = {one.scope for one in known}
        return frozenset() if EVERYWHERE in scopes else frozenset(one.name for one in self.workspaces) - scopes

    async def _goal(self, entry: Entry) -> str:
        """The words in which a run was told all of it, where it was learned so."""
        for source in entry.sources:
            with contextlib.suppress(NotFoundError):
                goal = plain((await self._stores.runs.get(source)).goal) if source.startswith("r_") else ""
                if support(entry.text, [goal]) >= SUPPORT and not foreign(entry.text, [goal]):
                    return goal[:TEXT_MAX]
        return ""

    async def _note(self, kind: str, data: JsonObject, *, named: str = "", workspace: str = "") -> None:
        await self._stores.state.note(Note(kind, named, workspace=workspace, data=data), self._clock.now())

    def _today(self) -> date:
        return self._clock.now().astimezone().date()


def _sayer(texts: Iterable[str], *, elsewhere: Collection[str]) -> Callable[[Passage], bool]:
    """What says whether a passage says one of `texts`, but for those of the workspaces `elsewhere`."""
    echoes = [Echo(text) for text in texts]

    def says(passage: Passage) -> bool:
        day = passage.at.astimezone().date()
        return passage.scope not in elsewhere and any(one.is_in(passage.text, day) for one in echoes)

    return says


def _one_of(entries: Sequence[Entry], identifier: str) -> Entry:
    named = identifier.strip().removeprefix("m:")
    found = {entry.id: entry for entry in entries if named and entry.id.startswith(named)}
    if named in found:
        return found[named]
    if not found:
        raise NotFoundError(f"0 entries have an id that begins with {named!r}", fix="kairos memory show lists them")
    if len(found) > 1:
        fix = f"there are: {', '.join(f'm:{one}' for one in sorted(found))}"
        raise AmbiguousIdError(f"{len(found)} entries have an id that begins with {named!r}", fix=fix)
    return next(iter(found.values()))


def _line_of(found: Generation, identifier: str) -> list[Past]:
    """The past of one entry, along what took its place."""
    named = identifier.strip().removeprefix("m:")
    wanted = {one.id for one in found.entries if one.id.startswith(named)}
    wanted |= {one.id for one in found.history if one.id.startswith(named)}
    if not named or not wanted:
        raise NotFoundError(f"there is no entry {identifier}", fix="kairos memory history lists those that were")
    size = 0
    while size != len(wanted):
        size = len(wanted)
        for one in found.history:
            if one.successor in wanted or one.id in wanted:
                wanted.update(filter(None, (one.id, one.successor)))
    return [one for one in found.history if one.id in wanted]


def _statements(text: str, today: date) -> Iterator[str]:
    """The lines of notes that state something: no headings, code or fragments; a list's mark is left out."""
    fenced = False
    for line in text.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and not _HEADING.match(line):
            said = line.partition("<!--")[0].strip()
            mark = _BULLET.match(said)
            words = plain(resolved(said[mark.end() :] if mark else said, today))
            if len(words) <= TEXT_MAX and len(content_words(words)) >= LEAST_WORDS:
                yield words


def _entry_view(entry: Entry) -> JsonObject:
    return {
        "id": entry.id, "key": entry.key, "text": entry.text, "kind": entry.kind.value, "scope": entry.scope,
        "since": entry.since.isoformat(), "seen": entry.seen.isoformat(), "sources": list(entry.sources),
        "trust": entry.trust.label, "check": entry.check, "pinned": entry.pinned,
        "stale": _day(entry.stale),
    }  # fmt: skip


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _blame_view(entry: Entry, made: Generation | None) -> JsonObject:
    if made is None:
        return {**_entry_view(entry), "generation": None, "by": "your hand", "made": None}
    manifest = made.manifest
    return {
        **_entry_view(entry), "generation": made.number, "by": manifest.get("phase") or "a dream",
        "made": manifest.get("made"),
    }  # fmt: skip


def _found_view(found: Found, question: Question) -> JsonObject:
    passage = found.passage
    return {
        "source": passage.source, "layer": passage.layer.value, "kind": passage.kind, "scope": passage.scope,
        "trust": passage.tier.label, "at": passage.at.isoformat(), "snippet": snippet(passage.text, question),
        "stale": _day(passage.stale), "aside": _day(passage.aside),
    }  # fmt: skip
