"""Prose about a day: of a model's sentences those stay that the day's own story bears out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kairosd.core.dream_support import foreign, orders, secret, stem, stems, support, turned
from kairosd.core.memory import STOP_WORDS, plain
from kairosd.core.story import Sentence, Story

PROSE_MOST = 300  # characters of a sentence of prose
BORNE_OUT = 0.7  # of its words, by what it cites
# How something came out is not for prose to decide.
_OUTCOMES = (
    "done failed fails succeeded passed finished ended completed cancelled approved denied allowed refused merged"
    " landed deployed released fixed solved open waiting broken working safe successful successfully unsuccessful"
    " everything all"
)
_COMMON = frozenset(map(stem, STOP_WORDS)) | STOP_WORDS
_NAME = re.compile(r"[^\W\d_][\w.'’-]*")


def borne_out(told: Iterable[tuple[str, Sequence[str]]], story: Story) -> tuple[Sentence, ...]:
    """Of sentences and the lines (`j123`) that each cites, those that the story's own sentences bear out.

    Each line must be one of the story's; each number, name, path and outcome must be in what is cited, with most of the
    other words. What orders anybody about, holds a secret or turns yes into no is left out.
    """
    said: dict[str, list[str]] = {}
    for sentence in story.sentences:
        for number in sentence.sources:
            said.setdefault(f"j{number}", []).append(sentence.text)
    kept = []
    for text, sources in told:
        shown, cited = plain(text), [each for one in dict.fromkeys(sources) for each in said.get(one, [])]
        known = bool(sources) and all(one in said for one in sources)
        if known and 0 < len(shown) <= PROSE_MOST and not _unfounded(shown, cited):
            kept.append(Sentence(shown, tuple(int(one[1:]) for one in dict.fromkeys(sources))))
    return tuple(kept)


def _unfounded(text: str, cited: Sequence[str]) -> bool:
    words, known = stems(text), frozenset().union(*map(stems, cited))
    names = {stem(name.strip(".'’-").casefold()) for name in _NAME.findall(text) if name.lower() != name}
    return bool(
        foreign(text, cited)
        or support(text, cited) < BORNE_OUT
        or (words & stems(_OUTCOMES)) - known
        or names - known - _COMMON
        or turned(text, cited)
        or secret(text)
        or (orders(text) and not any(orders(each) for each in cited))
    )
