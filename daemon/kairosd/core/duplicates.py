"""What is told again: at the door of memory, near-duplicates become one entry (invariant I9).

Two texts say the same where their words do, forms aside, their values and their yes or no, and nothing is turned
round. Of two wordings of one sentence that somebody said, the one that says all of the other stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kairosd.core.dream import Op, Operation
from kairosd.core.dream_support import denies, nearest, stem_list, stems, values
from kairosd.core.evidence import Evidence
from kairosd.core.memory import EVERYWHERE, Entry, Generation, overlap, word_set

NEAR = 0.9  # Jaccard's index from which two texts say the same (invariant I9)
_SIGN = re.compile(r"[^\w\s.,;:!?'’\"()\[\]`*/@_-]|(?<![\w-])-(?=\d)")
_TURNS = re.compile(r"\b(?:from|to|before|after|was|were|had|if|can)\b")
WORDING = 0.6  # from which two texts of one sentence are wordings of it


def same(one: str, other: str) -> bool:
    """Whether two texts say the same: their words, forms aside, their values, and nothing turned round."""
    if denies(one) != denies(other) or values(one) != values(other):
        return False
    return stems(one) == stems(other) and not _is_turned(one, other)


def _is_turned(one: str, other: str) -> bool:
    """Whether the same words may say something else: by their order, signs, or small words.

    "Spaces, not tabs" is "tabs, not spaces" turned round; "port 9090 at Hetzner" and "Hetzner, port 9090" are the same.
    """
    if _marks(one) != _marks(other):
        return True
    matters = denies(one) or len(values(one)) > 1 or bool(_TURNS.search(one.casefold()))
    return matters and stem_list(one) != stem_list(other)


def _marks(text: str) -> tuple[list[str], list[str]]:
    return sorted(_SIGN.findall(text.rstrip(".!? "))), sorted(_TURNS.findall(text.casefold()))


def fitted(operation: Operation, base: Generation, *, workspace: str, told: Mapping[str, Evidence]) -> Operation:
    """What an addition is to memory as it stands: a confirmation of the same, a successor, or itself.

    `told` is the evidence that it may cite. It succeeds what has its key, and what says less of the same sentence.
    """
    scope = EVERYWHERE if operation.everywhere else workspace
    visible = base.visible(workspace)
    for entry in visible:
        if same(entry.text, operation.text):
            return replace(operation, op=Op.RESTAMP, targets=(entry.id,), text="", check="")
    for entry in base.entries:
        if entry.key == operation.key and entry.scope == scope:
            return replace(operation, op=Op.SUPERSEDE, targets=(entry.id,))
    if near := next((one for one in visible if one.scope == scope and _is_near(one.text, operation.text)), None):
        return replace(operation, op=Op.SUPERSEDE, targets=(near.id,), key=near.key)
    return _worded(operation, [one for one in visible if one.scope == scope], told=told)


def _worded(operation: Operation, entries: Sequence[Entry], *, told: Mapping[str, Evidence]) -> Operation:
    """What it is to other wordings of a sentence that it cites."""
    for entry in entries:
        if _of_one_sentence(operation, entry, told=told):
            if _holds(entry.text, operation.text):
                return replace(operation, op=Op.RESTAMP, targets=(entry.id,), text="", check="")
            if _holds(operation.text, entry.text) and not needs_nothing(operation, entry, told=told):
                check = operation.check or entry.check
                return replace(operation, op=Op.SUPERSEDE, targets=(entry.id,), key=entry.key, check=check)
    return operation


def needs_nothing(operation: Operation, entry: Entry, *, told: Mapping[str, Evidence]) -> bool:
    """Whether `entry` is the owner's, or trusted more than what `operation` cites, which then may not touch it."""
    cited = min((told[name].tier for name in operation.sources), default=entry.trust)
    return entry.pinned or entry.by_owner or cited < entry.trust


def _of_one_sentence(operation: Operation, entry: Entry, *, told: Mapping[str, Evidence]) -> bool:
    """Whether both are wordings of one sentence of `told`."""
    if operation.kind is not entry.kind or overlap(stems(operation.text), stems(entry.text)) < WORDING:
        return False
    mine = nearest(operation.text, [told[name].text for name in operation.sources])
    counts = Counter(stem_list(mine))
    if any(counts[word] > 1 for word in {*stem_list(operation.text), *stem_list(entry.text)}):
        return False  # it says them of more than one thing
    return bool(mine) and mine == nearest(entry.text, [told[name].text for name in entry.sources if name in told])


def _is_near(one: str, other: str) -> bool:
    """Whether they have nearly the same words, though they do not say the same: then the newer one holds."""
    return overlap(word_set(one), word_set(other)) >= NEAR


def _holds(one: str, other: str) -> bool:
    """Whether `one` says all that `other` says."""
    return denies(one) == denies(other) and stems(other) <= stems(one) and values(other) <= values(one)
