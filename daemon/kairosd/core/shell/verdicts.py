"""Verdicts on single commands: the owner's rules, what a program's file allows, and where the paths lie."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from kairosd.core.hosts import Reach
from kairosd.core.levels import PERMISSION_OF, Opinion, Permission, Ruling
from kairosd.core.paths import matches
from kairosd.core.policy import Policy, Prefix, Rule, judge_path, judge_rules
from kairosd.core.shell.plans import Command
from kairosd.core.shell.programs import Use
from kairosd.errors import ToolError
from kairosd.frozen import frozen

SHELL = "shell"  # the tool whose rules hold for commands
# Git's own folder may hold a forge's password and names programs that git starts.
GIT_FOLDER = (".git", ".git/**", "**/.git", "**/.git/**")
NOWHERE = "/dev/null"
OTHERWISE = "use the tools read, glob, grep, edit, write and git_…, or a plain program that reads, tests or checks"
REMOVING = frozenset({"rm", "rmdir", "mv", "unlink", "shred"})
_WORD = re.compile(r"[\w.+/-]+")
_EVERYTHING = re.compile(r"(?:/|(?:~|\$HOME|\$\{HOME\}|/root)/?|/home(?:/[^/]+)?/?|\.{1,2}/?)\*?")


class _OutsideError(Exception):
    """A path that leads out of the workspace; the message says which and how."""


@frozen
class Place:
    """Where a command stands: `root` is the workspace as the program will see it, `cwd` relative to it or absolute.

    `follow` tells where a path relative to the root leads through links. What it finds outside it answers with an
    absolute path, one that begins with `..`, or a `ToolError`.
    """

    root: str
    cwd: str
    follow: Callable[[str], str]

    def locate(self, path: str) -> tuple[str, ...]:
        """`path` relative to the workspace ("." = the workspace), as named and as links make it.

        Raises `_OutsideError`, or what `follow` raises.
        """
        given = self._inside(path)
        if given is None:
            folder = self._inside(self.cwd)
            given = f"{self.cwd if folder is None else folder}/{path}"
        parts: list[str] = []
        for part in given.split("/"):
            if part == "..":
                parts = self._target(parts, path)
                if not parts:
                    raise _OutsideError(f"{path} lies outside the workspace")
                parts.pop()
            elif part not in {"", "."}:
                parts.append(part)
        named, target = "/".join(parts) or ".", "/".join(self._target(parts, path)) or "."
        return tuple(dict.fromkeys((named, target)))

    def is_root(self) -> bool:
        """Whether the command's folder is the workspace's own."""
        try:
            return self.locate(".") == (".",)
        except (_OutsideError, ToolError):
            return False

    def _inside(self, path: str) -> str | None:
        """An absolute path relative to the root; None for a relative one."""
        if not path.startswith("/"):
            return None
        plain, root = "/" + path.lstrip("/"), self.root.rstrip("/")
        if plain != root and not plain.startswith(f"{root}/"):
            raise _OutsideError(f"{path} lies outside the workspace")
        return plain.removeprefix(root)

    def _target(self, parts: list[str], path: str) -> list[str]:
        """Where the links on the way lead; what `..` goes up from."""
        if not parts:
            return []
        target = self.follow("/".join(parts))
        if target.startswith("/"):
            try:
                target = self._inside(target) or "."
            except _OutsideError:
                raise _OutsideError(f"{path} is a link that leads out of the workspace") from None
        found: list[str] = []
        for part in target.split("/"):
            if part == ".." and not found:
                raise _OutsideError(f"{path} is a link that leads out of the workspace")
            if part == "..":
                found.pop()
            elif part not in {"", "."}:
                found.append(part)
        return found


def judge_command(policy: Policy, command: Command, *, use: Use | None, place: Place) -> list[Opinion]:
    """Every opinion on one command but the level's and the taint's; the verdict is the worst of them.

    `use` is the program's own reading of it, None for a program without a file.
    """
    opinions, paths = _judge_paths(policy, command, use=use, place=place)
    rules = [rule for rule in policy.rules if rule.argv and not rule.host]
    return [
        *_judge_prefixes(policy, command, use=use),
        *(_rule_opinion(rule) for rule in rules if _rule_matches(rule, command, use=use, paths=paths)),
        judge_rules(policy, SHELL, paths=paths),
        *opinions,
        *(replace(opinion, fix=advice(use)) for opinion in _judge_use(policy, command, use=use, place=place)),
    ]


def advice(use: Use | None) -> str:
    """What to do instead of a command that lacks permission; `use` is None for a program without a file."""
    return (use.fix if use is not None else "") or OTHERWISE


def permission_of(use: Use | None, allowed_by_owner: bool) -> Permission:
    """What level a command needs. A program without a file that the owner names counts as one that runs code."""
    if use is None or not use.listed:
        return Permission.CONFINED if allowed_by_owner else Permission.UNLISTED
    return Permission.UNLISTED if use.opaque or use.problem else PERMISSION_OF[use.kind]


def allowed_by_owner(policy: Policy, command: Command, *, use: Use | None) -> bool:
    """Whether one of the owner's `allow` prefixes, or a rule of that ruling, names this command; `cd` needs none."""
    if command.argv[0] == "cd":
        return True
    rules = [rule for rule in policy.rules if rule.argv and not rule.host and rule.ruling is Ruling.ALLOW]
    given = [rule.argv for rule in rules if _for_shell(rule)]
    return any(_begins(command, prefix, use=use) for prefix in (*(policy.allow or ()), *given))


