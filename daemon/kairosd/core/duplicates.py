"""What is told again: at the door of memory, near-duplicates become one entry (invariant I9).

Two texts say the same where their words do, forms aside, in their order and tense, with their values and their yes or
no. What turns a text round takes its place; what has its words and is of another thing stands beside it. What is new
in the same words (it holds everywhere, is of another kind, can be looked up elsewhere, is said by somebody trusted
more) takes effect, for whoever is trusted as far. Of two wordings of one sentence that somebody said, the one that says
all of the other stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from kairosd.core.dream import Op, Operation, basis
from kairosd.core.dream_support import denies, nearest, stem, stem_list, stems, values
from kairosd.core.events import Tier
from kairosd.core.evidence import Evidence
from kairosd.core.memory import (
    EVERYWHERE,
    STOP_WORDS,
    Entry,
    Generation,
    Kind,
    content_words,
    key_of,
    overlap,
    word_set,
)

NEAR = 0.9  # Jaccard's index from which two texts say the same (invariant I9)
WORDING = 0.6  # from which two texts of one sentence are wordings of it

_BREAKS = ",;:"
_TOKEN = re.compile(rf"\w+|[^\w\s.,;:!?'’\"()\[\]`*/@_-]|(?<![\w-])-(?=\d)|[{_BREAKS}](?=\s)")
# Small words that turn a sentence round, and those after which "-ed" tells of no time that is over.
_TURNS = frozenset(("from", "to", "before", "after", "by", "if", "then", "can", "will", "was", "were", "had"))
_STATES = frozenset(("is", "are", "be", "been", "being", "has", "have"))
_OVER = r"no longer|any ?more|used to|formerly|previously"
# What joins a list or sets one thing against another: told in another order it is an update, not another fact.
_JOINS = frozenset(map(stem, ("and", "or", "but", "instead", "rather", "than", "over", "before", "after")))
_ARTICLES = frozenset(("a", "an", "the"))
_ENDED = re.compile(rf"\b(?:until|till|{_OVER})\b", re.I)
_NO = re.compile(rf"\b(?:{_OVER}|not|no|never|cannot|without|does|did|\w+n['’]t)\b", re.I)  # what turns yes into no


def same(one: str, other: str) -> bool:
    """Whether two texts say the same: the same words, forms aside, in their order and tense, and the same values.

    "Spaces, not tabs" is "tabs, not spaces" turned round. But "Hetzner, port 9090" is "port 9090, Hetzner": a list that
    names one value. One that names none may be of steps, and with two, or after a colon, it is their order that says
    whose they are.
    """
    if stems(one) != stems(other) or values(one) != values(other):
        return False
    if not stems(one):
        return one.casefold().split() == other.casefold().split()
    first, second = _words(one), _words(other)
    if [word for word in first if word not in _BREAKS] == [word for word in second if word not in _BREAKS]:
        return True
    begin = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
    left, right = first[begin:], second[begin:]
    return len(values(one)) == 1 and ":" not in left and _parts(left) == _parts(right)


def is_turned(one: str, other: str) -> bool:
    """Whether they have nearly the same words and say otherwise of the same thing: the newer one holds."""
    return _is_near(one, other) and not same(one, other) and not is_apart(one, other)


def is_apart(one: str, other: str) -> bool:
    """Whether two texts have nearly the same words and are of two things, so that both may hold.

    Each has a name that the other lacks, or what does it and what it is done to change places: "Alice manages Bob".
    """
    if not _is_near(one, other):
        return False
    mine, others = _names(one), _names(other)
    if mine != others:
        return bool(mine - others) and bool(others - mine)
    return _is_reversed(one, other)


def nearby(text: str, entries: Iterable[Entry]) -> list[Entry]:
    """The entries that may say the same as `text`, or turn it round: they have at least half of its words."""
    return holding({stem(word) for word in content_words(_NO.sub(" ", text))}, entries, share=0.5)


def holding(words: Collection[str], entries: Iterable[Entry], *, share: float) -> list[Entry]:
    """All entries that have this share of the stems `words` in text or key, and a few others.

    Every entry is asked, so it takes no text apart: a stem begins its word, and stands in what has that word.
    """
    folded = ((one, f"{one.text} {one.key}".casefold()) for one in entries)
    return [one for one, said in folded if sum([word in said for word in words]) >= share * len(words)]


def differs(said: str, text: str) -> bool:
    """Whether `said`, which has the words of `text`, says something else: it is turned, or tells of its end.

    What says all of `text` and a few words more is no such thing.
    """
    ended = bool(_ENDED.search(said)) and not _ENDED.search(text)
    return ended or (_is_near(said, text) and not same(said, text) and not stems(text) < stems(said))


def says_more(operation: Operation, entry: Entry, *, trust: Tier) -> bool:
    """Whether an operation that says again what `entry` says, on evidence of tier `trust`, has anything new.

    That is a wider scope, another kind or check, or more trust. What it leaves out is not taken back.
    """
    wider = operation.everywhere and entry.scope != EVERYWHERE
    other = operation.kind not in (Kind.PROJECT, entry.kind) or operation.check not in ("", entry.check)
    return wider or other or (trust > entry.trust and not entry.pinned)


def fitted(operation: Operation, base: Generation, *, workspace: str, told: Mapping[str, Evidence]) -> Operation:
    """What an addition is to memory as it stands: a confirmation of the same, a successor, or itself.

    `told` is the evidence that it may cite. It succeeds what has the key that it was given, what it turns round, and
    what says less of the same sentence. A key made up from its first words is no claim that two things are one.
    """
    if operation.key == key_of(operation.text):
        operation = replace(operation, key="")
    scope = EVERYWHERE if operation.everywhere else workspace
    near = nearby(operation.text, base.visible(workspace))
    if alike := [one for one in near if same(one.text, operation.text)]:
        return _again(operation, max(alike, key=lambda one: (one.scope == EVERYWHERE, one.trust)), told=told)
    for entry in base.entries:
        if operation.key and entry.key == operation.key and entry.scope == scope:
            return _successor(operation, entry)
    beside = [one for one in near if operation.everywhere or one.scope == scope]
    if old := next((one for one in beside if is_turned(one.text, operation.text)), None):
        return _successor(operation, old)
    return _worded(operation, beside, told=told)


def needs_nothing(operation: Operation, entry: Entry, *, told: Mapping[str, Evidence]) -> bool:
    """Whether `entry` is the owner's, or trusted more than what `operation` cites, which then may not touch it."""
    return entry.pinned or entry.by_owner or _lowest(operation, entry, told=told) < entry.trust


