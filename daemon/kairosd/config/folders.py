"""Workspaces as folders: which may be one, what it is called, and which repository of the forge it is."""

from __future__ import annotations

import re
from pathlib import Path

from kairosd.wire import Home

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[A-Za-z0-9._-]{1,100}")
_REMOTE = re.compile(r"(?:[a-z+]+://[^/]+/|[^/:]+:)(?:.*/)?(?P<owner>[^/]+)/(?P<name>[^/]+?)(?:\.git)?/?")


def refusal(path: Path, place: Home) -> str | None:
    """Why `path` (absolute, resolved) cannot be a workspace; None when it can, also when it is not there now."""
    if path == Path(path.anchor):
        return "the root of the file system cannot be a workspace"
    if path == Path.home().resolve():
        return "your home folder cannot be a workspace: name a folder in it"
    for own in place.own_folders():
        folder = own.resolve()
        if path == folder or path.is_relative_to(folder) or folder.is_relative_to(path):
            return f"it contains or lies in {own}, which is Kairos's own"
    return "it is not a folder" if path.exists() and not path.is_dir() else None


def checkout_of(folder: Path) -> Path | None:
    """The top of the git checkout that `folder` lies in."""
    resolved = folder.resolve()
    return next((each for each in (resolved, *resolved.parents) if (each / ".git").exists()), None)


def name_of(path: Path) -> str:
    """A workspace's name where the owner gave none: the folder's, with what a name cannot hold as `-`."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", path.name).lstrip(".-")[:64] or "workspace"


def origin_of(path: Path) -> str | None:
    """`owner/name` of the checkout's remote `origin`; None where there is none or it names no forge's repository."""
    folder = _git_folder(path)
    if folder is None:
        return None
    try:
        url = _origin_url((folder / "config").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None  # not readable is not known; git itself will say why when a run needs it
    found = _REMOTE.fullmatch(url)
    repo = f"{found['owner']}/{found['name']}" if found else ""
    return repo if REPO.fullmatch(repo) else None


def _git_folder(path: Path) -> Path | None:
    """`.git`, or for a linked worktree or submodule what its `.git` file points to."""
    entry = path / ".git"
    if not entry.is_file():
        return entry if entry.is_dir() else None
    try:
        pointed = path / entry.read_text(encoding="utf-8", errors="replace").removeprefix("gitdir:").strip()
        common = pointed / "commondir"
        return pointed / common.read_text(encoding="utf-8").strip() if common.is_file() else pointed
    except OSError:
        return None  # as above


def _origin_url(text: str) -> str:
    inside = False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            inside = re.fullmatch(r'\[remote\s+"origin"\]', stripped) is not None
        elif inside and (found := re.fullmatch(r'url\s*=\s*"?([^"]*?)"?', stripped)):
            return found[1]
    return ""
