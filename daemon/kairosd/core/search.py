"""Search: what can be found and what a question asks for.

The index (`store/search.py`) finds by words: a passage's own, and those of the passages around it. A question is no
evidence and its answer is, so the words of a question count for what answers it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from functools import lru_cache

from kairosd.core.english import asking_words, based
from kairosd.core.events import Tier
from kairosd.core.memory import EVERYWHERE
from kairosd.core.spans import Span
from kairosd.frozen import frozen

AROUND = 2  # passages before and after one that help to find it
QUESTION_LENGTH = 400  # characters of a question that are looked at
_ASKED = re.compile(r"[^.!?\n]*\?")


class Layer(StrEnum):
    """Where a passage is kept: entries are loaded into prompts, the others are only ever searched."""

    MEMORY = "memory"
    JOURNAL = "journal"
    TRANSCRIPT = "transcript"


@frozen
class Passage:
    """One thing that can be found, such as an entry, a journal line or a turn.

    `source` is its address (`m:7f3a`, `j1234`, `r_…#5`), unique within `layer`. Passages of one `thread` stand beside
    each other in the order of `position`; an empty thread has no neighbours. `scope` is a workspace or `*`. An entry of
    memory is no current one since the day that it was found to be wrong (`stale`) or was set `aside`.
    """

    layer: Layer
    source: str
    text: str
    at: datetime
    kind: str = ""
    scope: str = EVERYWHERE
    tier: Tier = Tier.PUBLIC
    speaker: str = ""
    thread: str = ""
    position: int = 0
    stale: date | None = None
    aside: date | None = None

    @property
    def doubts(self) -> tuple[str, ...]:
        """What keeps it from being shown as current (invariant I16), each with its day; mostly nothing."""
        days = (("stale since", self.stale), ("set aside on", self.aside))
        return tuple(f"{said} {day}" for said, day in days if day)


@frozen
class Columns:
    """A passage as it is indexed: its own words, those of the question it answers, and those around it.

    `asks` is how much of it is questions, in percent of its words.
    """

    own: str
    asked: str
    around: str
    asks: int


@frozen
class Question:
    """A question and what may answer it. `scopes` are workspaces, `*` among them; empty filters let everything in.

    `tier` is the lowest tier of an answer; `span` are local days.
    """

    text: str
    scopes: tuple[str, ...] = (EVERYWHERE,)
    layers: tuple[Layer, ...] = tuple(Layer)
    kinds: tuple[str, ...] = ()
    span: Span | None = None
    tier: Tier = Tier.PUBLIC
    limit: int = 10

    @property
    def words(self) -> tuple[str, ...]:
        """What the index is asked for."""
        return asking_words(self.text[:QUESTION_LENGTH])


@frozen
class Found:
    """An answer. `score` is only comparable within one search."""

    passage: Passage
    score: float


@frozen
class Answers:
    """What was found, best first; `behind` = the index has not read the whole journal yet."""

    found: Sequence[Found]
    behind: bool = False


def columns_of(thread: Sequence[Passage]) -> list[Columns]:
    """What is indexed for each passage of a whole thread, or of as much of one as stands around those wanted."""
    said = [_said(passage) for passage in thread]
    asked = ["", *(based(" ".join(_ASKED.findall(passage.text))) if "?" in passage.text else "" for passage in thread)]
    return [
        Columns(
            own=f"{said[at]} {_dated(passage.at)}",
            asked=asked[at],
            around=" ".join((*said[max(0, at - AROUND) : at], *said[at + 1 : at + 1 + AROUND])),
            asks=_asks(passage.text),
        )
        for at, passage in enumerate(thread)
    ]


def snippet(text: str, question: Question, *, length: int = 240) -> str:
    """The part of `text`, at most `length` characters, that holds the first of the question's words."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    places = [at for word in question.words if (at := line.lower().find(word[:5])) >= 0]
    start = max(0, min(min(places, default=0) - length // 4, len(line) - length))
    return f"{'…' if start else ''}{line[start : start + length].strip()}{'…' if start + length < len(line) else ''}"


def _asks(text: str) -> int:
    if "?" not in text:
        return 0
    asked = sum(len(asking_words(part)) for part in _ASKED.findall(text))
    return 100 * asked // max(1, asked + len(asking_words(_ASKED.sub(" ", text))))


def _said(passage: Passage) -> str:
    return based(f"{passage.speaker}: {passage.text}" if passage.speaker else passage.text)


@lru_cache(256)
def _dated(at: datetime) -> str:
    return f"{at.astimezone():%-d %B %Y %A}"
