"""The models of one configuration, each built when it is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from kairosd.config import ModelSection
from kairosd.errors import NotFoundError
from kairosd.models.deps import ModelDeps
from kairosd.ports import Model


class ModelBook:
    """`sections` are the `[models.NAME]`; `deps` makes what a provider needs for one of them."""

    def __init__(self, sections: Mapping[str, ModelSection], deps: Callable[[ModelSection], ModelDeps]) -> None:
        self._sections = sections
        self._deps = deps
        self._built: dict[str, Model] = {}

    def get(self, name: str) -> Model:
        """The model `[models.NAME]`. Its provider's module is imported now, not at start. Raises `NotFoundError`."""
        if name not in self._built:
            section = self._sections.get(name)
            if section is None:
                raise NotFoundError(f"there is no [models.{name}]", fix=f"there are: {', '.join(self._sections)}")
            provider = importlib.import_module(f"kairosd.models.{section.provider}")
            self._built[name] = provider.build(name, section, deps=self._deps(section))
        return self._built[name]

    async def close(self) -> None:
        """Closes those that were built."""
        for model in self._built.values():
            await model.close()
        self._built.clear()
