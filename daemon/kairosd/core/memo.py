"""What is worked out of a conversation, once: from one prompt to the next only its end is new."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from kairosd.core.messages import Message

T = TypeVar("T")


class Grown(Protocol):
    """Something that grows with a conversation."""

    def take(self, message: Message) -> None:
        """Adds the next message."""


G = TypeVar("G", bound=Grown)


class Memo:
    """Belongs to one conversation. Whoever works something out of it keeps that here, under a key of its own."""

    def __init__(self) -> None:
        self._grown: dict[Hashable, tuple[tuple[Message, ...], object]] = {}
        self._made: dict[Hashable, tuple[object, object]] = {}

    def grown(self, key: Hashable, messages: tuple[Message, ...], *, begin: Callable[[], G]) -> G:
        """What has taken exactly `messages`: that of the last time with what is new, else one begun anew."""
        known, grown = self._grown.pop(key, ((), None))
        if grown is None or known != messages[: len(known)]:  # quick: most are the very same objects
            known, grown = (), begin()
        for message in messages[len(known) :]:
            cast("G", grown).take(message)
        self._grown[key] = (messages, grown)
        return cast("G", grown)

    def once(self, key: Hashable, basis: object, *, make: Callable[[], T]) -> T:
        """What `make` yields, made anew only when `basis` is not equal to that of the last time."""
        known = self._made.get(key)
        if known is None or known[0] != basis:
            self._made[key] = known = (basis, make())
        return cast("T", known[1])
