"""The owner's rules on tools, commands and paths. Deny > ask > allow; a workspace's own file can only narrow."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import replace

from kairosd.core.levels import Opinion, Ruling
from kairosd.core.paths import PROTECTED_PATHS, SECRET_PATHS, matches
from kairosd.frozen import frozen

Prefix = tuple[str, ...]


@frozen
class Rule:
    """An owner's rule. `tool` and `path` are globs, `argv` a prefix of a decoded command; empty matches everything.

    With a `host` (a pattern of `core/hosts.py`) it is about what commands may reach, and about nothing else.
    """

    ruling: Ruling
    tool: str = ""
    path: str = ""
    argv: Prefix = ()
    host: str = ""

    def text(self) -> str:
        """The rule as a verdict names it."""
        said = {"tool": self.tool, "argv": " ".join(self.argv), "path": self.path, "host": self.host}
        return f"rule {self.ruling.label} " + (
            " ".join(f"{key}={value}" for key, value in said.items() if value) or "*"
        )


@frozen
class Policy:
    """The owner's rules and the paths that need a question.

    `allow`, `ask` and `deny` are prefixes of decoded commands. `allow` None = every program that has a file in
    `kairosd/programs/`; given, it replaces that list. `hosts` is what commands may reach. `doubt`, where it
    is not empty, says why every command asks.
    """

    rules: tuple[Rule, ...] = ()
    allow: tuple[Prefix, ...] | None = None
    ask: tuple[Prefix, ...] = ()
    deny: tuple[Prefix, ...] = ()
    hosts: tuple[str, ...] = ()
    secret_paths: tuple[str, ...] = SECRET_PATHS
    protected_paths: tuple[str, ...] = PROTECTED_PATHS
    doubt: str = ""

    def narrowed_by(self, other: Policy) -> Policy:
        """This policy with what `other` forbids or asks about; nothing that `other` allows counts."""
        return replace(
            self,
            rules=(*self.rules, *(rule for rule in other.rules if rule.ruling is not Ruling.ALLOW)),
            ask=(*self.ask, *other.ask),
            deny=(*self.deny, *other.deny),
            secret_paths=tuple(dict.fromkeys((*self.secret_paths, *other.secret_paths))),
            protected_paths=tuple(dict.fromkeys((*self.protected_paths, *other.protected_paths))),
            doubt=self.doubt or other.doubt,
        )


def worst(opinions: Iterable[Opinion]) -> Opinion:
    """The strictest opinion; the first of equals, so that the cause named is stable.

    Guarded where any of them is; with a fix only where each that is as strict has one.
    """
    found = tuple(opinions)
    strictest = max(found, key=lambda opinion: opinion.ruling)
    fix = strictest.fix if all(one.fix for one in found if one.ruling is strictest.ruling) else ""
    return replace(strictest, guarded=any(opinion.guarded for opinion in found), fix=fix)


def judge_path(policy: Policy, *, path: str, writes: bool) -> Opinion:
    """Whether `path` (relative to the workspace, `/` between parts) needs a question."""
    if matches(path, policy.secret_paths):
        return Opinion(Ruling.ASK, f"{path} may hold secrets", guarded=True)
    if writes and matches(path, policy.protected_paths):
        return Opinion(Ruling.ASK, f"{path} is protected", guarded=True)
    return Opinion(Ruling.ALLOW, "the path is plain")


def judge_rules(policy: Policy, tool: str, *, paths: tuple[str, ...]) -> Opinion:
    """The strictest of the owner's rules on tools and paths that match this call; allow where none does."""
    opinions = [
        Opinion(rule.ruling, rule.text())
        for rule in policy.rules
        if not rule.argv
        and not rule.host
        and (not rule.tool or fnmatch.fnmatchcase(tool, rule.tool))
        and (not rule.path or any(matches(path, (rule.path,)) for path in paths))
    ]
    return worst(opinions) if opinions else Opinion(Ruling.ALLOW, "no rule of the owner's matches")
