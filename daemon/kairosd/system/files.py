"""Reading and writing below a root, part by part through open folders, so that no link and no race leads out of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import secrets
import stat
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from kairosd.errors import ToolError

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO must not hold us until somebody writes
LINKS_MAX = 40  # as the kernel's own limit, path_resolution(7)
SEARCHED_MAX = 5000  # files looked through for a name like the missing one
TEMPORARY = ".kairos-"
CHUNK = 1 << 20


class LocalFiles:
    """Files of this machine; implements the port `Files`.

    Reading follows links whose target stays below the root; writing follows none. Only regular files are opened: no
    FIFO, device or socket.
    """

    def read(self, root: Path, path: str, *, limit: int) -> bytes:
        """At most `limit` bytes of a regular file. Raises `ToolError`."""
        with _open_file(root, path) as descriptor:
            parts: list[bytes] = []
            while limit > 0 and (data := os.read(descriptor, min(limit, CHUNK))):
                parts.append(data)
                limit -= len(data)
            return b"".join(parts)

    def replace(self, root: Path, path: str, *, content: bytes, mode: int | None = None) -> None:
        """Writes a whole file atomically (folders made), on disk before it returns; its mode is kept unless given.

        Raises `ToolError`.
        """
        parts = _file_parts(path)
        try:
            with _open_folder(root, parts[:-1]) as folder:
                kept = _mode(folder, path)
                _write(folder, parts[-1], content=content, mode=kept if mode is None else mode)
        except OSError as error:
            raise _failed("write", path, error=error) from error

    def remove(self, root: Path, path: str) -> None:
        """Deletes a regular file, on disk before it returns; nothing happens where there is none.

        Raises `ToolError`.
        """
        parts = _file_parts(path)
        if self.mode(root, path) is None:
            return
        try:
            with _open_folder(root, parts[:-1]) as folder:
                _mode(folder, path)  # a link or a folder put there meanwhile is refused
                os.unlink(parts[-1], dir_fd=folder)
                os.fsync(folder)
        except OSError as error:
            raise _failed("delete", path, error=error) from error

    def mode(self, root: Path, path: str) -> int | None:
        """The permissions of a regular file; None where there is none or a link is in the way."""
        parts = _file_parts(path)
        try:
            descriptor = _walk_to(root, parts)
        except (OSError, _LinkError):
            return None
        try:
            found = os.fstat(descriptor).st_mode
        finally:
            os.close(descriptor)
        return found & 0o777 if stat.S_ISREG(found) else None

    def resolve(self, root: Path, path: str) -> str:
        """Where `path` leads when links below the root are followed; itself where it leads nowhere."""
        parts = _parts(path)
        for _ in range(LINKS_MAX):
            try:
                os.close(_walk_to(root, parts))
                break
            except _LinkError as link:
                parts = link.target
            except OSError:
                break  # a missing file has no links to follow; opening it will say what is wrong
        return "/".join(parts)

    def digest(self, root: Path, path: str) -> str | None:
        """SHA-256 (hex) of a regular file; None where there is none. Raises `ToolError` for a link that leads out."""
        hashed = hashlib.sha256()
        try:
            with _open_file(root, path) as descriptor:
                while data := os.read(descriptor, CHUNK):
                    hashed.update(data)
        except MissingError:
            return None
        return hashed.hexdigest()

    def walk(self, root: Path, limit: int) -> Iterator[tuple[str, int, int]]:
        """(path, size, mtime in ns) of at most `limit` regular files, shallow folders first, each in order of names.

        `.git`, links and our own half-written files are left out; so is what cannot be read.
        """
        folders = deque([""])
        while folders and limit > 0:
            prefix = folders.popleft()
            for entry in _entries(root / prefix):
                name = prefix + entry.name
                if entry.name == ".git" or entry.name.startswith(TEMPORARY) or entry.is_symlink():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(name + "/")
                elif entry.is_file(follow_symlinks=False) and limit > 0:
                    with contextlib.suppress(FileNotFoundError):
                        found = entry.stat(follow_symlinks=False)
                        yield name, found.st_size, found.st_mtime_ns
                        limit -= 1


class MissingError(ToolError):
    """There is no regular file of that name. `fix` names files like it, looked for when somebody reads it.

    Most who ask for a file that is not there only want to know: every look at a workspace asks for two.
    """

    def __init__(self, message: str, *, near: Callable[[], list[str]] = list) -> None:
        self._near = near
        super().__init__(message)

    @property
    def fix(self) -> str | None:
        found = self._near()
        return f"nearest: {', '.join(found)}" if found else None

    @fix.setter
    def fix(self, value: str | None) -> None:
        pass  # it is worked out, not told

    def __str__(self) -> str:
        fix = self.fix
        return self.message if fix is None else f"{self.message} — {fix}"


class _LinkError(Exception):
    """A part of the path is a link: `target` is where the whole path leads, relative to the root."""

    def __init__(self, target: list[str]) -> None:
        super().__init__("/".join(target))
        self.target = target


@contextlib.contextmanager
def _open_file(root: Path, path: str) -> Iterator[int]:
    parts = _parts(path)
    try:
        for _ in range(LINKS_MAX):
            try:
                descriptor = _walk_to(root, parts)
                break
            except _LinkError as link:
                parts = link.target
        else:
            raise ToolError(f"{path} is a link that leads in a circle")
    except OSError as error:
        raise _missing(root, path, error=error) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise MissingError(f"{path} is {'a folder, not a file' if stat.S_ISDIR(mode) else 'not a plain file'}")
        yield descriptor
    finally:
        os.close(descriptor)


def _walk_to(root: Path, parts: list[str]) -> int:
    if not parts:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    with contextlib.ExitStack() as stack:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, folder)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            try:
                opened = os.open(part, FILE if last else FOLDER, dir_fd=folder)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                    _follow(folder, root, parts=parts, index=index)
                raise
            if last:
                return opened
            folder = opened
            stack.callback(os.close, folder)
    raise AssertionError("a path has a last part")


def _follow(folder: int, root: Path, *, parts: list[str], index: int) -> None:
    """Raises `_LinkError` with the path that the link at `index` leads to; returns when it is no link."""
    try:
        target = os.readlink(parts[index], dir_fd=folder)
    except OSError:
        return  # no link: the caller's own error says what is wrong
    shown = "/".join(parts[: index + 1])
    if target.startswith("/"):
        if not Path(target).is_relative_to(root):
            raise ToolError(f"{shown} is a link that leads out of the workspace")
        start, target = [], str(Path(target).relative_to(root))
    else:
        start = parts[:index]
    raise _LinkError(_resolve([*start, *target.split("/"), *parts[index + 1 :]], shown))


@contextlib.contextmanager
def _open_folder(root: Path, parts: list[str]) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, folder)
        for index, part in enumerate(parts):
            try:
                opened = os.open(part, FOLDER, dir_fd=folder)
            except FileNotFoundError:
                os.mkdir(part, dir_fd=folder)
                os.fsync(folder)
                opened = os.open(part, FOLDER, dir_fd=folder)
            except OSError as error:
                shown = "/".join(parts[: index + 1])
                raise ToolError(f"{shown} is a link or no folder: write to the real place instead") from error
            folder = opened
            stack.callback(os.close, folder)
        yield folder


def _mode(folder: int, path: str) -> int | None:
    """The permissions of the file to be replaced; None for a new one."""
    try:
        found = os.stat(path.rsplit("/", 1)[-1], dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        kind = "a link: write to its target" if stat.S_ISLNK(found.st_mode) else "not a plain file"
        raise ToolError(f"{path} is {kind}")
    return found.st_mode & 0o777


def _write(folder: int, name: str, *, content: bytes, mode: int | None) -> None:
    temporary = f"{TEMPORARY}{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)


def _file_parts(path: str) -> list[str]:
    parts = _parts(path)
    if not parts:
        raise ToolError(f"{path or '.'} is a folder, not a file")
    return parts


def _parts(path: str) -> list[str]:
    if path.startswith("/") or "\0" in path:
        raise ToolError(f"{path!r} is not a path relative to the workspace")
    return _resolve(path.split("/"), path)


def _resolve(parts: list[str], shown: str) -> list[str]:
    """Takes `..` away by name. Right even with links: every part before it is walked, and no link is walked through."""
    resolved: list[str] = []
    for part in parts:
        if part == "..":
            if not resolved:
                raise ToolError(f"{shown} leads out of the workspace")
            resolved.pop()
        elif part not in {"", "."}:
            resolved.append(part)
    return resolved


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []  # gone or locked since its parent was listed


def _missing(root: Path, path: str, *, error: OSError) -> ToolError:
    if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ELOOP}:
        return _failed("read", path, error=error)
    if error.errno == errno.EISDIR:
        return MissingError(f"{path or '.'} is a folder, not a file")
    return MissingError(f"there is no file {path}", near=lambda: _nearest(root, path))


def _failed(what: str, path: str, *, error: OSError) -> ToolError:
    return ToolError(f"cannot {what} {path}: {error.strerror}")


def _nearest(root: Path, path: str) -> list[str]:
    difflib = importlib.import_module("difflib")  # only here, so an idle daemon does without it
    wanted = path.rsplit("/", 1)[-1]
    known = [name for name, _, _ in LocalFiles().walk(root, SEARCHED_MAX)]
    same_name = [name for name in known if name.rsplit("/", 1)[-1].lower() == wanted.lower()]
    return list(dict.fromkeys([*same_name[:3], *difflib.get_close_matches(path, known, n=3, cutoff=0.6)]))[:5]
