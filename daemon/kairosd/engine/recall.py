"""The recall gate: before a dream is committed, search must find what it found before (invariant I19).

The questions are made of the entries: for each one that the old memory holds, and each that is new, the words that
tell it from the others. The old and the new memory are both searched. An entry that was found among the first answers
has to be found there again, itself or what took its place.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date

from kairosd.core.findable import of_entry
from kairosd.core.memory import EVERYWHERE, Entry, Generation, content_words
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
        active = {entry.id for entry in new.entries}
        before, after = self._filled(old.entries), self._filled(new.entries)
        try:
            return [
                f"{entry.id} was found by {text!r} and is found no more"
                for entry, text, is_new in _questions(old.entries, added)
                if (wanted := _heir(entry.id, successors, active=active))
                and (is_new or entry.id in _found(before, text, scope=entry.scope))
                and wanted not in _found(after, text, scope=entry.scope)
            ]
        finally:
            before.close()
            after.close()

    def _filled(self, entries: Sequence[Entry]) -> Index:
        index = self._make()
        index.put([of_entry(entry) for entry in entries], {})
        return index


def _questions(old: Sequence[Entry], added: Sequence[Entry]) -> Iterator[tuple[Entry, str, bool]]:
    fresh = {entry.id for entry in added}
    known = [entry for entry in old if entry.id not in fresh]
    if len(known) > ASKED_MOST:
        known = random.Random(len(known)).sample(known, ASKED_MOST)
    spread = Counter(word for entry in (*old, *added) for word in content_words(entry.text))
    for entry in (*known, *added):
        words = sorted(content_words(entry.text), key=lambda word: (spread[word], word))[:WORDS]
        if words:
            yield entry, " ".join(words), entry.id in fresh


def _found(index: Index, text: str, *, scope: str) -> set[str]:
    question = Question(text, scopes=(scope, EVERYWHERE), layers=(Layer.MEMORY,), limit=DEPTH)
    found = index.search(question, today=date(1970, 1, 1))
    return {one.passage.source.removeprefix("m:") for one in found}


def _heir(name: str, successors: Mapping[str, str], *, active: set[str]) -> str:
    """The active entry that `name` has become; empty where it was retired, which is a loss that was decided upon."""
    seen = set[str]()
    while name and name not in active and name not in seen:
        seen.add(name)
        name = successors.get(name, "")
    return name if name in active else ""
