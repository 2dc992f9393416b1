"""How what was found is ordered: by its words, and by what no count of words in one passage knows.

A passage that only asks is no answer. What the named speaker said counts, and what was said on the named day. Where a
whole thread holds much of what was asked for, its passages count more: a talk about the thing answers sooner than a
passing word. Of the first, those count more that hold a thing of the kind that is asked for, or in which somebody tells
of himself: a bare reply to what another has said seldom answers. Measured by bench/recall.py, at steps coarse enough to
mean something on other data.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import date, datetime
from math import log

from kairosd.core.english import tells_of_oneself
from kairosd.core.search import QUESTION_LENGTH, Question
from kairosd.core.sought import sought
from kairosd.core.spans import Span, span_in
from kairosd.frozen import frozen

# The first is a share of a passage's own score, the next three are shares of the best one's.
ASKS_LOSES, SPEAKER_GAINS, DAY_GAINS, MONTH_GAINS = 0.4, 0.15, 0.2, 0.06
THREAD_GAINS = 0.5  # at most, of a passage's own score
ENOUGH = 3  # passages of a thread with a word that are worth half of what any number of them is
SOUGHT_GAINS, TOLD_GAINS = 0.3, 0.15  # of a passage's own score
FIRST = 40  # of those that are found, whose texts are looked at
LENGTH_COUNTS = 0.5  # how far a thread longer than others has it harder, as `b` in BM25


@frozen
class Candidate:
    """What ordering needs to know of a passage. `score`: how well its words fit; more is better.

    `held` are the question's words that it or those around it hold; `length` is the number of passages in its thread.
    Without a thread it is a thread of its own.
    """

    number: int
    score: float
    asks: int
    speaker: str
    at: datetime
    thread: str = ""
    length: int = 1
    held: Collection[str] = ()


def ordered(
    candidates: Sequence[Candidate], question: Question, *, today: date, text_of: Callable[[int], str]
) -> list[Candidate]:
    """As many candidates as are asked for with their last scores, best first, and of equally good ones the newest.

    `text_of` yields the text of the passage with that number.
    """
    best = max((one.score for one in candidates), default=0.0)
    if best <= 0:
        return list(candidates[: question.limit])
    asked = set(question.words)
    span = span_in(question.text[:QUESTION_LENGTH], today)
    threads = _threads(candidates)

    def weigh(one: Candidate) -> float:
        score = one.score / best * (1 - ASKS_LOSES * one.asks / 100)
        if one.speaker and one.speaker.lower() in asked:
            score += SPEAKER_GAINS
        if span is not None:
            score += _day_gain(one.at.astimezone().date(), span)
        return score * (1 + THREAD_GAINS * threads[_thread(one)])

    weighed = sorted(((weigh(one), one) for one in candidates), key=_place)
    holds = sought(question.text[:QUESTION_LENGTH], {one.speaker for one in candidates})

    def look(score: float, one: Candidate) -> float:
        text = text_of(one.number)
        gain = 1 + SOUGHT_GAINS if holds is not None and holds(text) else 1
        return score * gain * (1 + TOLD_GAINS if tells_of_oneself(text) else 1)

    weighed[:FIRST] = sorted(((look(score, one), one) for score, one in weighed[:FIRST]), key=_place)
    return [replace(one, score=score) for score, one in weighed[: question.limit]]


def _place(weighed: tuple[float, Candidate]) -> tuple[float, float]:
    score, one = weighed
    return -score, -one.at.timestamp()


def _threads(candidates: Sequence[Candidate]) -> dict[str, float]:
    """How much of the question each thread holds, from 0 to 1 for the one that holds most.

    Here a thread is what BM25 calls a document: a word is worth the more, the fewer of the threads hold it, and always
    something, as in Lucene's BM25Similarity.
    """
    holding: dict[str, Counter[str]] = defaultdict(Counter)
    lengths: dict[str, int] = {}
    for one in candidates:
        holding[_thread(one)].update(one.held)
        lengths[_thread(one)] = one.length
    spread = Counter(word for words in holding.values() for word in words)
    worth = {word: log(1 + (len(holding) - rows + 0.5) / (rows + 0.5)) for word, rows in spread.items()}
    usual = sum(lengths.values()) / len(lengths)
    held = {
        thread: sum(worth[word] * count / (count + ENOUGH) for word, count in words.items())
        / (1 - LENGTH_COUNTS + LENGTH_COUNTS * lengths[thread] / usual)
        for thread, words in holding.items()
    }
    most = max(held.values())
    return {thread: value / most if most > 0 else 0.0 for thread, value in held.items()}


def _thread(one: Candidate) -> str:
    return one.thread or f"#{one.number}"


def _day_gain(day: date, span: Span) -> float:
    if span.holds(day):
        return DAY_GAINS
    same_month = (day.year, day.month) == (span.last.year, span.last.month)
    return MONTH_GAINS if same_month and span.first == span.last else 0.0
