"""`[policy]` as the core reads it: the owner's whole, and a workspace's own, which can only narrow."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from kairosd.config.document import Document, KeyPath
from kairosd.config.reader import Reader
from kairosd.config.sections import PolicySection, RuleSection, Section
from kairosd.core.hosts import EVERY, read_pattern
from kairosd.core.levels import Ruling
from kairosd.core.paths import PROTECTED_PATHS, SECRET_PATHS
from kairosd.core.policy import Policy, Prefix, Rule
from kairosd.core.shell.plans import Command
from kairosd.core.shell.programs import read_use
from kairosd.core.shell.verdicts import SHELL
from kairosd.programs import load_programs

WORKSPACE_FILE = ".kairos.toml"
# What a shell would not take literally: rules hold decoded words, so such a rule would never match what it means.
SPECIAL = re.compile(r"""["'\\$`|&;<>(){}*?]|(?<!\S)[~#!]|\[(?=\S)|(?<=\S)\[""")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")


class NarrowRuleSection(RuleSection):
    """`[[policy.rules]]` of a workspace's own file."""

    verdict: Literal["ask", "deny"]


class NarrowPolicySection(Section):
    """`[policy]` of a workspace's own file."""

    rules: tuple[NarrowRuleSection, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    secret_paths: tuple[str, ...] = ()
    protected_paths: tuple[str, ...] = ()


def prefix_of(text: str) -> Prefix:
    """The words of a command's beginning, as decoded commands hold them: `git log` is `("git", "log")`.

    Raises `ValueError` for what a shell would read as more than plain words.
    """
    words = tuple(text.split())
    if not words:
        raise ValueError('is empty: name the beginning of a command, such as "git status"')
    if not text.replace("\t", " ").isprintable():
        raise ValueError("holds a control character")
    if found := SPECIAL.search(text):
        raise ValueError(f"holds {found[0]}: rules are plain words, compared with the decoded words of a command")
    if ASSIGNMENT.match(words[0]):
        raise ValueError("begins with a variable: a command begins with its program")
    return words


def policy_of(section: PolicySection, document: Document) -> Policy:
    """The owner's policy; what is wrong with its commands becomes a problem of `document`."""
    reading = _Commands(document)
    allow = None if section.allow is None else reading.prefixes("allow", section.allow)
    for at, host in enumerate(section.hosts):
        reading.check_host(("policy", "hosts", at), host, allows=True)
    for at, prefix in enumerate(allow or ()):
        reading.refuse_opaque(("policy", "allow", at), prefix)
    return Policy(
        rules=reading.rules(section.rules),
        allow=allow,
        ask=reading.prefixes("ask", section.ask),
        deny=reading.prefixes("deny", section.deny),
        hosts=section.hosts,
        secret_paths=tuple(dict.fromkeys((*SECRET_PATHS, *section.secret_paths))),
        protected_paths=tuple(dict.fromkeys((*PROTECTED_PATHS, *section.protected_paths))),
    )


def read_narrowing(content: bytes, file: Path) -> Policy:
    """What a workspace's own file adds to the owner's policy. Raises `ConfigError` with everything that is wrong."""
    document = Document.parse(content, file)
    reader = Reader(document)
    reader.unknown((), ("policy",), what="section")
    section = reader.section(NarrowPolicySection, ("policy",)) or NarrowPolicySection()
    reading = _Commands(document)
    policy = Policy(
        rules=reading.rules(section.rules),
        ask=reading.prefixes("ask", section.ask),
        deny=reading.prefixes("deny", section.deny),
        secret_paths=section.secret_paths,
        protected_paths=section.protected_paths,
    )
    document.raise_problems()
    return policy


class _Commands:
    """Splits the commands of a `[policy]`."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def rules(self, sections: Iterable[RuleSection]) -> tuple[Rule, ...]:
        found: list[Rule] = []
        for at, each in enumerate(sections):
            where = ("policy", "rules", at)
            argv = self._prefix((*where, "argv"), each.argv) if each.argv else ()
            rule = Rule(Ruling[each.verdict.upper()], each.tool, each.path, argv, each.host)
            self._check_rule(where, rule)
            found.append(rule)
        return tuple(found)

    def _check_rule(self, where: KeyPath, rule: Rule) -> None:
        """Notes a rule that could never match, or would match more than it says."""
        if rule.host:
            self.check_host((*where, "host"), rule.host, allows=rule.ruling is Ruling.ALLOW)
            if rule.tool or rule.path:
                self._document.problem(where, "a rule with host is about what commands reach: leave tool and path out")
            if rule.ruling is Ruling.ASK and not rule.argv:
                text = "nobody can be asked while a program connects: name with argv the command to be asked about"
                self._document.problem(where, text)
            return
        if rule.argv and rule.tool and not fnmatch.fnmatchcase(SHELL, rule.tool):
            text = f"argv is about commands, which only the tool {SHELL} runs: leave tool out"
            self._document.problem((*where, "tool"), text)
        if rule.ruling is Ruling.ALLOW:
            self.refuse_opaque((*where, "argv"), rule.argv)

    def check_host(self, path: KeyPath, text: str, *, allows: bool) -> None:
        """Notes what is no pattern of hosts; every host at once can be denied, but not allowed."""
        try:
            name, _ = read_pattern(text)
        except ValueError as error:
            self._document.problem(path, str(error))
            return
        if allows and name == EVERY:
            self._document.problem(path, "would be every host there is: name those that are needed")

    def prefixes(self, key: str, texts: Iterable[str]) -> tuple[Prefix, ...]:
        return tuple(self._prefix(("policy", key, at), text) for at, text in enumerate(texts))

    def refuse_opaque(self, path: KeyPath, prefix: Prefix) -> None:
        """Notes an `allow` of a program that starts whatever its arguments say: it would allow everything."""
        use = read_use(Command(prefix), load_programs()) if prefix else None
        if use is None or not use.opaque:
            return
        rest = " ".join(prefix[1:])
        verbs = load_programs()[use.program].verbs
        if not any(f"{verb} ".startswith(f"{rest} ".lstrip()) for verb in verbs):
            known = f'; name what it may start, such as "{use.program} {next(iter(verbs))}"' if verbs else ""
            text = f"{' '.join(prefix)} starts whatever its arguments say, so it always asks{known}"
            self._document.problem(path, text)

    def _prefix(self, path: KeyPath, text: str) -> Prefix:
        try:
            return prefix_of(text)
        except ValueError as error:
            self._document.problem(path, str(error))
            return ()
