"""Fenced blocks: what a model writes between two lines of fences, as Markdown has them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

FENCE = "```"
_FENCE_LINE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([^`]*?)[ \t]*$")


def block_of(answer: str, like: str, *, cut: bool = False) -> str | None:
    """The fenced block of an answer that has most words in common with a text, without its fences; None without one.

    Beside the file a model may show how it is used, its tests, or what it was shown. Of an answer that was `cut` off
    only a block that was closed counts.
    """
    words = counted(like)
    blocks, rest = _blocks(answer.replace("\r\n", "\n").split("\n"))
    if rest is not None and not cut:
        blocks.append(rest)
    return max(blocks, key=lambda block: (_common(words, counted(block)), len(block)), default=None)


def counted(text: str) -> Counter[str]:
    """The words of a text, each as often as it stands there."""
    return Counter(re.findall(r"\w+", text))


def _blocks(lines: Sequence[str]) -> tuple[list[str], str | None]:
    """The outermost blocks, and what stands in one that is not closed. A fence that names a language opens another."""
    found, opened, start = list[str](), list[str](), 0
    for number, line in enumerate(lines):
        if not (fence := _FENCE_LINE.match(line)):
            continue
        mark, info = fence[1], fence[2]
        if not opened:
            opened, start = [mark], number + 1
        elif mark[0] != opened[-1][0]:
            continue
        elif info and " " not in info:
            opened.append(mark)
        elif len(mark) >= len(opened[-1]):
            opened.pop()
            if not opened:
                found.append("".join(f"{each}\n" for each in lines[start:number]))
    return found, "\n".join(lines[start:]) if opened else None


def _common(one: Counter[str], other: Counter[str]) -> float:
    """The share of all words that both have."""
    return (one & other).total() / max(1, (one | other).total())
