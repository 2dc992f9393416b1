"""Whole folders that appear at once: written beside, made durable, then named (design §10)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kairosd.errors import StoreError
from kairosd.store.durable import sync_folder

STAGED = ".staged-"  # begins the name of what is not whole yet


def write_tree(target: Path, files: Mapping[str, str]) -> None:
    """Makes the folder `target` with `files`, all of it durable before it has its name."""
    staged = target.with_name(f"{STAGED}{target.name}")
    remove_tree(staged)
    staged.mkdir(mode=0o700, parents=True)
    for name in sorted(files):
        path = staged / name
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700)
        _write(path, files[name])
    for folder in sorted({(staged / name).parent for name in files} | {staged}, reverse=True):
        sync_folder(folder)
    staged.rename(target)
    sync_folder(target.parent)


def replace_file(path: Path, content: str) -> None:
    """A file with that content instead, durable; readers see the old or the new."""
    staged = path.with_name(f"{STAGED}{path.name}")
    _write(staged, content)
    staged.replace(path)
    sync_folder(path.parent)


def point(link: Path, target: str) -> None:
    """Makes `link` lead to `target` (relative); readers see the old target or the new one."""
    staged = link.with_name(f"{STAGED}{link.name}")
    staged.unlink(missing_ok=True)
    staged.symlink_to(target)
    staged.replace(link)
    sync_folder(link.parent)


def remove_tree(folder: Path) -> None:
    """Takes a folder away. What is half gone has no name that anybody looks for."""
    if folder.exists():
        hidden = folder if folder.name.startswith(STAGED) else folder.with_name(f"{STAGED}{folder.name}.gone")
        if hidden != folder:
            shutil.rmtree(hidden, ignore_errors=True)
            folder.rename(hidden)
        shutil.rmtree(hidden)


def remove_staged(folder: Path) -> None:
    """Takes away what a crash left half done in `folder`."""
    for path in folder.glob(f"{STAGED}*"):
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def read_tree(folder: Path) -> dict[str, str]:
    """The text of every file below `folder`, by its path there; an editor's own hidden and back-up files are left out.

    Raises `FileNotFoundError` when the folder goes away meanwhile.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or path.name.startswith(".") or path.suffix not in (".md", ".json", ".jsonl"):
            continue
        if path.is_file():
            found[name] = path.read_text(encoding="utf-8-sig", errors="replace")  # editors may mark the encoding
    if not found:
        raise FileNotFoundError(folder)
    return found


def read_each(folders: Sequence[Path], name: str) -> dict[int, str]:
    """The text of that file in each of the folders named by a number that has one, by the number."""
    found: dict[int, str] = {}
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            found[int(folder.name)] = (folder / name).read_text(encoding="utf-8-sig", errors="replace")
    return found


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` against other writers. The lock ends with the process, so none is ever left behind."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def disk(what: str) -> Iterator[None]:
    """Turns the system's refusals into `StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"memory: cannot {what}: {error.strerror or error}", fix="check the disk and its modes"
        ) from error


def _write(path: Path, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    data = content.encode("utf-8")
    try:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
