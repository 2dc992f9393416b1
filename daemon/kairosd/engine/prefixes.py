"""The stable prefix of a run's prompts: named sections, equal byte for byte from turn to turn and from run to run.

Providers keep what they have worked out of a prompt's beginning; one byte that differs makes all after it be worked out
again. So nothing here may hold a time, an id or a count. What changes stands behind it, in the messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from kairosd.core.journal import Note
from kairosd.core.json import Json, digest, without_floats
from kairosd.core.messages import ToolSpec
from kairosd.core.runs import Run
from kairosd.frozen import frozen
from kairosd.ports import Clock, Stores

TOOLS = "tools"


@frozen
class Section:
    """One part of the system text; an empty one is left out."""

    name: str
    text: str


@frozen
class Prefix:
    """What stands before the messages, in the order of providers' caches: tools, then the sections."""

    tool_set: str
    tools: tuple[ToolSpec, ...]
    sections: tuple[Section, ...]

    @property
    def system(self) -> str:
        """The system text."""
        return "\n\n".join(section.text for section in self.sections if section.text)

    def marks(self) -> Mapping[str, str]:
        """A hash of each part by its name."""
        tools = digest(without_floats([asdict(tool) for tool in self.tools]))
        return {TOOLS: tools, **{section.name: digest(section.text) for section in self.sections}}


class PrefixWatch:
    """Compares each prefix with the last one of its kind, also over restarts, and journals which section differs."""

    def __init__(self, stores: Stores, clock: Clock) -> None:
        self._state = stores.state
        self._clock = clock
        self._seen: dict[str, tuple[Prefix, Json]] = {}

    async def look(self, prefix: Prefix, run: Run, *, role: str) -> None:
        """Looks at the prefix of the next prompt of `run`."""
        key = f"prefix:{role}:{prefix.tool_set}:{run.workspace}"
        if key in self._seen and self._seen[key][0] == prefix:
            return
        marks = dict(prefix.marks())
        known = self._seen[key][1] if key in self._seen else await self._state.get(key)
        before = known if isinstance(known, Mapping) else None
        if before != marks:
            names = [name for name in {**(before or {}), **marks} if (before or {}).get(name) != marks.get(name)]
            data: dict[str, Json] = {"sections": list(names), "role": role, "tool_set": prefix.tool_set}
            note = Note("prompt.prefix_broken", run.id, workspace=run.workspace, data=data)
            await self._state.put(key, marks, note=note if before else None, now=self._clock.now())
        self._seen[key] = (prefix, marks)
