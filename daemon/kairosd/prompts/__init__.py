"""Prompt texts, kept as data so that they can be read and changed without reading code."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def text_of(name: str) -> str:
    """The prompt `name` (a file `<name>.md` in this folder), without trailing space."""
    return files(__package__).joinpath(f"{name}.md").read_text(encoding="utf-8").strip()
