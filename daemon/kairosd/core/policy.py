"""What a run may do: levels, permission classes, and rules on tools and paths. Deny > ask > allow.

One table (`LEVELS`) is read by the gate and by docs/security.md. Levels 2 to 4 need commands and arrive with them.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import PurePosixPath

from kairosd.core.events import Tier


class Level(IntEnum):
    """What a run may do without asking."""

    OBSERVE = 0
    SUGGEST = 1

    @property
    def label(self) -> str:
        return self.name.lower()


class Permission(StrEnum):
    """The class of a tool: what kind of thing it does."""

    READ = "read"
    EDIT = "edit"
    COMMIT = "commit"
    NOTIFY = "notify"
    CONTROL = "control"  # ends or pauses the run itself; changes nothing outside


class Ruling(IntEnum):
    """Ordered by strictness, so that the worst of several is their maximum."""

    ALLOW = 0
    ASK = 1
    DENY = 2

    @property
    def label(self) -> str:
        return self.name.lower()


LEVELS: dict[Level, frozenset[Permission]] = {
    Level.OBSERVE: frozenset({Permission.READ, Permission.NOTIFY, Permission.CONTROL}),
    Level.SUGGEST: frozenset(Permission),
}

# Always ask, whatever the level: what runs code later or tells who may do what (design §9).
PROTECTED_PATHS = (
    ".git", ".git/**", "**/.git", "**/.git/**", ".gitattributes", "**/.gitattributes", ".gitmodules", "**/.gitmodules",
    ".githooks/**", ".husky/**", ".pre-commit-config.yaml", ".github/workflows/**", ".github/actions/**",
    ".gitlab-ci.yml", ".circleci/**", ".forgejo/**", ".gitea/**", "Jenkinsfile", "azure-pipelines.yml",
    ".ci/**", ".envrc", "**/.envrc", "**/.bashrc", "**/.profile", "**/.zshrc", "**/.bash_profile",
    "KAIROS.md", "AGENTS.md", "CLAUDE.md",
)  # fmt: skip

# Never read without asking, never in a digest, a blob or memory (design §9).
SECRET_PATHS = (
    ".env", ".env.*", "**/.env", "**/.env.*", "**/*.pem", "**/*.key", "**/*.p12", "**/*.pfx", "**/.npmrc", "**/.pypirc",
    "**/.netrc", "**/id_rsa*", "**/id_dsa*", "**/id_ecdsa*", "**/id_ed25519*", "**/.aws/**", "**/.ssh/**",
    "**/.gnupg/**",
    "**/.docker/config.json", "**/.kube/config", "**/credentials", "**/credentials.json", "**/*.keystore", "**/*.jks",
    "**/secrets.*", "**/.git-credentials",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """An owner's rule: `tool` and `path` are globs, an empty one matches everything."""

    ruling: Ruling
    tool: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The owner's rules and the paths that need a question."""

    rules: tuple[Rule, ...] = ()
    secret_paths: tuple[str, ...] = SECRET_PATHS
    protected_paths: tuple[str, ...] = PROTECTED_PATHS


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one check says of a call, and the rule that made it say so."""

    ruling: Ruling
    rule: str


def worst(opinions: Iterable[Opinion]) -> Opinion:
    """The strictest opinion; the first of equals, so that the cause named is stable."""
    return max(opinions, key=lambda opinion: opinion.ruling)


def judge_level(level: Level, permission: Permission) -> Opinion:
    """Whether `level` covers `permission` without asking."""
    if permission in LEVELS[level]:
        return Opinion(Ruling.ALLOW, f"level {level.label} covers {permission}")
    return Opinion(Ruling.DENY, f"level {level.label} does not cover {permission}")


def judge_taint(taint: Tier, permission: Permission) -> Opinion:
    """What a run may still do after it has read text of tier `taint`: a stranger's words lead to no change unasked."""
    if taint is Tier.PUBLIC and permission in (Permission.EDIT, Permission.COMMIT):
        return Opinion(Ruling.ASK, "the run has read what a stranger wrote")
    return Opinion(Ruling.ALLOW, f"taint {taint.label} allows {permission}")


def judge_path(policy: Policy, permission: Permission, *, path: str) -> Opinion:
    """Whether `path` (relative to the workspace, `/` between parts) needs a question."""
    if matches(path, policy.secret_paths):
        return Opinion(Ruling.ASK, f"{path} may hold secrets")
    if permission is not Permission.READ and matches(path, policy.protected_paths):
        return Opinion(Ruling.ASK, f"{path} is protected")
    return Opinion(Ruling.ALLOW, "the path is plain")


def judge_rules(policy: Policy, tool: str, *, paths: tuple[str, ...]) -> Opinion:
    """The strictest of the owner's rules that match this call; allow where none does."""
    opinions = [
        Opinion(rule.ruling, f"rule {rule.ruling.label} tool={rule.tool or '*'} path={rule.path or '**'}")
        for rule in policy.rules
        if (not rule.tool or fnmatch.fnmatchcase(tool, rule.tool))
        and (not rule.path or any(matches(path, (rule.path,)) for path in paths))
    ]
    return worst(opinions) if opinions else Opinion(Ruling.ALLOW, "no rule of the owner's matches")


def matches(path: str, globs: Iterable[str]) -> bool:
    """Whether `path` matches a glob. Case is ignored: file systems that ignore it would let `.ENV` through.

    `**/` matches any folders, also none; a glob without a slash matches the file's own name, anywhere.
    """
    lowered = PurePosixPath(path.lower())
    return any(_matches_one(lowered, glob.lower()) for glob in globs)


def _matches_one(path: PurePosixPath, glob: str) -> bool:
    if "/" not in glob:
        return fnmatch.fnmatchcase(path.name, glob)
    return _match_parts(path.parts, tuple(glob.split("/")))


def _match_parts(parts: tuple[str, ...], globs: tuple[str, ...]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        return any(_match_parts(parts[skip:], globs[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], globs[0]) and _match_parts(parts[1:], globs[1:])
