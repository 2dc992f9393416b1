"""Blobs: the contents that direct edits replaced, one file for each, named by its SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from pathlib import Path

from kairosd.errors import NotFoundError, StoreError

NAME = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """Implements `ports.Blobs` on `folder`, which only the owner may read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, content: bytes) -> str:
        """Keeps `content`, on disk before it returns; its SHA-256 in hex. Raises `StoreError`."""
        name = hashlib.sha256(content).hexdigest()
        target = self._folder / name
        half = self._folder / f"{name}.{secrets.token_hex(4)}.tmp"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _holds(target, content):
                target.touch()  # needed again: retention goes by age
                return name
            descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            half.rename(target)
            _sync(self._folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)
            raise StoreError(f"a file's old content cannot be kept: {error.strerror}") from error
        return name

    def get(self, name: str) -> bytes:
        """The content of that name. Raises `NotFoundError` when it is gone or no longer what its name says."""
        if NAME.fullmatch(name) is None:
            raise NotFoundError(f"{name!r} names no content")
        try:
            content = (self._folder / name).read_bytes()
        except OSError as error:
            raise NotFoundError("the old content is no longer kept ([retention] blobs)") from error
        if hashlib.sha256(content).hexdigest() != name:
            raise NotFoundError(f"the kept content {name[:12]} is damaged")
        return content


def _holds(target: Path, content: bytes) -> bool:
    """Whether it is kept already, and whole: one that the disk has damaged is written anew."""
    try:
        return target.read_bytes() == content
    except FileNotFoundError:
        return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
