"""Authorship: in whose name Kairos commits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kairosd.engine.repository import Repository
from kairosd.errors import KairosError


class Authorship:
    """The author of Kairos's commits: `[git]`, else the owner's own git identity, read once.

    Not read before the start is through: nothing needs it until the first run commits.
    """

    def __init__(self, name: str, email: str, *, repositories: Sequence[Repository]) -> None:
        self._name = name
        self._email = email
        self._repositories = repositories
        self._reading = asyncio.Lock()
        self._found: tuple[str, str] | None = None

    async def __call__(self) -> tuple[str, str]:
        """(name, email)."""
        async with self._reading:
            if self._found is None:
                self._found = await self._find()
        return self._found

    async def read(self) -> None:
        """Reads it now, so that the first run need not."""
        await self()

    async def _find(self) -> tuple[str, str]:
        for repository in () if self._name and self._email else self._repositories:
            try:
                name, email = await repository.identity()
            except KairosError:
                continue  # no sandbox, or the folder is away: the next one may do
            return self._name or name, self._email or email
        return self._name or "Kairos", self._email or "kairos@localhost"
