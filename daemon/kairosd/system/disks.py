"""Room on disk: what is left where Kairos writes. When nothing is left, webhooks are turned away and runs stop."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

LITTLE, TOO_LITTLE = 2_000_000_000, 200_000_000  # bytes free
FIX = "kairos gc, or make room"


def free_bytes(folder: Path) -> int:
    """What is free for `folder`, or for the nearest folder above it that is there. Raises `OSError`."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return shutil.disk_usage(there).free


def short_of_room(folders: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """Those of `folders` that have too little, with the bytes that are free for each."""
    for folder in folders:
        try:
            free = free_bytes(folder)
        except OSError:
            continue  # what cannot be asked is told by what fails to write there
        if free < TOO_LITTLE:
            yield folder, free
