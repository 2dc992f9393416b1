"""The audit of a whole new generation against the one it came from: run before every commit, and by `dream verify`.

It knows nothing of how the new one was made but which operations were accepted, so it also finds what a fault in the
code that applies them would do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from kairosd.core.dream import WRITING, Op, Operation, retired
from kairosd.core.dream_checks import LOSS_CAP_PERCENT, Problem
from kairosd.core.dream_dates import relative
from kairosd.core.dream_support import left_out, orders, secret
from kairosd.core.duplicates import NEAR, is_apart, same
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence
from kairosd.core.expiry import EXPIRED, may_expire
from kairosd.core.memory import EVERYWHERE, HAND, INSTRUCTING, Entry, Generation, format_line, overlap, word_set
from kairosd.core.memory_index import files_of
from kairosd.core.memory_index import problems_of as index_problems


def audit(
    old: Generation,
    new: Generation,
    *,
    accepted: Sequence[Operation] = (),
    marked: Collection[str] = (),
    evidence: Collection[Evidence] = (),
) -> list[Problem]:
    """What is wrong with `new`; empty = it may be committed.

    `accepted` are the operations done, `marked` the ids whose claims were looked up or that were to expire, `evidence`
    what could be cited.
    What the owner wrote by hand is theirs and not judged.
    """
    made = [entry for entry in new.entries if entry.id not in old.ids]
    return [
        *_kept(old, new),
        *_untouched(old, new, accepted=accepted, marked=marked),
        *_accounted(made, accepted, evidence=evidence),
        *_losses(old, accepted),
        *_expired(old, new),
        *(problem for entry in made for problem in _entry(entry, new)),
        *(Problem("I7", text) for text in index_problems(files_of(new.entries, new.history), new.entries)),
    ]


def sound(generation: Generation) -> list[Problem]:
    """What is wrong with a generation by itself."""
    told = [entry for entry in generation.entries if HAND not in entry.sources]
    return [
        *(problem for entry in told for problem in _entry(entry, generation)),
        *(Problem("I7", one) for one in index_problems(files_of(generation.entries, generation.history), told)),
    ]


def _kept(old: Generation, new: Generation) -> Iterable[Problem]:
    if new.cursor < old.cursor:
        yield Problem("I12", f"the cursor goes back from {old.cursor} to {new.cursor}")
    active = [entry.id for entry in new.entries]
    if len(set(active)) != len(active):
        yield Problem("I2", "an id is active twice")
    if new.history[: len(old.history)] != old.history:
        yield Problem("I2", "history was changed and not only added to")
    ended = {past.id: past for past in new.history[len(old.history) :]}
    known = {*active, *(past.id for past in new.history)}
    for entry in old.entries:
        if entry.id in active:
            continue
        past = ended.get(entry.id)
        if past is None or past.entry != entry or not past.reason:
            yield Problem("I2", f"{entry.id} is neither active nor in history as it was")
        elif past.successor and past.successor not in known:
            yield Problem("I2", f"{entry.id} was followed by {past.successor}, which is not there")
    for name in set(ended) - {entry.id for entry in old.entries}:
        yield Problem("I2", f"history tells of {name}, which never was")


def _untouched(
    old: Generation, new: Generation, *, accepted: Sequence[Operation], marked: Collection[str]
) -> Iterable[Problem]:
    named = {name for operation in accepted for name in operation.targets}
    now = {entry.id: entry for entry in new.entries}
    for entry in old.entries:
        is_kept = entry.id in now and format_line(now[entry.id]) == format_line(entry)
        if not is_kept and entry.id not in named and entry.id not in marked:
            yield Problem("I2b", f"{entry.id} was changed although no operation names it")
        if not is_kept and entry.id not in marked and (entry.pinned or entry.by_owner):
            yield Problem("I14", f"{entry.id} is the owner's and was changed")
    for name in set(marked) & now.keys():
        before = old.get(name)
        if before and (before.text, before.sources, before.key) != (now[name].text, now[name].sources, now[name].key):
            yield Problem("I16", f"{name} was to be marked and was changed")


def _accounted(
    made: Sequence[Entry], accepted: Sequence[Operation], *, evidence: Collection[Evidence]
) -> Iterable[Problem]:
    written = {operation.text: operation for operation in accepted if operation.op in WRITING}
    tiers = {each.source: each.tier for each in evidence}
    for entry in made:
        operation = written.get(entry.text)
        if operation is None:
            yield Problem("I2b", f"{entry.id} is new although no operation wrote it")
            continue
        if not entry.sources or not set(operation.sources) <= set(entry.sources):
            yield Problem("I3", f"{entry.id} does not name its sources")
        cited = [tiers[name] for name in operation.sources if name in tiers]
        if cited and entry.trust > min(cited):
            yield Problem("I10", f"{entry.id} is trusted as {entry.trust.label}, more than its sources")
        if len(cited) < len(operation.sources):
            yield Problem("I11", f"{entry.id} rests on what is no evidence")


def _losses(old: Generation, accepted: Sequence[Operation]) -> Iterable[Problem]:
    gone = retired(accepted)
    if old.entries and gone * 100 > LOSS_CAP_PERCENT * len(old.entries):
        yield Problem("I14", f"{gone} of {len(old.entries)} entries would be gone")
    if any(operation.op is Op.RESTAMP and operation.text for operation in accepted):
        yield Problem("I2b", "a restamp changes no text")


def _expired(old: Generation, new: Generation) -> Iterable[Problem]:
    gone = [past.entry for past in new.history[len(old.history) :] if past.reason == EXPIRED and past.entry]
    if len(gone) * 100 > LOSS_CAP_PERCENT * len(old.entries):
        yield Problem("I14", f"{len(gone)} of {len(old.entries)} entries would expire at once")
    for entry in gone:
        if not may_expire(entry):
            yield Problem("I14", f"{entry.id} is the owner's and does not expire")


def _entry(entry: Entry, generation: Generation) -> Iterable[Problem]:
    yield from _says(entry)
    words = word_set(entry.text)
    for other in generation.entries:
        if other.id == entry.id:
            continue
        if other.key == entry.key and other.scope == entry.scope:
            yield Problem("I5", f"{entry.id} and {other.id} both have the key {entry.key}")
        # A dream sees no other workspace: what it lets hold everywhere may have been known in one of them before.
        around = other.scope == EVERYWHERE and other.since <= entry.since
        if not (entry.scope == other.scope or around) or overlap(words, word_set(other.text)) < NEAR:
            continue
        if same(entry.text, other.text) or (entry.scope == other.scope and not is_apart(entry.text, other.text)):
            yield Problem("I9", f"{entry.id} and {other.id} say the same")


def _says(entry: Entry) -> Iterable[Problem]:
    if words := relative(entry.text):
        yield Problem("I6", f"{entry.id} says {words!r}")
    if kind := secret(f"{entry.text}\n{entry.key}\n{entry.check}"):
        yield Problem("I15", f"{entry.id} holds {kind}")
    if words := left_out(entry.text):
        yield Problem("I18", f"{entry.id} says {words!r}")
    if entry.trust < Tier.OWNER:
        if entry.kind in INSTRUCTING or orders(entry.text):
            yield Problem("I10", f"{entry.id} instructs and is trusted as {entry.trust.label}")
        if entry.scope == EVERYWHERE:
            yield Problem("I22", f"{entry.id} holds everywhere and is trusted as {entry.trust.label}")
