"""Parts that are made when they are first used, and their modules loaded then: an idle daemon does without them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

T = TypeVar("T")


def late(make: Callable[[], T]) -> T:
    """What `make` yields, made when something of it is first asked for. One event loop may use it, not two threads.

    `make` loads the module by its name: what is imported at the top of a file is there from the start.
    """
    return cast("T", _Late(make))


class _Late:
    __slots__ = ("_make", "_part")
    _make: Callable[[], object]
    _part: object

    def __init__(self, make: Callable[[], object]) -> None:
        object.__setattr__(self, "_make", make)
        object.__setattr__(self, "_part", None)

    def __getattr__(self, name: str) -> object:
        return getattr(self._made(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._made(), name, value)

    def _made(self) -> object:
        if self._part is None:
            object.__setattr__(self, "_part", self._make())
        return self._part
