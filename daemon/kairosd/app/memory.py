"""Memory and the dream, wired."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from kairosd.app.ground import Ground, Memory, Outside
from kairosd.app.late import late
from kairosd.core.secrets import Scrubber
from kairosd.engine.absence import Absence
from kairosd.engine.asking import Asking
from kairosd.engine.dreaming import Dreamer, Gates, Habits, Morning
from kairosd.engine.hints import Hints
from kairosd.frozen import frozen
from kairosd.ports import JournalLines, MemoryStore, Model
from kairosd.store.memory import MemoryFolder
from kairosd.store.memory_journal import JournalReader

if TYPE_CHECKING:
    from kairosd.engine.dream import Dream
    from kairosd.engine.indexing import Indexer
    from kairosd.engine.keeping import Keeper
    from kairosd.engine.memory_desk import MemoryDesk
    from kairosd.engine.narration import Narration
    from kairosd.engine.remembering import Remembering


@frozen
class Recollection:
    """Memory on disk, and the ways to read it."""

    store: MemoryStore
    journal: JournalLines
    indexer: Indexer
    remembering: Hints
    scrub: Scrubber
    close: Callable[[], None]


def build_recollection(ground: Ground, *, scrub: Scrubber) -> Recollection:
    """Wires what runs need of memory. `scrub` takes the daemon's own secrets out of what is kept."""
    stores, clock = ground.stores, ground.clock
    store: MemoryStore = MemoryFolder(ground.place.memory, clock)
    journal = JournalReader(ground.place.journal)
    opened: list[Indexer] = []

    def indexer() -> Indexer:
        index = importlib.import_module("kairosd.store.search").SearchIndex(ground.place.search_index)
        module = importlib.import_module("kairosd.engine.indexing")
        opened.append(module.Indexer(index, stores, journal=journal, memory=store, clock=clock))
        return opened[0]

    @cache
    def remembering() -> Remembering:
        module = importlib.import_module("kairosd.engine.remembering")
        made: Remembering = module.Remembering(store, stores, indexer=searched, clock=clock, scrub=scrub)
        return made

    def close() -> None:
        for one in opened:
            one.close()

    searched = late(indexer)
    return Recollection(store, journal, searched, Hints(store, remembering), scrub, close)


def build_memory(
    ground: Ground,
    outside: Outside,
    *,
    absence: Absence,
    recollection: Recollection,
    thinking: tuple[Asking, Callable[[], Model]],
) -> Memory:
    """Wires when to dream; the dream itself, and what the owner may do with memory, is loaded when it is asked for.

    `thinking` is how a dream asks its model, and which one that is.
    """
    stores, clock, section = ground.stores, ground.clock, ground.config.dream
    asking, model = thinking

    def dream() -> Dream:
        made: Dream = importlib.import_module("kairosd.app.dreams").build_dream(
            ground, outside, recollection=recollection, asking=asking, model=model
        )
        return made

    def desk() -> MemoryDesk:
        made: MemoryDesk = importlib.import_module("kairosd.app.dreams").build_desk(
            ground, recollection=recollection, dreamer=dreamer
        )
        return made

    def keeper() -> Keeper:
        made: Keeper = importlib.import_module("kairosd.app.dreams").build_keeper(ground, recollection=recollection)
        return made

    def narration() -> Narration:
        made: Narration = importlib.import_module("kairosd.app.dreams").build_narration(
            ground, asking=asking, model=model
        )
        return made

    habits = Habits(section.idle_seconds, section.every_seconds, section.entries, enabled=section.enabled)
    gates = Gates(
        stores=stores, clock=clock, absence=absence, habits=habits, purses=asking.purses,
        paused=lambda: ground.condition.paused,
    )  # fmt: skip
    morning = Morning(
        stores, clock, journal=recollection.journal, tell=outside.outbox.tell, narration=late(narration)
    )  # fmt: skip
    dreamer = Dreamer(late(dream), gates, morning=morning)
    return Memory(recollection.store, absence, dreamer, late(desk), late(keeper), recollection.close)
