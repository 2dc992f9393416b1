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
    if not globs:
        return not parts
    if globs[0] == "**":
        return any(_match_parts(parts[skip:], globs[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], globs[0]) and _match_parts(parts[1:], globs[1:])
