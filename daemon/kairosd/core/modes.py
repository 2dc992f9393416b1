"""Modes: whether what a trigger leads to is done, or only written down."""

from __future__ import annotations

from collections.abc import Mapping

from kairosd.core.events import Event
from kairosd.frozen import frozen

ON, SHADOW, OFF = "on", "shadow", "off"


@frozen
class Modes:
    """`mode` holds for every trigger that has none of its own in `triggers`; `off` holds for all."""

    mode: str
    triggers: Mapping[str, str]

    @property
    def off(self) -> bool:
        return self.mode == OFF

    def of(self, trigger: str) -> str:
        """The mode of a trigger, by its name as events have it in `source`."""
        return self.mode if self.off else self.triggers.get(trigger) or self.mode

    def in_shadow(self, event: Event) -> bool:
        """Whether what `event` leads to is only written down.

        A wake was asked for by a decision that was followed, so it is followed too, unless none is any more.
        """
        if (event.source, event.kind) == ("tick", "wake"):
            return all(self.of(trigger) == SHADOW for trigger in self.triggers)
        return self.of(event.source) == SHADOW
