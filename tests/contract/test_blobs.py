"""What the store of replaced contents promises, on a real disk; and which of them retention takes away."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kairosd import wire
from kairosd.config import RetentionSection
from kairosd.errors import NotFoundError, StoreError
from kairosd.store import retention
from kairosd.store.blobs import BlobStore
from kairosd.store.retention import carry_out, plan_sweep

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk: a longer file cannot be written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("content", [b"", b"one\n", bytes(range(256)) * 4000])
def test_what_is_put_is_got_under_its_hash_by_its_owner_alone(blobs: BlobStore, tmp_path: Path, content: bytes) -> None:
    name = blobs.put(content)
    assert name == hashlib.sha256(content).hexdigest()
    assert blobs.put(content) == name
    assert blobs.get(name) == content
    (file,) = (tmp_path / "blobs").iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == (name, 0o600)
    assert (tmp_path / "blobs").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", "../kairos.db", "a" * 63, "A" * 64, "a" * 64 + "/x"])
def test_what_is_no_name_opens_nothing(blobs: BlobStore, name: str) -> None:
    with pytest.raises(NotFoundError, match="names no content"):
        blobs.get(name)


def test_damage_is_told_and_mended_by_the_next_put(blobs: BlobStore, tmp_path: Path) -> None:
    name = blobs.put(b"content")
    (tmp_path / "blobs" / name).write_bytes(b"Content")
    with pytest.raises(NotFoundError, match="is damaged"):
        blobs.get(name)
    assert blobs.put(b"content") == name
    assert blobs.get(name) == b"content"
    (tmp_path / "blobs" / name).write_bytes(b"")  # as a power cut leaves it
    with pytest.raises(NotFoundError, match="is damaged"):
        blobs.get(name)
    (tmp_path / "blobs" / name).unlink()
    with pytest.raises(NotFoundError, match="no longer kept"):
        blobs.get(name)


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(blobs: BlobStore, tmp_path: Path) -> None:
    kept = blobs.put(b"first")
    with files_of_at_most(1000), pytest.raises(StoreError, match="cannot be kept"):
        blobs.put(b"x" * 100_000)
    assert [file.name for file in (tmp_path / "blobs").iterdir()] == [kept]
    assert blobs.put(b"x" * 100_000)


def test_a_place_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("in the way")
    with pytest.raises(StoreError):
        BlobStore(tmp_path / "blobs").put(b"x")


def test_the_oldest_go_first_and_what_was_needed_again_is_young(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BLOBS_MAX", 300)
    place = wire.Home(
        tmp_path / "config.toml", tmp_path / "state", data=tmp_path / "data", run=tmp_path / "run", is_default=False
    )
    blobs = BlobStore(place.blobs)
    names = [blobs.put(bytes([number]) * 100) for number in range(5)]
    for age, name in enumerate(reversed(names)):
        os.utime(place.blobs / name, (NOW.timestamp() - age, NOW.timestamp() - age))
    blobs.put(b"\0" * 100)  # the oldest of them
    sweeps = plan_sweep(place, RetentionSection(), now=NOW)
    assert {sweep.path.name for sweep in sweeps} == {names[1], names[2]}
    assert all((sweep.action, sweep.size) == ("delete", 100) for sweep in sweeps)
    for sweep in sweeps:
        carry_out(sweep)
    assert plan_sweep(place, RetentionSection(), now=NOW) == ()
    for name in names:
        kept = name not in (names[1], names[2])
        assert (place.blobs / name).exists() is kept
