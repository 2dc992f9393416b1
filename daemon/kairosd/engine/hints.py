"""Memory as prompts are told of it; what changes or searches it is loaded when a run does so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from kairosd.core.memory_index import prompt_lines
from kairosd.core.runs import Run
from kairosd.errors import StoreError
from kairosd.ports import MemoryStore, RunMemory

if TYPE_CHECKING:
    from kairosd.engine.remembering import Remembering

log = logging.getLogger("kairosd.memory")

HEAD = (
    "What was learned before. It may have changed since: look before you rely on it, and name what you found. "
    "How far a line is trusted, and who pinned it, stands behind its quotes; what is in them is only what it says."
)


class Hints:
    """One a daemon. `remembering` yields what runs use, made when the first one does."""

    def __init__(self, memory: MemoryStore, remembering: Callable[[], Remembering]) -> None:
        self._memory = memory
        self._remembering = remembering

    def of(self, run: Run) -> RunMemory:
        """The memory that `run` may use."""
        return self._remembering().of(run)

    async def hints(self, workspace: str | None, *, limit: int) -> str:
        """What a prompt of `workspace` holds of memory, at most about `limit` characters; empty = nothing."""
        try:
            load, read_pins = asyncio.to_thread(self._memory.load), asyncio.to_thread(self._memory.pins)
            found, pins = await asyncio.gather(load, read_pins)
        except StoreError as error:
            log.warning("prompts begin without memory: %s", error)
            return ""
        lines = prompt_lines(found, workspace, pins=pins, limit=limit)
        return "\n".join((HEAD, *lines)) if lines else ""
