"""The tools of runs, loaded when the first run looks at them: an idle daemon has no use for two dozen modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path

from kairosd import tools
from kairosd.ports import Tool


class Toolbox(Mapping[str, Tool]):
    """Every tool there is, by its name: each module of `kairosd.tools` that has `build`.

    `seam` may put something before a tool.
    """

    def __init__(self, seam: Callable[[Tool], Tool] = lambda tool: tool) -> None:
        self._seam = seam

    def __getitem__(self, name: str) -> Tool:
        return self._seam(self._tools[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    @cached_property
    def _tools(self) -> dict[str, Tool]:
        found: dict[str, Tool] = {}
        for name in sorted(file.stem for folder in tools.__path__ for file in Path(folder).glob("*.py")):
            module = importlib.import_module(f"{tools.__name__}.{name}")
            if hasattr(module, "build"):
                tool: Tool = module.build()
                found[tool.spec.name] = tool
        return found
