"""Workspaces: the watched folders, each with its own policy."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from kairosd.core.levels import Level
from kairosd.frozen import frozen


class Landing(StrEnum):
    """How a run's work comes back: as a branch `kairos/<slug>`, as a patch file, or in the owner's own files.

    `direct` needs level 3, and is a branch wherever it cannot be done safely.
    """

    BRANCH = "branch"
    PATCH = "patch"
    DIRECT = "direct"


@frozen
class Workspace:
    """A folder Kairos watches. `path` is absolute and resolved; `repo` is `owner/name` on the forge, None if unknown.

    `share` and `bin` name folders of the workspace that a checkout sees read-only; `ignore` holds globs whose changes
    wake nobody.
    """

    name: str
    path: Path
    repo: str | None = None
    level: Level = Level.SUGGEST
    trusted: bool = False
    watch: bool = True
    bin: tuple[str, ...] = (".venv/bin", "node_modules/.bin")
    share: tuple[str, ...] = (".venv", "node_modules")
    landing: Landing = Landing.BRANCH
    ignore: tuple[str, ...] = ()


@frozen
class World:
    """What the initiative remembers of a workspace between looks.

    `fingerprint` is of the world at the last look; `next_wake` an ISO moment or None; `trusted_hashes` the instruction
    files the owner has trusted, as JSON `{name: sha256}`. `shadow_fingerprint` is of the world that a
    trigger in the shadow last looked at, which hides no change from the others.
    """

    workspace: str
    fingerprint: str = ""
    next_wake: str | None = None
    trusted_hashes: str = ""
    shadow_fingerprint: str = ""