def _lowest(operation: Operation, entry: Entry, *, told: Mapping[str, Evidence]) -> Tier:
    return min((told[name].tier for name in operation.sources), default=entry.trust)


def _again(operation: Operation, entry: Entry, *, told: Mapping[str, Evidence]) -> Operation:
    """What it is to say `entry` again: its successor where that says more and may, else a confirmation."""
    made = _of_same(operation, entry, told=told)
    trust = basis(made, [told[name] for name in made.sources], targets=[entry])[1]
    if says_more(made, entry, trust=trust) and _lowest(operation, entry, told=told) >= entry.trust:
        return made
    return replace(operation, op=Op.RESTAMP, targets=(entry.id,), text="", check="")


def _worded(operation: Operation, entries: Sequence[Entry], *, told: Mapping[str, Evidence]) -> Operation:
    """What it is to other wordings of a sentence that it cites."""
    for entry in entries:
        if _of_one_sentence(operation, entry, told=told):
            if _holds(entry.text, operation.text):
                return _again(replace(operation, text=entry.text), entry, told=told)
            if _holds(operation.text, entry.text) and not needs_nothing(operation, entry, told=told):
                return _of_same(operation, entry, told=told)
    return operation


def _successor(operation: Operation, entry: Entry) -> Operation:
    """It takes the place of `entry` under that one's key; of no other kind where it names none."""
    kind = entry.kind if operation.kind is Kind.PROJECT else operation.kind
    return replace(operation, op=Op.SUPERSEDE, targets=(entry.id,), key=entry.key, kind=kind)


