"""Characters a command may hold: none that a person who reads it cannot see, or takes for another."""

from __future__ import annotations

import re
import unicodedata

from kairosd.errors import ShellFormError

MAX_BYTES = 8 * 1024  # of a line, or of all words of an argv together (design §9)

# Unicode's general categories: controls, formats (bidi, zero width, tags), surrogates, private, unassigned, blanks.
_REFUSED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})
_PLAIN = re.compile(r"[ -~\n\t]*")
# Of other categories, but drawn as nothing: Default_Ignorable_Code_Point of Unicode 16, and the blank Braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def check_characters(text: str) -> None:
    """Refuses what is over the size cap or holds a character that is not plainly visible text, blank, tab or newline.

    Raises `ShellFormError`, which names the first such character by its code point.
    """
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ShellFormError(f"longer than {MAX_BYTES} bytes", fix="put the text into a file with the tool write")
    if _PLAIN.fullmatch(text):
        return
    for place, char in enumerate(text):
        if char not in "\n\t" and (unicodedata.category(char) in _REFUSED and char != " " or _INVISIBLE.match(char)):
            raise ShellFormError(
                f"the character U+{ord(char):04X} ({_name(char)}) at position {place + 1} is not allowed",
                fix="lines end with a newline alone" if char == "\r" else "leave it out",
            )


def _name(char: str) -> str:
    if unicodedata.category(char) == "Cc":
        return "a control character"
    return unicodedata.name(char, "no character").lower()
