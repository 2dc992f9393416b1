"""Starts the real daemon with one tool more: `noop`, which reads nothing and changes nothing (`bench/loop.py`)."""

from __future__ import annotations

import sys

from kairosd.app import toolbox
from kairosd.core.json import JsonObject
from kairosd.core.messages import ToolSpec
from kairosd.main import main
from kairosd.ports import Tool, ToolAnswer, ToolContext
from kairosd.tools.arguments import integer, schema
from kairosd.tools.base import ReadOnly


class Noop(ReadOnly):
    """Answers at once; everything around it is the product's own."""

    spec = ToolSpec("noop", "Does nothing.", schema(number=integer("which one", least=0, most=10**6)))

    def paths(self, arguments: JsonObject) -> tuple[str, ...]:
        return ()

    async def run(self, arguments: JsonObject, context: ToolContext) -> ToolAnswer:
        return ToolAnswer("nothing was done")


class _WithNoop(toolbox.Toolbox):
    @property
    def _tools(self) -> dict[str, Tool]:  # type: ignore[override]
        found: dict[str, Tool] = toolbox.Toolbox._tools.__get__(self)
        found.setdefault("noop", Noop())
        return found


if __name__ == "__main__":
    import kairosd.app.engine as engine

    engine.Toolbox = _WithNoop  # type: ignore[misc]
    sys.exit(main(sys.argv[1:]))
