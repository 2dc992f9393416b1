"""Text that somebody wrote: what a reader could not see is taken out, and counted."""

from __future__ import annotations

import re
import unicodedata

from kairosd.frozen import frozen

TEXT_LENGTH = 100_000  # characters of one text that are looked at
COMMENT = re.compile(r"<!--.*?(?:--!?>|\Z)", re.DOTALL)
COMMENT_ROUNDS = 20  # comments hidden in comments
# Selectors that choose a glyph are marks, not format characters; runs of them have carried hidden text.
SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef\u115f\u1160\u3164\uffa0\u034f]")
HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs"})  # control, format (bidi, zero width, tags), private use, surrogates


@frozen
class Cleaned:
    """A text a person can see all of, and how much was taken out."""

    text: str
    comments: int
    invisible: int


def cleaned(text: str) -> Cleaned:
    """`text` without invisible and direction-changing characters and without HTML comments, nested ones too."""
    cut = text[:TEXT_LENGTH]
    kept = "".join(each for each in cut if each in "\n\t" or unicodedata.category(each) not in HIDDEN)
    kept, selectors = SELECTORS.subn("", kept)
    invisible = len(cut) - len(kept)
    comments = 0
    for _ in range(COMMENT_ROUNDS):
        kept, count = COMMENT.subn("", kept)
        comments += count
        if not count:
            break
    return Cleaned(kept.replace("<!--", ""), comments, invisible)


def encodable(text: str) -> str:
    """`text` without lone surrogates: JSON can smuggle them in, and neither SQLite nor UTF-8 can hold them."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
