"""Runs whose commands may reach hosts: at which level, after which text, and what the journal says of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.confined import begin, confined
from tests.engine_bench import Setup
from tests.fakes import says, use

pytestmark = pytest.mark.anyio

FINISH = says("", use("finish", answer="done"))
# The workspace's own code, run by `python3 fetch.py`: what the proxy says, and what lies past it.
FETCH = """
import os, socket
from urllib.parse import urlsplit
proxy = urlsplit(os.environ.get("HTTPS_PROXY", ""))
def asks(target):
    with socket.create_connection((proxy.hostname, proxy.port), 5) as connection:
        connection.sendall(f"CONNECT {{target}} HTTP/1.1\\r\\n\\r\\n".encode())
        return connection.recv(100).split(b" ")[1].decode()
if proxy.hostname:
    print("listed", asks("127.0.0.1:{port}"), "other", asks("elsewhere.test:443"))
try:
    socket.create_connection(("127.0.0.1", {port}), 2)
    print("past it")
except OSError as error:
    print("direct", type(error).__name__)
"""


@pytest.fixture
async def host() -> AsyncIterator[tuple[int, list[str]]]:
    """A host on the loopback: its port, and a word for each connection that it was asked for."""
    heard: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append("connected")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], heard
    server.close()


@pytest.fixture
async def setup(tmp_path: Path, host: tuple[int, list[str]]) -> AsyncIterator[Setup]:
    config = f'[policy]\nhosts = ["127.0.0.1:{host[0]}"]\n'
    async with confined(tmp_path, level="project", config=config) as made:
        made.write("fetch.py", FETCH.format(port=host[0]))
        begin(made)
        made.actor.add(says("", use("shell", command="python3 fetch.py")), FINISH)
        yield made


async def journal_line(setup: Setup, kind: str) -> dict[str, Any]:
    """The one line of that kind; the file is written a little later than the database."""
    async with asyncio.timeout(10):
        while True:
            files = [file for file in (setup.folder / "home").rglob("*.jsonl") if "journal" in file.parts]
            lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
            if found := [line for line in lines if line["kind"] == kind]:
                (line,) = found
                return line
            await asyncio.sleep(0.02)


async def test_at_level_project_a_listed_host_is_reached_and_written_down(
    setup: Setup, host: tuple[int, list[str]]
) -> None:
    async with setup.running() as bench:
        run = await bench.tell()
        first, _ = await bench.results(run)
    assert "listed 200 other 403" in first, first
    assert "direct ConnectionRefusedError" in first
    assert host[1] == ["connected"]
    line = await journal_line(setup, "run.connected")
    assert line["id"] == run
    places = {(each["host"], each["port"]): (bool(each["why"]), each["count"]) for each in line["data"]["places"]}
    assert places == {("127.0.0.1", host[0]): (False, 1), ("elsewhere.test", 443): (True, 1)}


@pytest.mark.parametrize("change", ["level", "rule", "no hosts"])
async def test_below_that_level_or_against_a_rule_there_is_no_way_out(
    setup: Setup, host: tuple[int, list[str]], change: str
) -> None:
    if change == "level":
        setup.workspace = 'level = "sandboxed"'
    if change == "rule":
        setup.config += '[[policy.rules]]\nverdict = "deny"\nhost = "*"\n'
    if change == "no hosts":
        setup.config = ""
    async with setup.running() as bench:
        first, _ = await bench.results(await bench.tell())
    assert ("listed 403" in first) == (change == "rule"), first
    assert "direct ConnectionRefusedError" in first
    assert "past it" not in first
    assert host[1] == []


async def test_a_rule_that_asks_about_a_host_asks_about_the_command(setup: Setup, host: tuple[int, list[str]]) -> None:
    setup.config += f'[[policy.rules]]\nverdict = "ask"\nargv = "python3 fetch.py"\nhost = "127.0.0.1:{host[0]}"\n'
    async with setup.running() as bench:
        run = await bench.tell()
        assert "host=127.0.0.1" in str((await bench.question())["rule"])
        assert host[1] == []
        await bench.answer()
        first, _ = await bench.results(run)
    assert "listed 200" in first
    assert host[1] == ["connected"]
