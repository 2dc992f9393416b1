"""What memory lets go of by itself, so that it stays small however long it lives (invariant I21).

What expires goes to history as it is, where search still finds it. Nothing that is pinned, written by the owner's hand
or about the owner ever does, and what the owner told goes last. Of a memory that is small nothing goes at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta

from kairosd.core.events import Tier
from kairosd.core.memory import INSTRUCTING, Entry, Generation, Past, has_given_key, word_set

EXPIRED = "expired"  # the reason in history
UNCONFIRMED = timedelta(days=90)  # for so long nobody said it again: then what the owner did not tell goes
LEARNED_MOST = 300  # entries of one scope that the owner did not tell
ACTIVE_MOST = 1000  # entries of one scope, those apart that never go
AT_ONCE_PERCENT = 10  # of memory, in one dream; less than the owner is asked about (invariant I14)


def may_expire(entry: Entry) -> bool:
    """Whether an entry is not the owner's to keep."""
    return not (entry.pinned or entry.by_owner or entry.kind in INSTRUCTING)


def expiring(entries: Sequence[Entry], today: date) -> tuple[Entry, ...]:
    """What is to go now, the least useful first: what was not confirmed for long, and what is over a scope's bounds."""
    found: dict[str, Entry] = {}
    scopes: dict[str, list[Entry]] = {}
    for entry in sorted(filter(may_expire, entries), key=_use):
        scopes.setdefault(entry.scope, []).append(entry)
    for listed in scopes.values():
        learned = [one for one in listed if one.trust < Tier.OWNER]
        over = [*learned[: max(0, len(learned) - LEARNED_MOST)], *listed[: max(0, len(listed) - ACTIVE_MOST)]]
        old = [one for one in learned if today - one.seen > UNCONFIRMED and not _holds(one)]
        found.update((one.id, one) for one in (*over, *old))
    return tuple(sorted(found.values(), key=_use))[: len(entries) * AT_ONCE_PERCENT // 100]


def expire(generation: Generation, gone: Iterable[Entry], *, today: date) -> Generation:
    """`generation` with the entries `gone` in its history."""
    past = tuple(Past(one.id, one, max(today, one.since), EXPIRED) for one in gone)
    names = {one.id for one in past}
    left = tuple(one for one in generation.entries if one.id not in names)
    return replace(generation, entries=left, history=(*generation.history, *past))


def set_aside(generation: Generation, archive: Sequence[Past] = ()) -> list[Past]:
    """What has expired and is still the last word: nothing active says the same or has the key that it was given.

    `archive` is what came before the generation's own history, and of that generation alone: what was archived by one
    that is undone is none of it (invariant I13). What was forgotten since is in neither.
    """
    keys = {(one.scope, one.key) for one in generation.entries}
    said = {(one.scope, word_set(one.text)) for one in generation.entries}
    found: list[Past] = []
    ids = generation.ids
    for past in reversed((*(one for one in archive if one.id not in ids), *generation.history)):
        one = past.entry
        if one is None or past.reason != EXPIRED or ((one.scope, one.key) in keys and has_given_key(one)):
            continue
        if (one.scope, word_set(one.text)) not in said:
            found.append(past)
            keys.add((one.scope, one.key))
            said.add((one.scope, word_set(one.text)))
    return found


def _use(entry: Entry) -> tuple[object, ...]:
    """The order in which entries go: the least trusted, then those found wrong, then the longest unconfirmed."""
    return entry.trust, _holds(entry), entry.stale is None, entry.seen, entry.since, entry.id


def _holds(entry: Entry) -> bool:
    """Whether every dream looks it up, and found it right."""
    return bool(entry.check) and entry.stale is None
