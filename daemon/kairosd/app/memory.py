"""Memory and the dream, wired."""

from __future__ import annotations

from dataclasses import dataclass

from kairosd.app.ground import Ground, Memory, Outside
from kairosd.core.secrets import Scrubber
from kairosd.engine.absence import Absence
from kairosd.engine.claims import Claims
from kairosd.engine.dream import Dream, DreamDeps
from kairosd.engine.dream_asking import Consolidation
from kairosd.engine.dreaming import Dreamer, Gates, Habits, Morning
from kairosd.engine.indexing import Indexer
from kairosd.engine.keeping import Keeper
from kairosd.engine.memory_desk import MemoryDesk
from kairosd.engine.recall import SearchRecall
from kairosd.engine.remembering import Remembering
from kairosd.ports import JournalLines, MemoryStore
from kairosd.store.memory import MemoryFolder
from kairosd.store.memory_journal import JournalReader
from kairosd.store.search import SearchIndex


@dataclass(frozen=True, slots=True)
class Recollection:
    """Memory on disk, and the ways to read it."""

    store: MemoryStore
    journal: JournalLines
    indexer: Indexer
    remembering: Remembering


def build_recollection(ground: Ground, *, scrub: Scrubber) -> Recollection:
    """Wires what runs need of memory. `scrub` takes the daemon's own secrets out of what is kept."""
    stores, clock = ground.stores, ground.clock
    store: MemoryStore = MemoryFolder(ground.place.memory, clock)
    journal = JournalReader(ground.place.journal)
    index = SearchIndex(ground.place.search_index)
    indexer = Indexer(index, stores, journal=journal, memory=store, clock=clock)
    remembering = Remembering(store, stores, indexer=indexer, clock=clock, scrub=scrub)
    return Recollection(store, journal, indexer, remembering)


def build_memory(
    ground: Ground, outside: Outside, *, absence: Absence, consolidation: Consolidation, recollection: Recollection
) -> Memory:
    """Wires the dream, and what the owner may do with memory."""
    stores, clock, section = ground.stores, ground.clock, ground.config.dream
    store, journal = recollection.store, recollection.journal
    deps = DreamDeps(
        stores=stores, clock=clock, memory=store, journal=journal, consolidation=consolidation,
        claims=Claims(outside.files, outside.places), scrub=recollection.remembering.scrub, tell=outside.outbox.tell,
        tokens=section.tokens, recall=SearchRecall(lambda: SearchIndex(None)),
    )  # fmt: skip
    habits = Habits(section.idle_seconds, section.every_seconds, section.entries, enabled=section.enabled)
    gates = Gates(
        stores=stores, clock=clock, absence=absence, habits=habits, purses=consolidation.purses,
        paused=lambda: ground.condition.paused,
    )  # fmt: skip
    morning = Morning(stores, clock, journal=journal, tell=outside.outbox.tell)
    dreamer = Dreamer(Dream(deps), gates, morning=morning)
    desk = MemoryDesk(stores, clock, memory=store, journal=journal, dreamer=dreamer)
    keeper = Keeper(store, stores, journal=journal, indexer=recollection.indexer, clock=clock)
    keeper.workspaces = ground.config.workspaces
    return Memory(store, absence, dreamer, desk, keeper)
