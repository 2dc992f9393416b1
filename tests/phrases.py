"""Phrases of a few known words for property tests."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from hypothesis import strategies as st


def phrases(words: Sequence[str], *, least: int = 1, most: int) -> st.SearchStrategy[tuple[str, ...]]:
    """From `least` to `most` of `words`. A phrase is drawn as one number: word by word it would take far longer."""
    sizes = [len(words)] * least + [len(words) + 1] * (most - least)

    def phrase(number: int) -> tuple[str, ...]:
        found = []
        for place, size in enumerate(sizes):
            number, index = divmod(number, size)
            if place < least or index:
                found.append(words[index if place < least else index - 1])
        return tuple(found)

    return st.integers(0, prod(sizes) - 1).map(phrase)
