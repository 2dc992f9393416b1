"""Diagnosis: the lines of a program's output that say why it failed."""

from __future__ import annotations

import re
from itertools import islice

# What test runners, compilers and interpreters of the common languages begin such lines with, or say in them.
_TELLING = re.compile(
    r"^E\s{2,}\S|^\s*(?:FAILED|FAIL:|ERROR|error\[)|\b(?:\w*(?:Error|Exception)|error|panicked|assert\w*|undefined|"
    r"not found|No such file|expected|unexpected|cannot|can't|segmentation fault|timed out)\b"
)
LINE_MAX = 200  # characters of one line that are kept


def decisive_lines(output: str, most: int) -> tuple[str, ...]:
    """At most `most` lines that say what went wrong, in their order; else the last ones. None is empty or told twice.

    The first half is of the first such lines, where compilers say it; the rest of the last ones, where test runners do.
    """
    lines = list(dict.fromkeys(cut for line in output.splitlines() if (cut := line.rstrip()[:LINE_MAX]).strip()))
    telling = [line for line in lines if _TELLING.search(line)]
    if not telling:
        return tuple(lines[-most:])
    if len(telling) <= most:
        return tuple(telling)
    first = list(islice(telling, most // 2))
    return (*first, *telling[len(first) - most :])