def reach_of(policy: Policy, command: Command, *, use: Use | None) -> Reach:
    """The hosts that the owner lets this command reach, where its level lets it reach any."""
    rules = [rule for rule in policy.rules if rule.host and _rule_matches(rule, command, use=use, paths=())]
    allow = [rule.host for rule in rules if rule.ruling is Ruling.ALLOW]
    return Reach(
        tuple(dict.fromkeys((*policy.hosts, *allow))), tuple(rule.host for rule in rules if rule.ruling is Ruling.DENY)
    )


def judge_reach(policy: Policy, command: Command, *, use: Use | None) -> list[Opinion]:
    """What the owner's rules on hosts say of a command that can reach some: only that it is asked about."""
    rules = [rule for rule in policy.rules if rule.host and rule.ruling is Ruling.ASK]
    return [_rule_opinion(rule) for rule in rules if _rule_matches(rule, command, use=use, paths=())]


def _begins(command: Command, prefix: Prefix, *, use: Use | None) -> bool:
    """Whole words only: `git log` is no prefix of `git log-evil`; a path counts as its name where its folder may."""
    names = {command.argv[0]} | ({use.program} if use is not None and use.listed and not use.borrowed else set())
    return any((name, *command.argv[1 : len(prefix)]) == prefix for name in names)


def _names(command: Command, prefix: Prefix, *, use: Use | None) -> bool:
    """Whether `prefix` stands in the command in any spelling: options between its words, a path, a bundle of letters.

    For rules that narrow: too many matches cost a question, one too few costs what the rule protects.
    """
    starts = {command.argv[0], command.argv[0].rsplit("/", 1)[-1]} | ({*use.starts, use.program} if use else set())
    if prefix[0] in starts and _in_order(prefix[1:], command.argv[1:]):
        return True
    if use is not None and not use.opaque and use.listed:
        return False
    words = [found for word in command.argv for found in (word, *_WORD.findall(word))]
    words = [found for word in words for found in (word, word.rsplit("/", 1)[-1])]
    return any(word == prefix[0] and _in_order(prefix[1:], words[at:]) for at, word in enumerate(words))


def _in_order(wanted: Sequence[str], words: Sequence[str]) -> bool:
    letters = {letter for word in words if re.fullmatch(r"-[^-].*", word) for letter in word[1:]}
    rest = iter(words)
    return all(
        (set(each[1:]) <= letters)
        if re.fullmatch(r"-\w+", each)
        else any(word == each or word.startswith(f"{each}=") for word in rest)
        for each in wanted
    )


