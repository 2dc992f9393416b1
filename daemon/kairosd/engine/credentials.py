"""Credentials that git keeps in a repository's configuration: no program but git itself may see such a file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from kairosd.engine import git
from kairosd.errors import ToolError
from kairosd.ports import Files

CONFIG_MAX = 1_000_000  # bytes; a longer file counts as one that holds a credential
# A token stands as the user of an http address, a password behind the user of any; the rest are keys of git-config(1).
_CREDENTIAL = re.compile(rb"https?://[^/\s@]+@|://[^/\s:@]+:[^/\s@]+@|extraheader|password|token", re.IGNORECASE)
NAMES = ("config", "config.worktree")
_OTHERS = frozenset({"objects", "refs", "logs", "hooks", "info", "lfs"})  # in which no repository lies


def configurations(files: Files, folder: Path) -> tuple[Path, ...]:
    """The configuration files that hold a credential, of the repository at `folder` and all its submodules. Blocks."""
    layout = git.find_layout(files, folder)
    if layout is None:
        return ()
    found = (path for home in (layout.common, layout.gitdir) for path in _found_in(home))
    return tuple(_holding(files, dict.fromkeys(found)))


def holds_credential(files: Files, path: Path) -> bool:
    """Whether the file tells who may enter where; what cannot be read does not. Blocks."""
    try:
        content = files.read(path.parent, path.name, limit=CONFIG_MAX + 1)
    except ToolError:
        return False
    return len(content) > CONFIG_MAX or _CREDENTIAL.search(content) is not None


def _found_in(home: Path) -> Iterator[Path]:
    """Whatever a submodule is called: its name may have slashes, and one may lie in another."""
    for name, folders, names in os.walk(home):
        if "HEAD" in names:  # a repository, or a worktree of one; else these may be parts of a submodule's name
            folders[:] = [each for each in folders if each not in _OTHERS]
        yield from (Path(name) / each for each in NAMES if each in names)


def _holding(files: Files, paths: dict[Path, None]) -> Iterator[Path]:
    return (path for path in paths if holds_credential(files, path))
