"""The turns of a run, verbatim: one file a run, only ever appended to."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import cast

from kairosd.core.ids import is_id
from kairosd.core.json import JsonObject, canonical
from kairosd.core.texts import encodable
from kairosd.errors import DiskFullError, NotFoundError
from kairosd.store.durable import sync_folder

_BLOCK = 65536  # bytes looked at a time when the last line end is searched
_SMALL = 65536  # bytes
_ENDS_MAX = 256


class TranscriptStore:
    """Implements `ports.Transcript` on `folder`, which only the owner may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ends: dict[str, int] = {}  # where each file ends that this process has written to

    async def append(self, run: str, *entries: JsonObject) -> None:
        lines = b"".join(encodable(canonical(entry)).encode("utf-8") + b"\n" for entry in entries)
        path, end = self._path(run), self._ends.pop(run, None)
        # Handing a few bytes to the system takes less than a change of thread; only a first append waits for the disk.
        if end is None or len(lines) > _SMALL or not _append_at(path, lines, end=end):
            end = await asyncio.to_thread(_append, path, lines)
        if len(self._ends) >= _ENDS_MAX:
            self._ends.clear()  # of runs that have ended, nearly all
        self._ends[run] = end + len(lines)

    async def sync(self, run: str) -> None:
        await asyncio.to_thread(_sync, self._path(run))

    async def read(self, run: str) -> tuple[JsonObject, ...]:
        return await asyncio.to_thread(_read, self._path(run))

    def _path(self, run: str) -> Path:
        # A run's id becomes a file name: nothing else may.
        if not is_id(run, "r"):
            raise NotFoundError(f"{run!r} is not the id of a run")
        return self._folder / f"{run}.jsonl"


def _append(path: Path, lines: bytes) -> int:
    """Appends behind the last whole line; returns where that ended."""
    try:
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = _end_of_lines(descriptor)
            os.ftruncate(descriptor, end)
            _write_all(descriptor, lines, offset=end)
        finally:
            os.close(descriptor)
        if is_new:
            sync_folder(path.parent)
        return end
    except OSError as error:
        raise _full(path, error) from error


def _append_at(path: Path, lines: bytes, *, end: int) -> bool:
    """Appends at `end`, unless the file ends elsewhere."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != end:
                return False
            _write_all(descriptor, lines, offset=end)
            return True
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _full(path, error) from error


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return  # nothing was said yet
    except OSError as error:
        raise _full(path, error) from error


def _full(path: Path, error: OSError) -> DiskFullError:
    return DiskFullError(f"the transcript {path} cannot be written: {error.strerror}", fix="make room")


def _write_all(descriptor: int, data: bytes, *, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _end_of_lines(descriptor: int) -> int:
    """Where the last whole line ends: what follows was torn off by a crash."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _read(path: Path) -> tuple[JsonObject, ...]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    whole = content[: content.rfind(b"\n") + 1]
    return tuple(cast("JsonObject", json.loads(line)) for line in whole.splitlines())
