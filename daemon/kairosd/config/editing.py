"""Changing the configuration file for the owner: `[[workspaces]]`, their levels and triggers' modes, nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from kairosd.config.folders import name_of
from kairosd.config.loading import Config, load
from kairosd.core.levels import Level
from kairosd.errors import ConfigError, NotFoundError, UsageError
from kairosd.wire import Home

TABLE = re.compile(r"^\s*\[")
TRIGGERS = "[initiative.triggers]"


def edit_workspace(config: Config, place: Home, *, name: str, path: str | None) -> None:
    """Adds the workspace at `path` under `name` (empty = the folder's), or removes `name` when `path` is None.

    The new text is loaded before it replaces the file, so that a bad one changes nothing. Raises `ConfigError`,
    `UsageError`, `NotFoundError`.
    """
    file = _file(config)
    text = file.read_text(encoding="utf-8")
    changed = _without(text, config, name=name) if path is None else _with(text, config, name=name, path=Path(path))
    _replace(file, changed, place=place)


def edit_level(config: Config, place: Home, *, name: str, level: Level) -> None:
    """Writes the level of workspace `name` into the file. Raises `ConfigError`, `UsageError`, `NotFoundError`."""
    file = _file(config)
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    text = _with_key(lines, _table(lines, config, name=name)[0], key="level", value=level.label)
    wanted = {**{one.name: one.level for one in config.workspaces}, name: level}

    def holds(loaded: Config) -> bool:
        return {one.name: one.level for one in loaded.workspaces} == wanted

    _replace(file, text, place=place, holds=holds)


def edit_trigger(config: Config, place: Home, *, name: str, mode: str) -> None:
    """Writes the mode of trigger `name` into the file. Raises `ConfigError`, `UsageError`."""
    file = _file(config)
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    first = next((at for at, line in enumerate(lines) if line.split("#")[0].replace(" ", "").strip() == TRIGGERS), None)
    if first is None:
        text = f"{''.join(lines).rstrip()}\n\n{TRIGGERS}\n{name} = {_quoted(mode)}\n"
    else:
        text = _with_key(lines, first, key=name, value=mode)
    try:
        _replace(file, text, place=place, holds=lambda loaded: getattr(loaded.initiative.triggers, name) == mode)
    except ConfigError:
        load(file, folder=file.parent, place=place)  # what was wrong before is told as that
        raise _unplaced(file) from None


def _with_key(lines: list[str], first: int, *, key: str, value: str) -> str:
    """The text with `key` set in the table that begins at line `first`; what stands behind an old value stays."""
    form = re.compile(rf"""^(\s*{key}\s*=\s*)(?:"[^"]*"|'[^']*')""")
    after = next((at for at in range(first + 1, len(lines)) if TABLE.match(lines[at])), len(lines))
    at = next((at for at in range(first + 1, after) if form.match(lines[at])), None)
    if at is None:
        ending = "" if lines[first].endswith("\n") else "\n"
        lines[first] = f"{lines[first]}{ending}{key} = {_quoted(value)}\n"
    else:
        lines[at] = form.sub(rf"\1{_quoted(value)}", lines[at])
    return "".join(lines)


def _file(config: Config) -> Path:
    if config.path is None:
        raise UsageError("there is no configuration file to change", fix="kairos init writes one")
    return config.path


def _replace(file: Path, text: str, *, place: Home, holds: Callable[[Config], bool] | None = None) -> None:
    """Puts `text` in the file's place once it has been loaded and what is wanted `holds`. Raises as `load` does."""
    draft = file.with_name(f".{file.name}.new")
    draft.touch(mode=0o600)
    try:
        draft.write_text(text, encoding="utf-8")
        loaded = load(draft, folder=file.parent, place=place)
        if holds is not None and not holds(loaded):
            raise _unplaced(file)
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _unplaced(file: Path) -> UsageError:
    return UsageError("the place for it cannot be found in the file", fix=f"set it by hand in {file}")


def _with(text: str, config: Config, *, name: str, path: Path) -> str:
    chosen = name or name_of(path)
    if any(one.name == chosen for one in config.workspaces):
        raise UsageError(f"there is a workspace {chosen} already", fix="choose another --name")
    if any(one.path == path.resolve() for one in config.workspaces):
        raise UsageError(f"{path} is watched already")
    return f"{text.rstrip()}\n\n[[workspaces]]\nname = {_quoted(chosen)}\npath = {_quoted(str(path))}\n"


def _without(text: str, config: Config, *, name: str) -> str:
    lines = text.splitlines(keepends=True)
    first, after = _table(lines, config, name=name)
    return "".join(lines[:first] + lines[after:])


def _table(lines: list[str], config: Config, *, name: str) -> tuple[int, int]:
    """Where the table of workspace `name` begins, and what comes after it."""
    starts = [at for at, line in enumerate(lines) if line.strip().replace(" ", "") == "[[workspaces]]"]
    names = [one.name for one in config.workspaces]
    if name not in names:
        raise NotFoundError(f"there is no workspace {name}", fix=f"there are: {', '.join(names) or 'none'}")
    if len(starts) != len(names):
        raise UsageError("the file's [[workspaces]] cannot be told apart", fix=f"change it by hand in {config.path}")
    first = starts[names.index(name)]
    return first, next((at for at in range(first + 1, len(lines)) if TABLE.match(lines[at])), len(lines))


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
