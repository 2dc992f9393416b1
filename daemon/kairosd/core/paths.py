"""Paths that need a question, and how globs match paths of a workspace."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import PurePosixPath

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
    """All readings at once, as an automaton: tried one by one, a few `**` in a row would take for ever."""
    if globs[:1] == ("**",) and len(globs) == 2 and globs[1] != "**":  # most are so
        return bool(parts) and fnmatch.fnmatchcase(parts[-1], globs[1])
    reached = _onward(globs, {0})
    for part in parts:
        stayed = {at for at in reached if globs[at : at + 1] == ("**",)}
        passed = {at + 1 for at in reached - stayed if at < len(globs) and fnmatch.fnmatchcase(part, globs[at])}
        reached = _onward(globs, stayed | passed)
    return len(globs) in reached


def _onward(globs: tuple[str, ...], reached: set[int]) -> set[int]:
    """With the places behind each `**` that may stand for no folder."""
    found = set(reached)
    for at in reached:
        while globs[at : at + 1] == ("**",):
            at += 1
            found.add(at)
    return found
