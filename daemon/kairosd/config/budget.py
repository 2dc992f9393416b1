"""`[budget]` as the core reads it: each purse's caps, in micro-dollars and tokens."""

from __future__ import annotations

from kairosd.config.reader import Reader
from kairosd.config.sections import PurseSection
from kairosd.core.budget import DEFAULT_CAPS, DOLLAR, Caps, Purse, caps
from kairosd.core.json import JsonObject


def read_budget(reader: Reader) -> dict[Purse, Caps]:
    """The caps of every purse; where a key is left out its default stands."""
    reader.unknown(("budget",), [purse.value for purse in Purse], what="purse")
    found: dict[Purse, Caps] = {}
    for purse, default in DEFAULT_CAPS.items():
        section = reader.section(PurseSection, ("budget", purse.value)) or PurseSection()
        hour, day = default
        found[purse] = caps(
            (_or(section.dollars_per_hour, hour.price), _or(section.tokens_per_hour, hour.tokens)),
            (_or(section.dollars_per_day, day.price), _or(section.tokens_per_day, day.tokens)),
        )
    return found


def describe_caps(caps: Caps) -> JsonObject:
    """Caps in the file's own words."""
    hour, day = caps
    return {
        "dollars_per_hour": _dollars(hour.price),
        "dollars_per_day": _dollars(day.price),
        "tokens_per_hour": hour.tokens,
        "tokens_per_day": day.tokens,
    }


def _or(given: int | None, default: int) -> int:
    return default if given is None else given


def _dollars(micro: int) -> int | str:
    whole, rest = divmod(micro, DOLLAR)
    return f"{whole}.{rest:06d}".rstrip("0") if rest else whole
