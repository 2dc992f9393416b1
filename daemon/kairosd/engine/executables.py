"""Executables: what the first word of a command starts, and which folders outside of the workspace that needs.

A bare name is looked for in the folders that the workspace's `bin` names, then in the system's, as far as root owns
them and nobody else can write there. Programs in a `bin` folder often are links to an interpreter in the owner's home
(pyenv, uv, nvm): only that interpreter's own prefix is shown, read-only, and only when it looks like one.
"""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from kairosd.frozen import frozen
from kairosd.ports import Mount

SYSTEM = ("/usr/local/bin", "/usr/bin", "/bin")
SHOWN = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives")  # in every sandbox
LINKS_MAX = 40  # as the kernel's own limit, path_resolution(7)
NESTED_MAX = 4  # interpreters of interpreters, as the kernel's limit in fs/exec.c
FIRST_LINE = 512  # bytes; the kernel reads 256
INTERPRETERS = ("python", "python3", "node")
INTERPRETER = re.compile(r"(python|pypy|node)[0-9.]*t?")
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class NotRunnableError(Exception):
    """The command cannot start; the text is bash's, as far as it has one."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


@frozen
class Needs:
    """What a program needs to see besides the workspace. `links` are (where, what it says): links on the way to it."""

    mounts: Mapping[Path, Mount] = field(default_factory=dict)
    links: Mapping[Path, str] = field(default_factory=dict)

    def __or__(self, other: Needs) -> Needs:
        return Needs({**self.mounts, **other.mounts}, {**self.links, **other.links})


@frozen
class Scene:
    """A workspace as the sandbox shows it: `root` is its own path, `mounts` say where its files lie on the host.

    `bins` are those of its `bin` folders that are the owner's own and read-only; absolute.
    """

    root: Path
    mounts: tuple[Mount, ...]
    bins: tuple[Path, ...] = ()

    def host(self, path: Path) -> Path | None:
        """Where a path of the sandbox lies on the host, None for one that no mount shows. The last mount wins."""
        for mount in reversed(self.mounts):
            if path.is_relative_to(mount.target):
                return mount.source / path.relative_to(mount.target)
        return path if _in_system(path) else None

    def search(self, *, with_bins: bool) -> tuple[Path, ...]:
        """The folders of PATH, in order."""
        system = [Path(folder) for folder in SYSTEM if _is_roots(Path(folder))]
        return (*(self.bins if with_bins else ()), *system)

    def needs(self) -> Needs:
        """What the interpreters in the `bin` folders need, whoever starts them."""
        found = Needs()
        for folder in self.bins:
            for name in INTERPRETERS:
                for path in (folder / name, *self._homes(folder, name)):
                    try:
                        found |= self._needs_of(path)
                    except NotRunnableError:
                        continue  # said when it is the one that is asked for
        return found

    def find(self, word: str, cwd: Path, *, with_bins: bool) -> Needs:
        """What the program `word` needs when it is started in `cwd`. Raises `NotRunnableError` where it cannot be."""
        if "/" not in word:
            for folder in self.search(with_bins=with_bins):
                if self._is_program(folder / word):
                    return self._with_interpreters(folder / word)
            raise NotRunnableError(NOT_FOUND, f"{word}: command not found")
        path = Path(os.path.normpath(cwd / word))
        real, _ = self._follow(path)
        host = self.host(real)
        if host is None or not host.exists():
            raise NotRunnableError(NOT_FOUND, f"{word}: No such file or directory")
        if host.is_dir():
            raise NotRunnableError(NOT_EXECUTABLE, f"{word}: Is a directory")
        if not os.access(host, os.X_OK) or (_in_system(real) and not _is_roots(host)):
            raise NotRunnableError(NOT_EXECUTABLE, f"{word}: Permission denied")
        # Only what the owner's own folders name may bring more into sight: a run could make a link anywhere else.
        owners = any(path.is_relative_to(folder) for folder in self.bins) or _in_system(path)
        needs = self._with_interpreters(path)
        return needs if owners else Needs()

    def _is_program(self, path: Path) -> bool:
        real, _ = self._follow(path)
        host = self.host(real) or real
        return host.is_file() and os.access(host, os.X_OK) and (not _in_system(path) or _is_roots(host))

    def _with_interpreters(self, path: Path) -> Needs:
        """What the program needs and what its `#!` line names, which may be a script again."""
        needs = Needs()
        for _ in range(NESTED_MAX):
            needs |= self._needs_of(path)
            interpreter = self._interpreter(path)
            if interpreter is None:
                break
            if not self._is_program(interpreter):
                raise NotRunnableError(NOT_FOUND, f"{path}: cannot execute: {interpreter} is missing")
            path = interpreter
        return needs

    def _interpreter(self, path: Path) -> Path | None:
        real, _ = self._follow(path)
        try:
            with (self.host(real) or real).open("rb") as file:
                line = file.read(FIRST_LINE).partition(b"\n")[0]
        except OSError:
            return None
        words = os.fsdecode(line[2:]).split()
        if not line.startswith(b"#!") or not words:
            return None
        named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        if Path(words[0]).name != "env" or not named:
            return Path(words[0])
        found = (folder / named[0] for folder in self.search(with_bins=True))
        return next((each for each in found if self._is_program(each)), None)

    def _homes(self, folder: Path, name: str) -> Iterator[Path]:
        """Where a virtual environment says that its interpreter lives: python reads it, and so must find it."""
        config = self.host(folder.parent / "pyvenv.cfg")
        if config is not None and config.is_file():
            for line in config.read_text(errors="replace").splitlines():
                key, _, value = line.partition("=")
                if key.strip() == "home" and value.strip().startswith("/"):
                    yield Path(value.strip()) / name

    def _needs_of(self, path: Path) -> Needs:
        real, links = self._follow(path)
        if self.host(real) is not None:
            return Needs(links=links)
        prefix = _prefix(real, self.root)
        if prefix is None:
            raise NotRunnableError(NOT_EXECUTABLE, f"{path}: it leads to {real}, in a folder that no program may see")
        outside = {where: says for where, says in links.items() if not where.is_relative_to(prefix)}
        return Needs({prefix: Mount(prefix, prefix)}, outside)

    def _follow(self, path: Path) -> tuple[Path, dict[Path, str]]:
        """Where a path of the sandbox leads, and the links on the way that no mount shows."""
        at, left, links = Path("/"), deque(path.parts[1:]), dict[Path, str]()
        for _ in range(LINKS_MAX):
            at, link = self._walk(at, left)
            if link is None:
                return at, links
            says = str((self.host(link) or link).readlink())
            if self.host(link) is None:
                links[link] = says
            at = Path("/") if says.startswith("/") else link.parent
            left.extendleft(reversed([part for part in Path(says).parts if part != "/"]))
        raise NotRunnableError(NOT_EXECUTABLE, f"{path}: Too many levels of symbolic links")

    def _walk(self, at: Path, left: deque[str]) -> tuple[Path, Path | None]:
        while left:
            part = left.popleft()
            step = at.parent if part == ".." else at / part
            if part != ".." and (self.host(step) or step).is_symlink():
                return at, step
            at = step
        return at, None


def real_folders(root: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Those of the folders `names` below `root` that are there and are no links; absolute."""
    paths = [root / name for name in names if not Path(name).is_absolute()]
    return tuple(path for path in paths if path.is_dir() and path.resolve() == path and path.is_relative_to(root))


def _in_system(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in SHOWN)


def _is_roots(path: Path) -> bool:
    """Whether root owns the file and every folder on the way to it, and nobody else can write there."""
    try:
        found = [each.stat() for each in (path, *path.parents)]
    except OSError:
        return False
    return all(each.st_uid == 0 and not each.st_mode & (stat.S_IWGRP | stat.S_IWOTH) for each in found)


def _prefix(program: Path, root: Path) -> Path | None:
    """The folder an interpreter was installed into, when that holds an interpreter and nothing else; else None."""
    prefix = program.parent.parent
    if program.parent.name != "bin" or not INTERPRETER.fullmatch(program.name) or len(prefix.parts) < 3:
        return None
    if not _has(prefix, ("lib/python3*", "lib/pypy3*", "lib/node_modules", "include/node")):
        return None
    for home in {Path.home(), Path(pwd.getpwuid(os.getuid()).pw_dir)}:
        shallow = prefix.parent == home and not (prefix / "conda-meta").is_dir()  # ~/.local holds much else
        if shallow or home.is_relative_to(prefix):
            return None
    return None if root.is_relative_to(prefix) else prefix


def _has(folder: Path, globs: Iterable[str]) -> bool:
    return any(next(folder.glob(each), None) is not None for each in globs)