def _judge_prefixes(policy: Policy, command: Command, *, use: Use | None) -> Iterator[Opinion]:
    for ruling, prefixes in ((Ruling.DENY, policy.deny), (Ruling.ASK, policy.ask)):
        for prefix in prefixes:
            if prefix and _names(command, prefix, use=use):
                yield Opinion(ruling, f"the owner's {ruling.label} list has {' '.join(prefix)}")


def _for_shell(rule: Rule) -> bool:
    return not rule.tool or fnmatch.fnmatchcase(SHELL, rule.tool)


def _rule_matches(rule: Rule, command: Command, *, use: Use | None, paths: tuple[str, ...]) -> bool:
    finds = _begins if rule.ruling is Ruling.ALLOW else _names
    named = not rule.argv or finds(command, rule.argv, use=use)
    return named and _for_shell(rule) and (not rule.path or any(matches(path, (rule.path,)) for path in paths))


def _rule_opinion(rule: Rule) -> Opinion:
    return Opinion(rule.ruling, rule.text())


def _judge_use(policy: Policy, command: Command, *, use: Use | None, place: Place) -> Iterator[Opinion]:
    word = command.argv[0]
    named = allowed_by_owner(policy, command, use=use)
    moved = not place.is_root()
    if use is not None and use.opaque:
        yield Opinion(Ruling.ASK, f"{use.program} starts whatever its arguments say")
        if _removes_all(command, place.root):
            yield Opinion(Ruling.DENY, "it would remove the workspace, the home or more")
    elif use is None or not use.listed:
        if not named:
            yield Opinion(Ruling.ASK, use.problem if use else f"{word} is on no list of programs")
    elif use.problem and use.fix:
        yield Opinion(Ruling.DENY, f"{use.problem} — {use.fix}")
    elif use.problem:
        yield Opinion(Ruling.ASK, use.problem)
    if policy.allow is not None and not named:
        yield Opinion(Ruling.ASK, f"the owner's allow list has no {word}")
    if moved and "/" in word and not word.startswith("/"):
        yield Opinion(Ruling.ASK, f"{word} would be looked for in {place.cwd}, not in the workspace's own folder")
    if moved and use is not None and use.program == "git":
        yield Opinion(Ruling.DENY, f"git runs in the workspace's own folder only — leave cd out: git … -- {place.cwd}")


def _removes_all(command: Command, root: str) -> bool:
    """Whether a line inside the words may remove the workspace, what holds it, or the home."""
    words = [found.strip("'\";()") for word in command.argv for found in re.split(r"[\s;|&]+", word)]
    names = [word.rsplit("/", 1)[-1] for word in words]
    targets = [word for word in words[names.index("rm") + 1 :] if word] if "rm" in names else []
    return any(
        _EVERYTHING.fullmatch(word) or f"{root}/".startswith(f"{word.rstrip('/*')}/") for word in targets if word != "*"
    )


def _judge_paths(
    policy: Policy, command: Command, *, use: Use | None, place: Place
) -> tuple[list[Opinion], tuple[str, ...]]:
    """What the paths make of the verdict, and the paths themselves, relative to the workspace."""
    # Of what starts something else, a word may be a pattern or an address as well as a path: it asks anyway.
    scripts = use.scripts if use is not None and not use.opaque else ()
    reads = [".", *(use.reads if use else ()), *scripts, *([command.stdin] if command.stdin else [])]
    writes = list(use.writes) if use else []
    opinions: list[Opinion] = []
    found: list[str] = []
    for path, written in [*((path, False) for path in reads), *((path, True) for path in writes)]:
        if path == NOWHERE or (path == "-" and not written):
            continue
        try:
            located = place.locate(path)
        except (_OutsideError, ToolError) as error:
            opinions.append(Opinion(Ruling.DENY, str(error)))
            continue
        found += located
        opinions += [judge_path(policy, path=each, writes=written) for each in located]
        if not written and any(matches(each, GIT_FOLDER) for each in located):
            opinions.append(Opinion(Ruling.ASK, f"{path} is git's own, which may hold a password", guarded=True))
        if written and use is not None and use.program in REMOVING and "." in located:
            opinions.append(Opinion(Ruling.DENY, f"{use.program} {path} would remove the workspace"))
    return opinions, tuple(dict.fromkeys(found))
