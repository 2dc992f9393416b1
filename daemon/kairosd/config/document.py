"""A TOML file, the line of each of its keys, and everything that is wrong with it."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from kairosd.errors import ConfigError

KeyPath: TypeAlias = "tuple[str | int, ...]"  # ("workspaces", 0, "path")


class Document:
    """One configuration file and the problems found in it. Without a file it is empty and has no lines."""

    def __init__(self, file: Path | None, text: str = "") -> None:
        self.file = file
        self._problems: list[tuple[int, str]] = []
        text = text.replace("\r\n", "\n")
        try:
            self.data: dict[str, object] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+), column \d+\)", str(error))
            line = found[1] if found else text.count("\n") + 1
            raise ConfigError(f"{file}:{line}: not TOML: {error}") from None
        self._lines = _locate(text)

    @classmethod
    def read(cls, file: Path | None) -> Document:
        """The file's document. Raises `ConfigError` when it cannot be read or is not TOML."""
        if file is None:
            return cls(None)
        try:
            return cls.parse(file.read_bytes(), file)
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror}", fix="kairos init writes one") from error

    @classmethod
    def parse(cls, content: bytes, file: Path) -> Document:
        """The document of what `file` holds. Raises `ConfigError` when it is not TOML."""
        try:
            return cls(file, content.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: not UTF-8: {error.reason} at byte {error.start}") from None

    def line(self, path: KeyPath) -> int:
        """The line of `path`, else of the nearest thing around it; counts from 1."""
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def problem(self, path: KeyPath, text: str, *, nearest: str | None = None) -> None:
        """Remembers that what lies at `path` is wrong; `text` must hold no value of the owner's that may be secret."""
        line = self.line(path)
        where = f"{self.file}:{line}: " if self.file else ""
        hint = f'; did you mean "{nearest}"?' if nearest else ""
        message = f"{where}{_title(path)}: {text}{hint}"
        if (line, message) not in self._problems:
            self._problems.append((line, message))

    def raise_problems(self) -> None:
        """Raises `ConfigError` with every problem, one a line in the file's order, if there is any."""
        if self._problems:
            raise ConfigError("\n".join(message for _, message in sorted(self._problems, key=lambda each: each[0])))


def nearest(word: object, options: Iterable[str]) -> str | None:
    """The option that `word` was probably meant to be."""
    difflib = importlib.import_module("difflib")  # only here: a file without mistakes does without it
    return next(iter(difflib.get_close_matches(str(word), list(options), n=1)), None)


def _title(path: KeyPath) -> str:
    """`[tick] enabled`, `[models.fast] model`, `[[workspaces]] path`, `[[policy.rules]] tool`."""
    names = [part for part in path if isinstance(part, str)]
    listed = (path[0] in ("workspaces", "schedules") and len(path) > 1) or path[:2] == ("policy", "rules")
    inner = path[:2] in (("policy", "rules"), ("initiative", "triggers"))
    length = 2 if path[0] in ("models", "webhooks", "notifiers", "budget") or inner else 1
    table, key = ".".join(names[:length]), ".".join(names[length:])
    return f"{f'[[{table}]]' if listed else f'[{table}]'} {key}".rstrip()


def _locate(text: str) -> Mapping[KeyPath, int]:
    lines = text.split("\n")
    found: dict[KeyPath, int] = {(): 1}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    at = 0
    while at < len(lines):
        length, parsed = _statement(lines, at)
        if lines[at].lstrip().startswith("["):
            table = _header(parsed, counts)
            found.setdefault(table, at + 1)
        else:
            for path in _paths(parsed, table):
                found.setdefault(path, at + 1)
        at += length
    return found


def _statement(lines: list[str], at: int) -> tuple[int, Mapping[str, object]]:
    """How many lines the statement takes (text and lists may go over many), and what it says."""
    for end in range(at + 1, len(lines) + 1):
        try:
            return end - at, tomllib.loads("\n".join(lines[at:end]))
        except tomllib.TOMLDecodeError:
            continue  # not whole yet: the document as a whole has been parsed before
    return 1, {}


def _header(parsed: object, counts: dict[KeyPath, int]) -> KeyPath:
    path: KeyPath = ()
    while isinstance(parsed, Mapping) and parsed:
        if path in counts:
            path += (counts[path],)
        key, parsed = next(iter(parsed.items()))
        path += (str(key),)
    if isinstance(parsed, list):
        counts[path] = counts.get(path, -1) + 1
        path += (counts[path],)
    return path


def _paths(value: object, base: KeyPath) -> Iterator[KeyPath]:
    yield base
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _paths(item, (*base, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _paths(item, (*base, index))
