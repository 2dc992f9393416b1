"""Room on disk: what counts as too little, and what cannot be asked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from kairosd.system.disks import TOO_LITTLE, free_bytes, short_of_room


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_with_too_little_is_named_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = {tmp_path / "small": TOO_LITTLE - 1, tmp_path / "large": TOO_LITTLE}
    for folder in left:
        folder.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: _Usage(0, 0, left[folder]))
    assert list(short_of_room(left)) == [(tmp_path / "small", TOO_LITTLE - 1)]


def test_a_folder_that_is_not_there_yet_lies_on_the_disk_of_the_one_above(tmp_path: Path) -> None:
    assert abs(free_bytes(tmp_path / "a/b") - shutil.disk_usage(tmp_path).free) < 1_000_000_000


def test_what_cannot_be_asked_is_not_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(folder)

    monkeypatch.setattr(shutil, "disk_usage", refuse)
    assert not list(short_of_room([tmp_path]))
