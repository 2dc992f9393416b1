"""Changing the configuration file for the owner: only whole `[[workspaces]]` tables, and never anything else in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kairosd.config.folders import name_of
from kairosd.config.loading import Config, load
from kairosd.errors import NotFoundError, UsageError
from kairosd.wire import Home

TABLE = re.compile(r"^\s*\[")


def edit_workspace(config: Config, place: Home, *, name: str, path: str | None) -> None:
    """Adds the workspace at `path` under `name` (empty = the folder's), or removes `name` when `path` is None.

    The new text is loaded before it replaces the file, so that a bad one changes nothing. Raises `ConfigError`,
    `UsageError`, `NotFoundError`.
    """
    file = config.path
    if file is None:
        raise UsageError("there is no configuration file to change", fix="kairos init writes one")
    text = file.read_text(encoding="utf-8")
    changed = _without(text, config, name=name) if path is None else _with(text, config, name=name, path=Path(path))
    draft = file.with_name(f".{file.name}.new")
    draft.touch(mode=0o600)
    try:
        draft.write_text(changed, encoding="utf-8")
        load(draft, folder=file.parent, place=place)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _with(text: str, config: Config, *, name: str, path: Path) -> str:
    chosen = name or name_of(path)
    if any(one.name == chosen for one in config.workspaces):
        raise UsageError(f"there is a workspace {chosen} already", fix="choose another --name")
    if any(one.path == path.resolve() for one in config.workspaces):
        raise UsageError(f"{path} is watched already")
    return f"{text.rstrip()}\n\n[[workspaces]]\nname = {_quoted(chosen)}\npath = {_quoted(str(path))}\n"


def _without(text: str, config: Config, *, name: str) -> str:
    lines = text.splitlines(keepends=True)
    starts = [at for at, line in enumerate(lines) if line.strip().replace(" ", "") == "[[workspaces]]"]
    names = [one.name for one in config.workspaces]
    if name not in names:
        raise NotFoundError(f"there is no workspace {name}", fix=f"there are: {', '.join(names) or 'none'}")
    if len(starts) != len(names):
        raise UsageError("the file's [[workspaces]] cannot be told apart", fix=f"remove it by hand in {config.path}")
    first = starts[names.index(name)]
    after = next((at for at in range(first + 1, len(lines)) if TABLE.match(lines[at])), len(lines))
    return "".join(lines[:first] + lines[after:])


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
