"""The dream and the owner's own looks into memory, wired: loaded when somebody dreams or asks."""

from __future__ import annotations

from collections.abc import Callable

from kairosd.app.ground import Ground, Outside
from kairosd.app.memory import Recollection
from kairosd.engine.asking import Asking
from kairosd.engine.claims import Claims
from kairosd.engine.dream import Dream, DreamDeps
from kairosd.engine.dream_asking import Consolidation
from kairosd.engine.dreaming import Dreamer
from kairosd.engine.keeping import Keeper
from kairosd.engine.memory_desk import MemoryDesk
from kairosd.engine.narration import Narration
from kairosd.engine.recall import SearchRecall
from kairosd.ports import Model
from kairosd.store.search import SearchIndex


def build_dream(
    ground: Ground, outside: Outside, *, recollection: Recollection, asking: Asking, model: Callable[[], Model]
) -> Dream:
    """Wires one consolidation pass; `model` is the one of role `dream`."""
    deps = DreamDeps(
        stores=ground.stores, clock=ground.clock, memory=recollection.store, journal=recollection.journal,
        consolidation=Consolidation(asking, model), claims=Claims(outside.files, outside.places),
        scrub=recollection.scrub, tell=outside.outbox.tell, tokens=ground.config.dream.tokens,
        recall=SearchRecall(lambda: SearchIndex(None)),
    )  # fmt: skip
    return Dream(deps)


def build_narration(ground: Ground, *, asking: Asking, model: Callable[[], Model]) -> Narration:
    """Wires who tells the day as prose, where dreams are on and nothing is paused."""
    return Narration(asking, model, allowed=lambda: ground.config.dream.enabled and not ground.condition.paused)


def build_desk(ground: Ground, *, recollection: Recollection, dreamer: Dreamer) -> MemoryDesk:
    """Wires what `kairos dream` asks."""
    store, journal = recollection.store, recollection.journal
    return MemoryDesk(ground.stores, ground.clock, memory=store, journal=journal, dreamer=dreamer)


def build_keeper(ground: Ground, *, recollection: Recollection) -> Keeper:
    """Wires what `kairos memory` asks."""
    keeper = Keeper(
        recollection.store, ground.stores, journal=recollection.journal, indexer=recollection.indexer,
        clock=ground.clock,
    )  # fmt: skip
    keeper.workspaces = ground.config.workspaces
    return keeper
