"""Paths that need a question, and how globs match paths of a workspace."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TypeAlias

# Always ask, whatever the level: what runs code later or tells who may do what (design §9).
PROTECTED_PATHS = (
    ".git", ".git/**", "**/.git", "**/.git/**", ".gitattributes", "**/.gitattributes", ".gitmodules", "**/.gitmodules",
    ".githooks/**", ".husky/**", ".pre-commit-config.yaml", ".github/workflows/**", ".github/actions/**",
    ".gitlab-ci.yml", ".circleci/**", ".forgejo/**", ".gitea/**", "Jenkinsfile", "azure-pipelines.yml",
    ".ci/**", ".envrc", "**/.envrc", "**/.bashrc", "**/.profile", "**/.zshrc", "**/.bash_profile",
    "KAIROS.md", "AGENTS.md", "CLAUDE.md", ".kairos.toml",
)  # fmt: skip

# Never read without asking, never in a digest, a blob or memory (design §9).
SECRET_PATHS = (
    ".env", ".env.*", "**/.env", "**/.env.*", "**/*.pem", "**/*.key", "**/*.p12", "**/*.pfx", "**/.npmrc", "**/.pypirc",
    "**/.netrc", "**/id_rsa*", "**/id_dsa*", "**/id_ecdsa*", "**/id_ed25519*", "**/.aws/**", "**/.ssh/**",
    "**/.gnupg/**",
    "**/.docker/config.json", "**/.kube/config", "**/credentials", "**/credentials.json", "**/*.keystore", "**/*.jks",
    "**/secrets.*", "**/.git-credentials",
)  # fmt: skip

Parts: TypeAlias = tuple[str, ...]
_WILD = re.compile(r"[*?[]")


def matches(path: str, globs: Iterable[str]) -> bool:
    """Whether `path` matches a glob. Case is ignored: file systems that ignore it would let `.ENV` through.

    `**/` matches any folders, also none; a glob without a slash matches the file's own name, anywhere.
    """
    lowered = PurePosixPath(path.lower())
    parts = lowered.parts
    names, ends, others = _compiled(tuple(globs))
    if names.match(lowered.name) or (parts and ends.match(parts[-1])):
        return True
    return any(plain.issubset(parts) and _match_parts(parts, each) for each, plain in others)


@lru_cache(maxsize=256)
def _compiled(globs: tuple[str, ...]) -> tuple[re.Pattern[str], re.Pattern[str], list[tuple[Parts, frozenset[str]]]]:
    """Globs without a slash; those that are `**/` and one more part; the others in parts, with those that are plain."""
    names, ends, others = [], [], []
    for parts in (tuple(glob.lower().split("/")) for glob in globs):
        if len(parts) == 1:
            names.append(parts[0])
        elif parts[:-1] == ("**",) and parts[1] != "**":
            ends.append(parts[1])
        else:
            others.append((parts, frozenset(part for part in parts if not _WILD.search(part))))
    return _any_of(names), _any_of(ends), others


def _any_of(globs: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, globs)) if globs else r"(?!)")


def _match_parts(parts: Parts, globs: Parts) -> bool:
    """All readings at once, as an automaton: tried one by one, a few `**` in a row would take for ever."""
    reached = _onward(globs, {0})
    for part in parts:
        stayed = {at for at in reached if globs[at : at + 1] == ("**",)}
        passed = {at + 1 for at in reached - stayed if at < len(globs) and fnmatch.fnmatchcase(part, globs[at])}
        reached = _onward(globs, stayed | passed)
    return len(globs) in reached


def _onward(globs: Parts, reached: set[int]) -> set[int]:
    """With the places behind each `**` that may stand for no folder."""
    found = set(reached)
    for at in reached:
        while globs[at : at + 1] == ("**",):
            at += 1
            found.add(at)
    return found
