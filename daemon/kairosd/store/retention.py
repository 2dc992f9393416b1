"""Retention: what is old is deleted or compressed; the journal is never deleted (design §5)."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from kairosd.config import RetentionSection
from kairosd.frozen import frozen
from kairosd.store.memory_proposals import is_settled
from kairosd.wire import Home

BLOBS_MAX = 1_000_000_000  # bytes, design §5


@frozen
class Sweep:
    """One thing to do: `action` is `delete` or `compress`, `size` in bytes, `why` a short reason."""

    action: str
    path: Path
    size: int
    why: str


def plan_sweep(place: Home, retention: RetentionSection, *, now: datetime) -> tuple[Sweep, ...]:
    """What retention would do now. Reads only; work of a run that has not ended is never in it."""
    unended = _unended_runs(place.database)
    return (
        *_old_checkouts(place, now - timedelta(days=retention.checkouts_days), unended=unended),
        *_old_transcripts(place, now - timedelta(days=retention.transcripts_days), unended=unended),
        *_old_outputs(place, now - timedelta(days=retention.transcripts_days)),
        *_old_exchanges(place, now - timedelta(days=retention.transcripts_days)),
        *_settled_proposals(place, now - timedelta(days=retention.transcripts_days)),
        *_old_blobs(place),
        *_old_journals(place, now - timedelta(days=retention.journal_compress_days)),
    )


def carry_out(sweep: Sweep) -> None:
    """Does it. Compressing keeps the original until the copy is on disk. Raises `OSError`."""
    if sweep.action == "compress":
        _compress(sweep.path)
    elif sweep.path.is_dir():
        shutil.rmtree(sweep.path)
    else:
        sweep.path.unlink(missing_ok=True)


def folder_sizes(place: Home) -> dict[str, int]:
    """Bytes on disk by kind, for `status`."""
    places = {
        "database": place.database, "journal": place.journal, "transcripts": place.transcripts,
        "exchanges": place.exchanges, "tasks": place.tasks,
        "checkouts": place.checkouts, "patches": place.patches, "blobs": place.blobs, "models": place.models,
    }  # fmt: skip
    return {name: _size(path) for name, path in places.items()}


def _old_checkouts(place: Home, before: datetime, *, unended: frozenset[str]) -> Iterator[Sweep]:
    for folder in _entries(place.checkouts):
        run = folder.name.removesuffix(".tmp")
        if run not in unended and _changed(folder) < before:
            yield Sweep("delete", folder, _size(folder), "checkout of a run that has ended")


def _old_transcripts(place: Home, before: datetime, *, unended: frozenset[str]) -> Iterator[Sweep]:
    for file in _entries(place.transcripts):
        if file.stem not in unended and _changed(file) < before:
            yield Sweep("delete", file, _size(file), "old transcript")


def _old_outputs(place: Home, before: datetime) -> Iterator[Sweep]:
    for file in _entries(place.tasks):
        if _changed(file) < before:
            yield Sweep("delete", file, _size(file), "old output of a background task")


def _old_exchanges(place: Home, before: datetime) -> Iterator[Sweep]:
    for file in sorted(place.exchanges.glob("*/*/*.jsonl")):
        if _changed(file) < before:
            yield Sweep("delete", file, _size(file), "old record of model calls")


def _settled_proposals(place: Home, before: datetime) -> Iterator[Sweep]:
    for file in sorted((place.memory / "proposals").glob("[!.]*.json")):
        if _changed(file) < before and is_settled(file):
            yield Sweep("delete", file, _size(file), "proposal that was answered long ago")


def _old_blobs(place: Home) -> Iterator[Sweep]:
    """The oldest of them until the rest fits: what they would undo is the longest ago."""
    newest_first = sorted(_entries(place.blobs), key=_changed, reverse=True)
    kept = 0
    for file in newest_first:
        kept += _size(file)
        if kept > BLOBS_MAX:
            yield Sweep("delete", file, _size(file), "old content of edited files")


def _old_journals(place: Home, before: datetime) -> Iterator[Sweep]:
    for file in sorted(place.journal.glob("*/*/*.jsonl")):
        if file.stem < f"{before.astimezone():%Y-%m-%d}" and _changed(file) < before:
            yield Sweep("compress", file, _size(file), "old journal day")


def _unended_runs(database: Path) -> frozenset[str]:
    if not database.exists():
        return frozenset()
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        rows = connection.execute("SELECT id FROM runs WHERE ended IS NULL").fetchall()
    finally:
        connection.close()
    return frozenset(row[0] for row in rows)


def _compress(file: Path) -> None:
    packed = file.with_suffix(".jsonl.gz")
    partial = packed.with_suffix(".tmp")
    with file.open("rb") as source, partial.open("wb") as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb", filename=file.name, mtime=0) as target:
            shutil.copyfileobj(source, target)
        raw.flush()
        os.fsync(raw.fileno())
    partial.replace(packed)
    file.unlink()


def _entries(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.iterdir())) if folder.is_dir() else iter(())


def _changed(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime).astimezone()


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size if path.exists() else 0
    total = 0
    for folder, _, names in os.walk(path):  # passes over what vanishes meanwhile, such as a checkout that is discarded
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += (Path(folder) / name).lstat().st_size
    return total
