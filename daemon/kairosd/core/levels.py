"""Levels and taint: what a run may do unasked, and how what it has read narrows that. One table for gate and docs.

The rows are design §9's. `tests/unit/test_docs.py` compares docs/security.md with `LEVELS` and `CAPS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum

from kairosd.core.events import Tier
from kairosd.core.shell.programs import ProgramClass
from kairosd.frozen import frozen


class Level(IntEnum):
    """What a run may do without asking."""

    OBSERVE = 0
    SUGGEST = 1
    SANDBOXED = 2
    PROJECT = 3
    OPEN = 4

    @property
    def label(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, label: str) -> Level:
        return cls[label.upper()]


class Permission(StrEnum):
    """What kind of thing a call does; for a shell line, each of its commands."""

    READ = "read"
    NOTIFY = "notify"
    REMEMBER = "remember"  # keeps a line in Kairos's own memory, or takes one back
    CONTROL = "control"  # ends or pauses the run itself; changes nothing outside
    EDIT = "edit"
    COMMIT = "commit"
    READER = "reader"  # a program that only reads
    CONFINED = "confined"  # a program that runs the workspace's code
    EFFECT = "effect"  # a program that changes files on purpose
    UNLISTED = "unlisted"  # a program, option or shape of line that no list knows
    NETWORK = "network"  # a program's connections to the hosts that the owner lists
    DIRECT = "direct"  # landing in the owner's own checkout


class Ruling(IntEnum):
    """Ordered by strictness, so that the worst of several is their maximum."""

    ALLOW = 0
    ASK = 1
    DENY = 2

    @property
    def label(self) -> str:
        return self.name.lower()


@frozen
class Opinion:
    """What one check says of a call, and the rule that made it say so.

    `guarded`: it is about a protected or a secret path, where only the owner's word on the spot counts. `fix` is what
    to do instead of a command that merely lacks permission; "" where somebody wants to be asked.
    """

    ruling: Ruling
    rule: str
    guarded: bool = False
    fix: str = ""


_SEEN = frozenset({Permission.READ, Permission.NOTIFY, Permission.REMEMBER, Permission.CONTROL})
_OWN_CHECKOUT = _SEEN | {Permission.EDIT, Permission.COMMIT, Permission.READER}
_COMMANDS = _OWN_CHECKOUT | {Permission.CONFINED}
_PROJECT = _COMMANDS | {Permission.EFFECT, Permission.NETWORK, Permission.DIRECT}

# What a level covers without asking. Beyond it a run asks, but level 0 has nothing to ask about: it only looks.
LEVELS: Mapping[Level, frozenset[Permission]] = {
    Level.OBSERVE: _SEEN,
    Level.SUGGEST: _OWN_CHECKOUT,
    Level.SANDBOXED: _COMMANDS,
    Level.PROJECT: _PROJECT,
    Level.OPEN: frozenset(Permission),
}

# The highest level that counts once a run has read text of a tier. None: no tool at all, only an answer.
CAPS: Mapping[Tier, Level | None] = {
    Tier.OWNER: Level.OPEN,
    Tier.LOCAL: Level.OPEN,
    Tier.COLLABORATOR: Level.SUGGEST,
    Tier.PUBLIC: None,
}

PERMISSION_OF: Mapping[ProgramClass, Permission] = {
    ProgramClass.READER: Permission.READER,
    ProgramClass.CONFINED: Permission.CONFINED,
    ProgramClass.EFFECT: Permission.EFFECT,
}


def judge_level(level: Level, permission: Permission) -> Opinion:
    """Whether `level` covers `permission` without asking; what it does not cover is asked, and refused to level 0."""
    if permission in LEVELS[level]:
        return Opinion(Ruling.ALLOW, f"level {level.label} covers {permission}")
    ruling = Ruling.DENY if level is Level.OBSERVE else Ruling.ASK
    return Opinion(ruling, f"level {level.label} does not cover {permission}")


def judge_taint(taint: Tier, permission: Permission) -> Opinion:
    """What a run may still do after it has read text of tier `taint`."""
    cap = CAPS[taint]
    if cap is None and permission is not Permission.CONTROL:
        return Opinion(Ruling.DENY, "the run has read what a stranger wrote, so it may only answer")
    if cap is not None and permission not in LEVELS[cap]:
        return Opinion(Ruling.ASK, f"the run has read what a {taint.label} wrote, which caps it at {cap.label}")
    return Opinion(Ruling.ALLOW, f"taint {taint.label} allows {permission}")


def may_ask(level: Level, permission: Permission) -> bool:
    """Whether a run of `level` gets a tool of `permission` at all: at once, or by asking."""
    return judge_level(level, permission).ruling is not Ruling.DENY
