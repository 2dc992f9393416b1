"""What kind of thing a question asks for, and whether a text holds one: a moment, a number, or what has a name.

"When did we move to Postgres?" has many of its words in the talk about moving, and its answer in the line with a day.
Taken from question answering (Prager et al., Question-answering by predictive annotation, SIGIR 2000).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

_WORD = re.compile(r"\w+")
_COUNT = "one|two|three|four|five|six|seven|eight|nine|ten|twelve|dozen|hundred|thousand|couple|few|once|twice|several"
_NUMBER = re.compile(rf"\d|\b(?:{_COUNT})\b", re.IGNORECASE)
_MOMENT = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|last|next|ago|since|weekend|(?:mon|tues|wednes|thurs|fri|satur|sun)day|"
    r"january|february|march|april|may|june|july|august|september|october|november|december|(?:19|20)\d\d)\b",
    re.IGNORECASE,
)
# A capital within a sentence, what is quoted, and words that only programs have: `port_2`, `3.11`, `src/app`.
_NAMED = re.compile(
    r"(?<=[\w,;] )[\"'“(]?[A-Z][\w'’.-]+|[\"“`][^\"”`]{2,60}[\"”`]|\b\w*\d[\w.]*\b|\b\w+[_/.]\w+"
)  # fmt: skip
_ASKS_NUMBER = re.compile(r"\bhow (?:many|much|old)\b", re.IGNORECASE)
_ASKS_MOMENT = re.compile(
    r"\bwhen\b|\bhow (?:long|often)\b|\b(?:what|which) (?:date|day|month|year|time)\b", re.IGNORECASE
)
_ASKS_NAMED = re.compile(r"\b(?:who|whose|where|which|names?|called|titles?)\b", re.IGNORECASE)
_NO_NAME = frozenset({"i", "m", "ll", "ve", "d"})


def sought(question: str, speakers: Collection[str]) -> Callable[[str], bool] | None:
    """Whether a text holds a thing of the kind that `question` asks for; None where it asks for none of these.

    A name that the question has itself is no answer to it, nor is that of one of the `speakers`, whom others address.
    """
    tests: list[Callable[[str], bool]] = []
    if _ASKS_NUMBER.search(question):
        tests.append(_holds(_NUMBER))
    if _ASKS_MOMENT.search(question):
        tests.append(_holds(_MOMENT))
    if _ASKS_NAMED.search(question):
        known = _words(question, *speakers) | _NO_NAME
        tests.append(lambda text: any(not _words(name) <= known for name in _NAMED.findall(text)))
    return (lambda text: any(test(text) for test in tests)) if tests else None


def _holds(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.search(text) is not None


def _words(*texts: str) -> set[str]:
    return {word.lower() for text in texts for word in _WORD.findall(text)}
