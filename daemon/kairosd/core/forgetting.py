"""What says a forgotten fact still, and must be found no more.

A fact is said where its own text stands, or where its words stand together: the fewer there are, the closer, for two
words meet by chance all over a page and ten do not. A stretch of n(n - 1) + 1 words must hold the n of a text, so
between two there is at most one other. A few of many may be missing, as who tells it again may choose them; its numbers
and what else has digits may not: "port 9191" is not what was said of port 9090. Dates may, for they are written in many
ways. And of a short text with a number no other number may stand among its words, for that would be the one meant.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, deque
from datetime import date

from kairosd.core.dream_dates import resolved
from kairosd.core.dream_support import stem_list, values
from kairosd.core.english import based
from kairosd.core.memory import plain

SHARE = 0.8  # of the words of a text, as many as say it
SHORT = 3  # words
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def folded(text: str) -> str:
    """`text` as it is compared: case, and how accents and digits are written, make no difference to search either."""
    return unicodedata.normalize("NFKC", text).casefold()


def wording(text: str) -> re.Pattern[str]:
    """What finds a text itself in words that are `folded`, whatever ends it; a number is in no longer one."""
    named = folded(plain(text).strip(" .,;:!?") or text)
    return re.compile(rf"(?<![0-9a-z_]){re.escape(named)}(?![0-9a-z_])")  # other scripts need no blanks


class Echo:
    """One text that is forgotten."""

    def __init__(self, text: str) -> None:
        text = folded(text)
        self._text = wording(text)
        self._words = frozenset(stem_list(based(text)))
        self._dates = frozenset(word for day in _DATE.findall(text) for word in stem_list(day))
        kept = (value for value in values(text) if not _DATE.fullmatch(value))
        self._demanded = frozenset(word for value in kept for word in stem_list(value) if re.search(r"\d", word))
        self._least = math.ceil(SHARE * len(self._words))
        self._room = len(self._words) * (len(self._words) - 1) + 1
        self._is_short = bool(self._demanded) and len(self._words) <= SHORT

    def is_in(self, said: str, day: date) -> bool:
        """Whether words of that local day say it."""
        shown = folded(said)
        # Most have none of it, which is known in a hundredth of the time. Half of its words may be irregular forms.
        there = sum(word in shown for word in self._words - self._dates)
        if 2 * there < self._least - len(self._dates) or not all(word in shown for word in self._demanded):
            return False
        shown = folded(plain(resolved(said, day)))
        return self._text.search(shown) is not None or self._together(stem_list(based(shown)))

    def _together(self, words: list[str]) -> bool:
        near: deque[tuple[int, str]] = deque()
        held: Counter[str] = Counter()
        for place, word in enumerate(words):
            if word not in self._words:
                if self._is_short and re.search(r"\d", word):
                    near.clear()
                    held.clear()
                continue
            near.append((place, word))
            held[word] += 1
            while place - near[0][0] >= self._room:
                _, gone = near.popleft()
                held[gone] -= 1
            there = {word for word, count in held.items() if count}
            if len(there) >= self._least and self._demanded <= there:
                return True
        return False
