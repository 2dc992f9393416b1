"""Which passages of the search index hold words of a question, and how well.

Each word is a query of its own, weighed by BM25 and added up. FTS5 takes a word for common when the passages around
one often hold it; a word is as rare as the passages that say it themselves, so each word's share is set right by that.
Words that only begin alike and the kin of words (`core/thesaurus.py`) are brought in for less.

A question's cost is bounded, not hoped for: at most `WORK` rows are weighed. First come the passages that say a word
themselves, of the rarest words first; then, with the room that is left, those with a word around them, who are about
five times as many. Measured with 100,000 passages (bench/recall.py).
"""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from functools import lru_cache

from kairosd.core import thesaurus
from kairosd.frozen import frozen

TOKENS = "porter unicode61 remove_diacritics 2"
WEIGHTS = (1.0, 0.8, 0.3)  # own words, those of the question that is answered, those around; see bench/recall.py
_ANYWHERE, _SAID = "", "{own asked} : "  # where a word is looked for, as FTS5 is told
WORK = 3_000  # rows that one question may weigh
BEGINNINGS = 0.15  # what a word counts that only begins like one of the question's: `deploy` for `deployment`
BEGIN_LEAST, BEGIN_CUT = 4, 2  # letters of a beginning, and those cut off a stem to get it
KIN = 0.3  # what a word counts that only stands for one of the question's: `paint` for `hobby`

_FIND = f"SELECT rowid, -bm25(words, {', '.join(map(str, WEIGHTS))}) FROM words WHERE words MATCH ?"


@frozen
class Matches:
    """`scores`: how well each passage's words fit. `found`: the passages with a word, `worth`: what that counts."""

    scores: dict[int, float] = field(default_factory=dict)
    found: dict[str, Collection[int]] = field(default_factory=dict)
    worth: dict[str, float] = field(default_factory=dict)

    def held(self, number: int) -> list[str]:
        """The words in or around the passage with that number."""
        return [word for word, numbers in self.found.items() if number in numbers]


