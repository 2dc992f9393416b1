"""Filing: how a dream learns with a model that is too small to propose operations.

The model only chooses, with one word a question: what a sentence is, and whether it takes the place of one that is
remembered. Code writes: what is remembered is the sentence as it was said, so a bad choice keeps a sentence too many or
too few, and makes none up. Each sentence is asked about alone, so that none can speak for another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum

from kairosd.core.aims import WISH, Aim
from kairosd.core.dream import Op, Operation
from kairosd.core.dream_checks import Frame, problems_of
from kairosd.core.dream_dates import settled
from kairosd.core.dream_support import asserted, orders, sentences, stems
from kairosd.core.duplicates import holding, is_apart, is_turned, same
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence
from kairosd.core.memory import INSTRUCTING, Entry, Kind, content_words, overlap
from kairosd.frozen import frozen

ALIKE, SHARED = 0.2, 2  # how alike two sentences must be, and in how many words, for one to take the other's place
WORDS_LEAST = 4  # of what no owner said: the names and states that a run or a webhook lists are no sentence

# What begins so says it of the sentence before.
_LEANS = re.compile(
    r"(?:it|its|this|that|these|those|they|their|he|she|there|then|so|but|and|or|because|otherwise|instead|also|both)\b",
    re.I,
)
_ONESELF = re.compile(r"\b(?:i|me|my|mine|myself)\b", re.I)


class Label(StrEnum):
    """What a sentence is."""

    FACT = "fact"
    RULE = "rule"
    PERSON = "person"
    PLACE = "place"
    TASK = "task"
    TALK = "talk"


class Relation(StrEnum):
    """What a new sentence is to a remembered one: of the same matter, and then it takes its place, or of another."""

    SAME = "same"
    OTHER = "other"


_KINDS = {Label.FACT: Kind.PROJECT, Label.RULE: Kind.FEEDBACK, Label.PERSON: Kind.USER, Label.PLACE: Kind.REFERENCE}
_OF_OTHERS = (Label.FACT, Label.PLACE)  # only the owner says what is wanted, and who they are


@frozen
class Statement:
    """A sentence of evidence, with those that lean on it. `wished`: the owner said to remember it."""

    source: str
    tier: Tier
    text: str
    wished: bool = False


def statements(evidence: Iterable[Evidence]) -> list[Statement]:
    """What of the evidence says that something is so, sentence by sentence. Questions are not asked about."""
    return [found for each in evidence for found in (_owners if each.tier is Tier.OWNER else _others)(each)]


def addition(statement: Statement, label: Label) -> Operation | None:
    """What is proposed for a statement that is filed under `label`; None = nothing."""
    if statement.tier < Tier.OWNER and label not in _OF_OTHERS:
        return None
    kind = _KINDS.get(label, Kind.PROJECT if statement.wished else None)
    if kind is None:
        return None
    wishes = kind is Kind.FEEDBACK and orders(statement.text)
    if kind in INSTRUCTING and not wishes and not _ONESELF.search(statement.text):
        kind = Kind.PROJECT  # it is about somebody else, or says how things are done
    return Operation(Op.ADD, (), (statement.source,), text=statement.text, kind=kind, reason=f"filed as {label}")


def outdated_by(operation: Operation, later: Sequence[Operation]) -> Operation | None:
    """Which of the later additions could make this one outdated, by its words; None = none."""
    words = stems(operation.text)
    near = [one for one in later if _is_alike(one.text, operation.text)]
    return max(near, key=lambda one: overlap(stems(one.text), words), default=None)


def is_retold(old: str, new: str) -> bool:
    """Whether the new sentence says the old one again, or turns it round: then the new one holds, and none need ask."""
    return same(old, new) or is_turned(old, new)


def succession(operation: Operation, frame: Frame) -> tuple[Entry, Operation] | None:
    """The remembered sentence that an addition could take the place of, and how; None = no check would let it."""
    words = stems(operation.text)
    beside = [one for one in frame.generation.entries if one.scope == frame.workspace]
    near = [one for one in holding(words, beside, share=ALIKE) if _is_alike(one.text, operation.text)]
    target = max(near, key=lambda one: overlap(stems(one.text), words), default=None)
    if target is None:
        return None
    kind = target.kind if operation.kind is Kind.PROJECT else operation.kind
    successor = replace(operation, op=Op.SUPERSEDE, targets=(target.id,), kind=kind)
    return None if problems_of(successor, frame) else (target, successor)


def _owners(evidence: Evidence) -> Iterable[Statement]:
    for part in _joined(sentences(evidence.text), evidence.tier):
        wish, said = WISH.match(part), asserted(part)
        if wish and (told := part[wish.end() :].rstrip(" ?")):
            yield _statement(evidence, told[0].upper() + told[1:], wished=True)
        elif said and not Aim(said).is_question:
            yield _statement(evidence, said)


def _others(evidence: Evidence) -> Iterable[Statement]:
    for part in _joined(sentences(evidence.text), evidence.tier):
        if len(content_words(part)) >= WORDS_LEAST:
            yield _statement(evidence, part.rstrip(";"))


def _statement(evidence: Evidence, text: str, *, wished: bool = False) -> Statement:
    return Statement(evidence.source, evidence.tier, settled(text, evidence.day), wished)


def _joined(parts: Sequence[str], tier: Tier) -> list[str]:
    """Sentences that stand by themselves. After a full stop the owner may go on in lower case, as after "e.g."."""
    found: list[str] = []
    for part in parts:
        leans = _LEANS.match(part) or (tier is Tier.OWNER and not part[0].isupper())
        if found and leans:
            found[-1] = f"{found[-1]} {part}"
        else:
            found.append(part)
    return found


def _is_alike(one: str, other: str) -> bool:
    words, others = stems(one), stems(other)
    return len(words & others) >= SHARED and overlap(words, others) >= ALIKE and not is_apart(one, other)
