"""The recall gate: before a dream is committed, search must find what it found before (invariant I19).

The questions are made of the entries: for each one that the old memory holds, and each that is new, the words that
tell it from the others. The old and the new memory are both searched. An entry that was found among the first answers
has to be found there again, itself or what took its place.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date

from kairosd.core.findable import of_entry
from kairosd.core.memory import EVERYWHERE, Entry, Generation, content_words, word_set
from kairosd.core.search import Layer, Question
from kairosd.ports import Index

DEPTH = 5  # answers among which an entry must be
WORDS = 6  # of a question: the rarest of its entry
ASKED_MOST = 400  # questions; of a larger memory a sample, the same for the same memory


class SearchRecall:
    """Implements `ports.Recall`; `make` yields an empty index in memory."""

    def __init__(self, make: Callable[[], Index]) -> None:
        self._make = make

    def losses(self, old: Generation, new: Generation, *, added: Sequence[Entry]) -> Sequence[str]:
        successors = {past.id: past.successor for past in new.history}
        active = {entry.id: entry for entry in new.entries}
        spread = Counter(word for entry in (*old.entries, *added) for word in content_words(entry.text))
        before, after = self._filled(old.entries), self._filled(new.entries)
        fresh = {entry.id for entry in added}
        lost: list[str] = []
        try:
            for entry in _asked(old.entries, added):
                heir = active.get(_heir(entry.id, successors, active=active))
                text = _question(entry, heir, spread=spread) if heir else ""
                if not heir or not text or heir.id in _found(after, text, scope=entry.scope):
                    continue
                if entry.id in fresh or entry.id in _found(before, text, scope=entry.scope):
                    lost.append(f"{entry.id} was found by {text!r} and is found no more")
        finally:
            before.close()
            after.close()
        return lost

    def _filled(self, entries: Sequence[Entry]) -> Index:
        index = self._make()
        index.put([of_entry(entry) for entry in entries], {})
        return index


def _asked(old: Sequence[Entry], added: Sequence[Entry]) -> Sequence[Entry]:
    fresh = {entry.id for entry in added}
    known = [entry for entry in old if entry.id not in fresh]
    if len(known) > ASKED_MOST:
        known = random.Random(len(known)).sample(known, ASKED_MOST)
    return (*known, *added)


def _question(entry: Entry, heir: Entry, *, spread: Mapping[str, int]) -> str:
    """The rarest words of `entry` that its heir says too: the value that was replaced is not to be found any more."""
    words = [word for word in content_words(entry.text) if word in word_set(heir.text)]
    return " ".join(sorted(words, key=lambda word: (spread[word], word))[:WORDS])


def _found(index: Index, text: str, *, scope: str) -> set[str]:
    question = Question(text, scopes=(scope, EVERYWHERE), layers=(Layer.MEMORY,), limit=DEPTH)
    found = index.search(question, today=date(1970, 1, 1))
    return {one.passage.source.removeprefix("m:") for one in found}


def _heir(name: str, successors: Mapping[str, str], *, active: Collection[str]) -> str:
    """The active entry that `name` has become; empty where it was retired, which is a loss that was decided upon."""
    seen = set[str]()
    while name and name not in active and name not in seen:
        seen.add(name)
        name = successors.get(name, "")
    return name if name in active else ""
