"""Shell lines and word lists as plans. The grammar takes 50 ms and 5 MB, so it is loaded at the first of them."""

from __future__ import annotations

import importlib
import json

from kairosd.core.shell.plans import Plan
from kairosd.errors import ToolError

SYNTAX = "kairosd.core.shell.syntax"


def plan_of_text(text: str) -> Plan:
    """What a line, or the words of one command as a JSON list, comes to. Raises `ShellFormError`, `ToolError`."""
    syntax = importlib.import_module(SYNTAX)
    words = _words(text)
    plan: Plan = syntax.read_line(text) if words is None else syntax.plan_of(words)
    return plan


def _words(text: str) -> list[str] | None:
    """The words of a JSON list; None for a line, also for one that begins with the program `[`."""
    if not text.lstrip().startswith("["):
        return None
    try:
        words = json.loads(text)
    except ValueError:
        return None
    if not words or not all(isinstance(word, str) for word in words):
        raise ToolError("`command` is no list of words", fix='give strings, such as ["git", "status"]')
    return words if isinstance(words, list) else None
