"""Tool sets: the few selections of tools that runs are given, so that many prompts begin with the same bytes."""

from __future__ import annotations

from collections.abc import Mapping

from kairosd.core.levels import LEVELS, Level, Permission

OBSERVE, WORK, SMALL, LOOK = "observe", "work", "small", "look"

# At most four: each has a cache of its own at the provider. Above `observe` a run may ask for what its level lacks, so
# it is shown every tool; what it may do with them is the gate's to say.
TOOL_SETS: Mapping[str, frozenset[Permission]] = {
    OBSERVE: LEVELS[Level.OBSERVE],
    WORK: frozenset(Permission),
    SMALL: frozenset(Permission),
    LOOK: frozenset(Permission) - {Permission.EDIT, Permission.COMMIT, Permission.DIRECT},
}

# What a small model is shown of its set: each further tool costs it prompt, and is one more wrong way.
SMALL_TOOLS = frozenset({"edit", "finish", "glob", "grep", "read", "shell", "write"})


def admits(tool_set: str, name: str, *, permission: Permission) -> bool:
    """Whether the tool of that name belongs to the set; an unknown set, of another version, is `WORK`."""
    allowed = TOOL_SETS.get(tool_set, TOOL_SETS[WORK])
    return permission in allowed and (tool_set not in (SMALL, LOOK) or name in SMALL_TOOLS)


def choose(level: Level, *, question: bool = False, small: bool = False) -> str:
    """The name of the set for a run that begins at `level`; it keeps it, whatever becomes of the level.

    A small model answers a `question` without a tool that changes anything. Another one is left to read the goal by
    itself: an order that was taken for a question could not be carried out.
    """
    if level is Level.OBSERVE:
        return OBSERVE
    return (LOOK if question else SMALL) if small else WORK