class Matcher:
    """Asks one index; what it learns of that is of no more use after a write: see `forget`."""

    def __init__(self) -> None:
        self._stems = _Stems()
        self._spread: dict[str, tuple[int, int]] = {}
        self._passages: int | None = None

    def forget(self) -> None:
        """To be called after each write to the index."""
        self._spread.clear()
        self._passages = None

    def matches(self, connection: sqlite3.Connection, words: Sequence[str]) -> Matches:
        """Every passage that holds one of the words that are affordable, or something like one."""
        matches = Matches()
        kept, room = self._affordable(connection, words)
        for word, where in kept.items():
            found = dict(connection.execute(_FIND, (f'{where}"{word}"',)))
            matches.found[word], matches.worth[word] = found, self._worth(connection, word, held=len(found))
            _add(matches.scores, found, share=matches.worth[word] / self._rarity(connection, len(found)))
        asked = {stem: word for word in kept for stem in self._stems.of(word)}
        room = self._begin_alike(connection, matches, stems=asked, room=room)
        self._stand_for(connection, matches, asked=asked, room=room)
        return matches

    def _begin_alike(
        self, connection: sqlite3.Connection, matches: Matches, *, stems: Collection[str], room: int
    ) -> int:
        """Adds what begins like a stem that was asked for; the rows that are left of `room`."""
        begins = {stem[:-BEGIN_CUT] for stem in stems if stem.isalpha() and len(stem) >= BEGIN_LEAST + BEGIN_CUT}
        terms, room = self._within(connection, {f"{begin}*" for begin in begins}, room=room)
        if terms:
            asked = " OR ".join(f'"{term[:-1]}"*' for term in terms)
            _add(matches.scores, dict(connection.execute(_FIND, (asked,))), share=BEGINNINGS)
        return room

    def _stand_for(
        self, connection: sqlite3.Connection, matches: Matches, *, asked: Mapping[str, str], room: int
    ) -> None:
        """Adds the kin of the words that were asked for, by stem; each is worth at most what its word is worth.

        A rare kin would else count more than the word that was meant: what stands for one thing is weighed as one
        (Pirkola, The effects of query structure and dictionary setups, SIGIR 1998).
        """
        kin = [(*each, word) for stem, word in asked.items() for each in _kin().get(stem, {}).items()]
        terms, _ = self._within(connection, {term for term, _, _ in kin if term not in asked}, room=room)
        for term, other, word in kin:
            if term in terms:
                found = dict(connection.execute(_FIND, (f'"{other}"',)))
                worth = min(matches.worth[word], self._worth(connection, other, held=len(found)))
                _add(matches.scores, found, share=KIN * worth / self._rarity(connection, len(found)))

    def _affordable(self, connection: sqlite3.Connection, words: Sequence[str]) -> tuple[dict[str, str], int]:
        """The rarest words that may be asked for together, at least one that is said, with where; the rows left."""
        rows = {word: [self._rows(connection, stem) for stem in self._stems.of(word)] for word in words}
        said = {word: sum(own for own, _ in each) for word, each in rows.items()}
        around = {word: sum(held - own for own, held in each) for word, each in rows.items()}
        kept: dict[str, str] = {}
        room = WORK
        for word in sorted(words, key=said.__getitem__):
            if room < WORK and said[word] > room:
                break
            room -= said[word]
            kept[word] = _SAID
        for word in sorted(kept, key=around.__getitem__):
            if around[word] <= room:
                room -= around[word]
                kept[word] = _ANYWHERE
        return kept, room

    def _within(self, connection: sqlite3.Connection, terms: Collection[str], *, room: int) -> tuple[set[str], int]:
        """The rarest of `terms` that there are, with `room` for so many rows, and the room that is left."""
        found = set()
        for rows, term in sorted((self._rows(connection, term)[1], term) for term in terms):
            if rows > room:
                break
            if rows:
                room -= rows
                found.add(term)
        return found, room

    def _rows(self, connection: sqlite3.Connection, term: str) -> tuple[int, int]:
        """Passages that say a stem, or what begins as `begin*`, themselves; and how many hold it, or a few more."""
        if term not in self._spread:
            bounds = (term[:-1], f"{term[:-1]}\U0010ffff") if term.endswith("*") else (term, term)
            sql = "SELECT coalesce(sum(iif(col = 'own', doc, 0)), 0), coalesce(sum(doc), 0) FROM vocabulary"
            self._spread[term] = connection.execute(f"{sql} WHERE term >= ? AND term <= ?", bounds).fetchone()
        return self._spread[term]

    def _worth(self, connection: sqlite3.Connection, word: str, *, held: int) -> float:
        """How rare a word is where it is said; `held` passages have it in or around them."""
        said = sum(self._rows(connection, stem)[0] for stem in self._stems.of(word))
        return self._rarity(connection, min(said, held))

    def _rarity(self, connection: sqlite3.Connection, rows: int) -> float:
        """BM25's weight of a word in so many passages, as FTS5 has it."""
        if self._passages is None:
            (self._passages,) = connection.execute("SELECT count(*) FROM passages").fetchone()
        others = max(0, self._passages - rows)  # another process may have written since they were counted
        return max(1e-6, math.log((others + 0.5) / (rows + 0.5)))


def _add(scores: dict[int, float], found: Mapping[int, float], *, share: float) -> None:
    for number, score in found.items():
        scores[number] = scores.get(number, 0.0) + share * score


class _Stems:
    """What FTS5 makes of words; asked of FTS5 itself."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self.of = lru_cache(4096)(lambda word: self.of_each([word])[word])

    def of_each(self, words: Collection[str]) -> dict[str, tuple[str, ...]]:
        """By word: its stems, of which there are several where FTS5 sees several words."""
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._connection.execute(f"CREATE VIRTUAL TABLE one USING fts5 (word, tokenize = '{TOKENS}')")
            self._connection.execute("CREATE VIRTUAL TABLE stems USING fts5vocab (one, instance)")
        listed = list(words)
        found: dict[str, tuple[str, ...]] = dict.fromkeys(listed, ())
        self._connection.execute("BEGIN")
        try:
            self._connection.executemany("INSERT INTO one (rowid, word) VALUES (?, ?)", enumerate(listed))
            for number, stem in self._connection.execute("SELECT doc, term FROM stems"):
                found[listed[number]] += (stem,)
        finally:
            self._connection.execute("ROLLBACK")
        return found


@lru_cache(1)
def _kin() -> dict[str, dict[str, str]]:
    """By stem: the stems of its kin, each with the word that it is the stem of."""
    groups = thesaurus.groups()
    stems = _Stems().of_each({word for group in groups for word in group})
    kin: dict[str, dict[str, str]] = defaultdict(dict)
    for first, *others in groups:
        (head,) = stems[first]
        for word in others:
            (stem,) = stems[word]
            kin[head][stem] = word
            kin[stem][head] = first
    return kin