def _of_same(operation: Operation, entry: Entry, *, told: Mapping[str, Evidence]) -> Operation:
    """A successor that says the same of the world: where `entry` is looked up it is too.

    But not what somebody trusted less said of where: it could have the owner's word marked as wrong.
    """
    is_trusted = _lowest(operation, entry, told=told) <= entry.trust
    return _successor(replace(operation, check=operation.check or (entry.check if is_trusted else "")), entry)


def _of_one_sentence(operation: Operation, entry: Entry, *, told: Mapping[str, Evidence]) -> bool:
    """Whether both are wordings of one sentence of `told`."""
    if operation.kind is not entry.kind or overlap(stems(operation.text), stems(entry.text)) < WORDING:
        return False
    if is_apart(operation.text, entry.text):
        return False
    mine = nearest(operation.text, [told[name].text for name in operation.sources])
    counts = Counter(stem_list(mine))
    if any(counts[word] > 1 for word in {*stem_list(operation.text), *stem_list(entry.text)}):
        return False  # it says them of more than one thing
    return bool(mine) and mine == nearest(entry.text, [told[name].text for name in entry.sources if name in told])


def _holds(one: str, other: str) -> bool:
    """Whether `one` says all that `other` says."""
    return denies(one) == denies(other) and stems(other) <= stems(one) and values(other) <= values(one)


def _is_near(one: str, other: str) -> bool:
    """Whether they have the same words but for yes and no, or nearly."""
    first, second = stems(_NO.sub(" ", one)), stems(_NO.sub(" ", other))
    return bool(first) and (first == second or overlap(word_set(one), word_set(other)) >= NEAR)


def _names(text: str) -> frozenset[str]:
    """The words that say what a text is of: neither its values nor its yes or no."""
    return frozenset(stem(word) for word in content_words(_NO.sub(" ", text)) if not values(word))


def _is_reversed(one: str, other: str) -> bool:
    """Whether two names change places round what stands between them, which neither joins nor compares them.

    Values that do are an update, and a phrase ("on Friday") may stand anywhere.
    """
    if _NO.search(one) and _NO.search(other):
        return False  # "tabs and not spaces"
    first, second = _changed(_spoken(one), _spoken(other))
    size = len(first)
    if size != len(second) or any(word[0].isdigit() or word in _BREAKS for word in first):
        return False
    for begin in range(1, size - 1):
        for end in range(begin + 1, size):
            if first[end:] + first[begin:end] + first[:begin] == second:
                between = first[begin:end]
                moves = first[0] in STOP_WORDS or second[0] in STOP_WORDS
                return not moves and between != ["to"] and _JOINS.isdisjoint(between)
    return False


def _spoken(text: str) -> list[str]:
    """The words of a text in their order, forms, articles, yes and no aside."""
    words = re.findall(rf"\w+|[{_BREAKS}](?=\s)", _NO.sub(" ", text.casefold()))
    return [stem(word) for word in words if word not in _ARTICLES]


def _changed(first: list[str], second: list[str]) -> tuple[list[str], list[str]]:
    """Both without the words that they begin with alike, and end with."""
    for _ in range(2):
        same_words = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
        first, second = first[same_words:][::-1], second[same_words:][::-1]
    return first, second


def _words(text: str) -> list[str]:
    """What a text says in its order: words but for their forms, those that turn it, the past tense, signs, breaks."""
    found: list[str] = []
    before = ""
    for word in _TOKEN.findall(text.casefold()):
        if word not in STOP_WORDS or word in _TURNS:
            is_past = word.endswith("ed") and not word.endswith("eed") and stem(word) != word and before not in _STATES
            found.append(f"{stem(word)}-ed" if is_past else stem(word))
        before = word
    return found


def _parts(words: Sequence[str]) -> list[list[str]]:
    """What stands between commas or semicolons, in no order."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in _BREAKS:
            parts.append([])
        else:
            parts[-1].append(word)
    return sorted(parts)
