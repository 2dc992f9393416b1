"""Writing to the terminal: nothing from outside reaches it with power over it."""

from __future__ import annotations

import os
import re
import sys
from functools import cache

TYPE_CHECKING = False  # the name type checkers know; `typing` itself would cost a tenth of `kairos status`
if TYPE_CHECKING:
    from typing import TextIO

# Escape sequences that are whole; what is broken loses its control characters only, so that no words vanish with it.
_SEQUENCE = (
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]{0,512}(?:\x07|\x1b\\|\x9c)"  # OSC: window title, links, clipboard
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c\n]{0,512}(?:\x1b\\|\x9c)"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]{1,4}[0-~]"
)
# Controls but tab and newline; bidi marks and overrides; zero width but the joiner of emoji; tags; surrogates.
_POWER = (
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def clean(text: str) -> str:
    """`text` without escape sequences, control and bidi characters; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    sequence, power = _patterns()
    return power.sub("", sequence.sub("", text.replace("\r\n", "\n")))


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    # Compiled when first needed: plain ASCII, which is most of what is printed, never needs them.
    return re.compile(_SEQUENCE), re.compile(_POWER)


def one_line(value: object) -> str:
    """`value` as one clean line; None is empty."""
    return "" if value is None else " ".join(clean(str(value)).split())


def say(text: str = "", *, end: str = "\n") -> None:
    """Prints the answer itself."""
    sys.stdout.write(text + end)


def aside(text: str, style: str = "") -> None:
    """Prints what is not part of the answer, on stderr; stdout goes first, so that the order is the order told."""
    sys.stdout.flush()
    painted = f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and _wants_colour(sys.stderr) else text
    sys.stderr.write(f"{painted}\n")
    sys.stderr.flush()


def paint(text: str, style: str) -> str:
    """`text` in a style of `bold dim red green yellow cyan`, where stdout is a terminal that wants colours."""
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m" if style and _wants_colour(sys.stdout) else text


def width() -> int | None:
    """Columns of the terminal; None where stdout is none, and nothing is cut."""
    if not sys.stdout.isatty():
        return None
    try:
        return max(40, os.get_terminal_size(sys.stdout.fileno()).columns)
    except OSError:
        return None


def _wants_colour(stream: TextIO) -> bool:
    """On a terminal, without `NO_COLOR` (no-color.org), and not on a dumb one."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"  # noqa: TID251 - the CLI's one look
    return not plain and stream.isatty()
